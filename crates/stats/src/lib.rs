//! Statistics and classification heads.
//!
//! Everything is a function of its input and a seed: no system randomness, no order of a hash map, no function of the
//! system's mathematics library, so the same numbers come out on every machine and with any number of threads.

pub mod calibration;
pub mod conformal;
pub mod container;
mod error;
pub mod head;
pub mod intervals;
pub mod metrics;
mod optimize;
mod parallel;
pub mod risk;
mod rng;
mod rows;
pub mod scope;
mod special;
pub mod split;

pub use error::StatsError;
pub use rng::Rng;
pub use rows::Rows;
