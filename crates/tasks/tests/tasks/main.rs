//! Tasks from file to answer: task files, batches, servers and encoders.
//!
//! Where a model is not the point, one that says what the test wants stands in for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod batch;
mod encoder;
mod fake;
mod local;
mod remote;
mod results;
mod spec;
/// The gateway's tests have the same one.
#[allow(dead_code)]
#[path = "../../../gateway/tests/gateway/toy.rs"]
mod toy;
