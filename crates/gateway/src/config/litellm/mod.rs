//! Reads a LiteLLM proxy's `config.yaml` and writes what it says as a `bantam.toml`.
//!
//! Nothing is dropped in silence: every key without an equal here becomes a note with its reason. No secret is copied: a reference to the
//! environment stays one, and a key that stands in the file becomes one.

mod convert;
mod reasons;
mod secrets;
mod servers;
mod tree;

use super::{ConfigFile, ConfigFileError};

/// Longest file that is read.
const MAX_BYTES: usize = 4 << 20;

/// A LiteLLM configuration as one of ours.
#[derive(Debug)]
pub struct Imported {
    /// What could be taken over.
    pub config: ConfigFile,
    /// What could not, and what somebody should know.
    pub notes: Vec<Note>,
}

/// Something about a key of the imported file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The key, such as `model_list[0].litellm_params.tags`; the first, where the same holds for several.
    pub key: String,
    /// What became of it, and why.
    pub what: String,
    /// How many further keys of this kind there are.
    pub more: usize,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.what)?;
        if self.more > 0 { write!(f, " (and {} more)", self.more) } else { Ok(()) }
    }
}

/// A LiteLLM configuration that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is longer than any configuration.
    #[error("the file has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is no YAML.
    #[error("not a YAML file: {why}")]
    Yaml {
        /// What the parser says, with the place.
        why: String,
    },
    /// A key is not of the kind that LiteLLM has there.
    #[error("{key}: {why}")]
    Shape {
        /// The key.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// What came out is no configuration of ours.
    #[error("the result cannot be used: {0}")]
    Result(#[from] ConfigFileError),
}

/// Reads a LiteLLM proxy's configuration. `env` looks up variables that give addresses (`api_base: os.environ/X`), which a `bantam.toml`
/// has in the open; secrets are never looked up.
///
/// # Errors
/// Every [`ImportError`]; keys without an equal are no error but a [`Note`].
pub fn import_litellm(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Imported, ImportError> {
    if text.len() > MAX_BYTES {
        return Err(ImportError::TooLong { bytes: text.len() });
    }
    let root = tree::parse(text)?;
    convert::convert(root, env)
}

#[cfg(test)]
mod tests;
