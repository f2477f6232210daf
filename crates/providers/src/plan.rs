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
        let mut fit: Vec<usize> = (0..self.members.len()).filter(free).collect();
        if fit.len() < 2 {
            return fit;
        }
        let first = self.draw(&fit, random);
        let chosen = match self.balance {
            Balance::Weighted => first,
            Balance::LeastLoaded => {
                let others: Vec<usize> = fit.iter().copied().filter(|&i| i != first).collect();
                let second = self.draw(&others, random);
                if self.load(second) < self.load(first) { second } else { first }
            }
        };
        fit.sort_by(|&a, &b| self.load(a).total_cmp(&self.load(b)));
        fit.sort_by_key(|&i| i != chosen);
        fit
    }

    fn draw(&self, among: &[usize], random: &mut fastrand::Rng) -> usize {
        let weight = |i: usize| u64::from(self.members[i].target.weight);
        let mut left = random.u64(0..among.iter().map(|&i| weight(i)).sum::<u64>().max(1));
        for &i in among {
            if left < weight(i) {
                return i;
            }
            left -= weight(i);
        }
        among[0]
    }

    /// What a member would have to do for its weight with one request more.
    fn load(&self, i: usize) -> f64 {
        (self.members[i].in_flight() + 1) as f64 / f64::from(self.members[i].target.weight)
    }
}
