//! What a client asks for, read once.

use bantam_providers::wire::{Api, probe};
use bantam_types::openai::parse_object;
use bytes::Bytes;
use serde_json::Value;

use crate::error::{ApiError, Room};

/// Bytes of a request that make a token, at least on average: prompts of any language have more.
const BYTES_PER_TOKEN: u64 = 3;

/// A request's body and what limits and routes care about in it.
pub(crate) struct Asked {
    pub(crate) api: Api,
    /// As it came.
    pub(crate) bytes: Bytes,
    pub(crate) body: Value,
    /// The model asked for.
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    /// Answers per prompt.
    pub(crate) n: u64,
    /// Most tokens of an answer, if the request says.
    pub(crate) max_tokens: Option<u64>,
    /// The end user that the client named.
    pub(crate) user: Option<String>,
}

impl Asked {
    /// Reads a body.
    pub(crate) fn read(api: Api, bytes: Bytes) -> Result<Self, ApiError> {
        let body = parse_object(&bytes)?;
        if body.get("model").is_some_and(|model| !model.is_string() && !model.is_null()) {
            return Err(ApiError::field("model", "must be a string"));
        }
        if body.get("previous_response_id").is_some_and(|id| !id.is_null()) && api == Api::Responses {
            let why = "this server keeps no conversations; send the earlier turns in 'input'";
            return Err(ApiError::unsupported("previous_response_id", why));
        }
        let probe::Asked { model, stream, max_tokens, n, user, .. } = probe::Asked::of(api, &body);
        Ok(Self { api, bytes, body, model, stream: stream && api != Api::Embeddings, n, max_tokens, user })
    }

    /// Refuses a request that lacks what its API requires of those that are answered.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let missing = self.body.get("max_tokens").is_none_or(Value::is_null);
        if self.api == Api::Messages && missing {
            let why = "is missing; Anthropic's API requires it: the most tokens that the answer may have, such as 1024";
            return Err(ApiError::field("max_tokens", why));
        }
        Ok(())
    }

    /// A budget's refusal, with what the client can do to fit into what is left.
    pub(super) fn to_fit(&self, error: ApiError) -> ApiError {
        let field = match self.api {
            Api::Embeddings => return error,
            Api::Responses => "max_output_tokens",
            _ => "max_tokens",
        };
        match error {
            ApiError::OverBudget { why, room: room @ Room::Some, retry_after } => {
                let fix = match self.max_tokens {
                    Some(_) => format!("a smaller '{field}' may fit"),
                    None => format!("it gives no '{field}', so that a long answer is reserved for; giving one may fit"),
                };
                ApiError::OverBudget { why: format!("{why}; {fix}"), room, retry_after }
            }
            error => error,
        }
    }

    /// A bound on the prompt's tokens, for reserving: rather too many than too few.
    pub(crate) fn prompt_bound(&self) -> u64 {
        self.bytes.len() as u64 / BYTES_PER_TOKEN + 1
    }

    /// A bound on the answers' tokens, if the request has one.
    pub(crate) fn output_bound(&self) -> Option<u64> {
        match self.api {
            Api::Embeddings => Some(0),
            _ => self.max_tokens.map(|most| most.saturating_mul(self.n)),
        }
    }
}
