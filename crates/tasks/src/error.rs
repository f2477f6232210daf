//! Why a task cannot be used, and why a row has no answer.

use std::path::PathBuf;

/// A task file, or what goes with it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is not TOML, or has an unknown, missing or mistyped key.
    #[error("{}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with the place.
        why: String,
    },
    /// A value cannot work.
    #[error("{task}: {field}: {why}")]
    Field {
        /// The task's name.
        task: String,
        /// The key, such as `classify.labels[3]`.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The model cannot do what the task asks of it.
    #[error("{model}: {why}")]
    Model {
        /// The model.
        model: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// What `task fit` left does not go with the task or model any more.
    #[error("{}: {why}; run `bantam task fit` again", path.display())]
    Fitted {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There are too few or unsuitable rows to learn from.
    #[error("cannot fit: {why}")]
    Fit {
        /// What is wrong and what would be right.
        why: String,
    },
}

/// A row without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row lacks an input or has one that cannot be used.
    #[error("{field}: {why}")]
    Input {
        /// The column.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// The input does not fit the model.
    #[error("the input has {tokens} tokens, and at most {max} fit the model")]
    TooLong {
        /// Tokens of the whole prompt.
        tokens: usize,
        /// Most that fit.
        max: usize,
    },
    /// The answer was cut by the token limit: it is no valid value.
    #[error("the answer was cut after {tokens} tokens")]
    Cut {
        /// Tokens that were generated.
        tokens: usize,
    },
    /// The model's answer is not of the type that was asked for (only models whose output is not bound can do that).
    #[error("the model's answer is not valid: {why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
    /// The model or its server failed.
    #[error("{why}")]
    Model {
        /// What happened.
        why: String,
        /// Whether the same row may succeed later.
        retry: bool,
    },
    /// The run was stopped before this row's turn.
    #[error("stopped")]
    Stopped,
}

impl RowError {
    /// A short name for tables and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            RowError::Input { .. } => "bad_input",
            RowError::TooLong { .. } => "too_long",
            RowError::Cut { .. } => "cut",
            RowError::Invalid { .. } => "invalid_answer",
            RowError::Model { .. } => "model_failed",
            RowError::Stopped => "stopped",
        }
    }
}
