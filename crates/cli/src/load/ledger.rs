//! Which ledger a command works on.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bantam_hub::Store as Models;
use bantam_ledger::{BodyStorage, EncryptionKey, Ledger, LedgerConfig, Reading, Store};
use clap::Args;

use crate::cli::Globals;

/// The flag for it.
#[derive(Debug, Clone, Args)]
pub(crate) struct LedgerPlace {
    /// The ledger: a file, or postgres://user:password@host/database [default: ledger.db in the data directory]
    #[arg(long, env = "BANTAM_LEDGER", hide_env_values = true, value_name = "PATH|URL")]
    ledger: Option<String>,
}

impl LedgerPlace {
    /// How to open it.
    pub(crate) fn config(&self, globals: &Globals) -> anyhow::Result<LedgerConfig> {
        let data_dir = || Models::open(globals.data_dir.as_deref()).map(|store| store.root().to_owned());
        Ok(match &self.ledger {
            None => LedgerConfig::sqlite(&data_dir()?.join("ledger.db")),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                LedgerConfig::postgres(url, &data_dir()?.join("ledger.key"))
            }
            Some(path) => LedgerConfig::sqlite(Path::new(path)),
        })
    }

    /// Opens it for reading; a process that holds it is not disturbed.
    pub(crate) async fn read(&self, globals: &Globals) -> anyhow::Result<Reading> {
        Ok(Reading::open(&self.config(globals)?.store, BodyStorage::None).await?)
    }

    /// Opens a ledger that is there, for writing.
    pub(crate) async fn write(&self, globals: &Globals) -> anyhow::Result<Ledger> {
        self.is_there(globals)?;
        Ok(Ledger::open(self.config(globals)?).await?)
    }

    /// Whether there is a ledger, as far as that can be seen from here.
    pub(crate) fn is_there(&self, globals: &Globals) -> anyhow::Result<()> {
        match &self.config(globals)?.store {
            Store::Sqlite { path, .. } if !path.is_file() => bail!("there is no ledger {}", path.display()),
            _ => Ok(()),
        }
    }

    /// The file of the public key, beside the signing key.
    pub(crate) fn public_key(&self, globals: &Globals) -> anyhow::Result<PathBuf> {
        Ok(bantam_ledger::public_key_file(&self.config(globals)?.signing_key))
    }
}

/// The flags for the key that bodies are encrypted with.
#[derive(Debug, Clone, Args)]
pub(crate) struct BodyKey {
    /// File with the key that bodies are encrypted with
    #[arg(long, value_name = "FILE")]
    body_key: Option<PathBuf>,
    /// Environment variable with that key
    #[arg(long, value_name = "NAME", default_value = "BANTAM_BODY_KEY", conflicts_with = "body_key")]
    body_key_env: String,
}

impl BodyKey {
    /// The key, if one is given.
    pub(crate) fn read(&self) -> anyhow::Result<Option<EncryptionKey>> {
        let text = match &self.body_key {
            Some(path) => fs_err::read_to_string(path)?,
            None => match std::env::var(&self.body_key_env) {
                Ok(text) => text,
                Err(_) => return Ok(None),
            },
        };
        EncryptionKey::from_hex(&text).map(Some).context("the bodies' key must be 64 hexadecimal digits")
    }

    /// How to give it.
    pub(crate) fn hint(&self) -> String {
        format!("set {} or give --body-key FILE", self.body_key_env)
    }
}

/// Runs work that waits for a database.
pub(crate) fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?.block_on(work)
}

/// A while, such as `90s`, `15m`, `24h` or `30d`.
pub(crate) fn a_while(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is no while; write one such as 90s, 15m, 24h or 30d");
    let unit = text.chars().last().ok_or_else(fault)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(fault()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| fault())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiles_read() {
        assert_eq!(a_while("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(a_while("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "d", "1", "1.5h", "-1h", "1ü", "999999999999999999d"] {
            assert!(a_while(wrong).is_err(), "{wrong}");
        }
    }
}
