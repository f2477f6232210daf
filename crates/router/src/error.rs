use bantam_stats::StatsError;
use bantam_stats::head::{BlobError, FitError};
use bantam_stats::risk::Refusal;

/// Why there is no router, or none that can be used so.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A line of a JSONL file.
    #[error("line {line}: {problem}")]
    Row {
        /// From 1.
        line: usize,
        /// What is wrong with it, with the field's name.
        problem: String,
    },
    /// A setting that cannot work.
    #[error("{field}: {problem}")]
    Config {
        /// Which.
        field: &'static str,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Too few rows on which both models were tried to choose a threshold on.
    #[error(
        "{found} held-out rows have the outcomes of both models, but at least {min} are needed to promise anything"
    )]
    TooFewPairs {
        /// How many there are.
        found: usize,
        /// How many there must be.
        min: usize,
    },
    /// The promise cannot be given.
    #[error(
        "the share of losses cannot be promised to be at most {bound} with confidence {confidence}: {refusal}; \
         bring more rows, a higher bound, or a threshold of your own"
    )]
    Refused {
        /// The bound asked for.
        bound: f64,
        /// The confidence asked for.
        confidence: f64,
        /// Why not.
        refusal: Refusal,
    },
    /// Numbers that do not fit together.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// Training failed or was cancelled.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The encoder failed.
    #[error("the encoder: {0}")]
    Embed(String),
    /// Bytes that are no router.
    #[error("this is no router that can be read: {0}")]
    File(String),
}

impl From<BlobError> for RouteError {
    fn from(error: BlobError) -> Self {
        Self::File(error.to_string())
    }
}
