//! Opening databases.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _};

use super::{Connection, Pool, store};
use crate::config::{Durability, Store};
use crate::error::LedgerError;

/// Readers at a time.
const READERS: u32 = 4;

/// The connection that writes.
pub(crate) async fn connect(at: &Store) -> Result<Connection, LedgerError> {
    let fault = |e: sqlx::Error| store("cannot be opened", &e);
    Ok(match at {
        Store::Sqlite { path, durability, .. } => {
            let synchronous = match durability {
                Durability::Process => SqliteSynchronous::Normal,
                Durability::Power => SqliteSynchronous::Full,
            };
            // What is erased is overwritten.
            let options = sqlite(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(synchronous)
                .pragma("secure_delete", "ON");
            Connection::Sqlite(sqlx::SqliteConnection::connect_with(&options).await.map_err(fault)?)
        }
        Store::Postgres { url } => {
            let options = postgres(url)?;
            Connection::Postgres(sqlx::PgConnection::connect_with(&options).await.map_err(fault)?)
        }
    })
}

/// Connections that read.
pub(crate) async fn reader(at: &Store) -> Result<Pool, LedgerError> {
    let fault = |e: sqlx::Error| store("cannot be opened", &e);
    Ok(match at {
        Store::Sqlite { path, .. } => {
            if !path.is_file() {
                return Err(LedgerError::File { path: path.clone(), why: "there is no ledger".to_owned() });
            }
            let options = sqlite(path).pragma("query_only", "ON");
            let pool = SqlitePoolOptions::new().max_connections(READERS).idle_timeout(Duration::from_secs(60));
            Pool::Sqlite(pool.connect_with(options).await.map_err(fault)?)
        }
        Store::Postgres { url } => {
            let pool = PgPoolOptions::new().max_connections(READERS).idle_timeout(Duration::from_secs(60));
            Pool::Postgres(pool.connect_with(postgres(url)?).await.map_err(fault)?)
        }
    })
}

/// Sets how large a SQLite database may become.
pub(crate) async fn limit(connection: &mut sqlx::SqliteConnection, max_bytes: Option<u64>) -> sqlx::Result<()> {
    let pages = max_bytes.map_or(MOST_PAGES, |bytes| (bytes / u64::from(PAGE)).clamp(1, MOST_PAGES));
    let limit = format!("PRAGMA max_page_count = {pages}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(limit)).execute(connection).await.map(|_| ())
}

/// Copies a SQLite database as it is at one moment.
pub(crate) async fn backup(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let fault = |e: sqlx::Error| store("cannot be copied", &e);
    let mut connection = sqlx::SqliteConnection::connect_with(&sqlite(from)).await.map_err(fault)?;
    let name = to
        .to_str()
        .ok_or_else(|| LedgerError::File { path: to.to_owned(), why: "its name is not UTF-8".to_owned() })?;
    sqlx::query("VACUUM INTO ?").bind(name.to_owned()).execute(&mut connection).await.map_err(fault)?;
    connection.close().await.map_err(fault)
}

const PAGE: u32 = 4096;
/// What SQLite allows (sqlite.org/limits.html).
const MOST_PAGES: u64 = 4_294_967_294;

fn sqlite(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .page_size(PAGE)
        .busy_timeout(Duration::from_secs(10))
        .statement_cache_capacity(256)
        .disable_statement_logging()
}

fn postgres(url: &str) -> Result<PgConnectOptions, LedgerError> {
    // The parser's message may show the URL, and with it a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| LedgerError::Invalid {
        field: "ledger",
        why: "this is no URL of a Postgres database; write postgres://user:password@host/database".to_owned(),
    })?;
    Ok(options.application_name("bantam").disable_statement_logging())
}
