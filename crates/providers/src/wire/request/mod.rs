//! A client's request as the server's API has it.

mod chat_to_messages;
mod messages_to_chat;
mod parts;
mod responses_to_chat;

use serde_json::{Value, json};

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

/// Has a streamed answer of the server's API tell its usage, so that it can be counted whether its client asked or not;
/// [`super::Stream`] keeps it from clients that did not. Not every server knows the option.
pub fn ask_for_usage(body: &mut Value, upstream: Api) {
    if !matches!(upstream, Api::Chat | Api::Completions) || body.get("stream") != Some(&Value::Bool(true)) {
        return;
    }
    let Some(body) = body.as_object_mut() else { return };
    match body.get_mut("stream_options").and_then(Value::as_object_mut) {
        Some(options) => drop(options.insert("include_usage".into(), true.into())),
        None => drop(body.insert("stream_options".into(), json!({"include_usage": true}))),
    }
}
