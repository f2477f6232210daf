//! Whole answers of OpenAI's responses, and the items that they and their streams consist of.

use serde_json::{Map, Value, json};

use crate::wire::answer::{Block, Finish, Kind, Reply};
use crate::wire::request::parse_arguments;
use crate::wire::thinking::{seal_redacted, seal_signature};
use crate::wire::{AnswerOptions, ids};

pub(super) fn write(reply: Reply, options: &AnswerOptions) -> Value {
    let id = ids::answer("resp_", reply.id.as_deref(), &options.id);
    let output: Vec<Value> = reply.blocks.iter().enumerate().map(|(i, block)| item(&id, i, block)).collect();
    let mut out = frame(&id, options.model_or(reply.model), reply.created.unwrap_or(options.created), options);
    close(&mut out, output, &reply.finish, reply.usage.map(|usage| usage.to_responses()));
    out.into()
}

/// A response without its output, with what it repeats of its request.
pub(in crate::wire) fn frame(id: &str, model: String, created: u64, options: &AnswerOptions) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("id".into(), id.into());
    out.insert("object".into(), "response".into());
    out.insert("created_at".into(), created.into());
    out.insert("status".into(), "in_progress".into());
    for key in ["error", "incomplete_details", "instructions", "max_output_tokens", "previous_response_id"] {
        out.insert(key.into(), Value::Null);
    }
    out.insert("model".into(), model.into());
    out.insert("output".into(), json!([]));
    out.insert("parallel_tool_calls".into(), true.into());
    out.insert("store".into(), false.into());
    out.insert("text".into(), json!({"format": {"type": "text"}}));
    out.insert("tool_choice".into(), "auto".into());
    out.insert("tools".into(), json!([]));
    out.insert("metadata".into(), json!({}));
    out.insert("usage".into(), Value::Null);
    for (key, value) in &options.echo {
        out.insert(key.clone(), value.clone());
    }
    out
}

/// Ends a response.
pub(in crate::wire) fn close(out: &mut Map<String, Value>, output: Vec<Value>, finish: &Finish, usage: Option<Value>) {
    let incomplete = match finish {
        Finish::Length => Some("max_output_tokens"),
        Finish::Refused => Some("content_filter"),
        _ => None,
    };
    let status = if incomplete.is_some() { "incomplete" } else { "completed" };
    out.insert("status".into(), status.into());
    if let Some(reason) = incomplete {
        out.insert("incomplete_details".into(), json!({"reason": reason}));
    }
    out.insert("output".into(), output.into());
    out.insert("usage".into(), usage.unwrap_or(Value::Null));
}

/// The id of the item at `index` of the output of a response.
pub(in crate::wire) fn item_id(response_id: &str, index: usize, kind: &Kind) -> String {
    let prefix = match kind {
        Kind::Thinking | Kind::Redacted { .. } => "rs",
        Kind::Text | Kind::Refusal => "msg",
        Kind::Call { .. } => "fc",
    };
    format!("{prefix}_{}_{index}", ids::stem(Some(response_id), ""))
}

/// The part of a message that a block is.
pub(in crate::wire) fn part(block: &Block) -> Value {
    match block.kind {
        Kind::Refusal => json!({"type": "refusal", "refusal": block.text}),
        _ => json!({"type": "output_text", "text": block.text, "annotations": [], "logprobs": block.logprobs}),
    }
}

/// A whole item.
pub(in crate::wire) fn item(response_id: &str, index: usize, block: &Block) -> Value {
    let id = item_id(response_id, index, &block.kind);
    match &block.kind {
        Kind::Text | Kind::Refusal => json!({
            "id": id, "type": "message", "status": "completed", "role": "assistant", "content": [part(block)],
        }),
        Kind::Thinking => {
            let sealed = (!block.signature.is_empty()).then(|| seal_signature(&block.signature));
            json!({
                "id": id, "type": "reasoning", "encrypted_content": sealed,
                "summary": [{"type": "summary_text", "text": block.text}],
            })
        }
        Kind::Redacted { data } => json!({
            "id": id, "type": "reasoning", "encrypted_content": seal_redacted(data), "summary": [],
        }),
        Kind::Call { id: call_id, name } => json!({
            "id": id, "type": "function_call", "call_id": call_id, "name": name, "arguments": block.text,
            "status": if parse_arguments(&block.text).is_some() { "completed" } else { "incomplete" },
        }),
    }
}

/// An item as a stream begins it.
pub(in crate::wire) fn opening(response_id: &str, index: usize, kind: &Kind) -> Value {
    let mut item = item(response_id, index, &Block::new(kind.clone(), ""));
    match kind {
        Kind::Text | Kind::Refusal => item["content"] = json!([]),
        Kind::Thinking => item["summary"] = json!([]),
        _ => {}
    }
    if !matches!(kind, Kind::Thinking | Kind::Redacted { .. }) {
        item["status"] = "in_progress".into();
    }
    item
}
