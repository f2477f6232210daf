//! Files that belong to a model and stand beside its main file, at every source and in the store.
//!
//! A GGUF is one file. What Transformers and sentence-transformers save is a directory: weights, configuration and
//! tokenizer, with sub-folders. Each of those files is as able to change what the model computes as the weights are, so
//! each has its digest in the catalogue.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::reference::is_plain_segment;
use crate::store::MANIFEST;

/// A file beside a model's main file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// Path from the folder of the main file, with `/`, such as `1_Pooling/config.json`.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Digest,
}

/// Folders and file of a companion's path.
const MAX_DEPTH: usize = 3;
/// Companions of one model.
const MAX_COMPANIONS: usize = 64;

impl Companion {
    /// Refuses a path that is more than a few plain names: it is joined to folders, archives and addresses.
    pub(crate) fn check_path(&self) -> Result<(), String> {
        let mut names = self.file.split('/');
        let plain = names.all(|name| is_plain_segment(name) && !name.ends_with('.'));
        if plain && self.file.split('/').count() <= MAX_DEPTH {
            return Ok(());
        }
        Err(format!(
            "the companion `{}` is not a path of at most {MAX_DEPTH} names of letters, digits, `-`, `_` and `.` \
             (none begins or ends with a `.`) separated by `/`",
            self.file
        ))
    }
}

/// Checks the companions of a model whose file in the store is called `main`.
pub(crate) fn check(companions: &[Companion], main: &str) -> Result<(), String> {
    if companions.len() > MAX_COMPANIONS {
        return Err(format!("a model has at most {MAX_COMPANIONS} companions"));
    }
    companions.iter().try_for_each(Companion::check_path)?;
    if let Some(empty) = companions.iter().find(|companion| companion.size == 0) {
        return Err(format!("the size of the companion `{}` must be greater than zero", empty.file));
    }
    // Without case: they become files on file systems of every kind. A folder ends in `/`.
    let mut taken = vec![format!("{}/", main.to_lowercase()), format!("{MANIFEST}/"), format!("{MANIFEST}.tmp/")];
    for companion in companions {
        let path = format!("{}/", companion.file.to_lowercase());
        if taken.iter().any(|other| other.starts_with(&path) || path.starts_with(other)) {
            return Err(format!("the companion `{}` is in the way of another file of the model", companion.file));
        }
        taken.push(path);
    }
    Ok(())
}

/// Bytes of them all.
pub(crate) fn total_size(companions: &[Companion]) -> u64 {
    companions.iter().fold(0, |sum, companion| sum.saturating_add(companion.size))
}
