//! What a model answers, whichever it is, before it is written to the client.

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::ApiError;

/// An answer.
pub(crate) enum Reply {
    /// All of it, as JSON in the API's own form.
    Whole { body: Bytes, noted: Noted },
    /// Piece by piece. The stream's end is the answer's end: markers such as `[DONE]` are no part of it.
    Stream(BoxStream<'static, Result<Part, ApiError>>),
}

/// What comes next in a stream.
pub(crate) enum Part {
    /// An event for the client: the JSON of a `data:` line, on one line.
    Event(Bytes),
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
    /// Sum of the logarithms of the answer's tokens' probabilities, where they are known, and how many tokens that is.
    pub(crate) logprob: Option<(f64, u64)>,
}
