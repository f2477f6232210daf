//! Transactions of a SQLite ledger.

use sqlx::{Connection as _, SqliteConnection};

use super::batch::Batch;
use super::op::{Append, Op};
use super::{Done, Fault};
use crate::chain::Head;
use crate::db::insert::{Texts, sqlite};
use crate::db::lock::Lock;
use crate::db::store;
use crate::error::LedgerError;
use crate::shared::Shared;
use crate::time::Timestamp;

/// The connection that writes, and the lock that makes it the only one.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    pub(crate) connection: SqliteConnection,
    pub(crate) lock: Lock,
    pub(crate) texts: Texts,
}

impl SqliteStore {
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
                Op::Checkpoint(..) => done.push(Done::NotAppended(LedgerError::Closed)),
            }
        }
        if let Some(checkpoint) = checkpoint {
            batch.append(checkpoint, &shared.ledger, &shared.signer);
        }
        let head = batch.head;
        sqlite(&mut self.connection, &mut self.texts, batch.steps()).await.map_err(|error| classify(&error))?;
        Ok((head, done))
    }

    pub(super) async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the ledger's file could not be closed in order");
        }
        drop(self.lock);
    }
}

/// SQLite's result codes that speak of one statement and not of the file: SQLITE_ERROR, TOOBIG, CONSTRAINT, MISMATCH, RANGE.
const OF_OPERATIONS: [i32; 5] = [1, 18, 19, 20, 25];

fn classify(error: &sqlx::Error) -> Fault {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<i32>().ok());
    match code {
        Some(code) if OF_OPERATIONS.contains(&(code & 0xff)) => {
            Fault::Operation(LedgerError::Invalid { field: "entry", why: error.to_string() })
        }
        _ => Fault::Store(store("takes no entries", error)),
    }
}
