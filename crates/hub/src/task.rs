//! What a model is made for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reference::GGUF;

/// What a model is made for, and with it the form it has on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Writes text: a GGUF file.
    #[default]
    Generate,
    /// Turns texts into vectors: a directory as sentence-transformers saves it, whose main file is `model.safetensors`.
    Embed,
}

impl Task {
    /// The extension of the main file.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Task::Generate => GGUF,
            Task::Embed => "safetensors",
        }
    }

    /// Name of the main file in the store, for the model in the folder `dir`.
    pub(crate) fn main_file(self, dir: &str) -> String {
        // A GGUF's name is shown and served; the files of a directory are found by theirs.
        let stem = match self {
            Task::Generate => dir,
            Task::Embed => "model",
        };
        format!("{stem}.{}", self.extension())
    }

    /// What the model is and what to do with it, for who wanted something else.
    pub(crate) fn other_use(self, name: &str) -> String {
        match self {
            Task::Generate => format!("writes text and is no encoder; use `bantam run {name}`"),
            Task::Embed => format!("is an encoder, which turns texts into vectors; use `bantam embed --model {name}`"),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Generate => "generate",
            Task::Embed => "embed",
        })
    }
}
