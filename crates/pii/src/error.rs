use std::ops::Range;

use crate::finding::{MAX_FINDINGS, MAX_TEXT_BYTES};

/// A text was not analysed; it must not be treated as clean.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetectError {
    /// Longer than [`MAX_TEXT_BYTES`].
    #[error("the text has {bytes} bytes, and {MAX_TEXT_BYTES} are the most; analyse it in parts")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than [`MAX_FINDINGS`].
    #[error("the text has more than {MAX_FINDINGS} findings; analyse it in parts")]
    TooMany,
    /// A detector did not do its work.
    #[error("the detector '{detector}' failed: {why}")]
    Failed {
        /// Which one.
        detector: String,
        /// What happened.
        why: String,
    },
    /// A detector gave what is no finding in this text.
    #[error("the detector '{detector}' gave bytes {}..{} of {len} with score {score}: no range of characters, or no score from 0 to 1", range.start, range.end)]
    Invalid {
        /// Which one.
        detector: String,
        /// What it gave.
        range: Range<usize>,
        /// Its score, as text.
        score: String,
        /// Bytes of the text.
        len: usize,
    },
}

/// A row of a table cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The pattern is no regular expression that can be compiled.
    #[error("the recogniser '{recogniser}' has a pattern that cannot be compiled: {why}")]
    Pattern {
        /// The row.
        recogniser: String,
        /// What the compiler says.
        why: String,
    },
    /// The pattern has no longest match, so the time it takes is not bounded.
    #[error(
        "the recogniser '{recogniser}' has a pattern without a longest match, or one that matches nothing; write {{1,64}} instead of +"
    )]
    Unbounded {
        /// The row.
        recogniser: String,
    },
    /// All patterns together cannot be compiled.
    #[error("the table cannot be compiled: {why}")]
    Table {
        /// What the compiler says.
        why: String,
    },
}

/// An operator cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// A parameter is missing, unknown or of no use.
    #[error("{field}: {why}")]
    Field {
        /// The parameter, such as `salt`.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A finding is not of this text.
    #[error("bytes {}..{} are no range of characters of the text, which has {len} bytes", range.start, range.end)]
    Range {
        /// What was given.
        range: Range<usize>,
        /// Bytes of the text.
        len: usize,
    },
}

impl OperatorError {
    pub(crate) fn field(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field { field: field.into(), why: why.into() }
    }
}
