//! Folding SQLite's write-ahead log into the database, beside the commits.
//!
//! SQLite does it by itself within a commit, which then waits for the disk while everything behind it waits for that commit. Here another connection does
//! it, and only a log that has become long makes commits wait, for the few entries that came meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};

use crate::db::folding;
use crate::shared::Shared;

/// How often the log is folded.
const EVERY: Duration = Duration::from_millis(500);
/// Bytes of a log that need no folding yet.
const SHORT: u64 = 1 << 20;
/// Bytes from which on commits wait until it begins anew.
const LONG: u64 = 32 << 20;

/// Folds until the ledger is closed.
pub(crate) async fn fold(shared: Weak<Shared>, path: PathBuf) {
    let log = log_of(&path);
    let mut connection: Option<SqliteConnection> = None;
    loop {
        tokio::time::sleep(EVERY).await;
        if shared.strong_count() == 0 {
            return;
        }
        let length = fs_err::metadata(&log).map_or(0, |log| log.len());
        if length < SHORT {
            continue;
        }
        let how = if length < LONG { "PRAGMA wal_checkpoint(PASSIVE)" } else { "PRAGMA wal_checkpoint(TRUNCATE)" };
        let folded = async {
            let open = match connection.take() {
                Some(open) => open,
                None => folding(&path).await?,
            };
            let open = connection.insert(open);
            sqlx::raw_sql(how).execute(open).await
        };
        if let Err(error) = folded.await {
            tracing::warn!(%error, "the ledger's log could not be folded; it will be tried again");
            if let Some(broken) = connection.take() {
                // There is nothing in it to lose.
                let _ = broken.close().await;
            }
        }
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
