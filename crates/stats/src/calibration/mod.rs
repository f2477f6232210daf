//! Confidences that mean what they say, fitted on rows that training did not see.

mod isotonic;
mod logistic;
mod temperature;

pub use isotonic::Isotonic;
pub(crate) use logistic::fit_logistic;
pub use logistic::{BetaCalibration, Platt};
pub use temperature::Temperature;
