//! Confidences that mean what they say, fitted on rows that training did not see.

mod isotonic;
mod logistic;
mod temperature;

pub use isotonic::Isotonic;
pub use logistic::{BetaCalibration, Platt, fit_logistic};
pub use temperature::Temperature;
