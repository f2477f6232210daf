//! Translation between APIs, from bytes to bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bodies;
mod looks;
mod rewrites;
mod round_trips;
mod sse;
mod streams;
