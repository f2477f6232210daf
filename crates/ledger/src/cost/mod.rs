//! What a workload costs a month, here and elsewhere, and what the requests that were answered have cost.
//!
//! [`compare`] sets hosted models, GPU machines and CPU machines side by side: machines come whole, so their cost is a staircase. Every
//! figure that is assumed rather than given is printed. [`report`] sums up what was recorded and what routing saved.

pub mod compare;
pub mod offers;
pub mod report;
pub mod scenario;

mod curve;
mod error;
mod sensitivity;

pub use error::CostError;
