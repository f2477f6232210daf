//! Tables, and how older ledgers become today's.

use super::{Connection, store};
use crate::chain::LedgerId;
use crate::error::LedgerError;

/// The kind of a column, as arrays of it are bound in Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    Text,
    Blob,
}

/// A table that rows are written to.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Type)],
    /// What follows the rows: what to do with one that is there already.
    pub(crate) conflict: &'static str,
}

use Type::{Blob, Int, Text};

pub(crate) static ENTRIES: Table = Table {
    name: "entries",
    columns: &[
        ("chain", Int),
        ("seq", Int),
        ("at", Int),
        ("kind", Int),
        ("id", Blob),
        ("content", Blob),
        ("hash", Blob),
    ],
    conflict: "",
};

pub(crate) static REQUESTS: Table = Table {
    name: "requests",
    columns: &[
        ("chain", Int),
        ("seq", Int),
        ("id", Blob),
        ("subject", Text),
        ("salt", Blob),
        ("settled", Text),
        ("arrived", Int),
        ("day", Int),
        ("key_id", Text),
        ("surface", Text),
        ("route", Text),
        ("asked", Text),
        ("status", Int),
        ("provider", Text),
        ("model", Text),
        ("input", Int),
        ("cached", Int),
        ("cache_written", Int),
        ("output", Int),
        ("reasoning", Int),
        ("charged_tokens", Int),
        ("first_token_us", Int),
        ("latency_us", Int),
        ("cost", Int),
        ("counterfactual", Int),
        ("error", Text),
        ("stop", Text),
        ("streamed", Int),
        ("attempts", Int),
    ],
    conflict: "",
};

pub(crate) static BODIES: Table = Table {
    name: "bodies",
    columns: &[("chain", Int), ("seq", Int), ("part", Int), ("key", Text), ("data", Blob)],
    conflict: "",
};

pub(crate) static FEEDBACK: Table = Table {
    name: "feedback",
    columns: &[
        ("chain", Int),
        ("seq", Int),
        ("request", Blob),
        ("rating", Int),
        ("accepted", Int),
        ("salt", Blob),
        ("correction_key", Text),
        ("correction", Blob),
    ],
    conflict: "",
};

/// A change that another process made first hits no row; see [`super::insert`].
pub(crate) static KEYS: Table = Table {
    name: "keys",
    columns: &[("id", Text), ("chain", Int), ("seq", Int), ("revision", Int), ("record", Text)],
    conflict: "ON CONFLICT (id) DO UPDATE SET chain = excluded.chain, seq = excluded.seq, revision = excluded.revision, \
               record = excluded.record WHERE keys.revision = excluded.revision - 1",
};

/// Rows are amounts to be added.
pub(crate) static SPENDING: Table = Table {
    name: "spending",
    columns: &[
        ("scope", Text),
        ("unit", Int),
        ("period", Int),
        ("cost", Int),
        ("tokens", Int),
        ("reserved_cost", Int),
        ("reserved_tokens", Int),
    ],
    conflict: "ON CONFLICT (scope, unit, period) DO UPDATE SET cost = spending.cost + excluded.cost, \
               tokens = spending.tokens + excluded.tokens, reserved_cost = spending.reserved_cost + excluded.reserved_cost, \
               reserved_tokens = spending.reserved_tokens + excluded.reserved_tokens",
};

pub(crate) static OPEN: Table = Table {
    name: "open",
    columns: &[
        ("id", Blob),
        ("chain", Int),
        ("scope", Text),
        ("day", Int),
        ("cost", Int),
        ("tokens", Int),
        ("content", Blob),
        ("subject", Text),
        ("salt", Blob),
    ],
    conflict: "",
};

pub(crate) static CHECKPOINTS: Table = Table {
    name: "checkpoints",
    columns: &[("chain", Int), ("seq", Int), ("at", Int), ("hash", Blob), ("key", Text), ("signature", Blob)],
    conflict: "",
};

/// A step from one version of the schema to the next. SQLite lets any name be a type, so both databases read the same text; `{clustered}`
/// is where SQLite is told to keep a table in the order of its primary key.
const MIGRATIONS: [&[&str]; 2] = [
    &[
    "CREATE TABLE entries (chain BIGINT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, kind BIGINT NOT NULL, id BYTEA NOT NULL,
        content BYTEA NOT NULL, hash BYTEA NOT NULL, PRIMARY KEY (chain, seq)) {clustered}",
    "CREATE TABLE requests (chain BIGINT NOT NULL, seq BIGINT NOT NULL, id BYTEA NOT NULL, subject TEXT, salt BYTEA,
        erased_chain BIGINT, erased_seq BIGINT, settled TEXT NOT NULL, arrived BIGINT NOT NULL, day BIGINT NOT NULL, key_id TEXT,
        surface TEXT NOT NULL, route TEXT, asked TEXT NOT NULL, status BIGINT NOT NULL, provider TEXT, model TEXT, input BIGINT NOT NULL,
        cached BIGINT NOT NULL, cache_written BIGINT NOT NULL, output BIGINT NOT NULL, reasoning BIGINT NOT NULL,
        charged_tokens BIGINT NOT NULL, first_token_us BIGINT, latency_us BIGINT NOT NULL, cost BIGINT NOT NULL, counterfactual BIGINT,
        error TEXT, stop TEXT, streamed BIGINT NOT NULL, attempts BIGINT NOT NULL, PRIMARY KEY (chain, seq)) {clustered}",
    "CREATE INDEX requests_by_id ON requests (id)",
    "CREATE INDEX requests_by_day ON requests (day)",
    "CREATE INDEX requests_by_subject ON requests (subject) WHERE subject IS NOT NULL",
    "CREATE TABLE bodies (chain BIGINT NOT NULL, seq BIGINT NOT NULL, part BIGINT NOT NULL, key TEXT, data BYTEA NOT NULL,
        PRIMARY KEY (chain, seq, part))",
    "CREATE TABLE feedback (chain BIGINT NOT NULL, seq BIGINT NOT NULL, request BYTEA NOT NULL, rating BIGINT, accepted BIGINT, salt BYTEA,
        correction_key TEXT, correction BYTEA, erased_chain BIGINT, erased_seq BIGINT, PRIMARY KEY (chain, seq)) {clustered}",
    "CREATE INDEX feedback_by_request ON feedback (request)",
    "CREATE TABLE keys (id TEXT NOT NULL PRIMARY KEY, chain BIGINT NOT NULL, seq BIGINT NOT NULL, revision BIGINT NOT NULL,
        record TEXT NOT NULL)",
    "CREATE TABLE spending (scope TEXT NOT NULL, unit BIGINT NOT NULL, period BIGINT NOT NULL, cost BIGINT NOT NULL,
        tokens BIGINT NOT NULL, reserved_cost BIGINT NOT NULL, reserved_tokens BIGINT NOT NULL,
        PRIMARY KEY (scope, unit, period)) {clustered}",
    "CREATE TABLE open (id BYTEA NOT NULL PRIMARY KEY, chain BIGINT NOT NULL, scope TEXT NOT NULL, day BIGINT NOT NULL,
        cost BIGINT NOT NULL, tokens BIGINT NOT NULL, content BYTEA NOT NULL, subject TEXT, salt BYTEA) {clustered}",
    "CREATE TABLE checkpoints (chain BIGINT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, hash BYTEA NOT NULL, key TEXT NOT NULL,
        signature BYTEA NOT NULL, PRIMARY KEY (chain, seq)) {clustered}",
],
    // The last record of the journal that is in the database.
    &["ALTER TABLE meta ADD COLUMN applied BIGINT NOT NULL DEFAULT 0"],
];

/// The number that Postgres knows the lock by under which a schema is changed.
const MIGRATION_LOCK: i64 = 0x6261_6e74_0000_0000;

/// The version this program writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings a database to today's schema, and gives the secret that its keys are hashed with.
pub(crate) async fn migrate(connection: &mut Connection) -> Result<Vec<u8>, LedgerError> {
    let begin = if connection.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let fault = |e: &sqlx::Error| store("cannot be set up", e);
    connection.execute(begin, vec![]).await.map_err(|e| fault(&e))?;
    let pepper = steps(connection).await;
    let end = if pepper.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.execute(end, vec![]).await.map_err(|e| fault(&e))?;
    pepper
}

async fn steps(connection: &mut Connection) -> Result<Vec<u8>, LedgerError> {
    let fault = |e: sqlx::Error| store("cannot be set up", &e);
    if !connection.is_sqlite() {
        connection.execute(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"), vec![]).await.map_err(fault)?;
    }
    let create = "CREATE TABLE IF NOT EXISTS meta (id BIGINT NOT NULL PRIMARY KEY, version BIGINT NOT NULL, ledger BYTEA NOT NULL,
        pepper BYTEA NOT NULL)";
    connection.execute(create, vec![]).await.map_err(fault)?;
    let found = read_meta(connection).await?;
    let done = found.as_ref().map_or(0, |meta| meta.version);
    let clustered = if connection.is_sqlite() { "WITHOUT ROWID" } else { "" };
    for step in MIGRATIONS.iter().skip(usize::try_from(done).unwrap_or(0)) {
        for statement in *step {
            connection.execute(&statement.replace("{clustered}", clustered), vec![]).await.map_err(fault)?;
        }
    }
    match found {
        Some(meta) => {
            if meta.version < VERSION {
                let update = format!("UPDATE meta SET version = {VERSION} WHERE id = 1");
                connection.execute(&update, vec![]).await.map_err(fault)?;
            }
            Ok(meta.pepper)
        }
        None => {
            let pepper = crate::random::bytes::<32>()?.to_vec();
            let ledger = LedgerId::of_pepper(&pepper).0.to_vec();
            let insert = format!("INSERT INTO meta (id, version, ledger, pepper) VALUES (1, {VERSION}, $1, $2)");
            let args = vec![super::Value::Blob(ledger), super::Value::Blob(pepper.clone())];
            connection.execute(&insert, args).await.map_err(fault)?;
            Ok(pepper)
        }
    }
}

/// What a ledger says of itself.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) version: i64,
    pub(crate) ledger: Vec<u8>,
    pub(crate) pepper: Vec<u8>,
}

/// Reads it, unless the ledger is new.
///
/// # Errors
/// When the ledger is of a newer version.
pub(crate) async fn read_meta(connection: &mut Connection) -> Result<Option<Meta>, LedgerError> {
    read_meta_with(connection.statement()).await
}

pub(crate) async fn read_meta_with(statement: super::Statement<'_>) -> Result<Option<Meta>, LedgerError> {
    let rows = statement.rows("SELECT version, ledger, pepper FROM meta WHERE id = 1", vec![]).await;
    let Some(mut row) = rows.map_err(|e| store("cannot be read", &e))?.into_iter().next() else { return Ok(None) };
    let meta = Meta { version: row.int()?, ledger: row.blob()?, pepper: row.blob()? };
    match meta.version {
        1..=VERSION => Ok(Some(meta)),
        found if found > VERSION => Err(LedgerError::NewerSchema { found, known: VERSION }),
        _ => Err(LedgerError::Damaged { what: format!("its schema has version {}", meta.version) }),
    }
}
