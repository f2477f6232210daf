//! Wire types, identifiers and time shared by every Bantam crate.
//!
//! What crosses a socket is described here once, so that the gateway, the clients of other servers and the tests
//! agree about it. The types are tolerant: a field they do not know is no error, because clients are newer or
//! older than we are.

pub mod openai;

mod money;

pub use money::{NanoDollars, ParseMoneyError};
