//! A server's whole answer as the client's API has it.

pub(super) mod chat;
pub(super) mod messages;
pub(super) mod responses;

use serde_json::Value;

use super::answer::{Block, Kind, Reply};
use super::fault::event_error;
use super::request::parse_arguments;
use super::{AnswerOptions, Api, WireError};

/// Translates a whole answer of the server's API, `from`, to that of the client, `to`.
///
/// # Errors
/// [`WireError::Pair`] if there is no way, [`WireError::Failed`] if the body is an error object,
/// [`WireError::Answer`] if it is not what its API promises.
pub fn response(mut body: Value, from: Api, to: Api, options: &AnswerOptions) -> Result<Value, WireError> {
    if !to.can_reach(from) {
        return Err(WireError::Pair { client: to, upstream: from });
    }
    // A response that failed says so in a field of its own.
    if let Some(error) = event_error(&body).filter(|_| from != Api::Responses) {
        return Err(WireError::Failed(error));
    }
    if from == to {
        if let (Some(model), Some(slot)) = (&options.model, body.get_mut("model")) {
            *slot = model.clone().into();
        }
        return Ok(body);
    }
    let mut reply = match from {
        Api::Messages => messages::read(body),
        _ => chat::read(body, options),
    }
    .map_err(WireError::in_answer)?;
    finish_calls(&mut reply)?;
    Ok(match to {
        Api::Messages => messages::write(reply, options),
        Api::Responses => responses::write(reply, options),
        _ => chat::write(reply, options),
    })
}

/// Arguments are a JSON object, unless the answer was cut off inside them.
fn finish_calls(reply: &mut Reply) -> Result<(), WireError> {
    let last = reply.blocks.len().saturating_sub(1);
    let may_cut = reply.finish.may_cut();
    let mut calls = false;
    for (i, block) in reply.blocks.iter_mut().enumerate() {
        let Block { kind: Kind::Call { name, .. }, text, .. } = block else { continue };
        calls = true;
        if text.trim().is_empty() {
            "{}".clone_into(text);
        } else if parse_arguments(text).is_none() && !(may_cut && i == last) {
            return Err(broken_arguments(name));
        }
    }
    if calls {
        reply.finish = reply.finish.clone().with_calls();
    }
    Ok(())
}

pub(super) fn broken_arguments(name: &str) -> WireError {
    WireError::answer("tool_calls", format!("the arguments for the tool '{name}' are not a JSON object"))
}
