//! Keys, budgets, requests and what they cost, in a record that cannot be altered unnoticed.
//!
//! A [`Ledger`] admits a request ([`Ledger::begin`]: budgets and limits are checked and reserved), and is told what became of it
//! ([`Ticket::finish`]: an entry in a hash chain, committed before the answer is reported done). A ticket that is dropped, or whose process
//! dies, becomes an entry too, charged with what was reserved.

pub mod audit;
mod body;
mod budgets;
mod chain;
mod config;
mod content;
pub mod cost;
mod counters;
mod db;
mod error;
mod hex;
pub mod keys;
mod ledger;
mod limits;
mod maintain;
pub mod prices;
pub mod query;
mod random;
mod rates;
mod request;
mod shared;
mod signing;
mod ticket;
mod time;
mod writer;

pub use chain::{Kind, Part};
pub use config::{
    BodyStorage, CheckpointEvery, CommitLimits, Durability, EncryptionKey, LedgerConfig, Retention, Store,
};
pub use content::{
    Bound, CheckpointEntry, ErasedEntry, FeedbackEntry, KeyEntry, KeyEvent, PurgedEntry, RequestEntry, Settled,
};
pub use counters::WriterCounts;
pub use error::{AuthError, BeginError, KeyError, LedgerError, OverBudget, RateLimited};
pub use ledger::{BudgetUse, Ledger};
pub use limits::{Amount, Budget, Limits, Period};
pub use maintain::{Purged, backup_of};
pub use query::{Reading, Recorded};
pub use request::{Attempt, Begin, Bodies, EntryReceipt, Estimate, Feedback, Hash, Outcome, Rating, TokenCounts};
pub use signing::{PublicKey, beside as public_key_file};
pub use ticket::Ticket;
pub use time::Timestamp;
#[cfg(fuzzing)]
pub use writer::read_journal;
