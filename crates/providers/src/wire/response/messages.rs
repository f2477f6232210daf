//! Whole answers of Anthropic's messages.

use serde_json::{Map, Value, json};

use super::chat::thinking_block;
use crate::wire::answer::{Block, Finish, Kind, Reply};
use crate::wire::fields::Fields;
use crate::wire::probe::Usage;
use crate::wire::request::parse_arguments;
use crate::wire::{AnswerOptions, Api, WireError, ids};

pub(super) fn read(body: Value) -> Result<Reply, WireError> {
    let mut body = Fields::body(body)?;
    let usage = body.take("usage").and_then(|usage| Usage::read(Api::Messages, &usage));
    let (id, model) = (body.text("id")?, body.text("model")?);
    let stop = body.take("stop_sequence");
    let finish = Finish::of_messages(&body.required_text("stop_reason")?, stop.as_ref())?;
    let mut blocks = Vec::new();
    for (i, block) in body.required("content")?.as_array().into_iter().flatten().enumerate() {
        blocks.push(read_block(&format!("content[{i}]"), block)?);
    }
    Ok(Reply { id, model, created: None, blocks, finish, usage })
}

/// A block of an answer, whole or as a stream begins it.
pub(in crate::wire) fn read_block(path: &str, block: &Value) -> Result<Block, WireError> {
    let mut fields = Fields::at(path.to_owned(), block.clone())?;
    match fields.required_text("type")?.as_str() {
        "text" => Ok(Block::new(Kind::Text, fields.required_text("text")?)),
        "thinking" | "redacted_thinking" => Ok(thinking_block(block)),
        "tool_use" => {
            let (id, name) = (fields.required_text("id")?, fields.required_text("name")?);
            let input = fields.required("input")?;
            if !input.is_object() {
                return Err(fields.invalid("input", "expected an object"));
            }
            Ok(Block::new(Kind::Call { id, name }, input.to_string()))
        }
        other => Err(fields.unsupported("type", format!("no other API has a '{other}' block"))),
    }
}

pub(super) fn write(reply: Reply, options: &AnswerOptions) -> Value {
    let (reason, stop) = reply.finish.to_messages();
    let content: Vec<Value> = reply
        .blocks
        .iter()
        .map(|block| match &block.kind {
            Kind::Text | Kind::Refusal => json!({"type": "text", "text": block.text}),
            Kind::Thinking => json!({"type": "thinking", "thinking": block.text, "signature": block.signature}),
            Kind::Redacted { data } => json!({"type": "redacted_thinking", "data": data}),
            // Arguments that were cut off are no object; `max_tokens` says so.
            Kind::Call { id, name } => json!({
                "type": "tool_use", "id": id, "name": name,
                "input": parse_arguments(&block.text).unwrap_or_else(|| json!({})),
            }),
        })
        .collect();
    json!({
        "id": ids::answer("msg_", reply.id.as_deref(), &options.id),
        "type": "message",
        "role": "assistant",
        "model": options.model_or(reply.model),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop,
        "usage": reply.usage.unwrap_or_default().to_messages(),
    })
}

/// A message as a stream begins it.
pub(in crate::wire) fn opening(id: Option<&str>, model: Option<String>, options: &AnswerOptions) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("id".into(), ids::answer("msg_", id, &options.id).into());
    out.insert("type".into(), "message".into());
    out.insert("role".into(), "assistant".into());
    out.insert("model".into(), options.model_or(model).into());
    out.insert("content".into(), json!([]));
    out.insert("stop_reason".into(), Value::Null);
    out.insert("stop_sequence".into(), Value::Null);
    out
}
