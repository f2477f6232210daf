//! Requests that a process left open when it died become entries.

use std::sync::Arc;

use super::op::{Append, Beside, Op, RequestRecord, Reservation};
use super::{Backend, Done, Fault, Writer};
use crate::budgets::Amounts;
use crate::content::{RequestEntry, Settled, decode, encode};
use crate::db::{Row, Value, store};
use crate::error::LedgerError;
use crate::keys::KeyId;

/// Entries in one transaction.
const AT_ONCE: usize = 256;

const OPEN: &str = "SELECT id, scope, day, cost, tokens, content, subject, salt FROM open WHERE chain = $1 AND id > $2 ORDER BY id LIMIT 256";

impl Writer {
    /// Settles everything that is open in this writer's own chain.
    pub(crate) async fn settle_own(&mut self, how: Settled) -> Result<(), LedgerError> {
        self.settle(self.head.chain, how).await
    }

    /// Settles what is open in a chain, but for requests whose ticket is out.
    async fn settle(&mut self, chain: u32, how: Settled) -> Result<(), LedgerError> {
        let mut after = Value::Blob(Vec::new());
        loop {
            let args = vec![Value::Int(chain.into()), after.clone()];
            let rows =
                self.backend.statement().await?.rows(OPEN, args).await.map_err(|e| store("cannot be read", &e))?;
            let last = rows.len() < AT_ONCE;
            let mut ops = Vec::new();
            for row in rows {
                let append = left_open(row, chain, how)?;
                after = Value::blob(append.id.as_bytes());
                if !self.shared.open().contains(&append.id) {
                    ops.push(Op::Append(append));
                }
            }
            if !ops.is_empty() {
                tracing::info!(requests = ops.len(), chain, "requests left open are settled with what was reserved");
                let done = self.commit(&ops).await.map_err(Fault::into_error)?;
                for (op, done) in ops.into_iter().zip(done) {
                    if let Done::Appended(_) = done {
                        self.tell(op, done);
                    }
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Looks for chains whose process died and settles what it left.
    pub(super) async fn mend(&mut self) {
        self.mend_due = tokio::time::Instant::now() + super::MEND;
        let own = i64::from(self.head.chain);
        let outcome = async {
            // What an answer that was lost has left in our own.
            self.settle(self.head.chain, Settled::Abandoned).await?;
            let fault = |e: sqlx::Error| store("cannot be read", &e);
            let chains = "SELECT DISTINCT chain FROM open WHERE chain <> $1 ORDER BY chain";
            let rows = self.backend.statement().await?.rows(chains, vec![Value::Int(own)]).await.map_err(fault)?;
            for mut row in rows {
                let chain = row.chain()?;
                let Backend::Postgres(store) = &mut self.backend else { return Ok(()) };
                if !store.try_lock(chain).await? {
                    continue;
                }
                let settled = self.settle(chain, Settled::Interrupted).await;
                if let Backend::Postgres(store) = &mut self.backend {
                    store.unlock(chain).await?;
                }
                settled?;
            }
            Ok::<(), LedgerError>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!(%error, "requests left open by other processes could not be looked for");
        }
    }
}

fn left_open(mut row: Row, chain: u32, how: Settled) -> Result<Append, LedgerError> {
    let (id, scope, day) = (row.uuid()?, row.text()?, row.int()?);
    let amounts = Amounts { cost: row.int()?, tokens: row.int()? };
    let mut entry: RequestEntry = decode(&row.blob()?, chain, 0)?;
    let (subject, salt) = (row.optional_text()?, row.optional_blob()?);
    entry.settled = how;
    let key = (!scope.is_empty()).then(|| KeyId::from(scope.as_str()));
    let reservation = Reservation::new(id, key, day, amounts);
    let content = encode(&entry)?;
    let record = RequestRecord { entry, subject, salt, bodies: Vec::new(), settles: Some(Arc::new(reservation)) };
    Ok(Append { id, content, beside: Beside::Request(Box::new(record)), reply: None })
}
