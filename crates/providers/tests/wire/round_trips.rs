//! What both APIs can say survives the way there and back, and a stream says what the whole answer says.

use bantam_providers::wire::{Api, Outcome, SseEvent, Stream, request, response};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::streams::options;

fn text() -> impl Strategy<Value = String> {
    "[a-zäß🌦\"\\\\ \n{}<>]{1,12}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z_]{1,8}"
}

fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|m| m.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(text(), data(), 0..4).prop_map(|m| m.into_iter().collect::<Map<_, _>>().into())
}

/// Text of a message: a string, or parts of more than one.
fn content() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        text().prop_map(|t| json!({"type": "text", "text": t})),
        "[A-Za-z0-9+/]{4}"
            .prop_map(|d| json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{d}")}})),
        name().prop_map(|n| json!({"type": "image_url", "image_url": {"url": format!("https://x.org/{n}")}})),
    ];
    prop_oneof![text().prop_map(Value::from), prop::collection::vec(part, 2..4).prop_map(Value::from)]
}

/// A question, an answer with calls, and their results.
fn turn() -> impl Strategy<Value = Vec<Value>> {
    (content(), prop::option::of(text()), prop::collection::vec((name(), object(), text()), 0..3)).prop_map(
        |(question, said, calls)| {
            let mut out = vec![json!({"role": "user", "content": question})];
            let mut answer = json!({"role": "assistant", "content": said});
            if calls.is_empty() {
                answer["content"] = said.unwrap_or_else(|| "x".into()).into();
                out.push(answer);
                return out;
            }
            let call = |(i, (name, arguments, _)): (usize, &(String, Value, String))| {
                json!({"id": format!("call_{i}"), "type": "function",
                       "function": {"name": name, "arguments": arguments.to_string()}})
            };
            answer["tool_calls"] = calls.iter().enumerate().map(call).collect();
            out.push(answer);
            for (i, (.., result)) in calls.iter().enumerate() {
                out.push(json!({"role": "tool", "tool_call_id": format!("call_{i}"), "content": result}));
            }
            // Someone must speak between a result and the next question, or both are one message of Anthropic's.
            out.push(json!({"role": "assistant", "content": "I see."}));
            out
        },
    )
}

fn chat_request() -> impl Strategy<Value = Value> {
    let tool = (name(), prop::option::of(text()), object()).prop_map(|(name, description, parameters)| {
        let mut function = json!({"name": name});
        if let Some(description) = description {
            function["description"] = description.into();
        }
        function["parameters"] = parameters;
        json!({"type": "function", "function": function})
    });
    let choice = prop_oneof![
        Just(json!("auto")),
        Just(json!("required")),
        Just(json!("none")),
        name().prop_map(|n| json!({"type": "function", "function": {"name": n}})),
    ];
    (
        prop::option::of(text()),
        prop::collection::vec(turn(), 1..4),
        prop::collection::vec(tool, 1..3),
        prop::option::of(choice),
        prop::collection::vec(text(), 0..3),
        (1_u32..9999, prop::option::of(0_u8..=8), prop::option::of(name())),
    )
        .prop_map(|(system, turns, tools, choice, stop, (max_tokens, temperature, user))| {
            let mut messages: Vec<Value> =
                system.map(|s| json!({"role": "system", "content": s})).into_iter().collect();
            messages.extend(turns.into_iter().flatten());
            let mut body = json!({"model": "m", "messages": messages, "max_tokens": max_tokens, "tools": tools});
            if let Some(temperature) = temperature {
                body["temperature"] = (f64::from(temperature) / 8.0).into();
            }
            if let Some(choice) = choice {
                body["tool_choice"] = choice;
            }
            if !stop.is_empty() {
                body["stop"] = stop.into();
            }
            if let Some(user) = user {
                body["user"] = user.into();
            }
            body
        })
}

/// An answer of a chat server, and the chunks that it would come in.
fn chat_answer() -> impl Strategy<Value = (Value, Vec<Value>)> {
    (
        prop::option::of(text()),
        prop::option::of(text()),
        prop::collection::vec((name(), object()), 0..4),
        prop_oneof![Just("stop"), Just("length"), Just("content_filter")],
        prop::option::of((0_u64..1000, 0_u64..1000, 0_u64..1000, 0_u64..1000)),
        1_usize..5,
    )
        .prop_map(|(thought, said, calls, finish, usage, step)| {
            let finish = if finish == "stop" && !calls.is_empty() { "tool_calls" } else { finish };
            let mut message = json!({"role": "assistant", "content": said});
            let mut deltas = vec![json!({"role": "assistant", "content": ""})];
            let mut pieces = |text: &str, of: &dyn Fn(String) -> Value| {
                let chars: Vec<char> = text.chars().collect();
                deltas.extend(chars.chunks(step).map(|piece| of(piece.iter().collect())));
            };
            if let Some(thought) = thought {
                pieces(&thought, &|piece| json!({"reasoning_content": piece}));
                message["reasoning_content"] = thought.into();
            }
            pieces(said.as_deref().unwrap_or_default(), &|piece| json!({"content": piece}));
            let mut whole = Vec::new();
            for (i, (name, arguments)) in calls.iter().enumerate() {
                let arguments = arguments.to_string();
                whole.push(json!({"id": format!("c{i}"), "type": "function", "function": {"name": name, "arguments": arguments}}));
                let head = json!({"tool_calls": [{"index": i, "id": format!("c{i}"), "type": "function",
                                                  "function": {"name": name, "arguments": ""}}]});
                pieces("x", &|_| head.clone());
                pieces(&arguments, &|piece| json!({"tool_calls": [{"index": i, "function": {"arguments": piece}}]}));
            }
            if !whole.is_empty() {
                message["tool_calls"] = whole.into();
            }
            let chunk = |delta: Value, finish: Value| {
                json!({"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 3, "model": "m",
                       "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]})
            };
            let mut chunks: Vec<Value> = deltas.into_iter().map(|delta| chunk(delta, Value::Null)).collect();
            chunks.push(chunk(json!({}), finish.into()));
            let mut answer = json!({"id": "chatcmpl-7", "object": "chat.completion", "created": 3, "model": "m",
                "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}]});
            if let Some((fresh, cached, completion, reasoning)) = usage {
                let usage = json!({
                    "prompt_tokens": fresh + cached, "completion_tokens": completion + reasoning,
                    "total_tokens": fresh + cached + completion + reasoning,
                    "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": reasoning},
                });
                chunks.push(json!({"id": "chatcmpl-7", "choices": [], "usage": usage}));
                answer["usage"] = usage;
            }
            (answer, chunks)
        })
}

fn stream(chunks: &[Value], from: Api, to: Api) -> Vec<SseEvent> {
    let mut stream = Stream::new(from, to, options()).unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        stream.push(&SseEvent::data(chunk.to_string()), &mut out).unwrap();
    }
    if from == Api::Chat {
        stream.push(&SseEvent::data("[DONE]"), &mut out).unwrap();
    }
    stream.finish().unwrap();
    assert_eq!(stream.outcome(), &Outcome::Complete);
    out
}

fn values(events: &[SseEvent]) -> Vec<Value> {
    events.iter().filter(|e| e.data != "[DONE]").map(|e| serde_json::from_str(&e.data).unwrap()).collect()
}

/// Puts Anthropic's events together as its client does.
pub(crate) fn message_of(events: &[SseEvent]) -> Value {
    let mut message = Value::Null;
    let mut inputs = Vec::new();
    for event in values(events) {
        let index = event["index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
                inputs.push(String::new());
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                let block = &mut message["content"][index];
                let mut append = |key: &str| {
                    block[key] = format!("{}{}", block[key].as_str().unwrap(), delta[key].as_str().unwrap()).into();
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => append("text"),
                    "thinking_delta" => append("thinking"),
                    "signature_delta" => block["signature"] = delta["signature"].clone(),
                    _ => inputs[index].push_str(delta["partial_json"].as_str().unwrap()),
                }
            }
            "content_block_stop" => {
                if !inputs[index].is_empty() {
                    message["content"][index]["input"] = serde_json::from_str(&inputs[index]).unwrap();
                }
            }
            "message_delta" => {
                for key in ["stop_reason", "stop_sequence"] {
                    message[key] = event["delta"][key].clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => {}
            other => panic!("{other}"),
        }
    }
    message
}

/// Anthropic's events for a message, as its servers cut it.
fn events_of(message: &Value, step: usize) -> Vec<Value> {
    let mut start = message.clone();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    let mut out = vec![json!({"type": "message_start", "message": start}), json!({"type": "ping"})];
    for (index, block) in message["content"].as_array().unwrap().iter().enumerate() {
        let (field, delta, text, empty) = match block["type"].as_str().unwrap() {
            "text" => ("text", "text_delta", block["text"].as_str().unwrap().to_owned(), json!("")),
            "thinking" => ("thinking", "thinking_delta", block["thinking"].as_str().unwrap().to_owned(), json!("")),
            _ => ("input", "input_json_delta", block["input"].to_string(), json!({})),
        };
        let mut head = block.clone();
        head[field] = empty;
        out.push(json!({"type": "content_block_start", "index": index, "content_block": head}));
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(step) {
            let key = if field == "input" { "partial_json" } else { field };
            let piece: String = piece.iter().collect();
            out.push(json!({"type": "content_block_delta", "index": index, "delta": {"type": delta, key: piece}}));
        }
        out.push(json!({"type": "content_block_stop", "index": index}));
    }
    out.push(json!({"type": "message_delta", "usage": message["usage"],
                    "delta": {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}}));
    out.push(json!({"type": "message_stop"}));
    out
}

/// Puts chunks together as OpenAI's client does.
pub(crate) fn completion_of(events: &[SseEvent]) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null});
    let (mut finish, mut usage) = (Value::Null, Value::Null);
    for chunk in values(events) {
        if !chunk["usage"].is_null() {
            usage = chunk["usage"].clone();
        }
        let Some(choice) = chunk["choices"].get(0) else { continue };
        finish = choice["finish_reason"].clone();
        for (key, value) in choice["delta"].as_object().unwrap() {
            match key.as_str() {
                "tool_calls" => {
                    let call = &value[0];
                    let calls = message.as_object_mut().unwrap().entry("tool_calls").or_insert_with(|| json!([]));
                    let index = call["index"].as_u64().unwrap() as usize;
                    if calls.get(index).is_none() {
                        let mut call = call.clone();
                        call.as_object_mut().unwrap().shift_remove("index");
                        calls.as_array_mut().unwrap().push(call);
                    } else {
                        let old = calls[index]["function"]["arguments"].as_str().unwrap();
                        let joined = format!("{old}{}", call["function"]["arguments"].as_str().unwrap());
                        calls[index]["function"]["arguments"] = joined.into();
                    }
                }
                "thinking_blocks" => {
                    let blocks = message.as_object_mut().unwrap().entry(key).or_insert_with(|| json!([]));
                    blocks.as_array_mut().unwrap().extend(value.as_array().unwrap().iter().cloned());
                }
                "role" => {}
                _ if value.as_str().is_none_or(str::is_empty) => {}
                _ => {
                    let old = message.get(key).and_then(Value::as_str).unwrap_or_default();
                    message[key] = format!("{old}{}", value.as_str().unwrap()).into();
                }
            }
        }
    }
    json!({"message": message, "finish_reason": finish, "usage": usage})
}

/// The same of a whole answer.
fn completion(whole: &Value) -> Value {
    let choice = &whole["choices"][0];
    let mut message = choice["message"].clone();
    if message["content"] == "" {
        message["content"] = Value::Null;
    }
    json!({"message": message, "finish_reason": choice["finish_reason"],
           "usage": whole.get("usage").cloned().unwrap_or_default()})
}

/// The output of a response, with the messages and calls of the whole one: their order is that of chat's fields.
pub(crate) fn response_of(events: &[SseEvent]) -> Value {
    values(events).pop().unwrap()["response"].clone()
}

proptest! {
    #[test]
    fn requests_come_back(body in chat_request()) {
        let there = request(body.clone(), Api::Chat, Api::Messages).unwrap();
        prop_assert_eq!(request(there, Api::Messages, Api::Chat).unwrap(), body);
    }

    #[test]
    fn answers_come_back((body, _) in chat_answer()) {
        let there = response(body.clone(), Api::Chat, Api::Messages, &options()).unwrap();
        let back = response(there, Api::Messages, Api::Chat, &options()).unwrap();
        let (mut back, mut body) = (completion(&back), completion(&body));
        // Anthropic's answers always tell the usage.
        if body["usage"].is_null() {
            prop_assert_eq!(&back["usage"]["total_tokens"], 0);
            (back["usage"], body["usage"]) = (Value::Null, Value::Null);
        }
        body["message"]["refusal"] = Value::Null;
        prop_assert_eq!(back, body);
    }

    #[test]
    fn a_chat_stream_says_what_the_whole_says((body, chunks) in chat_answer()) {
        let whole = response(body.clone(), Api::Chat, Api::Messages, &options()).unwrap();
        prop_assert_eq!(message_of(&stream(&chunks, Api::Chat, Api::Messages)), whole);
        let whole = response(body, Api::Chat, Api::Responses, &options()).unwrap();
        prop_assert_eq!(response_of(&stream(&chunks, Api::Chat, Api::Responses)), whole);
    }

    #[test]
    fn a_messages_stream_says_what_the_whole_says((body, _) in chat_answer(), step in 1_usize..5) {
        let mut message = response(body, Api::Chat, Api::Messages, &options()).unwrap();
        if let Some(block) = message["content"].as_array_mut().unwrap().iter_mut().find(|b| b["type"] == "thinking") {
            block["signature"] = "sig".into();
        }
        let mut events = events_of(&message, step);
        if message["content"][0]["type"] == "thinking" {
            let stop = events.iter().position(|e| e["type"] == "content_block_stop").unwrap();
            events[2]["content_block"]["signature"] = "".into();
            events.insert(stop, json!({"type": "content_block_delta", "index": 0,
                                       "delta": {"type": "signature_delta", "signature": "sig"}}));
        }
        let whole = response(message.clone(), Api::Messages, Api::Chat, &options()).unwrap();
        prop_assert_eq!(completion_of(&stream(&events, Api::Messages, Api::Chat)), completion(&whole));
        let whole = response(message, Api::Messages, Api::Responses, &options()).unwrap();
        prop_assert_eq!(response_of(&stream(&events, Api::Messages, Api::Responses)), whole);
    }

    /// However parallel calls are mixed, each comes out whole.
    #[test]
    fn mixed_calls_come_out_whole(
        calls in prop::collection::vec((name(), object()), 1..4),
        order in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let arguments: Vec<Vec<char>> = calls.iter().map(|(_, a)| a.to_string().chars().collect()).collect();
        let mut at = vec![0; calls.len()];
        let mut chunks = Vec::new();
        let delta = |call: Value| json!({"id": "1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
        let mut order = order.iter().cycle();
        while let Some(open) = Some((0..calls.len()).filter(|i| at[*i] <= arguments[*i].len()).collect::<Vec<_>>()).filter(|o| !o.is_empty()) {
            let i = open[order.next().unwrap().index(open.len())];
            chunks.push(delta(if at[i] == 0 {
                json!({"index": i, "id": format!("c{i}"), "function": {"name": calls[i].0, "arguments": ""}})
            } else {
                json!({"index": i, "function": {"arguments": arguments[i][at[i] - 1].to_string()}})
            }));
            at[i] += 1;
        }
        chunks.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}));
        let message = message_of(&stream(&chunks, Api::Chat, Api::Messages));
        let mut got: Vec<(String, Value)> = message["content"].as_array().unwrap().iter()
            .map(|b| (b["id"].as_str().unwrap().to_owned(), b["input"].clone())).collect();
        got.sort_by(|a, b| a.0.cmp(&b.0));
        let expected: Vec<(String, Value)> = calls.into_iter().enumerate().map(|(i, (_, a))| (format!("c{i}"), a)).collect();
        prop_assert_eq!(got, expected);
    }
}
