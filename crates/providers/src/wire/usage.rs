//! Token counts, which each API splits in its own way.

use serde_json::{Map, Value, json};

use super::Api;

/// Tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those of the cache included.
    pub prompt: u64,
    /// Tokens generated, reasoning included.
    pub completion: u64,
    /// Prompt tokens read from the server's cache.
    pub cached: u64,
    /// Prompt tokens written to the server's cache, where it says so.
    pub cache_written: u64,
    /// Generated tokens that were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Reads the `usage` object of an answer of `api`; counts that are missing or no counts are 0.
    #[must_use]
    pub fn read(api: Api, usage: &Value) -> Option<Self> {
        let usage = usage.as_object()?;
        let count = |key: &str| usage.get(key).and_then(Value::as_u64).unwrap_or(0);
        let detail =
            |group: &str, key: &str| usage.get(group).and_then(|g| g.get(key)).and_then(Value::as_u64).unwrap_or(0);
        Some(match api {
            Api::Chat | Api::Completions | Api::Embeddings => Self {
                prompt: count("prompt_tokens"),
                completion: count("completion_tokens"),
                cached: detail("prompt_tokens_details", "cached_tokens"),
                cache_written: detail("prompt_tokens_details", "cache_write_tokens"),
                reasoning: detail("completion_tokens_details", "reasoning_tokens"),
            },
            Api::Responses => Self {
                prompt: count("input_tokens"),
                completion: count("output_tokens"),
                cached: detail("input_tokens_details", "cached_tokens"),
                cache_written: detail("input_tokens_details", "cache_write_tokens"),
                reasoning: detail("output_tokens_details", "reasoning_tokens"),
            },
            Api::Messages => {
                let (cached, cache_written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
                Self {
                    prompt: count("input_tokens").saturating_add(cached).saturating_add(cache_written),
                    completion: count("output_tokens"),
                    cached,
                    cache_written,
                    reasoning: detail("output_tokens_details", "thinking_tokens"),
                }
            }
        })
    }

    /// Prompt and generated tokens together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    pub(super) fn to_chat(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.total(),
            "prompt_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": self.cache_written},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }

    pub(super) fn to_messages(self) -> Value {
        json!({
            "input_tokens": self.prompt.saturating_sub(self.cached).saturating_sub(self.cache_written),
            "cache_creation_input_tokens": self.cache_written,
            "cache_read_input_tokens": self.cached,
            "output_tokens": self.completion,
            "output_tokens_details": {"thinking_tokens": self.reasoning},
        })
    }

    pub(super) fn to_responses(self) -> Value {
        json!({
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": self.cache_written},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.total(),
        })
    }
}

/// Anthropic's counts come in two events: later ones are totals and replace earlier ones, absent ones stay.
pub(super) fn merge(counts: &mut Map<String, Value>, later: Option<&Value>) {
    for (key, value) in later.and_then(Value::as_object).into_iter().flatten() {
        if !value.is_null() {
            counts.insert(key.clone(), value.clone());
        }
    }
}
