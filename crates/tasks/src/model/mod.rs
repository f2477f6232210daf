//! Models that answer tasks: one of ours, an encoder with a head, or a server's. Above this, nothing knows which.

pub(crate) mod encoder;
mod local;
mod remote;

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

pub use encoder::EncoderModel;
pub use local::LocalModel;
pub use remote::{RemoteConfig, RemoteModel};

use crate::error::{RowError, TaskError};
use crate::prompt::Conversation;

/// What a task wants of a generating model.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// The likeliest of some labels; how much of the probability the labels that are told must have.
    Label {
        /// The labels.
        labels: Vec<String>,
        /// Stop when the labels found have this much probability together; the likeliest is always among them.
        mass: f64,
    },
    /// For each label, whether it applies.
    EachLabel {
        /// The labels.
        labels: Vec<String>,
    },
    /// JSON of a schema.
    Json {
        /// The schema.
        schema: Value,
        /// Most tokens.
        max_tokens: usize,
    },
}

/// A model that writes text.
pub trait LanguageModel: Send + Sync {
    /// What it is called.
    fn id(&self) -> &str;
    /// Names exactly what computes the answers.
    fn fingerprint(&self) -> String;
    /// Prepares for many rows of one task.
    ///
    /// # Errors
    /// [`TaskError::Model`] if the model cannot do this.
    fn bind(&self, conversation: &Conversation, wanted: &Wanted) -> Result<Box<dyn Answerer>, TaskError>;
}

/// Answers the rows of one task.
pub trait Answerer: Send + Sync {
    /// One outcome per input, in their order. Blocks; rows are computed together.
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>>;
}

/// What a model says of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// The answer.
    pub value: RawValue,
    /// From the row's submission to its answer.
    pub latency: Duration,
    /// Tokens read and written.
    pub usage: Usage,
    /// The input has what reads like the model's special tokens; it was taken as text.
    pub has_special_tokens: bool,
}

/// Tokens of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were not computed again.
    pub cached_tokens: usize,
    /// Tokens written or searched.
    pub completion_tokens: usize,
}

/// A model's answer before the task makes it a result.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    /// Labels by index with their probabilities, the likeliest first; not all need be there. Nothing where the model gives none.
    Labels(Vec<(usize, Option<f64>)>),
    /// The probability of each label, each on its own. Nothing where the model gives none.
    EachLabel(Vec<(bool, Option<f64>)>),
    /// No label fits; how sure that is.
    OutOfScope(Option<f64>),
    /// JSON as written, and for pieces of it (by bytes) the logarithm of their probability.
    Json {
        /// The text.
        text: String,
        /// Tokens in order.
        pieces: Vec<(Range<usize>, f32)>,
    },
}
