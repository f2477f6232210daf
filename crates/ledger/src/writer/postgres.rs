//! Transactions of a Postgres ledger, which other processes write to as well: each has a chain of its own, held by an advisory lock of its
//! session; budgets are rows that a transaction locks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::batch::{Batch, Deltas, add, spending};
use super::op::{Append, Op, Open};
use super::{Done, Fault};
use crate::budgets::{Amounts, Periods, Used, check, scope, unit};
use crate::chain::{Head, LedgerId};
use crate::db::insert::{Rows, postgres, postgres_returning};
use crate::db::schema::KEYS;
use crate::db::{Connection, Row, Statement, Value, connect, store};
use crate::error::{LedgerError, OverBudget};
use crate::limits::{Limits, Period};
use crate::rates::Payer;
use crate::request::Estimate;
use crate::shared::Shared;
use crate::time::Timestamp;

/// The connection that writes. It holds the lock of its chain for as long as it lives.
#[derive(Debug)]
pub(crate) struct PostgresStore {
    pub(crate) connection: PgConnection,
    broken: bool,
    /// Where this writer's chain ends since it has a new connection, until a commit says so.
    moved: Option<Head>,
}

/// What advisory locks of chains begin with.
const LOCK_CLASS: i32 = 0x6261_6e74;
/// Writers at a time.
const CHAINS: u32 = 4096;
/// How long to find out whether a commit whose answer was lost took place.
const FIND_OUT: Duration = Duration::from_secs(5);

/// Why a transaction failed.
enum Failure {
    Sql(sqlx::Error),
    Operation(LedgerError),
    /// The answer to the commit was lost: if the transaction took place, the chain ends here, and this is what became of the operations.
    Commit(sqlx::Error, Head, Vec<Done>),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// What a transaction is made of.
struct Job<'a> {
    shared: &'a Shared,
    head: Head,
    clock: Timestamp,
    ops: &'a [Op],
    checkpoint: Option<&'a Append>,
}

impl PostgresStore {
    /// Takes the first chain that nobody holds.
    pub(crate) async fn take(connection: PgConnection) -> Result<(Self, u32), LedgerError> {
        let mut store = Self { connection, broken: false, moved: None };
        for chain in 1..=CHAINS {
            if store.try_lock(chain).await? {
                return Ok((store, chain));
            }
        }
        Err(LedgerError::Store { doing: "has no chain left", why: format!("{CHAINS} processes write to it") })
    }

    pub(super) async fn try_lock(&mut self, chain: u32) -> Result<bool, LedgerError> {
        self.lock_call("pg_try_advisory_lock", chain).await
    }

    pub(super) async fn unlock(&mut self, chain: u32) -> Result<bool, LedgerError> {
        self.lock_call("pg_advisory_unlock", chain).await
    }

    async fn lock_call(&mut self, call: &str, chain: u32) -> Result<bool, LedgerError> {
        let sql = format!("SELECT {call}({LOCK_CLASS}, {chain})");
        let rows = Statement::Postgres(&mut self.connection).rows(&sql, vec![]).await;
        let mut rows = rows.map_err(|e| store("cannot lock a chain", &e))?;
        Ok(rows.first_mut().map(Row::int).transpose()? == Some(1))
    }

    pub(super) async fn commit(
        &mut self,
        shared: &Shared,
        head: Head,
        ops: &[Op],
        checkpoint: Option<&Append>,
    ) -> Result<(Head, Vec<Done>), Fault> {
        let head = self.moved.unwrap_or(head);
        let mut job = Job { shared, head, clock: Timestamp::now(), ops, checkpoint };
        for attempt in 0.. {
            if self.broken {
                job.head = self.reconnect(shared, job.head).await.map_err(Fault::Store)?;
            }
            let failure = match self.transaction(&job).await {
                Ok(committed) => {
                    self.moved = None;
                    return Ok(committed);
                }
                Err(failure) => failure,
            };
            if sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await.is_err() {
                self.broken = true;
            }
            match failure {
                // A connection that broke while nothing was asked of it is no fault yet.
                Failure::Sql(_) if self.broken && attempt == 0 => {}
                Failure::Sql(error) => return Err(classify(&error)),
                Failure::Operation(error) => return Err(Fault::Operation(error)),
                Failure::Commit(error, head, done) => match self.took_place(shared, &job.head, &head).await {
                    Some(true) => return Ok((self.moved.unwrap_or(head), done)),
                    Some(false) if attempt == 0 => job.head = self.moved.unwrap_or(job.head),
                    _ => return Err(Fault::Store(store("takes no entries", &error))),
                },
            }
        }
        Err(Fault::Store(LedgerError::Closed))
    }

    async fn transaction(&mut self, job: &Job<'_>) -> Result<(Head, Vec<Done>), Failure> {
        let (mut batch, shared) = (Batch::new(job.head, job.clock), job.shared);
        sqlx::raw_sql("BEGIN").execute(&mut self.connection).await?;
        let closed = self.close_rows(job.ops).await?;
        let mut done = Vec::with_capacity(job.ops.len());
        let mut opens = Vec::new();
        for (place, op) in job.ops.iter().enumerate() {
            done.push(match op {
                Op::Open(open) => {
                    opens.push((place, &**open));
                    Done::Opened
                }
                Op::Append(append) => match append.settles().filter(|reservation| !reservation.is_given_back()) {
                    Some(reservation) => match closed.get(&reservation.request) {
                        Some((key, day, reserved)) => {
                            let back = Amounts::default().minus(*reserved);
                            add(&mut batch.deltas, key.as_ref(), *day, Amounts::default(), back);
                            Done::Appended(batch.append(append, &shared.ledger, &shared.signer))
                        }
                        None => Done::NotAppended(LedgerError::AlreadySettled { id: append.id }),
                    },
                    None => Done::Appended(batch.append(append, &shared.ledger, &shared.signer)),
                },
                Op::Flush(..) | Op::Checkpoint(..) => Done::NotAppended(LedgerError::Closed),
            });
        }
        if let Some(checkpoint) = job.checkpoint.filter(|_| batch.appended > 0) {
            batch.append(checkpoint, &shared.ledger, &shared.signer);
        }
        self.admit(shared, &mut batch, &opens, &mut done).await?;
        for (sql, args) in std::mem::take(&mut batch.statements) {
            Statement::Postgres(&mut self.connection).execute(sql, args).await?;
        }
        for rows in batch.rows() {
            postgres(&mut self.connection, rows).await?;
        }
        let keys = std::mem::replace(&mut batch.keys, Rows::new(&KEYS));
        let count = keys.count() as u64;
        if count > 0 && postgres(&mut self.connection, keys).await? < count {
            return Err(Failure::Operation(LedgerError::Conflict));
        }
        let open = batch.open_rows();
        if open.count() > 0 {
            postgres(&mut self.connection, open).await?;
        }
        match sqlx::raw_sql("COMMIT").execute(&mut self.connection).await {
            Ok(_) => Ok((batch.head, done)),
            Err(error) => Err(Failure::Commit(error, batch.head, done)),
        }
    }

    /// Takes the rows that are settled out of `open`; what is not there was settled by somebody else.
    async fn close_rows(
        &mut self,
        ops: &[Op],
    ) -> Result<HashMap<Uuid, (Option<crate::keys::KeyId>, i64, Amounts)>, Failure> {
        let settles = |op: &Op| match op {
            Op::Append(append) => append.settles().map(|reservation| reservation.request.as_bytes().to_vec()),
            _ => None,
        };
        let ids: Vec<Vec<u8>> = ops.iter().filter_map(settles).collect();
        let mut closed = HashMap::new();
        if ids.is_empty() {
            return Ok(closed);
        }
        let sql = "DELETE FROM open WHERE id = ANY($1) RETURNING id, scope, day, cost, tokens";
        for row in sqlx::query(sql).bind(ids).fetch_all(&mut self.connection).await? {
            let (id, scope): (Vec<u8>, String) = (row.try_get(0)?, row.try_get(1)?);
            let amounts = Amounts { cost: row.try_get(3)?, tokens: row.try_get(4)? };
            let key = (!scope.is_empty()).then(|| scope.as_str().into());
            if let Ok(id) = Uuid::from_slice(&id) {
                closed.insert(id, (key, row.try_get(2)?, amounts));
            }
        }
        Ok(closed)
    }

    /// Books what was spent, and reserves for the requests that budgets have room for. The first statement locks every row of budgets that
    /// this transaction touches, in the one order that all writers follow.
    async fn admit(
        &mut self,
        shared: &Shared,
        batch: &mut Batch,
        opens: &[(usize, &Open)],
        done: &mut [Done],
    ) -> Result<(), Failure> {
        let unlimited = Limits::default();
        let limits = |open: &Open| open.key.as_ref().map_or_else(|| unlimited.clone(), |key| key.limits.clone());
        let limited = |open: &Open| !shared.config.overall.budgets.is_empty() || !limits(open).budgets.is_empty();
        let any_limited = opens.iter().any(|(_, open)| limited(open));
        for (_, open) in opens {
            let reserved = if any_limited { Amounts::default() } else { open.reservation.amounts };
            add(&mut batch.deltas, open.reservation.key.as_ref(), open.reservation.day, Amounts::default(), reserved);
        }
        let deltas = std::mem::take(&mut batch.deltas);
        if deltas.is_empty() {
            return Ok(());
        }
        if !any_limited {
            postgres(&mut self.connection, spending(deltas)).await?;
            opens.iter().for_each(|(_, open)| batch.open(open));
            return Ok(());
        }
        let returning = "RETURNING scope, unit, period, cost, tokens, reserved_cost, reserved_tokens";
        let mut used: HashMap<(String, i64, i64), Used> = HashMap::new();
        for mut row in postgres_returning(&mut self.connection, spending(deltas), returning).await? {
            let read = |row: &mut Row| -> Result<_, LedgerError> {
                let place = (row.text()?, row.int()?, row.int()?);
                let spent = Amounts { cost: row.int()?, tokens: row.int()? };
                Ok((place, Used { spent, reserved: Amounts { cost: row.int()?, tokens: row.int()? } }))
            };
            let (place, amounts) = read(&mut row).map_err(Failure::Operation)?;
            used.insert(place, amounts);
        }
        let mut reserve = Deltas::new();
        for (place, open) in opens {
            let reservation = &open.reservation;
            let (key, periods) = (reservation.key.as_ref(), Periods::of_day(reservation.day));
            let own = limits(open);
            let payers: [Payer<'_>; 2] = [(None, &shared.config.overall), (key, &own)];
            let admitted = payers[..=usize::from(key.is_some())].iter().try_for_each(|payer| {
                let at = open.entry.arrived.max(Timestamp::of_day(reservation.day));
                let of = |period: Period| {
                    let place = (scope(payer.0).to_owned(), unit(period), periods.get(period));
                    used.get(&place).copied().unwrap_or_default()
                };
                let estimate = Estimate { cost: open.entry.reserved_cost, tokens: open.entry.reserved_tokens };
                check(*payer, estimate, at, of)
            });
            match admitted {
                Ok(()) => {
                    let mut own = Deltas::new();
                    add(&mut own, key, reservation.day, Amounts::default(), reservation.amounts);
                    for (place, delta) in own {
                        let used = used.entry(place.clone()).or_default();
                        used.reserved = used.reserved.plus(delta.reserved);
                        let sum = reserve.entry(place).or_default();
                        sum.reserved = sum.reserved.plus(delta.reserved);
                    }
                    batch.open(open);
                }
                Err(over) => done[*place] = Done::NotAdmitted(OverBudget::into(over)),
            }
        }
        if !reserve.is_empty() {
            postgres(&mut self.connection, spending(reserve)).await?;
        }
        Ok(())
    }

    /// A new connection. The chain is the same if its lock is free, as it is once the server has noticed that the old connection is gone;
    /// otherwise another one.
    async fn reconnect(&mut self, shared: &Shared, old: Head) -> Result<Head, LedgerError> {
        let Connection::Postgres(connection) = connect(&shared.config.store).await? else {
            return Err(LedgerError::Closed);
        };
        self.connection = connection;
        let chain = match self.try_lock(old.chain).await? {
            true => old.chain,
            false => {
                let mut found = None;
                for chain in 1..=CHAINS {
                    if self.try_lock(chain).await? {
                        found = Some(chain);
                        break;
                    }
                }
                found
                    .ok_or_else(|| LedgerError::Store { doing: "has no chain left", why: "all are held".to_owned() })?
            }
        };
        let head = read_head(Statement::Postgres(&mut self.connection), &shared.ledger, chain).await?;
        if chain != old.chain {
            let sql = "UPDATE open SET chain = $1 WHERE chain = $2";
            let args = vec![Value::Int(chain.into()), Value::Int(old.chain.into())];
            let moved = Statement::Postgres(&mut self.connection).execute(sql, args).await;
            moved.map_err(|e| store("cannot be written", &e))?;
        }
        (self.broken, self.moved) = (false, Some(head));
        tracing::info!(chain, "connected to the ledger's database again");
        Ok(head)
    }

    /// Whether a commit took place whose answer was lost; nothing if that cannot be found out.
    async fn took_place(&mut self, shared: &Shared, before: &Head, expected: &Head) -> Option<bool> {
        if before == expected {
            return None;
        }
        let until = Instant::now() + FIND_OUT;
        loop {
            let head = self.reconnect(shared, *expected).await;
            let sql = "SELECT hash FROM entries WHERE chain = $1 AND seq = $2";
            let args = vec![Value::Int(expected.chain.into()), Value::count(expected.seq)];
            let found = match head {
                Ok(_) => Statement::Postgres(&mut self.connection).rows(sql, args).await.ok(),
                Err(_) => None,
            };
            if let Some(mut rows) = found {
                return Some(rows.first_mut().is_some_and(|row| row.hash().is_ok_and(|hash| hash == expected.hash)));
            }
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the connection to the ledger's database could not be closed in order");
        }
    }
}

/// Where a chain ends.
pub(crate) async fn read_head(statement: Statement<'_>, ledger: &LedgerId, chain: u32) -> Result<Head, LedgerError> {
    let sql = "SELECT seq, at, hash FROM entries WHERE chain = $1 ORDER BY seq DESC LIMIT 1";
    let rows = statement.rows(sql, vec![Value::Int(chain.into())]).await.map_err(|e| store("cannot be read", &e))?;
    match rows.into_iter().next() {
        Some(mut row) => Ok(Head { chain, seq: row.count()?, at: Timestamp(row.int()?), hash: row.hash()? }),
        None => Ok(Head::start(ledger, chain)),
    }
}

fn classify(error: &sqlx::Error) -> Fault {
    let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default();
    // 22: data exception, 23: integrity constraint.
    match matches!(error, sqlx::Error::Encode(_)) || code.starts_with("22") || code.starts_with("23") {
        true => Fault::Operation(LedgerError::Invalid { field: "entry", why: error.to_string() }),
        false => Fault::Store(store("takes no entries", error)),
    }
}
