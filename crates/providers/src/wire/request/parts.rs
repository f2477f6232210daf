//! Pieces of content that both directions need.

use serde_json::{Map, Value, json};

use crate::wire::WireError;
use crate::wire::fields::Fields;

/// A list of chat parts as `content`: one plain text is a string, which every server takes.
pub(super) fn chat_content(mut parts: Vec<Value>) -> Value {
    match parts.as_mut_slice() {
        [] => Value::String(String::new()),
        [only] if is_plain_text(only) => only["text"].take(),
        _ => Value::Array(parts),
    }
}

/// A list of Anthropic's blocks as `content` or `system`.
pub(super) fn block_content(blocks: Vec<Value>) -> Value {
    chat_content(blocks)
}

fn is_plain_text(part: &Value) -> bool {
    part.as_object().is_some_and(|p| p.len() == 2)
        && part.get("type").and_then(Value::as_str) == Some("text")
        && part.get("text").is_some_and(Value::is_string)
}

/// A text as a chat part or an Anthropic block, which look the same.
pub(super) fn text(text: impl Into<String>) -> Value {
    json!({"type": "text", "text": text.into()})
}

/// A text with whatever else stood beside it.
pub(super) fn text_of(mut part: Fields) -> Result<Value, WireError> {
    let mut out = Map::new();
    out.insert("type".into(), "text".into());
    out.insert("text".into(), part.required_text("text")?.into());
    part.pass_rest(&mut out);
    Ok(out.into())
}

/// Media type and base64 text of a `data:` URL; absent for other URLs.
pub(super) fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some((media_type.split(';').next()?, data))
}
