//! What a model answers, whichever it is, before it is written to the client.

use bantam_ledger::TokenCounts;
use bantam_providers::wire::SseEvent;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::ApiError;
use crate::replay::Drawn;

/// An answer.
pub(crate) enum Reply {
    /// All of it, as JSON.
    Whole { body: Bytes, noted: Noted },
    /// All of it as it came from elsewhere.
    Upstream(Bytes),
    /// Piece by piece, as the API has them.
    Stream(BoxStream<'static, Result<Part, ApiError>>),
}

/// What comes next in a stream.
pub(crate) enum Part {
    /// An event.
    Event(SseEvent),
    /// What it came to so far, for the record.
    Noted(Noted),
    /// The events that follow only say that it has ended.
    Ending,
}

/// What an answer came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Noted {
    /// Tokens of the prompt, cached ones included.
    pub(crate) prompt_tokens: u64,
    /// Those of them that were not computed again.
    pub(crate) cached_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub(crate) completion_tokens: u64,
    /// Those of them that nobody sees.
    pub(crate) reasoning_tokens: u64,
    /// Why it ended, in the API's words.
    pub(crate) finish: Option<String>,
    /// Of the answer's tokens, where they are known.
    pub(crate) logprobs: Option<Logprobs>,
    /// What was drawn for each choice of a local model.
    pub(crate) drawn: Vec<Drawn>,
}

/// Logarithms of the probabilities of tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Logprobs {
    pub(crate) sum: f64,
    pub(crate) least: f64,
    pub(crate) tokens: u64,
}

impl Logprobs {
    /// Of the tokens of both.
    pub(crate) fn with(before: Option<Self>, other: Self) -> Self {
        before.map_or(other, |before| Self {
            sum: before.sum + other.sum,
            least: before.least.min(other.least),
            tokens: before.tokens + other.tokens,
        })
    }
}

impl Noted {
    /// As the ledger counts.
    pub(crate) fn tokens(&self) -> TokenCounts {
        TokenCounts {
            input: self.prompt_tokens,
            cached: self.cached_tokens,
            output: self.completion_tokens,
            reasoning: self.reasoning_tokens,
            ..TokenCounts::default()
        }
    }
}
