//! What is done to a ledger now and then: erasure, retention, backup.

use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use crate::chain::Head;
use crate::config::Store;
use crate::content::{ErasedEntry, KeyEvent, PurgedEntry, encode, name};
use crate::db::{Value, backup};
use crate::error::LedgerError;
use crate::keys::KeyRecord;
use crate::ledger::Ledger;
use crate::time::Timestamp;
use crate::writer::op::{Append, Beside};
use crate::writer::recover_for_reading;

/// Requests that one entry tells of.
const REQUESTS_PER_ENTRY: usize = 500;

/// What retention has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Purged {
    /// Requests and feedback whose texts were removed.
    pub texts: u64,
    /// Entries that were removed.
    pub entries: u64,
}

impl Ledger {
    /// Erases the end user's name, bodies and corrections of all requests of an end user. Their entries stay, and so does the chain; how
    /// many requests were concerned. Requests that are open are not: ask again when they have ended.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn erase_subject(&self, subject: &str) -> Result<u64, LedgerError> {
        let sql = format!("SELECT id FROM requests WHERE subject = $1 ORDER BY id LIMIT {REQUESTS_PER_ENTRY}");
        let subject = name(subject);
        let mut erased = 0;
        loop {
            // What is not there yet would be left out.
            self.shared.reader.flush().await?;
            let rows = self.shared.reader.rows(&sql, vec![Value::text(&subject)]).await?;
            if rows.is_empty() {
                return Ok(erased);
            }
            erased += rows.len() as u64;
            let requests = rows.into_iter().map(|mut row| row.uuid()).collect::<Result<_, _>>()?;
            self.append_erased(ErasedEntry::of(requests)).await?;
        }
    }

    async fn append_erased(&self, entry: ErasedEntry) -> Result<(), LedgerError> {
        let content = encode(&entry)?;
        self.append(Append { id: Uuid::nil(), content, beside: Beside::Erased(entry), reply: None }).await?;
        Ok(())
    }

    /// Removes what is older than the configured retention says. Entries go up to the last checkpoint that is old enough: what is left is
    /// a chain that begins at a signed checkpoint.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn purge(&self) -> Result<Purged, LedgerError> {
        let days =
            |days: Option<u32>| days.map(|days| Timestamp::now().minus(Duration::from_secs(u64::from(days) * 86_400)));
        let retention = self.shared.config.retention;
        self.shared.reader.flush().await?;
        let mut purged = Purged::default();
        if let Some(before) = days(retention.entries_days) {
            purged.entries = self.purge_entries(before).await?;
        }
        if let Some(before) = days(retention.bodies_days) {
            purged.texts = self.purge_texts(before).await?;
        }
        Ok(purged)
    }

    async fn purge_texts(&self, before: Timestamp) -> Result<u64, LedgerError> {
        let mut texts = 0;
        for table in ["requests", "feedback"] {
            let sql = format!(
                "SELECT COUNT(*) FROM {table} t JOIN entries e ON e.chain = t.chain AND e.seq = t.seq
                 WHERE t.salt IS NOT NULL AND e.at < $1"
            );
            let rows = self.shared.reader.rows(&sql, vec![Value::Int(before.0)]).await?;
            texts += rows.into_iter().next().map_or(Ok(0), |mut row| row.count())?;
        }
        if texts > 0 {
            self.append_erased(ErasedEntry::before(before)).await?;
        }
        Ok(texts)
    }

    async fn purge_entries(&self, before: Timestamp) -> Result<u64, LedgerError> {
        let reader = &self.shared.reader;
        let sql = "SELECT c.chain, c.seq, c.at, c.hash, (SELECT COUNT(*) FROM entries e WHERE e.chain = c.chain AND e.seq <= c.seq)
             FROM checkpoints c WHERE c.at < $1 AND c.seq =
             (SELECT MAX(l.seq) FROM checkpoints l WHERE l.chain = c.chain AND l.at < $1) ORDER BY c.chain";
        let mut removed = 0;
        for mut row in reader.rows(sql, vec![Value::Int(before.0)]).await? {
            let head = Head { chain: row.chain()?, seq: row.count()?, at: Timestamp(row.int()?), hash: row.hash()? };
            let entries = row.count()?;
            if entries == 0 {
                continue;
            }
            self.carry_keys(&head).await?;
            let entry = PurgedEntry::new(head.chain, head.seq, head.hash, head.at);
            let content = encode(&entry)?;
            self.append(Append { id: Uuid::nil(), content, beside: Beside::Purged(entry), reply: None }).await?;
            removed += entries;
        }
        Ok(removed)
    }

    /// Tells again of keys whose last entry is about to go.
    async fn carry_keys(&self, through: &Head) -> Result<(), LedgerError> {
        let _one_at_a_time = self.shared.changing_keys.lock().await;
        let sql = "SELECT record FROM keys WHERE chain = $1 AND seq <= $2";
        let args = vec![Value::Int(through.chain.into()), Value::count(through.seq)];
        for mut row in self.shared.reader.rows(sql, args).await? {
            let mut record: KeyRecord = serde_json::from_str(&row.text()?)
                .map_err(|e| LedgerError::Damaged { what: format!("a key does not read: {e}") })?;
            record.revision += 1;
            self.store_key(KeyEvent::Carried, record).await?;
        }
        Ok(())
    }

    /// Writes a copy of a SQLite ledger to a file that is not there yet, while requests go on. The signing key and the key of bodies are
    /// not in it.
    ///
    /// # Errors
    /// When the file is there, cannot be written, or the ledger is in Postgres, which has its own ways.
    pub async fn backup(&self, to: &Path) -> Result<(), LedgerError> {
        self.shared.reader.flush().await?;
        backup_of(&self.shared.config.store, to).await
    }
}

/// As [`Ledger::backup`], of a ledger that this or another process may hold.
///
/// # Errors
/// As [`Ledger::backup`].
pub async fn backup_of(store: &Store, to: &Path) -> Result<(), LedgerError> {
    let Store::Sqlite { path, .. } = store else {
        let why = "a ledger in Postgres is backed up with pg_dump or the server's own means".to_owned();
        return Err(LedgerError::Invalid { field: "backup", why });
    };
    if !path.is_file() {
        return Err(LedgerError::File { path: path.clone(), why: "there is no ledger".to_owned() });
    }
    if to.exists() {
        return Err(LedgerError::File {
            path: to.to_owned(),
            why: "is there already; give the name of a new file".to_owned(),
        });
    }
    recover_for_reading(store).await?;
    backup(path, to).await?;
    crate::ledger::make_private(to)
}
