//! How good predictions are: every figure of a report, from rows that were judged against the truth. How the predictions
//! came about is not known here.

mod confidence;
mod input;
mod labels;
mod latency;
mod paired;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bantam_stats::StatsError;
use bantam_stats::intervals::{BootstrapConfig, Proportion, clopper_pearson};
use serde::Serialize;

pub use confidence::{Answerable, ConfidenceQuality, CurvePoint, Selected};
pub(crate) use confidence::{BINS, PROMISE};
pub use input::{ConfidenceKind, Judged, Judgements, Kind, Prediction, QualityError};
pub use labels::{Confusion, ConfusionCell, LabelQuality, ScopeQuality};
pub use latency::{LatencyBin, LatencyQuality};
pub use paired::Paired;

/// How sure all two-sided intervals here are.
pub const INTERVAL: f64 = 0.95;

/// Row draws of one bootstrap: many rows are resampled less often, and need it less.
const MAX_DRAWS: usize = 50_000_000;

pub(crate) fn resampling(rows: usize) -> BootstrapConfig {
    let defaults = BootstrapConfig::default();
    BootstrapConfig { resamples: defaults.resamples.min((MAX_DRAWS / rows.max(1)).max(200)), ..defaults }
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure for the rows as they are.
    pub value: f64,
    /// The lower end of the interval.
    pub lower: f64,
    /// The upper end of the interval.
    pub upper: f64,
}

impl Estimate {
    /// A share with the exact interval of Clopper and Pearson (1934); `None` of nothing.
    pub(crate) fn share(part: usize, whole: usize) -> Result<Option<Self>, StatsError> {
        if whole == 0 {
            return Ok(None);
        }
        let proportion = Proportion::new(part as u64, whole as u64)?;
        let interval = clopper_pearson(proportion, INTERVAL)?;
        Ok(Some(Self { value: proportion.value(), lower: interval.lower, upper: interval.upper }))
    }
}

/// The figures of one set of judged rows. A figure that the rows do not support is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// What was predicted.
    pub kind: Kind,
    /// The labels, or the names of the fields; figures name them by index.
    pub labels: Vec<String>,
    /// Rows that were judged.
    pub rows: usize,
    /// Rows with a prediction.
    pub answered: usize,
    /// Rows without one; they count as wrong.
    pub failed: usize,
    /// Rows whose prediction is right: the same label, the same set of labels, or all fields.
    pub right: usize,
    /// `right` of all rows, with an exact interval.
    pub accuracy: Estimate,
    /// `right` of the answered rows, with an exact interval.
    pub answered_accuracy: Option<Estimate>,
    /// The mean F1 of the labels that occur or were predicted, with a bootstrap interval (Efron 1979).
    pub macro_f1: Option<Estimate>,
    /// F1 over the decisions of all labels together.
    pub micro_f1: Option<f64>,
    /// One entry for each label, those with the most mistakes first.
    pub per_label: Vec<LabelQuality>,
    /// How the label for "none of these" fared, where there is one.
    pub scope: Option<ScopeQuality>,
    /// What was taken for what, for one label per row.
    pub confusion: Option<Confusion>,
    /// What the confidences are worth, where there are any.
    pub confidence: Option<ConfidenceQuality>,
    /// Seconds per row, where they were taken.
    pub latency: Option<LatencyQuality>,
    /// Rows over the wall time of the whole run.
    pub rows_per_hour: Option<f64>,
    #[serde(skip)]
    pub(crate) outcomes: BTreeMap<usize, Outcome>,
}

/// What became of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) right: bool,
    pub(crate) confidence: Option<f64>,
}

impl Quality {
    /// Computes every figure.
    ///
    /// # Errors
    /// See [`QualityError`].
    pub fn new(judged: &Judgements<'_>) -> Result<Self, QualityError> {
        judged.check()?;
        let rows = judged.rows.len();
        let answered = judged.rows.iter().filter(|row| row.predicted.is_some()).count();
        let outcome = |row: &Judged| Outcome {
            right: row.is_right(),
            confidence: row.predicted.as_ref().and_then(|predicted| predicted.confidence),
        };
        let outcomes: BTreeMap<usize, Outcome> = judged.rows.iter().map(|row| (row.row, outcome(row))).collect();
        let right = outcomes.values().filter(|outcome| outcome.right).count();
        let labels = labels::quality(judged)?;
        Ok(Self {
            kind: judged.kind,
            labels: judged.labels.to_vec(),
            rows,
            answered,
            failed: rows - answered,
            right,
            accuracy: Estimate::share(right, rows)?.ok_or(QualityError::NoRows)?,
            answered_accuracy: Estimate::share(right, answered)?,
            macro_f1: labels.macro_f1,
            micro_f1: labels.micro_f1,
            per_label: labels.per_label,
            scope: labels::scope(judged)?,
            confusion: (judged.kind == Kind::Single).then(|| Confusion::new(judged.rows)),
            confidence: confidence::quality(judged, &outcomes)?,
            latency: latency::quality(judged.rows)?,
            rows_per_hour: judged.wall_seconds.map(|seconds| rows as f64 / seconds * 3600.0),
            outcomes,
        })
    }
}
