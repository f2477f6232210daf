//! A client's request as the server's API has it.

mod chat_to_messages;
mod messages_to_chat;
mod parts;
mod responses_to_chat;

use serde_json::Value;

use self::responses_to_chat::Reasoning;
use super::thinking::forget_foreign;
use super::{Api, WireError};

pub use chat_to_messages::DEFAULT_MAX_TOKENS;
pub(super) use chat_to_messages::parse_arguments;

/// Translates a client's request body from the API it came in to that of the server.
///
/// # Errors
/// [`WireError::Pair`] if there is no way, [`WireError::Field`] for a field of the wrong type,
/// [`WireError::Unsupported`] for one that the server's API cannot express.
pub fn request(mut body: Value, from: Api, to: Api) -> Result<Value, WireError> {
    match (from, to) {
        _ if from == to => {
            forget_foreign(from, &mut body);
            Ok(body)
        }
        (Api::Chat, Api::Messages) => chat_to_messages::translate(body),
        (Api::Messages, Api::Chat) => messages_to_chat::translate(body),
        (Api::Responses, Api::Chat) => responses_to_chat::translate(body, Reasoning::Drop),
        (Api::Responses, Api::Messages) => {
            chat_to_messages::translate(responses_to_chat::translate(body, Reasoning::Keep)?)
                .map_err(responses_to_chat::name_fields)
        }
        _ => Err(WireError::Pair { client: from, upstream: to }),
    }
}
