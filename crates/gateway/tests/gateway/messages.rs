//! What only Anthropic's API has: a field that is required, a count of tokens, errors of a shape of their own.

use hyper::Request;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{BASE_MODEL, ENCODER, MODEL};
use crate::upstreams::{gateway, mock};

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "How many tokens are these?"}]})
}

/// `(status, type, message)` of an error in Anthropic's shape.
#[track_caller]
fn error(reply: &Reply) -> (u16, String, String) {
    let body = reply.json();
    assert_eq!((&body["type"], body.as_object().unwrap().len()), (&json!("error"), 2), "{body}");
    let text = |key: &str| body["error"][key].as_str().unwrap().to_owned();
    (reply.status.as_u16(), text("type"), text("message"))
}

#[tokio::test]
async fn max_tokens_is_required_whoever_answers() {
    let mock = mock(&[]).await;
    let (_server, mut client) = gateway(&mock, "").await;
    for model in ["big", "other", MODEL] {
        for given in [json!({}), json!({"max_tokens": null}), json!({"stream": true})] {
            let mut body = ask(model);
            body.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
            let (status, kind, message) = error(&client.post(MESSAGES, body).await);
            assert_eq!((status, &*kind), (400, "invalid_request_error"), "{model}");
            assert!(message.contains("'max_tokens'"), "{message}");
        }
    }
    assert_eq!(mock.stats().requests, 0);
}

#[tokio::test]
async fn tokens_are_counted_as_an_answer_counts_them() {
    let mock = mock(&[]).await;
    let (_server, mut client) = gateway(&mock, "[auto]\nsmall = \"toy\"\nlarge = \"big\"").await;
    for system in [json!(null), json!("Be brief."), json!([{"type": "text", "text": "Be brief, and kind."}])] {
        let mut body = ask(MODEL);
        if !system.is_null() {
            body["system"] = system;
        }
        let reply = client.post(COUNT, body.clone()).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        body["max_tokens"] = 1.into();
        let answer = client.post(MESSAGES, body).await.json();
        let usage = ["input_tokens", "cache_read_input_tokens"].map(|key| answer["usage"][key].as_u64().unwrap_or(0));
        assert_eq!(reply.json(), json!({"input_tokens": usage.iter().sum::<u64>()}), "{answer}");
    }
    for (model, status, kind) in [
        ("big", 404, "not_found_error"),
        ("auto", 404, "not_found_error"),
        ("none", 404, "not_found_error"),
        (ENCODER, 400, "invalid_request_error"),
        (BASE_MODEL, 400, "invalid_request_error"),
    ] {
        let (is, of, message) = error(&client.post(COUNT, ask(model)).await);
        assert_eq!((is, &*of), (status, kind), "{model}: {message}");
        assert!(message.contains(&format!("'{model}'")), "{message}");
    }
    assert_eq!(error(&client.post(COUNT, json!({"model": MODEL, "messages": 5})).await).0, 400);
    assert_eq!(mock.stats().requests, 0);
}

#[tokio::test]
async fn unknown_paths_and_methods_have_the_shape_of_their_api() {
    let mock = mock(&[]).await;
    let (_server, mut client) = gateway(&mock, "").await;
    for path in ["/v1/messages/batches", "/v1/messages/batches/msgbatch_1/results", "/v1/messages/"] {
        let (status, kind, message) = error(&client.get(path).await);
        assert_eq!((status, &*kind), (404, "not_found_error"));
        assert!(message.contains(path), "{message}");
    }
    for path in [MESSAGES, COUNT] {
        let request = Request::delete(path).body(http_body_util::Full::default()).unwrap();
        let reply = client.reply(request).await;
        assert_eq!((error(&reply).0, reply.header("allow")), (405, Some("POST")));
    }
    for path in ["/v1/messagesx", "/v1/chat/none"] {
        assert_eq!(client.get(path).await.error().1, "unknown_url");
    }
}
