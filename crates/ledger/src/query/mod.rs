//! Reading the ledger: for reports, a dashboard, and one request's whole story.

mod filter;
mod info;
mod judged;
mod keys;
mod story;
mod sums;

use futures::StreamExt;
use uuid::Uuid;

pub use filter::Filter;
pub use info::{ChainEnd, Info};
pub use judged::Judged;
pub(crate) use keys::{stored_keys, stored_use};
pub use story::{FeedbackGiven, Story, Text};
pub use sums::{Group, Sums};

use crate::config::{BodyStorage, Store};
use crate::content::{RequestEntry, decode};
use crate::db::{Reader, Row, Statement, Value, reader, schema, store};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::request::EntryReceipt;
use crate::time::Timestamp;
use crate::writer::recover_for_reading;

/// A request with its place in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its id.
    pub id: Uuid,
    /// Where its entry stands.
    pub receipt: EntryReceipt,
    /// What the entry says.
    pub entry: RequestEntry,
}

/// A ledger to be read, which this or another process may be writing to.
#[derive(Clone, Debug)]
pub struct Reading {
    pub(crate) reader: Reader,
    bodies: BodyStorage,
}

const COLUMNS: &str = "e.chain, e.seq, e.at, e.hash, e.id, e.content";
const FROM: &str = "FROM requests r JOIN entries e ON e.chain = r.chain AND e.seq = r.seq";

impl Reading {
    /// Opens a ledger for reading. `bodies` is where the key comes from that texts are decrypted with.
    ///
    /// # Errors
    /// When there is none, or it is of a newer version.
    pub async fn open(at: &Store, bodies: BodyStorage) -> Result<Self, LedgerError> {
        recover_for_reading(at).await?;
        let reader = Reader { pool: reader(at).await?, writer: None };
        schema::read_meta_with(reader.lend().await?.statement()).await?;
        Ok(Self { reader, bodies })
    }

    /// One page of requests, the newest first: `limit` of those before the request `before`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn requests(
        &self,
        filter: &Filter,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Recorded>, LedgerError> {
        let mut clauses = filter.clauses();
        if let Some(before) = before {
            clauses.add("r.id < $", Value::blob(before.as_bytes()));
        }
        let limit = limit.min(1000);
        let sql = format!("SELECT {COLUMNS} {FROM} {} ORDER BY r.id DESC LIMIT {limit}", clauses.text);
        self.reader.rows(&sql, clauses.args).await?.into_iter().map(recorded).collect()
    }

    /// Gives every request to `visit`, the oldest first within a chain, however many there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn scan(&self, filter: &Filter, mut visit: impl FnMut(Recorded) + Send) -> Result<(), LedgerError> {
        let clauses = filter.clauses();
        let sql = format!("SELECT {COLUMNS} {FROM} {} ORDER BY e.chain, e.seq", clauses.text);
        let mut lent = self.reader.lend().await?;
        let mut rows = lent.statement().stream(&sql, clauses.args);
        while let Some(row) = rows.next().await {
            visit(recorded(row.map_err(|e| store("cannot be read", &e))?)?);
        }
        Ok(())
    }
}

impl Ledger {
    /// For reading.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading { reader: self.shared.reader.clone(), bodies: self.shared.config.bodies.clone() }
    }
}

fn recorded(mut row: Row) -> Result<Recorded, LedgerError> {
    let (chain, seq, at, hash) = (row.chain()?, row.count()?, Timestamp(row.int()?), row.hash()?);
    let id = row.uuid()?;
    let entry = decode(&row.blob()?, chain, seq)?;
    Ok(Recorded { id, receipt: EntryReceipt { chain, seq, at, hash }, entry })
}

/// One row of one statement.
pub(crate) async fn one(statement: Statement<'_>, sql: &str, args: Vec<Value>) -> Result<Option<Row>, LedgerError> {
    let rows = statement.rows(sql, args).await.map_err(|e| store("cannot be read", &e))?;
    Ok(rows.into_iter().next())
}
