//! What the store remembers of a pulled file.

use serde::{Deserialize, Serialize};

use crate::catalogue::Licence;
use crate::digest::Digest;

/// `manifest.json` beside a model file. Its presence says that the file is complete and was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's reference, such as `smollm2-135m-instruct` or `hf:org/repo/file.gguf`.
    pub name: String,
    /// File name in the same folder.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Digest,
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
