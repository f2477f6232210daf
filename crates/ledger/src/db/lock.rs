//! One process per SQLite ledger.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::LedgerError;
use crate::time::Timestamp;

/// Held while it lives. The file stays, and tells who holds it or held it last.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a ledger.
    ///
    /// # Errors
    /// When another process holds it.
    pub(crate) fn take(ledger: &Path) -> Result<Self, LedgerError> {
        let mut name = ledger.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let fault = |e: std::io::Error| LedgerError::File { path: path.clone(), why: e.to_string() };
        let mut file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(fault)?
            .into_parts()
            .0;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(200).read_to_string(&mut holder);
                let holder = holder.lines().next().unwrap_or("which has not said who it is").to_owned();
                return Err(LedgerError::Held { path: ledger.to_owned(), holder });
            }
            Err(TryLockError::Error(e)) => return Err(fault(e)),
        }
        let program = std::env::args().take(2).collect::<Vec<_>>().join(" ");
        let program: String = program.chars().take(120).collect();
        file.set_len(0).map_err(fault)?;
        writeln!(file, "pid {}, {program}, since {}", std::process::id(), Timestamp::now()).map_err(fault)?;
        Ok(Self { _file: file })
    }
}
