//! The one task that writes: whatever is queued at a moment becomes one transaction.

mod batch;
mod journal;
mod mend;
pub(crate) mod op;
mod postgres;
mod sqlite;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::chain::Head;
#[cfg(fuzzing)]
use crate::chain::LedgerId;
use crate::content::{CheckpointEntry, Settled, encode};
use crate::db::Statement;
use crate::error::{BeginError, LedgerError};
use crate::query::Recorded;
use crate::request::EntryReceipt;
use crate::shared::{RETRY, Shared};
use op::{Append, Beside, Op, Then};

pub(crate) use postgres::{PostgresStore, read_head};
pub(crate) use sqlite::{SqliteStore, recover_for_reading};

/// Where transactions go.
#[derive(Debug)]
pub(crate) enum Backend {
    Sqlite(Box<SqliteStore>),
    Postgres(Box<PostgresStore>),
}

/// Why a transaction had no effect.
#[derive(Debug)]
pub(crate) enum Fault {
    /// One of its operations cannot be stored; the others can.
    Operation(LedgerError),
    /// The store is not able to.
    Store(LedgerError),
}

impl Fault {
    fn into_error(self) -> LedgerError {
        match self {
            Self::Operation(error) | Self::Store(error) => error,
        }
    }
}

/// What became of each operation of a transaction that was committed.
#[derive(Debug)]
pub(crate) enum Done {
    Opened,
    NotAdmitted(BeginError),
    Appended(EntryReceipt),
    NotAppended(LedgerError),
}

/// The writer's state.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: mpsc::UnboundedReceiver<Op>,
    pub(crate) backend: Backend,
    pub(crate) head: Head,
    /// Entries since the last checkpoint.
    pub(crate) uncovered: u64,
    /// Entries of tickets that a failing store did not take.
    backlog: VecDeque<Op>,
    checkpoint_due: Instant,
    mend_due: Instant,
    retry_due: Instant,
}

/// Reads bytes as a journal, and as the body of one of its records, whose checksum a fuzzer would not find.
#[cfg(fuzzing)]
pub fn read_journal(bytes: &[u8]) {
    let records = journal::records(&LedgerId([0; 32]), bytes).unwrap_or_default();
    for body in records.iter().map(|record| record.body.as_slice()).chain([bytes]) {
        if let Some(steps) = crate::db::steps::decode(body) {
            assert_eq!(crate::db::steps::encode(&steps).as_deref(), Some(body));
        }
    }
}

/// How often open requests of processes that died are looked for.
const MEND: std::time::Duration = std::time::Duration::from_secs(5);

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: mpsc::UnboundedReceiver<Op>,
        backend: Backend,
        head: Head,
        uncovered: u64,
    ) -> Self {
        let now = Instant::now();
        let checkpoint_due = now + shared.config.checkpoint.time;
        Self {
            shared,
            queue,
            backend,
            head,
            uncovered,
            backlog: VecDeque::new(),
            checkpoint_due,
            mend_due: now + MEND,
            retry_due: now,
        }
    }

    /// Writes until every handle is gone or the ledger is closed.
    pub(crate) async fn run(mut self) {
        loop {
            let first = tokio::select! {
                op = self.queue.recv() => op,
                brought = self.backend.tend(), if self.backend.has_to_tend() => {
                    match brought {
                        Err(error) => {
                            self.shared.counters.failed();
                            self.shared.health.failed(&error);
                        }
                        Ok(()) if self.backend.takes_entries() => self.shared.health.worked(),
                        Ok(()) => {}
                    }
                    continue;
                }
                () = sleep_until(self.checkpoint_due), if self.uncovered > 0 => {
                    // Its failure is told of, and it is tried again when it is due again.
                    let _ = self.checkpoint().await;
                    continue;
                }
                () = sleep_until(self.mend_due), if matches!(self.backend, Backend::Postgres(_)) => {
                    self.mend().await;
                    continue;
                }
                () = sleep_until(self.retry_due), if !self.backlog.is_empty() => {
                    self.retry_due = Instant::now() + RETRY;
                    self.retry().await;
                    continue;
                }
            };
            let Some(first) = first else { break };
            let mut ops = vec![first];
            while ops.len() < self.shared.config.commit.batch {
                match self.queue.try_recv() {
                    Ok(op) => ops.push(op),
                    Err(_) => break,
                }
            }
            let ends = ops.iter().position(|op| matches!(op, Op::Checkpoint(..) | Op::Flush(..)));
            let after = ends.map(|place| ops.split_off(place));
            self.process(ops).await;
            let mut group = Vec::new();
            for op in after.into_iter().flatten() {
                if matches!(op, Op::Flush(..) | Op::Checkpoint(..)) {
                    self.process(std::mem::take(&mut group)).await;
                }
                match op {
                    Op::Flush(reply) => drop(reply.send(self.flush().await)),
                    Op::Checkpoint(reply, Then::GoOn) => drop(reply.send(self.checkpoint().await)),
                    Op::Checkpoint(reply, Then::Close) => {
                        self.queue.close();
                        return self.end(Some(reply)).await;
                    }
                    op => group.push(op),
                }
            }
            self.process(group).await;
        }
        self.end(None).await;
    }

    /// Commits what is still queued and signs a last checkpoint.
    async fn end(mut self, reply: Option<oneshot::Sender<Result<(), LedgerError>>>) {
        while let Ok(op) = self.queue.try_recv() {
            match op {
                Op::Flush(reply) | Op::Checkpoint(reply, _) => drop(reply.send(Err(LedgerError::Closed))),
                Op::Open(open) => {
                    self.shared.give_back(&open.reservation);
                    open.reply.map(|reply| reply.send(Err(LedgerError::Closed.into())));
                }
                op => self.process(vec![op]).await,
            }
        }
        self.retry().await;
        self.shared.open().clear();
        let mut outcome = self.settle_own(Settled::Abandoned).await;
        if outcome.is_ok() && self.uncovered > 0 {
            outcome = self.checkpoint().await;
        }
        if let Err(error) = &outcome {
            tracing::error!(%error, "the ledger could not be closed in order");
        }
        self.backend.close().await;
        self.shared.reader.close().await;
        if let Some(reply) = reply {
            let _ = reply.send(outcome);
        }
    }

    /// Brings what is committed to where readers see it.
    async fn flush(&mut self) -> Result<(), LedgerError> {
        match &mut self.backend {
            Backend::Sqlite(store) => store.flush().await.inspect_err(|error| self.shared.health.failed(error)),
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// Tries again what the store did not take.
    async fn retry(&mut self) {
        let ops: Vec<Op> = self.backlog.drain(..).collect();
        if !ops.is_empty() {
            self.process(ops).await;
        }
    }

    /// Commits operations and tells whoever waits for them.
    async fn process(&mut self, ops: Vec<Op>) {
        // An abandoned request whose record never came to be has left nothing to settle.
        let vain = |op: &Op| match op {
            Op::Append(Append { beside: Beside::Request(record), .. }) => {
                record.entry.settled == Settled::Abandoned && record.settles.as_ref().is_some_and(|r| r.is_given_back())
            }
            _ => false,
        };
        let mut waiting: VecDeque<Vec<Op>> = [ops.into_iter().filter(|op| !vain(op)).collect()].into();
        while let Some(ops) = waiting.pop_front() {
            if ops.is_empty() {
                continue;
            }
            match self.commit(&ops).await {
                Ok(done) => {
                    self.shared.health.worked();
                    for (op, done) in ops.into_iter().zip(done) {
                        self.tell(op, done);
                    }
                }
                // One of them is at fault: each goes alone.
                Err(Fault::Operation(_)) if ops.len() > 1 => waiting.extend(ops.into_iter().map(|op| vec![op])),
                Err(Fault::Operation(error)) => ops.into_iter().for_each(|op| self.refuse(op, &error)),
                Err(Fault::Store(error)) => {
                    self.shared.counters.failed();
                    self.shared.health.failed(&error);
                    for op in ops {
                        match op {
                            Op::Append(ref append) if append.settles().is_some() => self.backlog.push_back(op),
                            op => self.refuse(op, &error),
                        }
                    }
                }
            }
        }
    }

    async fn commit(&mut self, ops: &[Op]) -> Result<Vec<Done>, Fault> {
        let appends = ops.iter().filter(|op| matches!(op, Op::Append(_))).count() as u64;
        let checkpoint = match self.uncovered + appends >= self.shared.config.checkpoint.entries.max(1) && appends > 0 {
            true => Some(self.checkpoint_entry().map_err(Fault::Operation)?),
            false => None,
        };
        let (head, done) = match &mut self.backend {
            Backend::Sqlite(store) => store.commit(&self.shared, self.head, ops, checkpoint.as_ref()).await?,
            Backend::Postgres(store) => store.commit(&self.shared, self.head, ops, checkpoint.as_ref()).await?,
        };
        let entries = head.seq.saturating_sub(self.head.seq);
        self.shared.counters.committed(entries);
        self.uncovered += entries;
        if checkpoint.is_some() && head.seq > self.head.seq {
            self.covered();
        }
        self.head = head;
        Ok(done)
    }

    fn checkpoint_entry(&self) -> Result<Append, LedgerError> {
        let entry = CheckpointEntry::new(self.shared.signer.id().to_owned());
        Ok(Append { id: Uuid::nil(), content: encode(&entry)?, beside: Beside::Checkpoint(entry), reply: None })
    }

    fn covered(&mut self) {
        self.uncovered = 0;
        self.checkpoint_due = Instant::now() + self.shared.config.checkpoint.time;
    }

    /// Signs what has been written.
    async fn checkpoint(&mut self) -> Result<(), LedgerError> {
        self.checkpoint_due = Instant::now() + self.shared.config.checkpoint.time;
        let op = Op::Append(self.checkpoint_entry()?);
        match self.commit(&[op]).await {
            Ok(_) => {
                self.covered();
                Ok(())
            }
            Err(fault) => {
                let error = fault.into_error();
                self.shared.counters.failed();
                self.shared.health.failed(&error);
                Err(error)
            }
        }
    }

    /// Reports what was committed.
    fn tell(&self, op: Op, done: Done) {
        match (op, done) {
            (Op::Open(open), Done::Opened) => drop(open.reply.map(|reply| reply.send(Ok(())))),
            (Op::Open(open), Done::NotAdmitted(error)) => {
                self.shared.give_back(&open.reservation);
                open.reply.map(|reply| reply.send(Err(error)));
            }
            (Op::Append(append), Done::Appended(receipt)) => {
                if let Beside::Request(record) = append.beside {
                    self.shared.settled(record.settles.as_deref(), &record.entry);
                    if self.shared.live.receiver_count() > 0 {
                        let recorded = Recorded { id: append.id, receipt, entry: record.entry };
                        let _ = self.shared.live.send(Arc::new(recorded));
                    }
                }
                append.reply.map(|reply| reply.send(Ok(receipt)));
            }
            (op, Done::NotAppended(error)) => self.refuse(op, &error),
            (op, _) => {
                self.refuse(op, &LedgerError::Damaged { what: "a commit answered for another operation".to_owned() })
            }
        }
    }

    /// Reports that an operation had no effect.
    fn refuse(&self, op: Op, error: &LedgerError) {
        match op {
            Op::Open(open) => {
                self.shared.give_back(&open.reservation);
                open.reply.map(|reply| reply.send(Err(error.clone().into())));
            }
            Op::Append(append) => {
                if let Some(reservation) = append.settles() {
                    // Its row in `open` stays, and is settled when the ledger is opened again.
                    self.shared.open().remove(&reservation.request);
                }
                append.reply.map(|reply| reply.send(Err(error.clone())));
            }
            Op::Flush(reply) | Op::Checkpoint(reply, _) => drop(reply.send(Err(error.clone()))),
        }
    }
}

impl Backend {
    /// For reading and writing at the database itself.
    pub(crate) async fn statement(&mut self) -> Result<Statement<'_>, LedgerError> {
        match self {
            Self::Sqlite(store) => store.statement().await,
            Self::Postgres(store) => Ok(Statement::Postgres(&mut store.connection)),
        }
    }

    /// Whether nothing has failed since something was last taken.
    fn takes_entries(&self) -> bool {
        !matches!(self, Self::Sqlite(store) if store.is_failing())
    }

    fn has_to_tend(&self) -> bool {
        matches!(self, Self::Sqlite(store) if store.has_to_tend())
    }

    async fn tend(&mut self) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(store) => store.tend().await,
            Self::Postgres(_) => std::future::pending().await,
        }
    }

    async fn close(self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
