//! What can go wrong, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use bantam_types::NanoDollars;

use crate::keys::KeyId;
use crate::limits::{Amount, Period};

/// Why the ledger could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another process holds the file.
    #[error("{} is held by another process ({holder}); stop it, use its admin API, or give this process a ledger of its own", path.display())]
    Held {
        /// The ledger.
        path: PathBuf,
        /// What the holder wrote of itself.
        holder: String,
    },
    /// The ledger was written by a newer version.
    #[error(
        "the ledger has schema {found}, this program knows up to {known}; use the version of bantam that wrote it, or a newer one"
    )]
    NewerSchema {
        /// The ledger's.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database cannot be used; what was asked may be asked again.
    #[error("the ledger's database {doing}: {why}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// What the database said.
        why: String,
    },
    /// A file beside the database cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Something in the ledger is not what this program writes.
    #[error("the ledger is damaged: {what}; see `bantam audit verify`")]
    Damaged {
        /// What and where.
        what: String,
    },
    /// Something given is not fit to be stored.
    #[error("{field}: {why}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// There is no such request.
    #[error("there is no request {id} in the ledger")]
    NoSuchRequest {
        /// The id asked for.
        id: uuid::Uuid,
    },
    /// The request was settled in the meantime, because its process was taken for dead: it has its entry, which is not this one.
    #[error("request {id} was settled as interrupted before its outcome arrived")]
    AlreadySettled {
        /// The request.
        id: uuid::Uuid,
    },
    /// Another process changed the same thing first.
    #[error("it was changed by another process in the meantime; look at it and try again")]
    Conflict,
    /// The body was encrypted with another key.
    #[error("the body was encrypted with key {needed}; give that key")]
    WrongKey {
        /// The identity of the key it takes.
        needed: String,
    },
    /// The ledger has been closed.
    #[error("the ledger is closed")]
    Closed,
}

/// Why a request was not admitted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// A budget has no room for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// Too many requests or tokens in this minute.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// More requests are open than the ledger is set to follow.
    #[error("{open} requests are open, the most that are let in; try again shortly")]
    Busy {
        /// How many.
        open: usize,
    },
    /// The key is not there, or not valid any more.
    #[error("key {key} is not known or no longer valid")]
    UnknownKey {
        /// The key.
        key: KeyId,
    },
    /// The ledger cannot record it, so it must not be served.
    #[error(transparent)]
    Store(#[from] LedgerError),
}

/// A budget has no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {} budget of {} is {}: {} of it spent or reserved, {} asked for", period_name(*period), whose(key.as_ref()), shown(*limit), shown(*used), shown(*asked))]
pub struct OverBudget {
    /// Whose, or the overall one.
    pub key: Option<KeyId>,
    /// Its period.
    pub period: Period,
    /// How much it is.
    pub limit: Amount,
    /// How much of it is spent or reserved.
    pub used: Amount,
    /// How much was to be reserved.
    pub asked: Amount,
    /// When the period ends. Earlier, there may be room when reservations are settled.
    pub retry_after: Duration,
}

/// A rate was exceeded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is limited to {limit} {what} a minute; try again in {:.1} seconds", whose(key.as_ref()), retry_after.as_secs_f64())]
pub struct RateLimited {
    /// Whose, or the overall one.
    pub key: Option<KeyId>,
    /// `requests` or `tokens`.
    pub what: &'static str,
    /// How many of them.
    pub limit: u64,
    /// When there will be room.
    pub retry_after: Duration,
}

/// Why a secret does not open the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No such key, or the wrong secret for it: which of the two is not told.
    #[error("the API key is not valid")]
    Invalid,
    /// The key was good once.
    #[error("the API key has expired")]
    Expired,
    /// The key was revoked.
    #[error("the API key was revoked")]
    Revoked,
}

/// Why a key could not be made or changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No such key.
    #[error("there is no key {id}")]
    NoSuchKey {
        /// The id asked for.
        id: String,
    },
    /// A field has a value that it cannot have.
    #[error("{field}: {why}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// A revoked key stays as it is.
    #[error("key {id} was revoked; create a new one")]
    Revoked {
        /// The key.
        id: KeyId,
    },
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn whose(key: Option<&KeyId>) -> String {
    key.map_or_else(|| "all keys together".to_owned(), |key| format!("key {key}"))
}

fn period_name(period: Period) -> &'static str {
    match period {
        Period::Day => "daily",
        Period::Month => "monthly",
    }
}

fn shown(amount: Amount) -> String {
    match amount {
        Amount::Money(NanoDollars(nanos)) => NanoDollars(nanos).to_string(),
        Amount::Tokens(tokens) => format!("{tokens} tokens"),
    }
}
