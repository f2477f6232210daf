//! The ledger as the rest of the program sees it.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::config::LedgerConfig;
use crate::error::{AuthError, BeginError, KeyError, LedgerError};
use crate::keys::{KeyChange, KeyId, KeyRecord, NewKey, Secret};
use crate::request::{Begin, EntryReceipt, Feedback, Outcome};
use crate::ticket::Ticket;

/// A ledger; clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    _config: Arc<LedgerConfig>,
}

impl Ledger {
    /// Opens a ledger, making it if it is not there, and settles what a process that died left open. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When another process holds it, it is of a newer version, or its files cannot be used.
    pub async fn open(_config: LedgerConfig) -> Result<Self, LedgerError> {
        Err(LedgerError::Closed)
    }

    /// Admits a request: checks rates and budgets, reserves its estimate, and has its arrival recorded. On SQLite this returns at once,
    /// and [`Ticket::durable`] waits for the record; on Postgres it returns when the record is committed.
    ///
    /// # Errors
    /// Why it is not admitted. Such a request is put on record with [`Ledger::record`].
    pub async fn begin(&self, _begin: Begin) -> Result<Ticket, BeginError> {
        Err(LedgerError::Closed.into())
    }

    /// Writes the entry of a request that was never admitted, such as one that was refused.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn record(&self, _begin: Begin, _outcome: Outcome) -> Result<EntryReceipt, LedgerError> {
        Err(LedgerError::Closed)
    }

    /// Records an opinion on an answer.
    ///
    /// # Errors
    /// When there is no such request, or the store does not take it.
    pub async fn feedback(&self, _request: Uuid, _feedback: Feedback) -> Result<EntryReceipt, LedgerError> {
        Err(LedgerError::Closed)
    }

    /// Who shows this key. Answered from memory, in a time that does not tell how much of the secret was right.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn authenticate(&self, _secret: &str) -> Result<Arc<KeyRecord>, AuthError> {
        Err(AuthError::Invalid)
    }

    /// Makes a key. The secret is shown this once.
    ///
    /// # Errors
    /// When a field is not fit, or the store does not take it.
    pub async fn create_key(&self, _new: NewKey) -> Result<(Arc<KeyRecord>, Secret), KeyError> {
        Err(LedgerError::Closed.into())
    }

    /// All keys, the newest last, revoked ones included.
    #[must_use]
    pub fn keys(&self) -> Vec<Arc<KeyRecord>> {
        Vec::new()
    }

    /// One key.
    #[must_use]
    pub fn key(&self, _id: &KeyId) -> Option<Arc<KeyRecord>> {
        None
    }

    /// Changes a key. Requests admitted afterwards see it.
    ///
    /// # Errors
    /// When there is no such key, it was revoked, a field is not fit, or the store does not take it.
    pub async fn update_key(&self, _id: &KeyId, _change: KeyChange) -> Result<Arc<KeyRecord>, KeyError> {
        Err(LedgerError::Closed.into())
    }

    /// Gives a key a new secret; the one before stays good for `grace`.
    ///
    /// # Errors
    /// As [`Ledger::update_key`].
    pub async fn rotate_key(&self, _id: &KeyId, _grace: Duration) -> Result<(Arc<KeyRecord>, Secret), KeyError> {
        Err(LedgerError::Closed.into())
    }

    /// Ends a key.
    ///
    /// # Errors
    /// As [`Ledger::update_key`].
    pub async fn revoke_key(&self, _id: &KeyId) -> Result<Arc<KeyRecord>, KeyError> {
        Err(LedgerError::Closed.into())
    }

    /// Commits what is queued, signs a checkpoint and gives the database free. Open tickets are settled as `abandoned`.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn close(self) -> Result<(), LedgerError> {
        Ok(())
    }
}
