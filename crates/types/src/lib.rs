//! Wire types, identifiers and time shared by every Bantam crate.
