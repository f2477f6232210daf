//! Whole answers of OpenAI's chat.

use serde_json::{Map, Value, json};

use crate::wire::answer::{Block, Finish, Kind, Reply};
use crate::wire::fields::{Fields, objects};
use crate::wire::probe::Usage;
use crate::wire::thinking::is_signed;
use crate::wire::{AnswerOptions, Api, WireError, ids};

pub(super) fn read(body: Value, options: &AnswerOptions) -> Result<Reply, WireError> {
    let mut body = Fields::body(body)?;
    let usage = body.take("usage").and_then(|usage| Usage::read(Api::Chat, &usage));
    let (id, model) = (body.text("id")?, body.text("model")?);
    let created = body.number("created")?.and_then(|n| n.as_u64());
    let mut choices = body.required_objects("choices")?;
    let Some(mut choice) = choices.pop().filter(|_| choices.is_empty()) else {
        return Err(WireError::answer("choices", "expected exactly one answer"));
    };
    let stop_reason = choice.take("stop_reason");
    let finish = Finish::of_chat(&choice.required_text("finish_reason")?, stop_reason.as_ref())?;
    let mut message = choice.required_object("message")?;
    let mut blocks = thoughts(&mut message)?;
    let has_thoughts = !blocks.is_empty();
    if let Some(content) = message.take("content") {
        let read = read_content(&message.path("content"), content)?;
        blocks.extend(read.into_iter().filter(|b| !(has_thoughts && b.kind == Kind::Thinking)));
    }
    if let Some(mut logprobs) = choice.object("logprobs")?
        && let Some(text) = blocks.iter_mut().find(|b| b.kind == Kind::Text)
    {
        text.logprobs = read_logprobs(&mut logprobs)?;
    }
    if let Some(refusal) = message.text("refusal")?.filter(|r| !r.is_empty()) {
        blocks.push(Block::new(Kind::Refusal, refusal));
    }
    let stem = ids::stem(id.as_deref(), &options.id).to_owned();
    for (i, mut call) in message.objects("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        let id = call.text("id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| ids::call(&stem, i));
        let mut function = call.required_object("function")?;
        let name = function.required_text("name")?;
        let arguments = match function.take("arguments") {
            None => String::new(),
            Some(Value::String(arguments)) => arguments,
            // Ollama's older form.
            Some(object @ Value::Object(_)) => object.to_string(),
            Some(_) => return Err(function.invalid("arguments", "expected a JSON object as text")),
        };
        blocks.push(Block::new(Kind::Call { id, name }, arguments));
    }
    Ok(Reply { id, model, created, blocks, finish, usage })
}

/// Log probabilities of tokens. Responses want the bytes of each, which chat servers may leave out.
pub(in crate::wire) fn read_logprobs(logprobs: &mut Fields) -> Result<Vec<Value>, WireError> {
    let mut list = logprobs.list("content")?.unwrap_or_default();
    for token in &mut list {
        fill_bytes(token);
        token.get_mut("top_logprobs").and_then(Value::as_array_mut).into_iter().flatten().for_each(fill_bytes);
    }
    Ok(list)
}

fn fill_bytes(token: &mut Value) {
    if let Some(object) = token.as_object_mut()
        && object.get("bytes").is_none_or(Value::is_null)
    {
        let text = object.get("token").and_then(Value::as_str).unwrap_or_default();
        let bytes = text.as_bytes().into();
        object.insert("bytes".into(), bytes);
    }
}

/// Signed blocks of thinking if there are any, else the plain text of it under either of its names.
fn thoughts(message: &mut Fields) -> Result<Vec<Block>, WireError> {
    let signed = message.list("thinking_blocks")?.unwrap_or_default();
    let plain = match message.text("reasoning_content")?.filter(|r| !r.is_empty()) {
        Some(plain) => Some(plain),
        // Other servers have other things under this name.
        None => message.take("reasoning").and_then(|r| Some(r.as_str()?.to_owned())).filter(|r| !r.is_empty()),
    };
    let blocks: Vec<Block> = signed.iter().filter(|b| is_signed(b)).map(thinking_block).collect();
    Ok(if blocks.is_empty() { plain.map(|p| Block::new(Kind::Thinking, p)).into_iter().collect() } else { blocks })
}

/// A block from Anthropic's form of it.
pub(in crate::wire) fn thinking_block(block: &Value) -> Block {
    let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if block.get("type").and_then(Value::as_str) == Some("redacted_thinking") {
        return Block::new(Kind::Redacted { data: text("data") }, "");
    }
    Block { signature: text("signature"), ..Block::new(Kind::Thinking, text("thinking")) }
}

/// Content of a message or a delta: a text, or parts as Mistral's thinking models have them. Neighbours of one kind are
/// one block, empty ones none.
pub(in crate::wire) fn read_content(path: &str, content: Value) -> Result<Vec<Block>, WireError> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut add = |kind: Kind, text: String| match blocks.last_mut() {
        _ if text.is_empty() => {}
        Some(last) if last.kind == kind => last.text.push_str(&text),
        _ => blocks.push(Block::new(kind, text)),
    };
    match content {
        Value::String(text) => add(Kind::Text, text),
        Value::Array(parts) => {
            for mut part in objects(path, parts)? {
                match part.required_text("type")?.as_str() {
                    "text" => add(Kind::Text, part.required_text("text")?),
                    "refusal" => add(Kind::Refusal, part.required_text("refusal")?),
                    "thinking" => {
                        for mut piece in part.objects("thinking")?.unwrap_or_default() {
                            add(Kind::Thinking, piece.text("text")?.unwrap_or_default());
                        }
                    }
                    other => return Err(part.unsupported("type", format!("'{other}' is no text"))),
                }
            }
        }
        _ => return Err(WireError::answer(path, "expected a string or an array of parts")),
    }
    Ok(blocks)
}

pub(super) fn write(reply: Reply, options: &AnswerOptions) -> Value {
    let mut message = Map::new();
    let (mut content, mut refusal, mut reasoning) = (None::<String>, None::<String>, String::new());
    let (mut calls, mut thoughts) = (Vec::new(), Vec::new());
    for block in reply.blocks {
        match block.kind {
            Kind::Text => content.get_or_insert_default().push_str(&block.text),
            Kind::Refusal => refusal.get_or_insert_default().push_str(&block.text),
            Kind::Thinking => {
                reasoning.push_str(&block.text);
                if !block.signature.is_empty() {
                    thoughts.push(json!({
                        "type": "thinking", "thinking": block.text, "signature": block.signature,
                    }));
                }
            }
            Kind::Redacted { data } => thoughts.push(json!({"type": "redacted_thinking", "data": data})),
            Kind::Call { id, name } => calls.push(json!({
                "id": id, "type": "function", "function": {"name": name, "arguments": block.text},
            })),
        }
    }
    message.insert("role".into(), "assistant".into());
    // An answer without any block is an empty text.
    let empty = (calls.is_empty() && refusal.is_none()).then(String::new);
    message.insert("content".into(), content.or(empty).into());
    message.insert("refusal".into(), refusal.into());
    if !reasoning.is_empty() {
        message.insert("reasoning_content".into(), reasoning.into());
    }
    if !thoughts.is_empty() {
        message.insert("thinking_blocks".into(), thoughts.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    let mut choice = Map::new();
    choice.insert("index".into(), 0.into());
    choice.insert("message".into(), message.into());
    choice.insert("logprobs".into(), Value::Null);
    choice.insert("finish_reason".into(), reply.finish.to_chat().into());
    if let Finish::StopSequence(stop) = reply.finish {
        choice.insert("stop_reason".into(), stop.into());
    }
    let mut out = Map::new();
    out.insert("id".into(), ids::answer("chatcmpl-", reply.id.as_deref(), &options.id).into());
    out.insert("object".into(), "chat.completion".into());
    out.insert("created".into(), reply.created.unwrap_or(options.created).into());
    out.insert("model".into(), options.model_or(reply.model).into());
    out.insert("choices".into(), json!([choice]));
    if let Some(usage) = reply.usage {
        out.insert("usage".into(), usage.to_chat());
    }
    out.into()
}
