//! An admitted request.

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::request::{EntryReceipt, Outcome};

/// An admitted request that is not settled. Dropped, it is settled as `abandoned`, charged with what was reserved.
#[derive(Debug)]
pub struct Ticket {
    _ledger: Ledger,
}

impl Ticket {
    /// Waits until the request itself is on record, so that it will have an entry whatever happens. Nothing may be answered before.
    /// May be called again.
    ///
    /// # Errors
    /// When the store did not take it: the request must be refused.
    pub async fn durable(&mut self) -> Result<(), LedgerError> {
        Err(LedgerError::Closed)
    }

    /// Writes the entry, settles budgets, and waits until that is committed.
    ///
    /// # Errors
    /// When the store does not take the entry for as long as [`crate::CommitLimits::patience`]. It is then written as soon as the store
    /// takes it again; should the process die before, the request has an entry `interrupted`.
    pub async fn finish(self, _outcome: Outcome) -> Result<EntryReceipt, LedgerError> {
        Err(LedgerError::Closed)
    }
}
