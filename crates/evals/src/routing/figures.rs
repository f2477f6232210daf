//! Shares, accuracies and costs with their intervals.

use bantam_stats::StatsError;
use bantam_stats::intervals::{Proportion, bootstrap, wilson};
use bantam_stats::metrics::{Percentiles, percentiles};
use bantam_types::NanoDollars;
use serde::Serialize;

use crate::quality::{Estimate, INTERVAL, resampling};

/// One model's answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Whether it is right.
    pub right: bool,
    /// What it cost.
    pub cost: NanoDollars,
}

/// A question that was routed, and what both models say to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routed {
    /// Whether the small model's answer stood.
    pub kept: bool,
    /// What the request cost, all attempts together.
    pub cost: NanoDollars,
    /// Seconds that the client waited.
    pub seconds: f64,
    /// The small model by itself.
    pub small: Side,
    /// The large model by itself.
    pub large: Side,
}

impl Routed {
    fn answered_right(&self) -> bool {
        if self.kept { self.small.right } else { self.large.right }
    }
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// As it was routed.
    Routed,
    /// The small model, always.
    AllSmall,
    /// The large model, always.
    AllLarge,
    /// The small model for the same share of questions, drawn by chance; what is expected of that.
    Random,
    /// Whoever is right, the small model first; where nobody is, the small model. Nobody can know that before.
    Oracle,
}

/// What answering that way comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    /// Who answers.
    pub policy: PolicyKind,
    /// Share of right answers: a Wilson interval, for chance a bootstrap interval.
    pub accuracy: Estimate,
    /// What all questions together cost, in nano-dollars.
    pub cost_nanos: NanoDollars,
    /// Share of the large model's cost that is saved, with a bootstrap interval; negative where it costs more. `None` if the large model is free.
    pub saving: Option<Estimate>,
}

/// Every figure of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Questions.
    pub questions: usize,
    /// Of those, answered by the small model.
    pub kept: usize,
    /// The share of those, with a Wilson interval.
    pub share_kept: Estimate,
    /// Share of right answers among those, with a Wilson interval.
    pub kept_accuracy: Option<Estimate>,
    /// Ways to answer, the routed one first.
    pub policies: Vec<Policy>,
    /// Seconds of requests that the small model answered.
    pub kept_seconds: Option<Percentiles>,
    /// Seconds of those that went on to the large model.
    pub sent_seconds: Option<Percentiles>,
}

/// Figures that cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// There is nothing to sum up.
    #[error("there are no routed questions; ask at least one")]
    NoQuestions,
    /// A statistic was refused.
    #[error(transparent)]
    Stats(#[from] StatsError),
}

impl Figures {
    /// Computes every figure.
    ///
    /// # Errors
    /// Without questions, and with a time that is not finite.
    pub fn new(rows: &[Routed]) -> Result<Self, RoutingError> {
        let kept = rows.iter().filter(|row| row.kept).count();
        let share_kept = share(kept, rows.len())?.ok_or(RoutingError::NoQuestions)?;
        let right = rows.iter().filter(|row| row.kept && row.small.right).count();
        let seconds = |kept: bool| -> Result<Option<Percentiles>, StatsError> {
            let seconds: Vec<f64> = rows.iter().filter(|row| row.kept == kept).map(|row| row.seconds).collect();
            if seconds.is_empty() { Ok(None) } else { percentiles(&seconds).map(Some) }
        };
        let kinds =
            [PolicyKind::Routed, PolicyKind::AllSmall, PolicyKind::AllLarge, PolicyKind::Random, PolicyKind::Oracle];
        Ok(Self {
            questions: rows.len(),
            kept,
            share_kept,
            kept_accuracy: share(right, kept)?,
            policies: kinds.into_iter().map(|kind| policy(kind, rows)).collect::<Result<_, _>>()?,
            kept_seconds: seconds(true)?,
            sent_seconds: seconds(false)?,
        })
    }

    /// The figures of one way to answer.
    #[must_use]
    pub fn policy(&self, kind: PolicyKind) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.policy == kind)
    }
}

/// A share with Wilson's interval; `None` of nothing.
fn share(part: usize, whole: usize) -> Result<Option<Estimate>, StatsError> {
    if whole == 0 {
        return Ok(None);
    }
    let proportion = Proportion::new(part as u64, whole as u64)?;
    let interval = wilson(proportion, INTERVAL)?;
    Ok(Some(Estimate { value: proportion.value(), lower: interval.lower, upper: interval.upper }))
}

fn policy(kind: PolicyKind, rows: &[Routed]) -> Result<Policy, RoutingError> {
    let right = |row: &Routed| match kind {
        PolicyKind::Routed | PolicyKind::Random => row.answered_right(),
        PolicyKind::AllSmall => row.small.right,
        PolicyKind::AllLarge => row.large.right,
        PolicyKind::Oracle => row.small.right || row.large.right,
    };
    let accuracy = match kind {
        PolicyKind::Random => {
            boot(rows, |drawn| mixed(drawn, |side| f64::from(u8::from(side.right))) / drawn.len() as f64)?
        }
        _ => share(rows.iter().filter(|row| right(row)).count(), rows.len())?.ok_or(RoutingError::NoQuestions)?,
    };
    let nanos = |side: &Side| side.cost.0 as f64;
    let cost = |drawn: &[&Routed]| -> f64 {
        let sum = |cost: fn(&Routed) -> NanoDollars| drawn.iter().map(|row| cost(row)).sum::<NanoDollars>().0 as f64;
        match kind {
            PolicyKind::Routed => sum(|row| row.cost),
            PolicyKind::AllSmall => sum(|row| row.small.cost),
            PolicyKind::AllLarge => sum(|row| row.large.cost),
            PolicyKind::Random => mixed(drawn, nanos),
            PolicyKind::Oracle => sum(|row| match row.small.right || !row.large.right {
                true => row.small.cost,
                false => row.large.cost,
            }),
        }
    };
    let all: Vec<&Routed> = rows.iter().collect();
    let large: NanoDollars = rows.iter().map(|row| row.large.cost).sum();
    let saving = (large > NanoDollars::ZERO)
        .then(|| boot(rows, |drawn| 1.0 - cost(drawn) / drawn.iter().map(|row| nanos(&row.large)).sum::<f64>()));
    Ok(Policy {
        policy: kind,
        accuracy,
        cost_nanos: NanoDollars(cost(&all).round() as i64),
        saving: saving.transpose()?,
    })
}

/// The expected sum where the small model answers the same share of questions, drawn by chance.
fn mixed(rows: &[&Routed], value: impl Fn(&Side) -> f64) -> f64 {
    let kept = rows.iter().filter(|row| row.kept).count() as f64 / rows.len() as f64;
    rows.iter().map(|row| kept * value(&row.small) + (1.0 - kept) * value(&row.large)).sum()
}

/// A statistic of rows with its bootstrap interval.
fn boot(rows: &[Routed], mut statistic: impl FnMut(&[&Routed]) -> f64) -> Result<Estimate, RoutingError> {
    let mut drawn = Vec::new();
    let found = bootstrap(rows.len(), &resampling(rows.len()), |indices| {
        drawn.clear();
        drawn.extend(indices.iter().map(|&index| &rows[index]));
        statistic(&drawn)
    })?;
    Ok(Estimate { value: found.estimate, lower: found.interval.lower, upper: found.interval.upper })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The small model is right on the first `good` of 100 questions, the large one on all but every tenth.
    fn rows(kept: impl Fn(usize) -> bool, good: usize) -> Vec<Routed> {
        let row = |i: usize| {
            let small = Side { right: i < good, cost: NanoDollars(10) };
            let large = Side { right: i % 10 != 9, cost: NanoDollars(1000 + i as i64) };
            let kept = kept(i);
            let cost = if kept { small.cost } else { small.cost.plus(large.cost) };
            Routed { kept, cost, seconds: if kept { 0.1 } else { 0.9 }, small, large }
        };
        (0..100).map(row).collect()
    }

    #[test]
    fn sums_are_those_of_the_rows() {
        let rows = rows(|i| i < 30, 40);
        let figures = Figures::new(&rows).unwrap();
        let of = |kind| figures.policy(kind).unwrap();
        assert_eq!((figures.kept, figures.share_kept.value), (30, 0.3));
        assert_eq!(figures.kept_accuracy.unwrap().value, 1.0);
        assert_eq!(of(PolicyKind::Routed).accuracy.value, 0.93);
        assert_eq!(of(PolicyKind::AllSmall).accuracy.value, 0.4);
        assert_eq!(of(PolicyKind::AllLarge).accuracy.value, 0.9);
        assert_eq!(of(PolicyKind::Oracle).accuracy.value, 0.94);
        assert!((of(PolicyKind::Random).accuracy.value - (0.3 * 0.4 + 0.7 * 0.9)).abs() < 1e-12);
        let large: i64 = (0..100).map(|i| 1000 + i).sum();
        assert_eq!(of(PolicyKind::AllLarge).cost_nanos.0, large);
        let paid: NanoDollars = rows.iter().map(|row| row.cost).sum();
        let routed = of(PolicyKind::Routed);
        assert_eq!(routed.cost_nanos, paid);
        let saving = routed.saving.unwrap();
        assert!((saving.value - (1.0 - paid.0 as f64 / large as f64)).abs() < 1e-12);
        assert!(saving.lower < saving.value && saving.value < saving.upper, "{saving:?}");
        assert_eq!(of(PolicyKind::AllLarge).saving.unwrap().upper, 0.0);
        assert_eq!((figures.kept_seconds.unwrap().p50, figures.sent_seconds.unwrap().p95), (0.1, 0.9));
    }

    #[test]
    fn the_oracle_is_never_beaten_and_sending_all_saves_nothing() {
        for share in [0, 1, 50, 100] {
            let figures = Figures::new(&rows(|i| i % 100 < share, 40)).unwrap();
            let best = figures.policy(PolicyKind::Oracle).unwrap().accuracy.value;
            assert!(figures.policies.iter().all(|policy| policy.accuracy.value <= best), "{figures:?}");
            let saving = figures.policy(PolicyKind::Routed).unwrap().saving.unwrap().value;
            assert!((share == 0) == (saving < 0.0), "{share}: {saving}");
            assert_eq!(figures.kept_seconds.is_none(), share == 0);
        }
        assert!(matches!(Figures::new(&[]), Err(RoutingError::NoQuestions)));
    }
}
