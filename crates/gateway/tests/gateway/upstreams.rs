//! Answers from elsewhere: routes, translation, fallback, policy. The other end is a mock: a real HTTP server that misbehaves on command.

use std::collections::HashMap;
use std::path::Path;

use bantam_gateway::ConfigFile;
use bantam_providers::mock::{Mock, MockConfig};
use serde_json::{Value, json};

use crate::client::{Client, parse_events};
use crate::server::{MODEL, Options, Server, start_with};

pub(crate) async fn mock(recorded: &[(&str, &str)]) -> Mock {
    let recorded: HashMap<_, _> = recorded.iter().map(|(q, a)| (q.to_string(), a.to_string())).collect();
    Mock::start(MockConfig { recorded, keep: 16, ..MockConfig::default() }).await.unwrap()
}

pub(crate) fn file(mock: &Mock, more: &str) -> ConfigFile {
    let base = mock.base_url();
    let text = format!(
        r#"
        [[providers]]
        name = "there"
        preset = "mistral"
        base_url = "{base}/v1"
        region = "us"
        [[providers]]
        name = "claude"
        preset = "anthropic"
        base_url = "{base}"
        region = "eu"
        [[routes]]
        name = "big"
        targets = [{{ provider = "there", model = "gpt-big" }}]
        [[routes]]
        name = "other"
        targets = [{{ provider = "claude", model = "claude-big" }}]
        [[routes]]
        name = "failing"
        targets = [{{ provider = "there", model = "x+status=503" }}]
        fallback = ["{MODEL}"]
        {more}"#
    );
    ConfigFile::parse(&text, Path::new("bantam.toml")).unwrap()
}

pub(crate) async fn gateway(mock: &Mock, more: &str) -> (Server, Client) {
    let server = start_with(Options { file: file(mock, more), ..Options::default() }).await;
    let client = server.client().await;
    (server, client)
}

pub(crate) fn chat(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 24})
}

pub(crate) fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

/// Text of a stream's chunks.
pub(crate) fn text_of(events: &[Value]) -> String {
    events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn chat_goes_through_to_a_server_that_speaks_it() {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    let (_server, mut client) = gateway(&mock, "").await;
    let reply = client.post("/v1/chat/completions", chat("big", "Hi")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hello from there.");
    assert_eq!(reply.header("x-bantam-model"), Some("gpt-big"));
    assert_eq!(reply.header("x-bantam-provider"), Some("there"));

    let events = client.events("/v1/chat/completions", streamed(chat("big", "Hi"))).await;
    assert_eq!(text_of(&events), "Hello from there.");
    // The gateway asks for usage; a client that did not is not told.
    assert!(events.iter().all(|e| e["usage"].is_null() && !e["choices"].as_array().unwrap().is_empty()), "{events:?}");
    let seen: Value = serde_json::from_slice(&mock.seen()[1].body).unwrap();
    assert_eq!((&seen["model"], &seen["stream_options"]["include_usage"]), (&json!("gpt-big"), &json!(true)));
}

#[tokio::test]
async fn what_the_gateway_does_not_know_goes_through_as_it_is() {
    let mock = mock(&[]).await;
    let more = "[[providers]]\nname = \"new\"\npreset = \"openai\"\nbase_url = \"BASE/v1\"\n\
                [[routes]]\nname = \"newest\"\ntargets = [{ provider = \"new\", model = \"o9\" }]\n";
    let (_server, mut client) = gateway(&mock, &more.replace("BASE", &mock.base_url())).await;
    let body = |model: &str, max: &str, rest: &str| {
        format!(
            r#"{{"odd":[1,{{"a":null}}],"model":"{model}","{max}":5,"messages":[{{"role":"user","content":"Hi"}}]{rest}}}"#
        )
    };
    // The server's name for the field, and usage, which a client's own options do not take away.
    let usage = |more: &str| format!(r#","stream":true,"stream_options":{{{more}"include_usage":true}}"#);
    for (asked, rest, sent) in [
        ("max_tokens", String::new(), String::new()),
        ("max_completion_tokens", String::new(), String::new()),
        ("max_tokens", r#","stream":true"#.to_owned(), usage("")),
        ("max_tokens", r#","stream":true,"stream_options":{"x":1}"#.to_owned(), usage(r#""x":1,"#)),
        ("max_tokens", r#","stream":true,"stream_options":null"#.to_owned(), usage("")),
    ] {
        let reply = client.post("/v1/chat/completions", body("newest", asked, &rest)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let seen = mock.seen().pop().unwrap();
        assert_eq!(std::str::from_utf8(&seen.body).unwrap(), body("o9", "max_completion_tokens", &sent));
    }
}

#[tokio::test]
async fn every_surface_reaches_every_kind_of_server() {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    let (_server, mut client) = gateway(&mock, "").await;
    for model in ["big", "other", MODEL] {
        let message = json!({"model": model, "max_tokens": 24, "messages": [{"role": "user", "content": "Hi"}]});
        let reply = client.post("/v1/messages", message.clone()).await;
        assert_eq!(reply.status, 200, "{model}: {}", reply.body);
        let whole = reply.json();
        assert_eq!((&whole["type"], &whole["role"]), (&json!("message"), &json!("assistant")), "{whole}");
        let text = whole["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(model == MODEL || text == "Hello from there.", "{whole}");
        assert!(whole["usage"]["output_tokens"].as_u64().unwrap() > 0, "{whole}");

        let reply = client.post("/v1/messages", streamed(message)).await;
        let names: Vec<&str> = reply.body.lines().filter_map(|l| l.strip_prefix("event: ")).collect();
        assert_eq!((names[0], *names.last().unwrap()), ("message_start", "message_stop"), "{}", reply.body);

        let reply = client.post("/v1/responses", json!({"model": model, "input": "Hi", "max_output_tokens": 24})).await;
        assert_eq!(reply.status, 200, "{model}: {}", reply.body);
        let whole = reply.json();
        assert_eq!(whole["object"], "response", "{whole}");
        let reply = client.post("/v1/responses", json!({"model": model, "input": "Hi", "stream": true})).await;
        let last = reply.body.lines().rfind(|l| l.starts_with("event: ")).unwrap();
        // The toy only ends with its context.
        assert!(["event: response.completed", "event: response.incomplete"].contains(&last), "{}", reply.body);

        let reply = client.post("/v1/chat/completions", streamed(chat(model, "Hi"))).await;
        assert!(!text_of(&parse_events(&reply.body)).is_empty(), "{}", reply.body);
    }
}

#[tokio::test]
async fn errors_have_the_shape_of_the_surface() {
    let mock = mock(&[]).await;
    let (_server, mut client) = gateway(&mock, "").await;
    let reply = client.post("/v1/messages", json!({"model": "none", "max_tokens": 5, "messages": []})).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["type"]), (404, &json!("error")), "{}", reply.body);
    let reply =
        client.post("/v1/responses", json!({"model": "big", "input": "x", "previous_response_id": "resp_1"})).await;
    let (status, _, param, _) = reply.error();
    assert_eq!((status, param.as_deref()), (400, Some("previous_response_id")));
    let reply = client.post("/v1/chat/completions", chat("nothing", "x")).await;
    assert_eq!(reply.error().1, "model_not_found");
}

#[tokio::test]
async fn an_upstream_that_fails_is_stood_in_for() {
    let mock = mock(&[]).await;
    let (_server, mut client) = gateway(&mock, "").await;
    let reply = client.post("/v1/chat/completions", chat("failing", "Hi")).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-bantam-model")), (200, Some(MODEL)), "{}", reply.body);
}

#[tokio::test]
async fn broken_upstreams_are_typed_errors() {
    let mock = mock(&[]).await;
    let routes: String = ["html", "garbage", "close", "redirect", "cut=5", "broken", "page"]
        .iter()
        .map(|fault| {
            format!("[[routes]]\nname = \"{fault}\"\ntargets = [{{ provider = \"there\", model = \"m+{fault}\" }}]\n")
        })
        .collect();
    let (_server, mut client) = gateway(&mock, &routes).await;
    for fault in ["html", "garbage", "close", "redirect", "cut=5", "page"] {
        let reply = client.post("/v1/chat/completions", chat(fault, "Hi")).await;
        assert_eq!(reply.status, 502, "{fault}: {}", reply.body);
        assert!(
            ["no_upstream", "upstream_error", "upstream_invalid_answer"].contains(&&*reply.error().1),
            "{}",
            reply.body
        );
    }
    for fault in ["cut=5", "broken"] {
        let reply = client.post("/v1/chat/completions", streamed(chat(fault, "Hi"))).await;
        let last = parse_events(&reply.body).pop().unwrap();
        assert!(last["error"]["code"].is_string(), "{fault}: {}", reply.body);
        let reply = client
            .post(
                "/v1/messages",
                streamed(json!({"model": fault, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]})),
            )
            .await;
        assert!(reply.body.contains("event: error") && !reply.body.contains("message_stop"), "{fault}: {}", reply.body);
    }
}

const RULES: &str = r#"
    [auto]
    small = "toy"
    large = "big"
    [[policy.rules]]
    name = "mail is replaced"
    entities = ["EMAIL_ADDRESS"]
    then = "redact_then_allow"
    [[policy.rules]]
    name = "cards stay"
    entities = ["CREDIT_CARD"]
    region_not = ["eu"]
    then = "local_only"
    [[policy.rules]]
    name = "no secrets"
    entities = ["API_KEY"]
    then = "refuse"
"#;

#[tokio::test]
async fn personal_data_leaves_as_pseudonyms_and_comes_back() {
    let mock = mock(&[(
        "Write to <EMAIL_ADDRESS_1>, not <EMAIL_ADDRESS_2>!",
        "I wrote to <EMAIL_ADDRESS_1> today, <EMAIL_ADDRESS_2>",
    )])
    .await;
    let (_server, mut client) = gateway(&mock, RULES).await;
    let text = "Write to ada@example.org, not bob@example.org!";
    let expected = "I wrote to ada@example.org today, bob@example.org";
    for model in ["big", "other"] {
        let reply = client.post("/v1/chat/completions", chat(model, text)).await;
        assert_eq!(reply.json()["choices"][0]["message"]["content"], expected, "{}", reply.body);
        let events = client.events("/v1/chat/completions", streamed(chat(model, text))).await;
        assert_eq!(text_of(&events), expected);
        let message = json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}]});
        let reply = client.post("/v1/messages", message).await;
        assert_eq!(reply.json()["content"][0]["text"], expected, "{}", reply.body);
    }
    for seen in mock.seen() {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        assert!(!body.contains("example.org"), "{body}");
    }
}

#[tokio::test]
async fn rules_keep_requests_here_or_refuse_them() {
    let mock = mock(&[]).await;
    let (_server, mut client) = gateway(&mock, RULES).await;
    let card = "My card is 4111 1111 1111 1111.";
    // Outside the EU: the small model here answers instead.
    let reply = client.post("/v1/chat/completions", chat("big", card)).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-bantam-provider")), (200, Some("local")), "{}", reply.body);
    let reply = client.post("/v1/chat/completions", chat("auto", card)).await;
    assert_eq!(reply.header("x-bantam-provider"), Some("local"), "{}", reply.body);
    // Inside: it may go.
    let reply = client.post("/v1/chat/completions", chat("other", card)).await;
    assert_eq!(reply.header("x-bantam-provider"), Some("claude"), "{}", reply.body);
    assert_eq!(mock.stats().requests, 1);
    let key = format!(
        "The key is sk-ant-api03-{}",
        "Ab3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5hJ7kL9nP1rS3tV5xY7aB9cD1eF3gH5jK7mN9pQ1sT3vW5yZ7bC9-abcdeAA"
    );
    let reply = client.post("/v1/chat/completions", chat("big", &key)).await;
    assert_eq!(reply.error().1, "policy_refused", "{}", reply.body);
    assert_eq!(mock.stats().requests, 1);
}

#[tokio::test]
async fn another_configuration_is_taken_into_use() {
    let mock = mock(&[]).await;
    let (server, mut client) = gateway(&mock, "").await;
    assert_eq!(client.post("/v1/chat/completions", chat("new", "x")).await.status, 404);
    let more = "[[routes]]\nname = \"new\"\ntargets = [{ provider = \"there\", model = \"m\" }]";
    server.reload.send(file(&mock, more)).await.unwrap();
    for _ in 0..100 {
        if client.post("/v1/chat/completions", chat("new", "x")).await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the new route never came");
}

#[tokio::test]
async fn the_only_answer_that_a_grammar_allows_is_a_sure_one() {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    let (_server, mut client) = gateway(&mock, "[auto]\nsmall = \"toy\"\nlarge = \"big\"\ncascade = 1.0").await;
    let mut body = chat("auto", "Hi");
    body["max_tokens"] = 60.into();
    body["structured_outputs"] = json!({"choice": ["yes"]});
    let reply = client.post("/v1/chat/completions", body).await;
    assert_eq!(reply.header("x-bantam-provider"), Some("local"), "{}", reply.body);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "yes", "{}", reply.body);
}

#[tokio::test]
async fn an_unsure_answer_is_asked_of_the_large_model() {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    for (least, provider) in [(0.0, "local"), (1.0, "there")] {
        let more = format!("[auto]\nsmall = \"toy\"\nlarge = \"big\"\ncascade = {least}");
        let (_server, mut client) = gateway(&mock, &more).await;
        let mut body = chat("auto", "Hi");
        body["max_tokens"] = 400.into();
        let reply = client.post("/v1/chat/completions", body.clone()).await;
        assert_eq!(reply.header("x-bantam-provider"), Some(provider), "{}", reply.body);
        assert!(reply.json()["choices"][0]["logprobs"].is_null(), "{}", reply.body);
        let reply = client.post("/v1/chat/completions", streamed(body)).await;
        assert_eq!(reply.header("x-bantam-provider"), Some(provider), "{}", reply.body);
        parse_events(&reply.body);
    }
}
