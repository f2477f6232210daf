//! Token counts and the reason an answer ended.

use serde::{Deserialize, Serialize};

/// Tokens of one request, over all its choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, counted once however many choices share it.
    pub prompt_tokens: usize,
    /// Tokens generated, over all choices.
    pub completion_tokens: usize,
    /// The sum of the two.
    pub total_tokens: usize,
    /// What the prompt tokens consist of.
    #[serde(default)]
    pub prompt_tokens_details: PromptTokensDetails,
    /// What the generated tokens consist of.
    #[serde(default)]
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Part of [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Prompt tokens that came from the prefix cache and were not computed again.
    #[serde(default)]
    pub cached_tokens: usize,
}

/// Part of [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionTokensDetails {
    /// Tokens spent on hidden reasoning; a local model has none that are hidden.
    #[serde(default)]
    pub reasoning_tokens: usize,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string or token was met.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// The model calls a tool.
    ToolCalls,
    /// A reason this version does not know.
    #[serde(untagged)]
    Other(String),
}
