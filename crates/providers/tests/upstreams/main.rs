//! Calls against real servers on loopback, in good and bad weather.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod balance;
mod breaker;
mod connections;
mod faults;
mod mock;
mod retries;
mod secrets;
mod streams;
mod support;
mod tls;
