//! Where a ledger is and how it is kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::Limits;

/// How to open a ledger.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// The database.
    pub store: Store,
    /// What of requests and answers is kept beside the entries.
    pub bodies: BodyStorage,
    /// How long things are kept.
    pub retention: Retention,
    /// The file of the ed25519 key that signs checkpoints. Made with mode 0600 if it is not there, the public key beside it
    /// (`.pub` appended to the name).
    pub signing_key: PathBuf,
    /// How often a checkpoint is signed.
    pub checkpoint: CheckpointEvery,
    /// Bounds of queues and batches.
    pub commit: CommitLimits,
    /// What all keys together may spend.
    pub overall: Limits,
}

impl LedgerConfig {
    /// A SQLite ledger at `path` with its signing key beside it (`.key` in place of the extension), no bodies, nothing ever purged.
    #[must_use]
    pub fn sqlite(path: &Path) -> Self {
        Self {
            store: Store::Sqlite { path: path.to_owned(), durability: Durability::Process, max_bytes: None },
            bodies: BodyStorage::None,
            retention: Retention::default(),
            signing_key: path.with_extension("key"),
            checkpoint: CheckpointEvery::default(),
            commit: CommitLimits::default(),
            overall: Limits::default(),
        }
    }

    /// A Postgres ledger, otherwise as [`LedgerConfig::sqlite`].
    #[must_use]
    pub fn postgres(url: &str, signing_key: &Path) -> Self {
        Self {
            store: Store::Postgres { url: url.to_owned() },
            signing_key: signing_key.to_owned(),
            ..Self::sqlite(Path::new(""))
        }
    }
}

/// The database of a ledger.
#[derive(Clone)]
pub enum Store {
    /// A file that one process holds.
    Sqlite {
        /// The file; its folder is made if it is not there.
        path: PathBuf,
        /// What a committed entry survives.
        durability: Durability,
        /// The most bytes the file may have. Where it is full, requests are refused until something is purged.
        max_bytes: Option<u64>,
    },
    /// A database that several processes share. Each writes a chain of its own; budgets are shared.
    Postgres {
        /// `postgres://user:password@host/database`.
        url: String,
    },
}

/// Without the password of a URL.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path, .. } => f.debug_struct("Sqlite").field("path", path).finish_non_exhaustive(),
            Self::Postgres { .. } => f.debug_struct("Postgres").finish_non_exhaustive(),
        }
    }
}

/// What a committed entry of a SQLite ledger survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends (`synchronous = NORMAL`). The last entries may be lost with the machine's power.
    #[default]
    Process,
    /// Loss of power too (`synchronous = FULL`): every commit waits for the disk.
    Power,
}

/// What is kept of bodies.
#[derive(Clone, Debug, Default)]
pub enum BodyStorage {
    /// Nothing; bodies given are dropped.
    #[default]
    None,
    /// As given: the caller has taken out what must not be stored.
    Redacted,
    /// Encrypted with XChaCha20-Poly1305, bound to their request.
    Encrypted {
        /// The key.
        key: EncryptionKey,
    },
}

/// A key that encrypts bodies. Its identity, stored beside what it encrypted, is a digest of it.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey(pub(crate) [u8; 32]);

impl EncryptionKey {
    /// From 64 hexadecimal digits, as `openssl rand -hex 32` writes them; white space around them is let pass.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = [0; 32];
        crate::hex::decode(text.trim(), &mut key).then_some(Self(key))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey")
    }
}

/// For how many days things are kept; without a number, for ever. See [`crate::Ledger::purge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Bodies, texts of feedback and the names of end users.
    pub bodies_days: Option<u32>,
    /// Entries themselves.
    pub entries_days: Option<u32>,
}

/// A checkpoint is signed after so many entries or so much time, whichever comes first, and when the ledger is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointEvery {
    /// Entries since the last.
    pub entries: u64,
    /// Time since the last, if there are entries since.
    pub time: Duration,
}

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self { entries: 1000, time: Duration::from_secs(60) }
    }
}

/// Bounds of queues and batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitLimits {
    /// Operations committed in one transaction.
    pub batch: usize,
    /// Requests that may be open at a time; one more is refused.
    pub open_requests: usize,
    /// How long [`crate::Ticket::finish`] waits for a store that does not take the entry.
    pub patience: Duration,
}

impl Default for CommitLimits {
    fn default() -> Self {
        Self { batch: 256, open_requests: 16_384, patience: Duration::from_secs(10) }
    }
}
