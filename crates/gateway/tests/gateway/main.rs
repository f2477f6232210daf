//! The gateway over real sockets and the real engine.
//!
//! The model under the engine is a toy that can be slowed down and made to fail on purpose, so that every way a
//! request can end is reached; tokenizer, template, scheduler and HTTP are the real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod answers;
mod client;
mod connections;
mod dashboard;
mod drain;
mod embeddings;
mod errors;
mod hostile;
mod ledger;
mod log;
mod messages;
mod metrics;
mod operations;
mod pii;
mod routing;
mod secrets;
mod server;
mod streams;
mod structured;
mod tasks;
mod toy;
mod upstreams;
