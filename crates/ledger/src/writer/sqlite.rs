//! Transactions of a SQLite ledger.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::batch::Batch;
use super::journal::{self, Journal};
use super::op::{Append, Op};
use super::{Done, Fault};
use crate::chain::{Head, LedgerId};
use crate::config::{Durability, Store};
use crate::db::insert::{Step, Texts, merge, sqlite};
use crate::db::lock::Lock;
use crate::db::steps::{decode, encode};
use crate::db::{Connection, Statement, Value, connect, limit, schema, store};
use crate::error::LedgerError;
use crate::shared::{RETRY, Shared};
use crate::time::Timestamp;

/// How long a commit stands in the journal alone.
const BEHIND: Duration = Duration::from_millis(50);

/// The database, what is committed and not in it yet, and the lock that makes this process the only writer.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    path: PathBuf,
    home: Home,
    /// Where a commit is kept until it is in the database; nothing where each waits for the disk anyway.
    journal: Option<Journal>,
    /// Steps that stand in the journal and not in the database.
    behind: Vec<Step>,
    due: Instant,
    /// The database did not take something, and is asked itself until it takes things again.
    failing: bool,
    _lock: Lock,
}

/// Whether the database is here, or being written to.
#[derive(Debug)]
enum Home {
    Here(Database),
    Away(JoinHandle<(Database, Vec<Step>, Result<Brought, sqlx::Error>)>),
    /// What wrote to it panicked or was thrown away.
    Lost,
}

/// How what is behind came into the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    Within,
    /// The file has become larger than it may be.
    Beyond,
}

#[derive(Debug)]
struct Database {
    connection: SqliteConnection,
    texts: Texts,
    max_bytes: Option<u64>,
    /// SQLite's log holds something that was erased.
    unfolded: bool,
}

impl SqliteStore {
    /// Opens the database and brings into it what a process that died has left in the journal.
    pub(crate) async fn open(
        at: &Store,
        ledger: &LedgerId,
        connection: SqliteConnection,
        lock: Lock,
    ) -> Result<Self, LedgerError> {
        let Store::Sqlite { path, durability, max_bytes } = at else { return Err(LedgerError::Closed) };
        let mut database = Database::new(connection, *max_bytes);
        let last = recover(path, ledger, &mut database).await?;
        limit(&mut database.connection, *max_bytes).await.map_err(|e| store("cannot be opened", &e))?;
        let unusable = |e: std::io::Error| beside(path, &e);
        let journal = match durability {
            Durability::Process => Some(Journal::create(path, *ledger, last).map_err(unusable)?),
            Durability::Power => {
                journal::remove(path).map_err(unusable)?;
                None
            }
        };
        let home = Home::Here(database);
        let path = path.clone();
        Ok(Self { path, home, journal, behind: Vec::new(), due: Instant::now(), failing: false, _lock: lock })
    }

    pub(super) async fn commit(
        &mut self,
        shared: &Shared,
        head: Head,
        ops: &[Op],
        checkpoint: Option<&Append>,
    ) -> Result<(Head, Vec<Done>), Fault> {
        let mut batch = Batch::new(head, Timestamp::now());
        let mut done = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Open(open) => {
                    batch.open(open);
                    done.push(Done::Opened);
                }
                Op::Append(append) => done.push(Done::Appended(batch.append(append, &shared.ledger, &shared.signer))),
                Op::Flush(..) | Op::Checkpoint(..) => done.push(Done::NotAppended(LedgerError::Closed)),
            }
        }
        if let Some(checkpoint) = checkpoint {
            batch.append(checkpoint, &shared.ledger, &shared.signer);
        }
        let head = batch.head;
        let steps = batch.steps();
        match encode(&steps) {
            Some(bytes) if self.journaled(&bytes).await => {
                if self.behind.is_empty() {
                    self.due = Instant::now() + BEHIND;
                }
                self.behind.extend(steps);
            }
            bytes => self.directly(steps, bytes.is_none()).await?,
        }
        Ok((head, done))
    }

    /// Appends to the journal, if that is possible.
    async fn journaled(&mut self, bytes: &[u8]) -> bool {
        if self.failing || self.journal.is_none() {
            return false;
        }
        if self.journal.as_ref().is_some_and(Journal::is_long) && self.flush().await.is_err() {
            return false;
        }
        let Some(journal) = &mut self.journal else { return false };
        journal.append(bytes).inspect_err(|error| tracing::warn!(%error, "the ledger's journal takes nothing")).is_ok()
    }

    /// Commits to the database itself. `erasing` says that what it removes must not be left in other files.
    async fn directly(&mut self, steps: Vec<Step>, erasing: bool) -> Result<(), Fault> {
        self.flush().await.map_err(Fault::Store)?;
        let failing = self.failing;
        let number = self.journal.as_ref().map(|journal| journal.number() + 1);
        let database = self.home().await.map_err(Fault::Store)?;
        let mut steps = if erasing { steps } else { merge(steps) };
        // It has a number of its own, so that its loss with the machine's power would show as a gap.
        steps.extend(number.map(applied));
        let written = sqlite(&mut database.connection, &mut database.texts, &steps).await;
        if let Err(error) = written {
            let fault = classify(&error);
            self.failing |= matches!(fault, Fault::Store(_));
            return Err(fault);
        }
        // What comes next could exceed the limit again by all that one turn of the journal holds.
        self.failing = failing && database.is_full().await;
        if let Some(journal) = &mut self.journal {
            journal.skip();
        }
        if erasing {
            self.wipe().await;
        }
        Ok(())
    }

    /// Overwrites what SQLite's log and the journal still hold of things that are in the database or erased.
    async fn wipe(&mut self) {
        if let Some(Err(error)) = self.journal.as_mut().map(Journal::wipe) {
            tracing::warn!(%error, "what was erased could not be overwritten in the ledger's journal");
        }
        if let Home::Here(database) = &mut self.home {
            database.fold().await;
            self.due = Instant::now() + RETRY;
        }
    }

    /// Whether the database is asked itself because it did not take something.
    pub(super) const fn is_failing(&self) -> bool {
        self.failing
    }

    /// Whether [`Self::tend`] has something to do.
    pub(super) fn has_to_tend(&self) -> bool {
        let unfolded = matches!(&self.home, Home::Here(database) if database.unfolded);
        unfolded || !self.behind.is_empty() || matches!(self.home, Home::Away(_))
    }

    /// Waits until something is to be brought over or has been, and sees to that. Nothing is lost where this is dropped.
    pub(super) async fn tend(&mut self) -> Result<(), LedgerError> {
        if matches!(self.home, Home::Away(_)) {
            return self.home().await.map(|_| ());
        }
        sleep_until(self.due).await;
        self.send()
    }

    /// Begins to bring over what is behind, while commits go on.
    fn send(&mut self) -> Result<(), LedgerError> {
        match std::mem::replace(&mut self.home, Home::Lost) {
            Home::Here(mut database) => {
                // After a failure the other file is still wanted, and nothing is appended.
                if let Some(journal) = self.journal.as_mut().filter(|_| !self.failing) {
                    journal.turn();
                }
                let number = self.journal.as_ref().map_or(0, Journal::number);
                let mut steps = merge(std::mem::take(&mut self.behind));
                self.home = Home::Away(tokio::spawn(async move {
                    let written = database.bring(&mut steps, number).await;
                    (database, steps, written)
                }));
                Ok(())
            }
            Home::Away(work) => {
                self.home = Home::Away(work);
                Ok(())
            }
            Home::Lost => {
                self.due = Instant::now() + RETRY;
                Err(lost())
            }
        }
    }

    /// The database, when what is being written to it is written.
    async fn home(&mut self) -> Result<&mut Database, LedgerError> {
        if let Home::Away(work) = &mut self.home {
            let done = work.await;
            // Nothing waits from here on, so that this may be dropped at any time.
            self.home = Home::Lost;
            match done {
                Ok((database, steps, written)) => {
                    self.home = Home::Here(database);
                    self.arrived(steps, written)?;
                }
                Err(_) => self.failing = true,
            }
        }
        match &mut self.home {
            Home::Here(database) => Ok(database),
            _ => Err(lost()),
        }
    }

    fn arrived(&mut self, steps: Vec<Step>, written: Result<Brought, sqlx::Error>) -> Result<(), LedgerError> {
        match written {
            Ok(brought) => {
                // Where it is full, the database is asked itself, and refuses.
                self.failing = brought == Brought::Beyond;
                let unfolded = matches!(&self.home, Home::Here(database) if database.unfolded);
                self.due = Instant::now() + if unfolded { RETRY } else { BEHIND };
                Ok(())
            }
            Err(error) => {
                self.behind.splice(0..0, steps);
                self.failing = true;
                self.due = Instant::now() + RETRY;
                Err(store("takes no entries", &error))
            }
        }
    }

    /// Brings everything over.
    pub(super) async fn flush(&mut self) -> Result<(), LedgerError> {
        self.home().await?;
        if !self.behind.is_empty() {
            self.send()?;
            self.home().await?;
        }
        Ok(())
    }

    /// For reading and writing at the database itself, with everything in it.
    pub(crate) async fn statement(&mut self) -> Result<Statement<'_>, LedgerError> {
        self.flush().await?;
        Ok(Statement::Sqlite(&mut self.home().await?.connection))
    }

    pub(super) async fn close(mut self) {
        let flushed = self.flush().await;
        let home = std::mem::replace(&mut self.home, Home::Lost);
        if let Err(error) = flushed {
            tracing::error!(%error, "the last entries stay in the ledger's journal until it is opened again");
        } else if let Err(error) = journal::remove(&self.path) {
            tracing::warn!(%error, "the ledger's journal could not be removed");
        }
        if let Home::Here(database) = home
            && let Err(error) = database.connection.close().await
        {
            tracing::warn!(%error, "the ledger's file could not be closed in order");
        }
    }
}

impl Database {
    fn new(connection: SqliteConnection, max_bytes: Option<u64>) -> Self {
        Self { connection, texts: Texts::default(), max_bytes, unfolded: false }
    }

    /// Empties SQLite's log, unless somebody is reading in it; then it is left to be tried again.
    async fn fold(&mut self) {
        let pragma = |waits: &str| sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {waits}"));
        let _ = sqlx::raw_sql(pragma("0")).execute(&mut self.connection).await;
        let told = Statement::Sqlite(&mut self.connection).rows("PRAGMA wal_checkpoint(TRUNCATE)", vec![]).await;
        let _ = sqlx::raw_sql(pragma("10000")).execute(&mut self.connection).await;
        let busy = told.map(|mut rows| rows.first_mut().map_or(1, |row| row.int().unwrap_or(1)));
        self.unfolded = !matches!(busy, Ok(0));
    }

    /// Writes what is committed already, in one transaction with the number of its last record. It may exceed the file's limit.
    async fn bring(&mut self, steps: &mut Vec<Step>, number: u64) -> Result<Brought, sqlx::Error> {
        if self.unfolded {
            self.fold().await;
        }
        if steps.is_empty() {
            return Ok(Brought::Within);
        }
        steps.push(applied(number));
        let mut written = sqlite(&mut self.connection, &mut self.texts, steps).await.map(|()| Brought::Within);
        if let Err(full) = &written
            && self.max_bytes.is_some()
            && code(full) == Some(FULL)
        {
            limit(&mut self.connection, None).await?;
            written = sqlite(&mut self.connection, &mut self.texts, steps).await.map(|()| Brought::Beyond);
            // Without it the file may grow until the next time; the steps are written for all that.
            let _ = limit(&mut self.connection, self.max_bytes).await;
        }
        steps.pop();
        written
    }

    /// Whether it has as many pages as it may.
    async fn is_full(&mut self) -> bool {
        let Some(bytes) = self.max_bytes else { return false };
        let sql = "SELECT (p.page_count - f.freelist_count) * s.page_size
            FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s";
        let rows = Statement::Sqlite(&mut self.connection).rows(sql, vec![]).await;
        rows.is_ok_and(|mut rows| rows.first_mut().is_some_and(|row| row.count().is_ok_and(|used| used >= bytes)))
    }
}

/// Says that everything up to a record is in the database.
fn applied(number: u64) -> Step {
    Step::Run("UPDATE meta SET applied = $1 WHERE id = 1", vec![Value::count(number)])
}

/// Brings into the database what a process that died has left in the journal. The number of the last record.
async fn recover(path: &Path, ledger: &LedgerId, database: &mut Database) -> Result<u64, LedgerError> {
    let unreadable = |e: sqlx::Error| store("cannot be read", &e);
    let rows = Statement::Sqlite(&mut database.connection).rows("SELECT applied FROM meta WHERE id = 1", vec![]).await;
    let mut last = rows.map_err(unreadable)?.first_mut().map_or(Ok(0), crate::db::Row::count)?;
    let mut steps = Vec::new();
    for record in journal::read(path, ledger, last).map_err(|e| beside(path, &e))? {
        let damaged =
            || LedgerError::Damaged { what: format!("record {} of its journal does not read", record.number) };
        steps.extend(decode(&record.body).ok_or_else(damaged)?);
        last = record.number;
    }
    if !steps.is_empty() {
        tracing::info!("the ledger takes up what a process that ended early has left in its journal");
        database.bring(&mut merge(steps), last).await.map_err(|e| store("takes no entries", &e))?;
    }
    Ok(last)
}

/// Brings over what a process that died has left, for a reader, unless a process holds the ledger and does so itself. Where that cannot be
/// done, there is still the rest to be read.
///
/// # Errors
/// When the journal or the database is damaged, or of a newer version.
pub(crate) async fn recover_for_reading(at: &Store) -> Result<(), LedgerError> {
    let Store::Sqlite { path, .. } = at else { return Ok(()) };
    if !path.is_file() || journal::paths(path).iter().all(|file| !file.is_file()) {
        return Ok(());
    }
    match recover_left(at, path).await {
        Ok(()) | Err(LedgerError::Held { .. }) => Ok(()),
        Err(error @ (LedgerError::Damaged { .. } | LedgerError::NewerSchema { .. })) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "what a process that died has left in the ledger's journal is not shown");
            Ok(())
        }
    }
}

async fn recover_left(at: &Store, path: &Path) -> Result<(), LedgerError> {
    let lock = Lock::take(path)?;
    let mut connection = connect(at).await?;
    let ledger = LedgerId::of_pepper(&schema::migrate(&mut connection).await?);
    let Connection::Sqlite(connection) = connection else { return Ok(()) };
    let mut database = Database::new(connection, None);
    recover(path, &ledger, &mut database).await?;
    journal::remove(path).map_err(|e| beside(path, &e))?;
    database.connection.close().await.map_err(|e| store("cannot be read", &e))?;
    drop(lock);
    Ok(())
}

fn beside(path: &Path, error: &std::io::Error) -> LedgerError {
    LedgerError::File { path: path.to_owned(), why: format!("its journal cannot be used: {error}") }
}

fn lost() -> LedgerError {
    LedgerError::Store { doing: "is lost", why: "what wrote to it has ended; start the process anew".to_owned() }
}

/// SQLite's result codes that speak of one statement and not of the file: SQLITE_ERROR, TOOBIG, CONSTRAINT, MISMATCH, RANGE.
const OF_OPERATIONS: [i32; 5] = [1, 18, 19, 20, 25];
/// SQLITE_FULL.
const FULL: i32 = 13;

fn code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<i32>().ok());
    code.map(|code| code & 0xff)
}

fn classify(error: &sqlx::Error) -> Fault {
    match code(error) {
        Some(code) if OF_OPERATIONS.contains(&code) => {
            Fault::Operation(LedgerError::Invalid { field: "entry", why: error.to_string() })
        }
        _ => Fault::Store(store("takes no entries", error)),
    }
}
