//! Upstream servers: what they speak, and how it becomes what a client speaks.

pub mod wire;
