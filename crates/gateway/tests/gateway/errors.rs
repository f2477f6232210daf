//! Every fault is typed: status, code, and the field it blames.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};

use crate::answers::{chat, completion};
use crate::client::post;
use crate::server::{BASE_MODEL, MODEL, Options, start, start_with};
use crate::toy::{BOMB, POISON};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn user(content: impl Into<Value>) -> Value {
    json!({ "messages": [{ "role": "user", "content": content.into() }] })
}

#[tokio::test]
async fn bad_chat_requests_name_their_field() {
    let server = start().await;
    // One connection for all: an error leaves it usable.
    let mut client = server.client().await;
    for (extra, code, param) in [
        (json!({ "model": "gpt-4" }), "model_not_found", "model"),
        (json!({ "model": null }), "missing_required_parameter", "model"),
        (json!({ "model": 5 }), "invalid_value", "model"),
        (json!({ "model": BASE_MODEL }), "no_chat_template", "model"),
        (json!({ "messages": null }), "invalid_value", "messages"),
        (json!({ "messages": [] }), "invalid_value", "messages"),
        (json!({ "messages": "hello" }), "invalid_value", "messages"),
        (json!({ "messages": [{ "content": "x" }] }), "invalid_value", "messages[0].role"),
        (json!({ "messages": [{ "role": "wizard", "content": "x" }] }), "invalid_value", "messages[0].role"),
        (json!({ "messages": [{ "role": "user" }] }), "invalid_value", "messages[0].content"),
        (json!({ "messages": [{ "role": "function", "content": "x" }] }), "chat_template_error", "messages"),
        (user(5), "invalid_value", "messages[0].content"),
        (user(json!([{ "type": "text" }])), "invalid_value", "messages[0].content[0].text"),
        (
            user(json!([{ "type": "text", "text": "x" }, { "type": "image_url", "image_url": { "url": "x" } }])),
            "unsupported_parameter",
            "messages[0].content[1].type",
        ),
        (user(json!([{ "type": "input_audio" }])), "unsupported_parameter", "messages[0].content[0].type"),
        (user("x".repeat(600)), "context_length_exceeded", "messages"),
        (json!({ "temperature": -0.1 }), "invalid_value", "temperature"),
        (json!({ "temperature": 2.1 }), "invalid_value", "temperature"),
        (json!({ "temperature": 1e300 }), "invalid_value", "temperature"),
        (json!({ "temperature": "0.5" }), "invalid_value", "temperature"),
        (json!({ "top_p": 0 }), "invalid_value", "top_p"),
        (json!({ "top_p": 1.5 }), "invalid_value", "top_p"),
        (json!({ "top_k": -2 }), "invalid_value", "top_k"),
        (json!({ "min_p": -1 }), "invalid_value", "min_p"),
        (json!({ "repetition_penalty": 0 }), "invalid_value", "repetition_penalty"),
        (json!({ "repetition_penalty": 1e300 }), "invalid_value", "repetition_penalty"),
        (json!({ "presence_penalty": 2.5 }), "invalid_value", "presence_penalty"),
        (json!({ "frequency_penalty": -3 }), "invalid_value", "frequency_penalty"),
        (json!({ "logit_bias": { "97": 101 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "260": 1 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "x": 1 } }), "invalid_value", "logit_bias.x"),
        (json!({ "logit_bias": { "-1": 1 } }), "invalid_value", "logit_bias.-1"),
        (json!({ "logit_bias": { "97": "1" } }), "invalid_value", "logit_bias.97"),
        (json!({ "max_tokens": 0 }), "invalid_value", "max_tokens"),
        (json!({ "max_tokens": -5 }), "invalid_value", "max_tokens"),
        (json!({ "max_tokens": 1.5 }), "invalid_value", "max_tokens"),
        (json!({ "max_completion_tokens": -5 }), "invalid_value", "max_completion_tokens"),
        (json!({ "n": 0 }), "invalid_value", "n"),
        (json!({ "n": -1 }), "invalid_value", "n"),
        (json!({ "n": 129 }), "invalid_value", "n"),
        (json!({ "n": i64::MAX }), "invalid_value", "n"),
        (json!({ "seed": 1.5 }), "invalid_value", "seed"),
        (json!({ "seed": 1e30 }), "invalid_value", "seed"),
        (json!({ "stop": "" }), "invalid_value", "stop"),
        (json!({ "stop": vec!["x"; 17] }), "invalid_value", "stop"),
        (json!({ "stop": ["x".repeat(5000)] }), "invalid_value", "stop"),
        (json!({ "stop": ["x", 1] }), "invalid_value", "stop[1]"),
        (json!({ "stop_token_ids": [-1] }), "invalid_value", "stop_token_ids[0]"),
        (json!({ "stop_token_ids": [260] }), "invalid_value", "stop_token_ids"),
        (json!({ "stream": "yes" }), "invalid_value", "stream"),
        (json!({ "stream_options": 3 }), "invalid_value", "stream_options"),
        (json!({ "logprobs": 3 }), "invalid_value", "logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "invalid_value", "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": -1 }), "invalid_value", "top_logprobs"),
        (json!({ "top_logprobs": 2 }), "invalid_value", "top_logprobs"),
        (json!({ "tools": [{ "type": "function" }] }), "invalid_value", "tools[0].function"),
        (json!({ "tool_choice": "auto" }), "invalid_value", "tool_choice"),
        (json!({ "functions": [{}] }), "unsupported_parameter", "functions"),
        (json!({ "function_call": "auto" }), "unsupported_parameter", "function_call"),
        (json!({ "response_format": "text" }), "invalid_value", "response_format"),
        (json!({ "modalities": ["text", "audio"] }), "unsupported_parameter", "modalities"),
        (json!({ "audio": { "voice": "x" } }), "unsupported_parameter", "audio"),
        (json!({ "web_search_options": {} }), "unsupported_parameter", "web_search_options"),
    ] {
        let body = chat(extra.clone());
        let (status, got_code, got_param, message) = client.post(CHAT, body).await.error();
        let expected = if code == "model_not_found" { 404 } else { 400 };
        assert_eq!(
            (status, got_code.as_str(), got_param.as_deref()),
            (expected, code, Some(param)),
            "{extra}: {message}"
        );
        assert!(message.len() > 10, "{message}");
    }
    server.idle().await;
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn bad_completion_requests_name_their_field() {
    let server = start().await;
    let mut client = server.client().await;
    for (extra, code, param) in [
        (json!({ "model": "gpt-4" }), "model_not_found", "model"),
        (json!({ "prompt": null }), "invalid_value", "prompt"),
        (json!({ "prompt": "" }), "invalid_value", "prompt"),
        (json!({ "prompt": [] }), "invalid_value", "prompt"),
        (json!({ "prompt": ["a", 1] }), "invalid_value", "prompt"),
        (json!({ "prompt": [[1], []] }), "invalid_value", "prompt"),
        (json!({ "prompt": [-1] }), "invalid_value", "prompt[0]"),
        (json!({ "prompt": [1, 260] }), "invalid_value", "prompt[1]"),
        (json!({ "prompt": [[1], [2, 4294967296u64]] }), "invalid_value", "prompt[1][1]"),
        (json!({ "prompt": "x".repeat(512) }), "context_length_exceeded", "prompt"),
        (json!({ "prompt": vec!["x"; 65], "n": 2 }), "invalid_value", "n"),
        (json!({ "logprobs": 6 }), "invalid_value", "logprobs"),
        (json!({ "logprobs": -1 }), "invalid_value", "logprobs"),
        (json!({ "logprobs": true }), "invalid_value", "logprobs"),
        (json!({ "echo": true, "logprobs": 1 }), "unsupported_parameter", "echo"),
        (json!({ "suffix": "the end" }), "unsupported_parameter", "suffix"),
        (json!({ "best_of": 3 }), "unsupported_parameter", "best_of"),
        (json!({ "max_tokens": 0 }), "invalid_value", "max_tokens"),
    ] {
        let body = completion(extra.clone());
        let (status, got_code, got_param, message) = client.post(COMPLETIONS, body).await.error();
        let expected = if code == "model_not_found" { 404 } else { 400 };
        assert_eq!(
            (status, got_code.as_str(), got_param.as_deref()),
            (expected, code, Some(param)),
            "{extra}: {message}"
        );
    }
    server.idle().await;
}

#[tokio::test]
async fn an_unknown_model_error_names_those_served() {
    let server = start().await;
    let mut client = server.client().await;
    let (.., message) = client.post(CHAT, chat(json!({ "model": "gpt-4" }))).await.error();
    for name in ["gpt-4", MODEL, BASE_MODEL] {
        assert!(message.contains(&format!("'{name}'")), "{message}");
    }
    let (status, code, param, _) = client.get("/v1/models/gpt-4").await.error();
    assert_eq!((status, code.as_str(), param.as_deref()), (404, "model_not_found", Some("model")));
}

#[tokio::test]
async fn what_is_not_json_is_told_so_with_its_position() {
    let server = start().await;
    let mut client = server.client().await;
    let deep = format!(r#"{{"model":"toy","messages":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    for body in ["", "{", "not json", r#"{"model": "toy",}"#, r#"{"temperature": NaN}"#, r#"{"top_p": 1e999}"#, &deep] {
        let (status, code, param, message) = client.post(CHAT, body).await.error();
        assert_eq!((status, code.as_str(), param), (400, "invalid_json", None), "{message}");
        assert!(message.contains("line 1 column"), "{message}");
    }
    for body in ["[]", "3", "null", "\"x\""] {
        assert_eq!(client.post(CHAT, body).await.error().1, "invalid_json");
    }
}

#[tokio::test]
async fn routes_methods_and_media_types() {
    let server = start().await;
    let mut client = server.client().await;
    let (status, code, _, message) = client.get("/v1/nothing").await.error();
    assert_eq!((status, code.as_str()), (404, "unknown_url"));
    assert!(message.contains("GET /v1/nothing"));
    assert_eq!(client.post("/v2/chat/completions", "{}").await.error().0, 404);
    let reply = client.get(CHAT).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (405, "method_not_allowed"));
    assert_eq!(reply.header("allow"), Some("POST"));
    assert_eq!(client.post("/v1/models", "{}").await.error().0, 405);
    let body = || Full::from(Bytes::from(chat(json!({})).to_string()));
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")]
    {
        let mut request = Request::post(CHAT);
        if let Some(t) = content_type {
            request = request.header("content-type", t);
        }
        let reply = client.reply(request.body(body()).unwrap()).await;
        assert_eq!((reply.error().0, reply.error().1.as_str()), (415, "unsupported_media_type"));
    }
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let request = Request::post(CHAT).header("content-type", content_type).body(body()).unwrap();
        assert_eq!(client.reply(request).await.status, 200);
    }
    let mut request = post(CHAT, chat(json!({})));
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let (status, _, _, message) = client.reply(request).await.error();
    assert!(status == 415 && message.contains("gzip"), "{message}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_connection_stays() {
    let server = start().await;
    let mut client = server.client().await;
    let huge = chat(json!({ "messages": [{ "role": "user", "content": "x".repeat(10_000_000) }] })).to_string();
    for _ in 0..2 {
        let (status, code, _, message) = client.post(CHAT, &huge).await.error();
        assert_eq!((status, code.as_str()), (413, "request_too_large"));
        assert!(message.contains("4194304"), "{message}");
        assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
    }
    // Within the limit, but far over the context.
    let long = chat(json!({ "messages": [{ "role": "user", "content": "x".repeat(3_000_000) }] }));
    let (status, code, _, message) = client.post(CHAT, &long).await.error();
    assert_eq!((status, code.as_str()), (400, "context_length_exceeded"));
    assert!(message.contains("512 tokens") && message.contains("3000019"), "{message}");
}

#[tokio::test]
async fn a_model_that_fails_fails_one_request() {
    let server = start().await;
    let mut client = server.client().await;
    let other = tokio::spawn({
        let mut client = server.client().await;
        async move { client.post(CHAT, chat(json!({ "max_tokens": 200 }))).await }
    });
    let reply = client.post(CHAT, chat(user(POISON))).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (500, "model_error"));
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!(other.await.unwrap().status, 200);
    let reply = client.post(CHAT, chat(user(BOMB))).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (500, "model_error"));
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let mut options = Options { step_time: Duration::from_millis(20), ..Options::default() };
    options.engine.max_sequences = 1;
    options.engine.queue_len = 1;
    let server = start_with(options).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = server.client().await;
        let body = chat(json!({ "max_tokens": 50 }));
        busy.push(tokio::spawn(async move { client.post(CHAT, body).await }));
        let n = busy.len();
        server.wait("busy engine", || server.engine.stats().running + server.engine.stats().waiting == n).await;
        server.wait("running request", || server.engine.stats().running == 1).await;
    }
    let mut client = server.client().await;
    for stream in [false, true] {
        let reply = client.post(CHAT, chat(json!({ "stream": stream }))).await;
        assert_eq!((reply.error().0, reply.error().1.as_str()), (429, "queue_full"));
        assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    for answer in busy {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    // Two choices do not fit where one does: all or nothing.
    server.idle().await;
    assert_eq!(client.post(CHAT, chat(json!({ "n": 4 }))).await.error().0, 429);
    server.idle().await;
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn too_many_requests_at_one_time() {
    let mut options = Options { step_time: Duration::from_millis(20), ..Options::default() };
    options.gateway.limits.concurrent_requests = 1;
    let server = start_with(options).await;
    let mut first = server.client().await;
    let answer = first.send(post(CHAT, chat(json!({ "stream": true, "max_tokens": 100 })))).await;
    let mut second = server.client().await;
    let reply = second.post(CHAT, chat(json!({}))).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (429, "too_many_requests"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    // Other routes are open.
    assert_eq!(second.get("/healthz").await.status, 200);
    drop(answer);
    drop(first);
    for _ in 0..200 {
        if second.post(CHAT, chat(json!({}))).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place of the client that left was not given back");
}

#[tokio::test]
async fn memory_for_bodies_is_shared_out() {
    let mut options = Options::default();
    options.gateway.limits.body_bytes = 10_000;
    options.gateway.limits.buffered_bytes = 10_000;
    let server = start_with(options).await;
    // One client has sent most of a body and keeps the rest.
    let mut slow = crate::connections::Raw::connect(server.address).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n";
    slow.write(head.as_bytes()).await;
    slow.write(&[b' '; 8000]).await;
    let mut client = server.client().await;
    let long = chat(json!({ "user": "x".repeat(5000) }));
    let mut refused = false;
    for _ in 0..100 {
        let reply = client.post(CHAT, &long).await;
        refused = reply.status == 429;
        if refused {
            assert_eq!(reply.error().1, "too_many_requests");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused);
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200, "a short body still fits");
    drop(slow);
    for _ in 0..100 {
        if client.post(CHAT, &long).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the memory of the client that left was not given back");
}

#[tokio::test]
async fn small_requests_do_not_wait_for_large_ones() {
    let server = start().await;
    let large = chat(json!({ "messages": [{ "role": "user", "content": "large ".repeat(600_000) }] })).to_string();
    let many: Vec<_> = (0..6)
        .map(|_| {
            let (address, large) = (server.address, large.clone());
            tokio::spawn(async move { crate::client::Client::connect(address).await.post(CHAT, large).await.status })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut client = server.client().await;
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
    assert!(many.iter().any(|m| !m.is_finished()), "the small one had nothing to wait for");
    for answer in many {
        assert_eq!(answer.await.unwrap(), 400);
    }
}
