//! What differs between chat and completion answers.

use std::sync::Arc;

use bantam_engine::FinishReason;
use bantam_types::openai::{self, Usage};
use serde::Serialize;

use super::choices::{DrawnToken, Piece};
use crate::model::ServedModel;

/// What is the same in all parts of an answer.
pub(crate) struct Head {
    pub(crate) id: Arc<str>,
    pub(crate) created: u64,
    pub(crate) name: Arc<str>,
    pub(crate) fingerprint: Arc<str>,
    pub(crate) model: Arc<ServedModel>,
}

/// One whole answer.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: Vec<DrawnToken>,
    pub(crate) finish: Option<FinishReason>,
}

impl Answer {
    pub(crate) fn append(&mut self, piece: Piece) {
        self.text.push_str(&piece.text);
        self.tokens.extend(piece.tokens);
    }
}

/// An event of a stream, before it is written down.
pub(crate) enum StreamEvent {
    /// A choice begins.
    Open,
    /// It goes on.
    Piece(Piece),
    /// It has ended.
    Close(FinishReason),
}

/// How answers are written down.
pub(crate) trait Format: Send + 'static {
    /// Start of the answer's id.
    const ID_PREFIX: &'static str;
    /// One event of a stream.
    type Chunk: Serialize + Send;
    /// A whole answer.
    type Whole: Serialize + Send;

    /// Writes down an event of a choice; `None` if the format has nothing to say about it. `usage` is the field's
    /// value: absent, or `null` in every chunk before the one that has it.
    fn chunk(&mut self, head: &Head, index: usize, event: StreamEvent, usage: NoUsage) -> Option<Self::Chunk>;

    /// The last chunk of a stream whose client asked for the usage.
    fn usage_chunk(&self, head: &Head, usage: Usage) -> Self::Chunk;

    /// Writes down whole answers, in order of index.
    fn whole(&mut self, head: &Head, answers: Vec<Answer>, usage: Usage) -> Self::Whole;
}

/// The `usage` field of a chunk that has none: absent, or `null` if the client asked for usage.
pub(crate) type NoUsage = Option<Option<Usage>>;

/// The reason as the API names it.
pub(crate) fn finish_reason(reason: FinishReason) -> openai::FinishReason {
    match reason {
        FinishReason::Stop => openai::FinishReason::Stop,
        FinishReason::Length => openai::FinishReason::Length,
    }
}

/// JSON has no infinities; this is what OpenAI sends for a token that cannot occur.
pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}
