//! What a model thought, and how it finds its way back to the server that signed it.
//!
//! Anthropic's servers want their thinking back, word for word and with its signature. Chat has no place for it, so it
//! travels as most gateways have it: the text as `reasoning_content`, the blocks as `thinking_blocks`. In Responses it
//! is the summary of a reasoning item, and `encrypted_content` holds the signature after a prefix that tells it from
//! what OpenAI's servers encrypt.

use serde_json::{Value, json};

use super::Api;

const SIGNATURE: &str = "anthropic-signature:";
const REDACTED: &str = "anthropic-redacted:";

/// The `encrypted_content` of a reasoning item.
pub(super) fn seal_signature(signature: &str) -> String {
    format!("{SIGNATURE}{signature}")
}

/// The `encrypted_content` of a reasoning item whose text the server withholds.
pub(super) fn seal_redacted(data: &str) -> String {
    format!("{REDACTED}{data}")
}

/// Anthropic's block from a reasoning item's text and `encrypted_content`, if it came from there.
pub(super) fn unseal(text: &str, encrypted: &str) -> Option<Value> {
    if let Some(signature) = encrypted.strip_prefix(SIGNATURE) {
        Some(json!({"type": "thinking", "thinking": text, "signature": signature}))
    } else {
        encrypted.strip_prefix(REDACTED).map(|data| json!({"type": "redacted_thinking", "data": data}))
    }
}

/// Whether a block of thinking was signed by a server of Anthropic's; others would refuse or not understand it.
pub(super) fn is_signed(block: &Value) -> bool {
    let filled = |key: &str| block.get(key).and_then(Value::as_str).is_some_and(|s| !s.is_empty());
    match block.get("type").and_then(Value::as_str) {
        Some("thinking") => filled("signature"),
        Some("redacted_thinking") => filled("data"),
        _ => false,
    }
}

/// Takes out of a conversation's history what was thought by a server of another kind than the one it goes to now.
pub(super) fn forget_foreign(api: Api, body: &mut Value) {
    match api {
        Api::Messages => {
            for message in body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(content) = message.get_mut("content").and_then(Value::as_array_mut) {
                    content.retain(|b| b.get("type").and_then(Value::as_str) != Some("thinking") || is_signed(b));
                }
            }
        }
        Api::Responses => {
            if let Some(input) = body.get_mut("input").and_then(Value::as_array_mut) {
                input.retain(|item| {
                    let encrypted = item.get("encrypted_content").and_then(Value::as_str).unwrap_or_default();
                    !encrypted.starts_with(SIGNATURE) && !encrypted.starts_with(REDACTED)
                });
            }
        }
        _ => {}
    }
}
