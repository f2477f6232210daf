//! The model catalogue, pulling and verifying model files, and the local store.
//!
//! A model file is large, comes from outside and decides what every answer will be, so this crate lets none in
//! unless its SHA-256 is known before the download: from the catalogue where we have seen the file ourselves,
//! otherwise from what the hub states, which is then pinned on this machine. A catalogue entry names several sources
//! (Hugging Face, the user's own package client, a file, an https mirror) and the first that delivers the right bytes
//! wins; what went wrong with the others is told. A model of several files ([`Companion`]) comes whole or not at all.
//!
//! Everything here blocks. From asynchronous code, call it on a thread that may block.

mod cancel;
mod catalogue;
mod companion;
mod digest;
mod error;
mod human;
mod lock;
mod manifest;
mod options;
mod progress;
mod pull;
mod reference;
mod source;
mod store;
mod task;

pub use cancel::Cancel;
pub use catalogue::{Catalogue, CatalogueEntry, CatalogueError, Licence, Source};
pub use catalogue::{PipPart, PipSource};
pub use companion::Companion;
pub use digest::{Digest, DigestError};
pub use error::{ErrorKind, HubError, Pinned, Restriction, SourceError, SourceFailure, TokenSent};
pub use human::{human_bytes, human_duration};
pub use manifest::{Manifest, Verified};
pub use options::{PullOptions, Token};
pub use progress::{Event, Progress, Silent};
pub use reference::{HfFile, ModelRef, ReferenceError};
pub use store::{LocalModel, Removed, Store};
pub use task::Task;
