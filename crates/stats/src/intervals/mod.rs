//! How sure a measured number is.

mod bootstrap;
mod proportion;

pub use bootstrap::{Bootstrap, BootstrapConfig, Difference, bootstrap, bootstrap_difference};
pub use proportion::{
    Proportion, clopper_pearson, clopper_pearson_lower, clopper_pearson_upper, mcnemar_exact, wilson,
};

/// A closed interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}
