//! What the writer is asked to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::body::Stored;
use crate::budgets::{Amounts, scope};
use crate::chain::{Kind, Part};
use crate::content::{CheckpointEntry, ErasedEntry, FeedbackEntry, KeyEntry, PurgedEntry, RequestEntry};
use crate::db::Value;
use crate::error::{BeginError, LedgerError};
use crate::keys::{KeyId, KeyRecord};
use crate::request::EntryReceipt;

/// Something for the writer.
#[derive(Debug)]
pub(crate) enum Op {
    /// Record that a request was admitted.
    Open(Box<Open>),
    /// Append an entry.
    Append(Append),
    /// Bring what is committed to where readers see it.
    Flush(oneshot::Sender<Result<(), LedgerError>>),
    /// Sign a checkpoint, and end if asked to.
    Checkpoint(oneshot::Sender<Result<(), LedgerError>>, Then),
}

/// What follows a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Close,
}

/// What was reserved for a request.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) request: Uuid,
    pub(crate) key: Option<KeyId>,
    pub(crate) day: i64,
    pub(crate) amounts: Amounts,
    given_back: AtomicBool,
}

impl Reservation {
    pub(crate) const fn new(request: Uuid, key: Option<KeyId>, day: i64, amounts: Amounts) -> Self {
        Self { request, key, day, amounts, given_back: AtomicBool::new(false) }
    }

    /// Marks it as given back; says whether it was not before.
    pub(crate) fn give_back(&self) -> bool {
        !self.given_back.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_given_back(&self) -> bool {
        self.given_back.load(Ordering::Acquire)
    }
}

/// A request that was admitted.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) reservation: Arc<Reservation>,
    /// The entry it gets should its process die.
    pub(crate) entry: RequestEntry,
    pub(crate) content: Vec<u8>,
    pub(crate) subject: Option<String>,
    pub(crate) salt: Option<Vec<u8>>,
    /// Whose limits are checked, where the database does that.
    pub(crate) key: Option<Arc<KeyRecord>>,
    pub(crate) reply: Option<oneshot::Sender<Result<(), BeginError>>>,
}

impl Open {
    /// Its row in `open`.
    pub(crate) fn row(&self, chain: u32) -> [Value; 9] {
        let Reservation { request, key, day, amounts, .. } = &*self.reservation;
        [
            Value::blob(request.as_bytes()),
            Value::Int(chain.into()),
            Value::text(scope(key.as_ref())),
            Value::Int(*day),
            Value::Int(amounts.cost),
            Value::Int(amounts.tokens),
            Value::blob(&self.content),
            Value::optional(self.subject.as_deref()),
            self.salt.as_deref().map_or(Value::Null, Value::blob),
        ]
    }
}

/// An entry to be appended.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) id: Uuid,
    pub(crate) content: Vec<u8>,
    pub(crate) beside: Beside,
    pub(crate) reply: Option<oneshot::Sender<Result<EntryReceipt, LedgerError>>>,
}

/// What is written with an entry.
#[derive(Debug)]
pub(crate) enum Beside {
    Request(Box<RequestRecord>),
    Feedback { entry: FeedbackEntry, salt: Option<Vec<u8>>, correction: Option<Stored> },
    Key(Box<KeyEntry>),
    Erased(ErasedEntry),
    Purged(PurgedEntry),
    Checkpoint(CheckpointEntry),
}

/// A request with all that belongs to it.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    pub(crate) entry: RequestEntry,
    pub(crate) subject: Option<String>,
    pub(crate) salt: Option<Vec<u8>>,
    pub(crate) bodies: Vec<(Part, Stored)>,
    /// The row in `open` that this settles, and what it had reserved.
    pub(crate) settles: Option<Arc<Reservation>>,
}

impl Append {
    pub(crate) const fn kind(&self) -> Kind {
        match self.beside {
            Beside::Request(_) => Kind::Request,
            Beside::Feedback { .. } => Kind::Feedback,
            Beside::Key(_) => Kind::Key,
            Beside::Erased(_) => Kind::Erased,
            Beside::Purged(_) => Kind::Purged,
            Beside::Checkpoint(_) => Kind::Checkpoint,
        }
    }

    /// The reservation it settles.
    pub(crate) fn settles(&self) -> Option<&Arc<Reservation>> {
        match &self.beside {
            Beside::Request(record) => record.settles.as_ref(),
            _ => None,
        }
    }
}
