//! The ways to get a file. Each delivers a complete, checked file in the model's partial folder, or says why not.

mod file;
mod http;
mod pip;
mod resume;

use std::path::{Path, PathBuf};

pub(crate) use http::is_loopback;

use crate::catalogue::Source;
use crate::digest::Digest;
use crate::error::{Pinned, SourceError};
use crate::options::PullOptions;
use crate::progress::Progress;

/// What is known about a file before it comes.
pub(crate) struct Expected {
    pub(crate) size: Option<u64>,
    pub(crate) sha256: Option<Digest>,
    /// Whether `sha256` is only this machine's pin.
    pub(crate) pinned: Pinned,
}

impl Expected {
    /// Compares with what came or is announced.
    pub(crate) fn check_digest(&self, found: Digest) -> Result<(), SourceError> {
        match self.sha256 {
            Some(expected) if expected != found => {
                Err(SourceError::DigestMismatch { expected, found, pinned: self.pinned.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Compares with what came or is announced.
    pub(crate) fn check_size(&self, found: u64) -> Result<(), SourceError> {
        match self.size {
            Some(expected) if expected != found => Err(SourceError::SizeMismatch { expected, found }),
            _ => Ok(()),
        }
    }
}

/// One attempt at one source.
pub(crate) struct Job<'a> {
    /// Folder for temporary and partial files; on the disk of the store, so that the end is a rename.
    pub(crate) folder: &'a Path,
    pub(crate) expected: &'a Expected,
    pub(crate) options: &'a PullOptions,
    pub(crate) progress: &'a dyn Progress,
}

/// A file that passed its checks and is on disk.
pub(crate) struct Delivered {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
    pub(crate) commit: Option<String>,
}

pub(crate) fn needs_network(source: &Source) -> bool {
    !matches!(source, Source::File { .. })
}

pub(crate) fn fetch(source: &Source, job: &Job<'_>) -> Result<Delivered, SourceError> {
    if job.options.offline && needs_network(source) {
        return Err(SourceError::Offline);
    }
    match source {
        Source::HuggingFace(file) => http::fetch_huggingface(file, job),
        Source::Https { url } => http::fetch_url(url, job),
        Source::Pip(pip) => pip::fetch(pip, job),
        Source::File { path } => file::fetch(path, job),
    }
}

/// Refuses to start what would fill the disk of `job.folder`.
fn check_space(job: &Job<'_>, bytes: u64) -> Result<(), SourceError> {
    let needed = bytes.saturating_add(job.options.keep_free);
    let available = fs4::available_space(job.folder)?;
    if available < needed {
        return Err(SourceError::DiskSpace { dir: job.folder.to_owned(), needed, available });
    }
    Ok(())
}
