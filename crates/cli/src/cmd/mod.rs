//! One file per command.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod classify;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod cost;
pub(crate) mod demo;
pub(crate) mod embed;
pub(crate) mod grammar;
pub(crate) mod key;
pub(crate) mod ledger;
pub(crate) mod list;
pub(crate) mod mock;
pub(crate) mod perplexity;
pub(crate) mod pii;
pub(crate) mod pilot;
pub(crate) mod pull;
pub(crate) mod rm;
pub(crate) mod route;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod task;
pub(crate) mod tokenize;
