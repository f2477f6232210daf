//! From which confidence on the chosen candidate's answers are taken.

use std::ops::ControlFlow;
use std::time::Duration;

use bantam_stats::conformal::{Promise, guaranteed_threshold};
use bantam_tasks::Runner;
use bantam_tasks::fit::{FittedFile, Labelled};
use serde::Serialize;

use super::rows::Row;
use super::{Event, OnEvent, PilotError};
use crate::judge::Judge;
use crate::quality::{Judged, PROMISE};

/// Most rows for a generating model's calibration and threshold together, and the fewest that make sense.
const MAX_ROWS: usize = 400;
const MIN_ROWS: usize = 40;
/// Rows asked together.
const BATCH: usize = 32;
/// Accuracies that can be promised at all.
const TARGETS: std::ops::RangeInclusive<f64> = 0.05..=0.999;

/// A threshold for the chosen candidate, from rows that it did not learn from and that did not judge it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Acceptance {
    /// Answers are taken from this confidence on.
    pub confidence: f64,
    /// The share of those that is to be right.
    pub target: f64,
    /// The share of new rows that is answered, if what the rows show can be promised with 95 % certainty. If not, the
    /// confidence is the target itself: so it reads, as far as it is calibrated.
    pub promised_share: Option<f64>,
    /// Rows it was chosen on.
    pub rows: usize,
}

impl Acceptance {
    /// Chooses the threshold; nothing without rows that have a confidence.
    pub(super) fn new(confidences: &[f64], correct: &[bool], target: f64) -> Result<Option<Self>, PilotError> {
        if confidences.is_empty() {
            return Ok(None);
        }
        let target = target.clamp(*TARGETS.start(), *TARGETS.end());
        let found = guaranteed_threshold(confidences, correct, Promise { accuracy: target, confidence: PROMISE })?;
        Ok(Some(Self {
            confidence: found.map_or(target, |found| found.threshold).clamp(0.0, 1.0),
            target,
            promised_share: found.map(|found| found.coverage),
            rows: confidences.len(),
        }))
    }

    /// What it means, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        use crate::text::{percent, round_percent};
        let (target, confidence) = (round_percent(self.target), self.confidence);
        match self.promised_share {
            Some(share) => format!(
                "accept.confidence is {confidence:.3}: of new rows like these about {} get an answer, of which with 95% \
                 certainty at least {target} are right (chosen on {} rows held out of training)",
                percent(share),
                self.rows
            ),
            None => format!(
                "accept.confidence is {confidence:.3}, and not a promise: {} held-out rows are too few, or their answers too \
                 often wrong, to promise that {target} are right; label more rows",
                self.rows
            ),
        }
    }
}

/// How long a generating model may be asked, and how fast it is.
pub(super) struct Pace {
    pub(super) budget: Duration,
    /// Rows a second.
    pub(super) rate: f64,
}

/// Fits a generating model's confidence on one half of the rows and chooses the threshold on the other. Nothing of either
/// where time, rows or confidences do not suffice, or somebody stops it.
pub(super) fn calibrated(
    bind: &dyn Fn(Option<&FittedFile>) -> Result<Runner, PilotError>,
    rows: &[&Row],
    target: f64,
    pace: &Pace,
    on_event: &mut OnEvent<'_>,
) -> Result<Option<(FittedFile, Option<Acceptance>)>, PilotError> {
    let affordable = (pace.rate * pace.budget.as_secs_f64()) as usize;
    let rows = &rows[..rows.len().min(MAX_ROWS).min(affordable)];
    if rows.len() < MIN_ROWS {
        return Ok(None);
    }
    let (learn, choose) = rows.split_at(rows.len() / 2);
    let labelled: Vec<Labelled> =
        learn.iter().map(|row| Labelled { input: vec![row.text.clone()], answer: row.answer.clone() }).collect();
    let mut progress = |step: bantam_tasks::fit::Step| {
        let done = (step.share * learn.len() as f64) as usize;
        on_event(Event::At { what: "calibrating", done, total: rows.len() })
    };
    let Ok(fitted) = bind(None)?.calibrate(&labelled, &mut progress) else { return Ok(None) };
    let runner = bind(Some(&fitted))?;
    let judge = Judge::new(runner.task());
    let (mut confidences, mut correct) = (Vec::new(), Vec::new());
    for (i, batch) in choose.chunks(BATCH).enumerate() {
        let done = learn.len() + i * BATCH;
        if on_event(Event::At { what: "choosing the threshold", done, total: rows.len() }) == ControlFlow::Break(()) {
            return Ok(Some((fitted, None)));
        }
        let inputs: Vec<Vec<String>> = batch.iter().map(|row| vec![row.text.clone()]).collect();
        for (row, outcome) in batch.iter().zip(runner.run(&inputs)) {
            let Ok(result) = outcome else { continue };
            let Some(confidence) = result.confidence else { continue };
            confidences.push(confidence);
            let (truth, predicted) = judge.sides(&row.answer, &result.value);
            correct.push(Judged { row: 0, truth, predicted, latency: None }.is_right());
        }
    }
    let acceptance = Acceptance::new(&confidences, &correct, target)?;
    Ok(Some((fitted, acceptance)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_needs_rows_and_right_answers() {
        let confidences: Vec<f64> = (0..400).map(|i| f64::from(i) / 400.0).collect();
        let correct: Vec<bool> = (0..400).map(|i| i >= 200 || i % 2 == 0).collect();
        let found = Acceptance::new(&confidences, &correct, 0.95).unwrap().unwrap();
        assert!(found.confidence > 0.3 && found.confidence < 0.6 && found.promised_share.is_some(), "{found:?}");
        assert!(found.sentence().contains("at least 95% are right"));
        let few = Acceptance::new(&confidences[380..], &correct[380..], 0.95).unwrap().unwrap();
        assert_eq!((few.confidence, few.promised_share), (0.95, None));
        assert!(few.sentence().contains("not a promise"));
        assert_eq!(Acceptance::new(&[], &[], 0.95).unwrap(), None);
        assert!(Acceptance::new(&confidences, &correct, 1.0).unwrap().unwrap().target < 1.0);
    }
}
