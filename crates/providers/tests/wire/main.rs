//! Translation between APIs, from bytes to bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod sse;
