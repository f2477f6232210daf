//! What the writer has done, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since a ledger was opened, of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounts {
    /// Transactions committed.
    pub commits: u64,
    /// Entries in them.
    pub entries: u64,
    /// Transactions that the store did not take.
    pub faults: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    entries: AtomicU64,
    faults: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, entries: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> WriterCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriterCounts { commits: of(&self.commits), entries: of(&self.entries), faults: of(&self.faults) }
    }
}
