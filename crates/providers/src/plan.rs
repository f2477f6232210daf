//! In which order targets are tried.

use std::sync::Arc;

use serde::Deserialize;
use tokio::time::Instant;

use crate::target::Target;
use crate::upstream::Upstream;

/// How the targets of a group share its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Two are drawn by weight, and the one with less to do for its weight is taken (Mitzenmacher 2001, "The power of two choices").
    #[default]
    LeastLoaded,
    /// One is drawn by weight.
    Weighted,
}

/// Names of targets that stand for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The targets.
    pub targets: Vec<String>,
    /// How they share requests.
    pub balance: Balance,
}

impl GroupConfig {
    /// A group with the usual balancing.
    pub fn new<S: Into<String>>(targets: impl IntoIterator<Item = S>) -> Self {
        Self { targets: targets.into_iter().map(Into::into).collect(), balance: Balance::default() }
    }
}

/// Groups of targets in the order of trying. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) groups: Arc<[Group]>,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) members: Vec<Arc<Upstream>>,
    pub(crate) balance: Balance,
}

impl Plan {
    /// All targets, in the order of groups.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.groups.iter().flat_map(|group| &group.members).map(|member| &*member.target)
    }

    /// The plan with those targets that may be tried; nothing if there are none.
    #[must_use]
    pub fn keep(&self, may: impl Fn(&Target) -> bool) -> Option<Plan> {
        if self.targets().all(&may) {
            return Some(self.clone());
        }
        let groups: Arc<[Group]> = self
            .groups
            .iter()
            .map(|group| {
                let members = group.members.iter().filter(|member| may(&member.target)).cloned().collect();
                Group { members, balance: group.balance }
            })
            .filter(|group| !group.members.is_empty())
            .collect();
        (!groups.is_empty()).then_some(Plan { groups })
    }

    /// This plan and then the other one.
    #[must_use]
    pub fn then(&self, other: &Plan) -> Plan {
        Plan { groups: self.groups.iter().chain(other.groups.iter()).cloned().collect() }
    }
}

impl Group {
    /// The places of members that can be tried now and are none of `not`, best first: the one that was drawn, then the others by load.
    pub(crate) fn order(&self, not: &[usize], now: Instant, random: &mut fastrand::Rng) -> Vec<usize> {
        let free = |&i: &usize| !not.contains(&i) && self.members[i].wait(now).is_none();
        // Loads change while this runs: each is read once.
        let mut fit: Vec<Candidate> = (0..self.members.len()).filter(free).map(|i| self.candidate(i)).collect();
        if fit.len() > 1 {
            let first = draw(&fit, None, random);
            let chosen = match self.balance {
                Balance::Weighted => first,
                Balance::LeastLoaded => {
                    let second = draw(&fit, Some(first), random);
                    if fit[second].load < fit[first].load { second } else { first }
                }
            };
            fit.swap(0, chosen);
            fit[1..].sort_by(|a, b| a.load.total_cmp(&b.load));
        }
        fit.into_iter().map(|candidate| candidate.member).collect()
    }

    fn candidate(&self, member: usize) -> Candidate {
        let upstream = &self.members[member];
        let weight = upstream.target.weight;
        Candidate { member, weight: u64::from(weight), load: (upstream.in_flight() + 1) as f64 / f64::from(weight) }
    }
}

struct Candidate {
    member: usize,
    weight: u64,
    /// What it would have to do for its weight with one request more.
    load: f64,
}

/// The place of one of at least two candidates, drawn by weight, that is not `but`.
fn draw(among: &[Candidate], but: Option<usize>, random: &mut fastrand::Rng) -> usize {
    let weight = |i: usize| if Some(i) == but { 0 } else { among[i].weight };
    let mut left = random.u64(0..(0..among.len()).map(weight).sum::<u64>().max(1));
    for i in 0..among.len() {
        if left < weight(i) {
            return i;
        }
        left -= weight(i);
    }
    0
}
