//! The ledger from outside, on SQLite and, where its programs are installed, on a private Postgres cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod crash;
mod reading;
mod requests;
mod store;
