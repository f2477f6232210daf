//! What the store remembers of a pulled model.

use serde::{Deserialize, Serialize};

use crate::catalogue::Licence;
use crate::companion::Companion;
use crate::digest::Digest;
use crate::task::Task;

/// `manifest.json` beside a model's files. Its presence says that they are complete and were checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's reference, such as `smollm2-135m-instruct` or `hf:org/repo/file.gguf`.
    pub name: String,
    /// What it is made for.
    #[serde(default)]
    pub task: Task,
    /// File name in the same folder.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Digest,
    /// The files beside it, all checked against the catalogue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Companion>,
    /// What the digest was checked against.
    pub verified: Verified,
    /// The source that delivered it.
    pub source: String,
    /// The commit that delivered it, where the source states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Its terms, where the catalogue knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<Licence>,
    /// When it was pulled, RFC 3339, UTC.
    pub pulled_at: String,
}

/// What a digest was checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verified {
    /// The digest in the catalogue.
    Catalogue,
    /// The digest that this machine pinned at an earlier pull.
    Pin,
    /// The digest that the hub stated before the first download.
    Stated,
}

impl Verified {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Verified::Catalogue => "the digest in the catalogue",
            Verified::Pin => "the digest pinned at the first pull",
            Verified::Stated => "the digest that the hub states",
        }
    }
}
