//! One lock file per model, so that two processes do not write the same file.
//!
//! The lock is the operating system's and goes when its process ends, however it ends. The file itself stays: removing
//! it would let a third process lock a new one while the second still waits on the old.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::Stop;

/// Held while it lives.
#[derive(Debug)]
pub(crate) struct ModelLock {
    _file: File,
}

impl ModelLock {
    /// Takes the lock, or tells that another process has it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, Stop> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(ModelLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                let why = format!("cannot lock {}: {error}", path.display());
                Err(Stop::Io(io::Error::new(error.kind(), why)))
            }
        }
    }

    /// Takes the lock, calling `waiting` once if another process has it.
    pub(crate) fn take(path: &Path, cancel: &Cancel, waiting: impl FnOnce()) -> Result<Self, Stop> {
        if let Some(lock) = Self::try_take(path)? {
            return Ok(lock);
        }
        waiting();
        loop {
            cancel.sleep(Duration::from_millis(200));
            cancel.check()?;
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Stop> {
    if let Some(dir) = path.parent() {
        fs_err::create_dir_all(dir)?;
    }
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    Ok(file.into_parts().0)
}
