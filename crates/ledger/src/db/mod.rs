//! One way to speak to both databases. Statements are written once, with `$1` for parameters; a row is a list of [`Value`]s.

mod connect;
pub(crate) mod insert;
pub(crate) mod lock;
pub(crate) mod schema;
pub(crate) mod steps;
mod value;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use sqlx::postgres::{PgArguments, PgPool};
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

pub(crate) use connect::{backup, connect, limit, reader};
pub(crate) use value::{Row, Value};

use crate::error::LedgerError;
use crate::writer::op::Op;

/// A connection of one's own.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Connections for reading, lent out as they are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) pool: Pool,
    /// The writer in this process, which brings what it has committed into the database before a connection is lent.
    pub(crate) writer: Option<mpsc::WeakUnboundedSender<Op>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A connection lent by a [`Reader`].
#[derive(Debug)]
pub(crate) enum Lent {
    Sqlite(sqlx::pool::PoolConnection<Sqlite>),
    Postgres(sqlx::pool::PoolConnection<Postgres>),
}

/// A connection of either kind, for one statement.
#[derive(Debug)]
pub(crate) enum Statement<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Connection {
    pub(crate) fn statement(&mut self) -> Statement<'_> {
        match self {
            Self::Sqlite(connection) => Statement::Sqlite(connection),
            Self::Postgres(connection) => Statement::Postgres(connection),
        }
    }

    pub(crate) async fn execute(&mut self, sql: &str, args: Vec<Value>) -> Result<u64, sqlx::Error> {
        self.statement().execute(sql, args).await
    }

    pub(crate) const fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

impl Reader {
    pub(crate) async fn lend(&self) -> Result<Lent, LedgerError> {
        // Where that fails, what was there before is better than nothing.
        let _ = self.flush().await;
        let lent = match &self.pool {
            Pool::Sqlite(pool) => pool.acquire().await.map(Lent::Sqlite),
            Pool::Postgres(pool) => pool.acquire().await.map(Lent::Postgres),
        };
        lent.map_err(|e| store("cannot be reached", &e))
    }

    /// Has what this process has committed brought to where it is read.
    ///
    /// # Errors
    /// When the store does not take it: what is read is not all there is.
    pub(crate) async fn flush(&self) -> Result<(), LedgerError> {
        let Some(writer) = self.writer.as_ref().and_then(mpsc::WeakUnboundedSender::upgrade) else { return Ok(()) };
        let (reply, done) = oneshot::channel();
        // Where it has ended, nothing is left to be brought over.
        if writer.send(Op::Flush(reply)).is_err() {
            return Ok(());
        }
        drop(writer);
        done.await.unwrap_or(Ok(()))
    }

    pub(crate) async fn rows(&self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>, LedgerError> {
        self.lend().await?.statement().rows(sql, args).await.map_err(|e| store("cannot be read", &e))
    }

    pub(crate) async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

impl Lent {
    pub(crate) fn statement(&mut self) -> Statement<'_> {
        match self {
            Self::Sqlite(connection) => Statement::Sqlite(connection),
            Self::Postgres(connection) => Statement::Postgres(connection),
        }
    }
}

impl<'a> Statement<'a> {
    /// Rows as they come, so that a result of any size takes little memory.
    pub(crate) fn stream(self, sql: &str, args: Vec<Value>) -> BoxStream<'a, Result<Row, sqlx::Error>> {
        let sql: Arc<str> = sql.into();
        match self {
            Self::Sqlite(connection) => match sqlite_arguments(args) {
                Ok(args) => {
                    let rows = sqlx::query_with(AssertSqlSafe(sql), args).fetch(connection);
                    rows.map(|row| value::of_sqlite(&row?)).boxed()
                }
                Err(e) => futures::stream::once(async { Err(e) }).boxed(),
            },
            Self::Postgres(connection) => match postgres_arguments(args) {
                Ok(args) => {
                    let rows = sqlx::query_with(AssertSqlSafe(sql), args).fetch(connection);
                    rows.map(|row| value::of_postgres(&row?)).boxed()
                }
                Err(e) => futures::stream::once(async { Err(e) }).boxed(),
            },
        }
    }

    pub(crate) async fn rows(self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        let mut stream = self.stream(sql, args);
        let mut rows = Vec::new();
        while let Some(row) = stream.next().await {
            rows.push(row?);
        }
        Ok(rows)
    }

    pub(crate) async fn execute(self, sql: &str, args: Vec<Value>) -> Result<u64, sqlx::Error> {
        let sql: Arc<str> = sql.into();
        Ok(match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(AssertSqlSafe(sql), sqlite_arguments(args)?);
                query.execute(connection).await?.rows_affected()
            }
            Self::Postgres(connection) => {
                let query = sqlx::query_with(AssertSqlSafe(sql), postgres_arguments(args)?);
                query.execute(connection).await?.rows_affected()
            }
        })
    }
}

fn sqlite_arguments(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    let mut args = SqliteArguments::default();
    args.reserve(values.len(), 0);
    for value in values {
        value::bind_sqlite(&mut args, value)?;
    }
    Ok(args)
}

fn postgres_arguments(values: Vec<Value>) -> Result<PgArguments, sqlx::Error> {
    let mut args = PgArguments::default();
    for value in values {
        match value {
            Value::Null => args.add(None::<String>),
            Value::Int(n) => args.add(n),
            Value::Text(text) => args.add(text),
            Value::Blob(bytes) => args.add(bytes),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(args)
}

/// What the database said, as the ledger's error.
pub(crate) fn store(doing: &'static str, error: &sqlx::Error) -> LedgerError {
    LedgerError::Store { doing, why: error.to_string() }
}
