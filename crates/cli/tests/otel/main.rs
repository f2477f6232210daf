//! Traces, as the binary exports them: with the feature `otel` to a collector of both protocols, without it not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod export;
mod server;
#[cfg(not(feature = "otel"))]
mod without;
