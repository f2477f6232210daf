//! An admitted request.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::body::{Stored, seal};
use crate::chain::{Part, commitment};
use crate::config::BodyStorage;
use crate::content::{RequestEntry, Settled, encode};
use crate::error::{BeginError, LedgerError};
use crate::ledger::Ledger;
use crate::request::{Bodies, EntryReceipt, Hash, Outcome};
use crate::writer::op::{Append, Beside, Op, RequestRecord, Reservation};

/// An admitted request that is not settled. Dropped, it is settled as `abandoned`, charged with what was reserved.
#[derive(Debug)]
pub struct Ticket {
    ledger: Ledger,
    /// Taken when it is settled.
    open: Option<OpenRequest>,
    durable: Durable,
}

/// A request that is not settled.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) reservation: Arc<Reservation>,
    /// What it would have for an entry if its process died.
    pub(crate) entry: RequestEntry,
    pub(crate) subject: Option<String>,
    pub(crate) salt: Option<Vec<u8>>,
}

/// Whether its record is committed.
#[derive(Debug)]
pub(crate) enum Durable {
    Yes,
    Waiting(oneshot::Receiver<Result<(), BeginError>>),
    No(LedgerError),
}

impl Ticket {
    pub(crate) const fn new(ledger: Ledger, open: OpenRequest, durable: Durable) -> Self {
        Self { ledger, open: Some(open), durable }
    }

    /// Ends a ticket that was never admitted, without a trace.
    pub(crate) fn forget(&mut self) {
        self.open = None;
    }

    /// Waits until the request itself is on record, so that it will have an entry whatever happens. Nothing may be answered before.
    /// May be called again.
    ///
    /// # Errors
    /// When the store did not take it: the request must be refused.
    pub async fn durable(&mut self) -> Result<(), LedgerError> {
        if let Durable::Waiting(reply) = &mut self.durable {
            self.durable = match reply.await {
                Ok(Ok(())) => Durable::Yes,
                Ok(Err(BeginError::Store(error))) => Durable::No(error),
                Ok(Err(other)) => {
                    Durable::No(LedgerError::Store { doing: "did not admit the request", why: other.to_string() })
                }
                Err(_) => Durable::No(LedgerError::Closed),
            };
        }
        match &self.durable {
            Durable::No(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Writes the entry, settles budgets, and waits until that is committed.
    ///
    /// # Errors
    /// When the store does not take the entry for as long as [`crate::CommitLimits::patience`]. It is then written as soon as the store
    /// takes it again; should the process die before, the request has an entry `interrupted`.
    pub async fn finish(mut self, mut outcome: Outcome) -> Result<EntryReceipt, LedgerError> {
        let Some(open) = self.open.take() else { return Err(LedgerError::Closed) };
        let bodies = std::mem::take(&mut outcome.bodies);
        let (reply, committed) = oneshot::channel();
        let append = append(&self.ledger.shared.config.bodies, open, Settled::Finished, outcome, bodies, Some(reply))?;
        self.ledger.send(Op::Append(append))?;
        match tokio::time::timeout(self.ledger.shared.config.commit.patience, committed).await {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(_)) => Err(LedgerError::Closed),
            Err(_) => {
                Err(self.ledger.shared.health.fault().unwrap_or(LedgerError::Store {
                    doing: "is slow",
                    why: "the entry is not committed yet".to_owned(),
                }))
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(open) = self.open.take().filter(|open| !open.reservation.is_given_back()) else { return };
        let mut entry = open.entry;
        entry.settled = Settled::Abandoned;
        entry.latency_us = u64::try_from(crate::Timestamp::now().0.saturating_sub(entry.arrived.0)).unwrap_or(0);
        let id = open.reservation.request;
        // Should encoding fail, the row in `open` is settled when the ledger is opened again.
        let Ok(content) = encode(&entry) else { return };
        let settles = Some(open.reservation);
        let record = RequestRecord { entry, subject: open.subject, salt: open.salt, bodies: Vec::new(), settles };
        let _ = self.ledger.send(Op::Append(Append {
            id,
            content,
            beside: Beside::Request(Box::new(record)),
            reply: None,
        }));
    }
}

/// The entry of a request whose outcome is known.
pub(crate) fn append(
    storage: &BodyStorage,
    open: OpenRequest,
    settled: Settled,
    outcome: Outcome,
    bodies: Bodies,
    reply: Option<oneshot::Sender<Result<EntryReceipt, LedgerError>>>,
) -> Result<Append, LedgerError> {
    let id = open.reservation.request;
    let mut entry = open.entry.with(settled, outcome);
    let given = [(Part::Request, bodies.request), (Part::Response, bodies.response), (Part::Replay, bodies.replay)];
    let mut kept: Vec<(Part, Stored)> = Vec::new();
    for (part, body) in given {
        if let Some(stored) = body.map(|body| seal(storage, id, part, body)).transpose()?.flatten() {
            kept.push((part, stored));
        }
    }
    let salt = match open.salt {
        None if !kept.is_empty() => Some(crate::random::bytes::<32>()?.to_vec()),
        salt => salt,
    };
    for (part, stored) in &kept {
        let salt = salt.as_deref().unwrap_or_default();
        let hash = commitment(salt, id, *part, stored.key.as_deref(), &stored.data);
        *bound(&mut entry, *part) = Some(hash);
    }
    let content = encode(&entry)?;
    let settles = match settled {
        Settled::Refused => None,
        _ => Some(open.reservation),
    };
    let record = RequestRecord { entry, subject: open.subject, salt, bodies: kept, settles };
    Ok(Append { id, content, beside: Beside::Request(Box::new(record)), reply })
}

/// Where an entry keeps the digest of a part.
fn bound(entry: &mut RequestEntry, part: Part) -> &mut Option<Hash> {
    match part {
        Part::Subject | Part::Correction => &mut entry.bound.subject,
        Part::Request => &mut entry.bound.request,
        Part::Response => &mut entry.bound.response,
        Part::Replay => &mut entry.bound.replay,
    }
}
