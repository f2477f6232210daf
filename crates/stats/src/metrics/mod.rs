//! How good predictions are.

mod classification;
mod latency;
mod probability;
mod ranking;
mod selective;

pub use classification::{BinaryCounts, ConfusionMatrix, macro_f1};
pub(crate) use latency::quantile_of_sorted;
pub use latency::{Percentiles, percentiles};
pub use probability::{Bins, ReliabilityBin, brier, expected_calibration_error, log_loss, reliability};
pub use ranking::roc_auc;
pub use selective::{Answerable, Criterion, RiskCoverage, RiskPoint};
