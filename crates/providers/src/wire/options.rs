//! What an answer's translation must know of its request.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::Api;

/// Fields of a Responses request that its answer repeats.
const ECHOED: [&str; 18] = [
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// What an answer's translation must know besides the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerOptions {
    /// What to call the model; as the server calls it if absent.
    pub model: Option<String>,
    /// Ids are made from this where the server gave none. Letters, digits, `-` and `_`.
    pub id: String,
    /// Seconds since the Unix epoch, where the server's API has no such field.
    pub created: u64,
    /// Whether a chat stream ends with a chunk of usage, because its client asked for one.
    pub include_usage: bool,
    /// Fields of a Responses request that its answer repeats.
    pub echo: Map<String, Value>,
}

impl AnswerOptions {
    /// Options for the answer to a client's request, made before the request is translated. `id` is the request's own.
    #[must_use]
    pub fn of(client: Api, body: &Value, id: impl Into<String>) -> Self {
        let echo = match client {
            Api::Responses => ECHOED
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), body.get(key).filter(|v| !v.is_null())?.clone())))
                .collect(),
            _ => Map::new(),
        };
        Self {
            model: None,
            id: id.into(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            include_usage: body.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false),
            echo,
        }
    }

    /// What to call the model of an answer that the server calls so.
    pub(super) fn model_or(&self, given: Option<String>) -> String {
        self.model.clone().or(given).unwrap_or_default()
    }
}
