//! Server-sent events: the same answers, piece by piece.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::answers::{chat, completion};
use crate::client::{parse_events, post};
use crate::server::{Options, start, start_with};
use crate::toy::POISON;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn streamed(mut body: Value, extra: Value) -> Value {
    let fields = body.as_object_mut().unwrap();
    fields.insert("stream".into(), true.into());
    fields.extend(extra.as_object().unwrap().clone());
    body
}

/// Puts the pieces of one choice together: text, logprobs entries, finish reason.
fn assemble(events: &[Value], index: usize) -> (String, Vec<Value>, Value) {
    let mut text = String::new();
    let mut logprobs = Vec::new();
    let mut finish = Value::Null;
    for choice in events.iter().flat_map(|e| e["choices"].as_array().unwrap()).filter(|c| c["index"] == index) {
        assert_eq!(finish, Value::Null, "something follows the end of a choice");
        text.push_str(choice["delta"]["content"].as_str().or(choice["text"].as_str()).unwrap_or_default());
        if let Some(content) = choice["logprobs"]["content"].as_array() {
            logprobs.extend(content.iter().cloned());
        }
        if let Some(tokens) = choice["logprobs"]["tokens"].as_array() {
            for i in 0..tokens.len() {
                let l = &choice["logprobs"];
                logprobs.push(json!([
                    l["tokens"][i],
                    l["token_logprobs"][i],
                    l["top_logprobs"][i],
                    l["text_offset"][i]
                ]));
            }
        }
        finish = choice["finish_reason"].clone();
    }
    (text, logprobs, finish)
}

#[tokio::test]
async fn a_stream_put_together_is_the_whole_answer() {
    let server = start().await;
    let mut client = server.client().await;
    let full = client.post(CHAT, chat(json!({ "max_tokens": 40 }))).await.json();
    let stop = full["choices"][0]["message"]["content"].as_str().unwrap()[10..13].to_string();
    for extra in [
        json!({}),
        json!({ "n": 3, "temperature": 1, "seed": 11 }),
        json!({ "max_tokens": 40, "stop": stop }),
        json!({ "logit_bias": { "195": 100 }, "max_tokens": 7 }),
        json!({ "logit_bias": { "33": 100 } }),
        json!({ "max_tokens": 1 }),
    ] {
        let mut logprobs = json!({ "logprobs": true, "top_logprobs": 2 });
        logprobs.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        for extra in [extra, logprobs] {
            let whole = client.post(CHAT, chat(extra.clone())).await.json();
            let events = client.events(CHAT, streamed(chat(extra.clone()), json!({}))).await;
            for choice in whole["choices"].as_array().unwrap() {
                let (text, logprobs, finish) = assemble(&events, choice["index"].as_u64().unwrap() as usize);
                assert_eq!(choice["message"]["content"], text, "{extra}");
                assert_eq!(choice["finish_reason"], finish, "{extra}");
                let expected = choice["logprobs"]["content"].as_array().cloned().unwrap_or_default();
                assert_eq!(logprobs, expected, "{extra}");
            }
        }
    }
}

#[tokio::test]
async fn a_streamed_completion_is_the_whole_completion() {
    let server = start().await;
    let mut client = server.client().await;
    for extra in [
        json!({ "prompt": ["abc", "de"], "n": 2, "temperature": 1, "seed": 4 }),
        json!({ "echo": true, "prompt": ["abc", "de"] }),
        json!({ "logprobs": 2 }),
        json!({ "logprobs": 0, "logit_bias": { "195": 100 }, "max_tokens": 5 }),
    ] {
        let whole = client.post(COMPLETIONS, completion(extra.clone())).await.json();
        let events = client.events(COMPLETIONS, streamed(completion(extra.clone()), json!({}))).await;
        for choice in whole["choices"].as_array().unwrap() {
            let (text, logprobs, finish) = assemble(&events, choice["index"].as_u64().unwrap() as usize);
            assert_eq!(choice["text"], text, "{extra}");
            assert_eq!(choice["finish_reason"], finish, "{extra}");
            if let Some(tokens) = choice["logprobs"]["tokens"].as_array() {
                let l = &choice["logprobs"];
                let entry =
                    |i: usize| json!([tokens[i], l["token_logprobs"][i], l["top_logprobs"][i], l["text_offset"][i]]);
                assert_eq!(logprobs, (0..tokens.len()).map(entry).collect::<Vec<_>>(), "{extra}");
            }
        }
    }
}

#[tokio::test]
async fn chunks_have_openais_shape() {
    let server = start().await;
    let mut client = server.client().await;
    let events = client.events(CHAT, streamed(chat(json!({})), json!({}))).await;
    let first = &events[0];
    let keys: Vec<_> = first.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "object", "created", "model", "system_fingerprint", "choices"]);
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(first["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    for event in &events {
        for field in ["id", "created", "model", "system_fingerprint"] {
            assert_eq!(event[field], first[field]);
        }
    }
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "length" }]));
}

#[tokio::test]
async fn usage_comes_last_when_asked_for() {
    let server = start().await;
    let mut client = server.client().await;
    for (path, body) in [(CHAT, chat(json!({ "n": 2 }))), (COMPLETIONS, completion(json!({ "n": 2 })))] {
        let whole = client.post(path, &body).await.json();
        let asked = streamed(body.clone(), json!({ "stream_options": { "include_usage": true } }));
        let events = client.events(path, asked).await;
        let (last, before) = events.split_last().unwrap();
        assert_eq!(last["choices"], json!([]));
        for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][field], whole["usage"][field]);
        }
        for event in before {
            assert_eq!(event.get("usage"), Some(&Value::Null));
        }
        let events = client.events(path, streamed(body, json!({}))).await;
        assert!(events.iter().all(|e| e.get("usage").is_none()));
    }
}

#[tokio::test]
async fn tokens_arrive_as_they_are_made() {
    let server = start_with(Options { step_time: Duration::from_millis(30), ..Options::default() }).await;
    let mut client = server.client().await;
    let response = client.send(post(CHAT, streamed(chat(json!({})), json!({})))).await;
    let mut body = response.into_body();
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        frames += usize::from(frame.unwrap().is_data());
    }
    assert!(frames >= 12, "12 tokens came in {frames} pieces");
}

#[tokio::test]
async fn an_error_after_the_start_is_an_event() {
    let server = start().await;
    let mut client = server.client().await;
    let messages = json!([{ "role": "user", "content": POISON }]);
    let events = client.events(CHAT, streamed(chat(json!({ "messages": messages })), json!({}))).await;
    let error = &events.last().unwrap()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("model_error")));
    // The connection is as good as before.
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_silent_stream_has_a_heartbeat() {
    let mut options = Options { step_time: Duration::from_millis(300), ..Options::default() };
    options.gateway.timeouts.heartbeat = Duration::from_millis(50);
    let server = start_with(options).await;
    let reply = server.client().await.post(CHAT, streamed(chat(json!({ "max_tokens": 2 })), json!({}))).await;
    assert!(reply.body.contains("\n\n: waiting\n\n"), "{}", reply.body);
    assert_eq!(assemble(&parse_events(&reply.body), 0).0.len(), 2);
}

#[tokio::test]
async fn a_stream_that_takes_too_long_ends_with_an_error() {
    let mut options = Options { step_time: Duration::from_millis(50), ..Options::default() };
    options.gateway.timeouts.request = Duration::from_millis(400);
    let server = start_with(options).await;
    let mut client = server.client().await;
    let events = client.events(CHAT, streamed(chat(json!({ "max_tokens": 400 })), json!({}))).await;
    assert_eq!(events.last().unwrap()["error"]["code"], "request_timeout");
    assert!(events.len() > 2, "what was there in time was sent");
    server.idle().await;
    let reply = client.post(CHAT, chat(json!({ "max_tokens": 400 }))).await;
    assert_eq!(reply.error().0, 504);
    server.idle().await;
}
