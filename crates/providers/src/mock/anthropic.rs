//! Anthropic's messages as a mock speaks them.

use serde_json::{Value, json};

use super::behaviour::{Behaviour, MockFault};
use super::body::Event;
use super::openai::text;
use super::script::{Asked, Script, ToolCall, pieces};

/// What a request asks for.
pub(super) fn asked<'a>(body: &'a Value, model: &'a str) -> Asked<'a> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let spoken = |message: &&Value| message["role"] == "user" && !text(&message["content"]).is_empty();
    let results = |message: &Value| {
        let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        parts.iter().any(|part| part["type"] == "tool_result")
    };
    let answered = messages.last().is_some_and(results);
    let choice = &body["tool_choice"];
    let named = choice["name"].as_str();
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let callable = tools.iter().filter(|_| !answered && choice["type"] != "none").filter_map(|tool| {
        let name = tool["name"].as_str().filter(|name| named.is_none_or(|named| named == *name))?;
        Some((name, &tool["input_schema"]))
    });
    let read: usize = messages.iter().map(|message| text(&message["content"]).chars().count()).sum();
    Asked {
        model,
        last_user_text: messages.iter().rev().find(spoken).map(|message| text(&message["content"])).unwrap_or_default(),
        prompt_chars: read + text(&body["system"]).chars().count(),
        max_tokens: body["max_tokens"].as_u64(),
        tools: callable.collect(),
    }
}

fn stop_reason(script: &Script) -> &'static str {
    if !script.calls.is_empty() {
        "tool_use"
    } else if script.cut_short {
        "max_tokens"
    } else {
        "end_turn"
    }
}

fn message(script: &Script, content: Vec<Value>, stop: Option<&str>, completion: u64) -> Value {
    json!({
        "id": format!("msg_{:016x}", script.id),
        "type": "message",
        "role": "assistant",
        "model": script.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": null,
        "usage": {"input_tokens": script.usage.prompt, "output_tokens": completion},
    })
}

fn call_block(call: &ToolCall, input: Value) -> Value {
    json!({"type": "tool_use", "id": call.id.replace("call_", "toolu_"), "name": call.name, "input": input})
}

pub(super) fn messages(script: &Script) -> Value {
    let content = if script.calls.is_empty() {
        vec![json!({"type": "text", "text": script.text()})]
    } else {
        let input = |call: &ToolCall| serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
        script.calls.iter().map(|call| call_block(call, input(call))).collect()
    };
    message(script, content, Some(stop_reason(script)), script.usage.completion)
}

pub(super) fn events(script: &Script, behaviour: &Behaviour) -> Vec<Event> {
    let mut events = vec![Event::named("message_start", &json!({"message": message(script, Vec::new(), None, 1)}))];
    if script.calls.is_empty() {
        events.push(start(0, json!({"type": "text", "text": ""})));
        events.push(Event::named("ping", &json!({})));
        for token in &script.tokens {
            let token = if behaviour.stamp { Event::STAMP } else { token };
            events.push(delta(0, json!({"type": "text_delta", "text": token})));
        }
        events.push(Event::named("content_block_stop", &json!({"index": 0})));
    }
    for (index, call) in script.calls.iter().enumerate() {
        events.push(start(index, call_block(call, json!({}))));
        for piece in pieces(&call.arguments) {
            let piece = json!({"type": "input_json_delta", "partial_json": piece});
            if behaviour.fault == Some(MockFault::Duplicate) {
                events.push(delta(index, piece.clone()));
            }
            events.push(delta(index, piece));
        }
        events.push(Event::named("content_block_stop", &json!({"index": index})));
    }
    if behaviour.fault == Some(MockFault::Reorder) {
        // Everything between the message's start and its end, backwards.
        events[1..].reverse();
    }
    let stop = json!({"stop_reason": stop_reason(script), "stop_sequence": null});
    let usage = json!({"output_tokens": script.usage.completion});
    events.push(Event::named("message_delta", &json!({"delta": stop, "usage": usage})));
    events.push(Event::named("message_stop", &json!({})));
    events
}

fn start(index: usize, block: Value) -> Event {
    Event::named("content_block_start", &json!({"index": index, "content_block": block}))
}

fn delta(index: usize, delta: Value) -> Event {
    Event::named("content_block_delta", &json!({"index": index, "delta": delta})).token()
}

pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}
