//! Keys, budgets, requests and what they cost, in a record that cannot be altered unnoticed.
//!
//! A [`Ledger`] admits a request ([`Ledger::begin`]: budgets and limits are checked and reserved), and is told what became of it
//! ([`Ticket::finish`]: an entry in a hash chain, committed before the answer is reported done). A ticket that is dropped, or whose process
//! dies, becomes an entry too, charged with what was reserved.

mod config;
pub mod cost;
mod error;
mod hex;
pub mod keys;
mod ledger;
mod limits;
pub mod prices;
mod request;
mod ticket;
mod time;

pub use config::{
    BodyStorage, CheckpointEvery, CommitLimits, Durability, EncryptionKey, LedgerConfig, Retention, Store,
};
pub use error::{AuthError, BeginError, KeyError, LedgerError, OverBudget, RateLimited};
pub use ledger::Ledger;
pub use limits::{Amount, Budget, Limits, Period};
pub use request::{Attempt, Begin, Bodies, EntryReceipt, Estimate, Feedback, Hash, Outcome, Rating, TokenCounts};
pub use ticket::Ticket;
pub use time::Timestamp;
