//! Upstream servers: which there are, and calling them so that an answer comes if one can.
//!
//! A [`Target`](target::Target) is one deployment of one model behind somebody's API. [`Upstreams`](client::Upstreams) holds the targets of a
//! configuration and calls no other host. A [`Plan`](plan::Plan) says in which order targets are tried for a request; a call goes through it
//! with retries under a budget, breakers, balancing and limits, and hands over an answer only once its first byte is there, so that what goes
//! wrong before is mended out of the caller's sight. That half deals in bytes and statuses; [`wire`] knows what they mean, and turns each API's bodies
//! and streams into the others'.

pub mod answer;
pub mod call;
pub mod client;
pub mod error;
pub mod mock;
pub mod plan;
pub mod preset;
pub mod target;
pub mod trace;
pub mod wire;

mod breaker;
mod config;
mod connect;
mod exchange;
mod health;
mod retry;
mod seconds;
mod streaming;
mod strike;
mod upstream;

pub use breaker::{BreakerPolicy, BreakerState};
pub use retry::RetryPolicy;
pub use upstream::{TargetSnapshot, Times, Totals};
