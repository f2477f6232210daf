//! What handles, tickets and the writer have in common.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, broadcast};
use uuid::Uuid;

use crate::budgets::{Amounts, Budgets};
use crate::chain::LedgerId;
use crate::config::{LedgerConfig, Store};
use crate::content::RequestEntry;
use crate::counters::Counters;
use crate::db::Reader;
use crate::error::LedgerError;
use crate::keys::registry::Registry;
use crate::query::Recorded;
use crate::rates::{Payer, Rates};
use crate::signing::CheckpointSigner;
use crate::writer::op::Reservation;

/// Finished requests that a slow listener may be behind.
const LIVE: usize = 1024;
/// How often a store that failed is tried again.
pub(crate) const RETRY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: LedgerConfig,
    pub(crate) ledger: LedgerId,
    pub(crate) signer: CheckpointSigner,
    pub(crate) registry: Registry,
    /// One change of keys at a time.
    pub(crate) changing_keys: tokio::sync::Mutex<()>,
    pub(crate) rates: Rates,
    budgets: Mutex<Budgets>,
    open: Mutex<HashSet<Uuid>>,
    /// Entries that are written for no ticket, at a time.
    pub(crate) without_ticket: Semaphore,
    pub(crate) health: Health,
    pub(crate) counters: Counters,
    pub(crate) live: broadcast::Sender<std::sync::Arc<Recorded>>,
    pub(crate) reader: Reader,
}

impl Shared {
    pub(crate) fn new(
        config: LedgerConfig,
        ledger: LedgerId,
        pepper: Vec<u8>,
        signer: CheckpointSigner,
        reader: Reader,
    ) -> Self {
        Self {
            without_ticket: Semaphore::new(config.commit.open_requests.clamp(1, Semaphore::MAX_PERMITS)),
            config,
            ledger,
            signer,
            registry: Registry::new(pepper),
            changing_keys: tokio::sync::Mutex::default(),
            rates: Rates::new(),
            budgets: Mutex::default(),
            open: Mutex::default(),
            health: Health::default(),
            counters: Counters::default(),
            live: broadcast::channel(LIVE).0,
            reader,
        }
    }

    /// Whether budgets are kept in this process's memory, because no other process writes.
    pub(crate) const fn owns_budgets(&self) -> bool {
        matches!(self.config.store, Store::Sqlite { .. })
    }

    pub(crate) fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests whose ticket is out.
    pub(crate) fn open(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Undoes what was reserved for a request that is not admitted after all.
    pub(crate) fn give_back(&self, reservation: &Reservation) {
        if !reservation.give_back() {
            return;
        }
        self.open().remove(&reservation.request);
        if self.owns_budgets() {
            self.budgets().settle(reservation.key.as_ref(), reservation.day, reservation.amounts, Amounts::default());
        }
        self.give_back_tokens(reservation, 0);
    }

    /// After an entry was committed: what was reserved becomes what was spent.
    pub(crate) fn settled(&self, reservation: Option<&Reservation>, entry: &RequestEntry) {
        let spent = Amounts::of(entry.cost, entry.charged_tokens);
        let held = reservation.filter(|reservation| reservation.give_back());
        if self.owns_budgets() {
            let reserved = held.map_or_else(Amounts::default, |reservation| reservation.amounts);
            self.budgets().settle(entry.key.as_ref(), entry.day, reserved, spent);
        }
        if let Some(reservation) = held {
            self.open().remove(&reservation.request);
            self.give_back_tokens(reservation, entry.charged_tokens);
        }
    }

    fn give_back_tokens(&self, reservation: &Reservation, used: u64) {
        let unused = u64::try_from(reservation.amounts.tokens).unwrap_or(0).saturating_sub(used);
        let record = reservation.key.as_ref().and_then(|key| self.registry.get(key));
        let mut payers: Vec<Payer<'_>> = vec![(None, &self.config.overall)];
        if let Some(record) = &record {
            payers.push((Some(&record.id), &record.limits));
        }
        self.rates.give_back_tokens(&payers, unused);
    }
}

/// Whether the store takes entries. While it does not, requests are refused at once, but for one now and then that tries.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failing: AtomicBool,
    fault: Mutex<Option<(LedgerError, Instant)>>,
}

impl Health {
    /// Lets a request through, or says why not.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        if !self.failing.load(Ordering::Acquire) {
            return Ok(());
        }
        match &mut *self.lock() {
            Some((_, next)) if *next <= Instant::now() => {
                *next = Instant::now() + RETRY;
                Ok(())
            }
            Some((error, _)) => Err(error.clone()),
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&self, error: &LedgerError) {
        *self.lock() = Some((error.clone(), Instant::now() + RETRY));
        if !self.failing.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the ledger takes no entries: requests are refused until it does");
        }
    }

    pub(crate) fn worked(&self) {
        if self.failing.swap(false, Ordering::AcqRel) {
            *self.lock() = None;
            tracing::info!("the ledger takes entries again");
        }
    }

    /// The fault that lasts, if one does.
    pub(crate) fn fault(&self) -> Option<LedgerError> {
        self.failing.load(Ordering::Acquire).then(|| self.lock().as_ref().map(|(error, _)| error.clone())).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(LedgerError, Instant)>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
