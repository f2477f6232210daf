//! OpenAI's APIs as a mock speaks them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::behaviour::{Behaviour, MockFault};
use super::body::Event;
use super::script::{Asked, Script, ToolCall, pieces};

/// When everything was made: answers are the same whenever they are asked for.
const CREATED: u64 = 1_750_000_000;
const DIMENSIONS: usize = 16;
const MAX_DIMENSIONS: usize = 4096;

/// What a chat request asks for.
pub(super) fn chat_asked<'a>(body: &'a Value, model: &'a str) -> Asked<'a> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let user = messages.iter().rev().find(|message| message["role"] == "user");
    // After a tool's result it is time to answer.
    let answered = messages.last().is_some_and(|message| message["role"] == "tool");
    let choice = &body["tool_choice"];
    let named = choice["function"]["name"].as_str();
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let callable = tools.iter().filter(|_| !answered && choice != "none").filter_map(|tool| {
        let name = tool["function"]["name"].as_str().filter(|name| named.is_none_or(|named| named == *name))?;
        Some((name, &tool["function"]["parameters"]))
    });
    Asked {
        model,
        last_user_text: user.map(|message| text(&message["content"])).unwrap_or_default(),
        prompt_chars: messages.iter().map(|message| text(&message["content"]).chars().count()).sum(),
        max_tokens: body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()),
        tools: callable.collect(),
    }
}

/// What a completion request asks for.
pub(super) fn completion_asked<'a>(body: &'a Value, model: &'a str) -> Asked<'a> {
    let prompt = match &body["prompt"] {
        Value::String(prompt) => prompt.clone(),
        Value::Array(prompts) => prompts.first().and_then(Value::as_str).unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    Asked {
        model,
        prompt_chars: prompt.chars().count(),
        last_user_text: prompt,
        max_tokens: body["max_tokens"].as_u64(),
        tools: Vec::new(),
    }
}

/// The text of a message: a string, or the texts among its parts.
pub(super) fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn usage(script: &Script) -> Value {
    let usage = script.usage;
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    })
}

fn finish(script: &Script) -> &'static str {
    if !script.calls.is_empty() {
        "tool_calls"
    } else if script.cut_short {
        "length"
    } else {
        "stop"
    }
}

/// Every token has the same log-probability, where a chat request asks for them.
const LOGPROB: f64 = -0.1;

fn logprobs(request: &Value, tokens: &[String]) -> Value {
    if request["logprobs"] != true {
        return Value::Null;
    }
    let token =
        |token: &String| json!({"token": token, "logprob": LOGPROB, "bytes": token.as_bytes(), "top_logprobs": []});
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
}

pub(super) fn chat(script: &Script, request: &Value) -> Value {
    let call = |call: &ToolCall| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
    let mut message = json!({"role": "assistant", "content": script.text()});
    if !script.calls.is_empty() {
        message["content"] = Value::Null;
        message["tool_calls"] = script.calls.iter().map(call).collect();
    }
    json!({
        "id": format!("chatcmpl-{:016x}", script.id),
        "object": "chat.completion",
        "created": CREATED,
        "model": script.model,
        "choices": [{"index": 0, "message": message, "logprobs": logprobs(request, &script.tokens), "finish_reason": finish(script)}],
        "usage": usage(script),
    })
}

pub(super) fn chat_events(script: &Script, behaviour: &Behaviour, request: &Value) -> Vec<Event> {
    let with_usage = request["stream_options"]["include_usage"] == true;
    let chunk = |delta: Value, finish: Option<&str>| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{:016x}", script.id),
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": script.model,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
        });
        if with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let mut events = vec![Event::data(&chunk(json!({"role": "assistant", "content": ""}), None))];
    for token in &script.tokens {
        let logprobs = logprobs(request, std::slice::from_ref(token));
        let token = if behaviour.stamp { Event::STAMP } else { token };
        let mut chunk = chunk(json!({"content": token}), None);
        chunk["choices"][0]["logprobs"] = logprobs;
        events.push(Event::data(&chunk).token());
    }
    for delta in call_deltas(&script.calls, behaviour.fault) {
        events.push(Event::data(&chunk(json!({"tool_calls": [delta]}), None)).token());
    }
    events.push(Event::data(&chunk(json!({}), Some(finish(script)))));
    if with_usage {
        let mut last = chunk(json!({}), None);
        last["choices"] = json!([]);
        last["usage"] = usage(script);
        events.push(Event::data(&last));
    }
    events.push(Event::done());
    events
}

fn call_deltas(calls: &[ToolCall], fault: Option<MockFault>) -> Vec<Value> {
    let per_call = calls.iter().enumerate().map(|(index, call)| {
        let head = json!({"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}});
        let rest = pieces(&call.arguments).into_iter().map(|piece| json!({"index": index, "function": {"arguments": piece}}));
        std::iter::once(head).chain(rest).collect::<Vec<_>>()
    });
    match fault {
        Some(MockFault::Duplicate) => per_call.flatten().flat_map(|delta| [delta.clone(), delta]).collect(),
        Some(MockFault::Reorder) => in_turn(per_call.collect()),
        _ => per_call.flatten().collect(),
    }
}

/// The first of the last list, the first of the one before, and so on; then the second ones.
fn in_turn(lists: Vec<Vec<Value>>) -> Vec<Value> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| lists.iter().rev().filter_map(move |list| list.get(i).cloned())).collect()
}

pub(super) fn completion(script: &Script) -> Value {
    json!({
        "id": format!("cmpl-{:016x}", script.id),
        "object": "text_completion",
        "created": CREATED,
        "model": script.model,
        "choices": [{"index": 0, "text": script.text(), "logprobs": null, "finish_reason": finish(script)}],
        "usage": usage(script),
    })
}

pub(super) fn completion_events(script: &Script, behaviour: &Behaviour, request: &Value) -> Vec<Event> {
    let chunk = |text: &str, finish: Option<&str>| {
        json!({
            "id": format!("cmpl-{:016x}", script.id),
            "object": "text_completion",
            "created": CREATED,
            "model": script.model,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}],
        })
    };
    let mut events: Vec<Event> = script
        .tokens
        .iter()
        .map(|token| {
            let token = if behaviour.stamp { Event::STAMP } else { token };
            Event::data(&chunk(token, None)).token()
        })
        .collect();
    events.push(Event::data(&chunk("", Some(finish(script)))));
    if request["stream_options"]["include_usage"] == true {
        let mut last = chunk("", None);
        last["choices"] = json!([]);
        last["usage"] = usage(script);
        events.push(Event::data(&last));
    }
    events.push(Event::done());
    events
}

pub(super) fn embeddings(request: &Value, model: &str) -> Value {
    let texts: Vec<String> = match &request["input"] {
        Value::Array(texts) => {
            texts.iter().map(|text| text.as_str().map_or_else(|| text.to_string(), str::to_owned)).collect()
        }
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    };
    let wanted = request["dimensions"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(DIMENSIONS);
    let base64 = request["encoding_format"] == "base64";
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = vector(text, wanted.clamp(1, MAX_DIMENSIONS));
        let embedding = if base64 {
            Value::from(STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
        } else {
            Value::from(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let tokens: usize = texts.iter().map(|text| text.chars().count().div_ceil(4)).sum();
    json!({
        "object": "list",
        "model": model,
        "data": data.collect::<Vec<_>>(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// A unit vector that a text always has.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let seed = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut random = fastrand::Rng::with_seed(seed);
    let raw: Vec<f32> = (0..dimensions).map(|_| random.f32() - 0.5).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.iter().map(|x| x / norm).collect()
}

pub(super) fn models() -> Value {
    json!({"object": "list", "data": [{"id": "mock", "object": "model", "created": CREATED, "owned_by": "bantam"}]})
}

pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}
