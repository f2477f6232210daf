//! One file per command.

pub(crate) mod completions;
pub(crate) mod list;
pub(crate) mod pull;
pub(crate) mod rm;
pub(crate) mod show;
