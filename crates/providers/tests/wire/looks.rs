//! What is seen in bodies and events without changing them: texts, counts, errors.

use std::time::Duration;

use bantam_providers::wire::probe::{Asked, Probe, Said, Usage, for_each_logprob};
use bantam_providers::wire::texts::{Extent, Kind, Part, Place, for_each_text};
use bantam_providers::wire::{
    Api, ApiFault, Stream, UpstreamError, WireError, error_body, error_event, upstream_error,
};
use serde_json::{Value, json};

use crate::streams::{STREAMS, options};

fn texts(value: &Value, part: Part) -> Vec<(Kind, String)> {
    let mut value = value.clone();
    let mut out = Vec::new();
    for_each_text(&mut value, part, &mut |place, text| out.push((place.kind, text.clone())));
    out
}

#[test]
fn what_was_said_is_counted_once() {
    let chunk = |delta: Value| json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    let call = json!({"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    let block = |text: &str| json!({"type": "output_text", "text": text});
    let response =
        json!({"output": [{"type": "message", "id": "msg", "content": [block("Hello")]}], "instructions": "Be brief"});
    // Bytes of what was said in each, a token for every four.
    let cases = [
        (Api::Chat, chunk(json!({"role": "assistant", "content": ""})), 0),
        (Api::Chat, chunk(json!({"content": "Hi"})), 1),
        (Api::Chat, chunk(json!({"content": "\u{e9}\n\"12345678"})), 3),
        (
            Api::Chat,
            chunk(json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hmmmm"}]}]})),
            2,
        ),
        (
            Api::Chat,
            chunk(json!({"reasoning": "Hmmm", "reasoning_details": [{"type": "reasoning.text", "text": "Hmmm"}]})),
            1,
        ),
        (Api::Chat, chunk(json!({"tool_calls": [call]})), 2),
        (Api::Chat, json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}), 0),
        (
            Api::Completions,
            json!({"choices": [{"text": "Hello", "logprobs": {"tokens": ["Hello"], "content": [{"text": "Hello"}]}}]}),
            2,
        ),
        (Api::Messages, json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}}), 2),
        (
            Api::Messages,
            json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{\"a\""}}),
            1,
        ),
        (
            Api::Messages,
            json!({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "abcdefgh"}}),
            0,
        ),
        (Api::Responses, json!({"type": "response.output_text.delta", "delta": "Hello", "item_id": "msg"}), 2),
        (Api::Responses, json!({"type": "response.output_text.done", "text": "Hello", "item_id": "msg"}), 0),
        (Api::Responses, json!({"type": "response.completed", "response": response}), 0),
    ];
    for (api, event, tokens) in cases {
        let mut said = Said::default();
        said.event(api, &event.to_string()).unwrap();
        assert_eq!((said.tokens(), said.bytes()), (tokens, event.to_string().len() as u64), "{event}");
    }
    let whole = json!({"content": [{"type": "text", "text": "Hello"},
        {"type": "tool_use", "name": "f", "id": "t", "input": {"city": "Ulm", "days": [1, "two"]}}]});
    for (api, body, tokens) in [(Api::Messages, whole, 5), (Api::Responses, response, 2)] {
        let mut said = Said::default();
        said.body(api, body.to_string().as_bytes()).unwrap();
        assert_eq!(said.tokens(), tokens, "{body}");
    }
    for bad in ["", "{", "{\"content\": \"a\"} b", "{\"content\": \"\u{1}\"}"] {
        assert!(Said::default().event(Api::Chat, bad).is_err(), "{bad}");
    }
    // A piece has a token, however short it is.
    let mut said = Said::default();
    (0..10).for_each(|_| said.event(Api::Chat, &chunk(json!({"content": "a"})).to_string()).unwrap());
    assert_eq!(said.tokens(), 10);
}

#[test]
fn log_probabilities_are_found_where_each_api_has_them() {
    let tokens = json!([{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}, {"token": "b", "logprob": -2}]);
    let part = json!({"type": "output_text", "text": "ab", "logprobs": tokens});
    let delta = |kind: &str| json!({"type": kind, "delta": "ab", "logprobs": tokens});
    let choice = |logprobs: Value| json!({"choices": [{"index": 0, "logprobs": logprobs}]});
    for (api, answer, known) in [
        (Api::Chat, choice(json!({"content": tokens})), true),
        (Api::Chat, choice(Value::Null), false),
        (Api::Completions, choice(json!({"tokens": ["a", "b"], "token_logprobs": [-0.5, -2.0]})), true),
        (Api::Responses, json!({"output": [{"type": "message", "content": [part]}]}), true),
        (Api::Responses, delta("response.output_text.delta"), true),
        // It was told before.
        (Api::Responses, delta("response.output_text.done"), false),
        (Api::Messages, json!({"content": [part]}), false),
    ] {
        let mut found = Vec::new();
        for_each_logprob(api, &answer, &mut |logprob| found.push(logprob));
        assert_eq!(found, if known { vec![-0.5, -2.0] } else { vec![] }, "{answer}");
    }
}

#[test]
fn every_text_of_a_request_is_shown_and_can_be_changed() {
    use Kind::{
        Assistant, Description, Identity, Other, SignedReasoning, System, ToolArguments, ToolResult, Url, User,
    };
    let chat = json!({
        "model": "m", "user": "ann", "stop": ["S"], "metadata": {"k": "note"},
        "messages": [
            {"role": "system", "content": "sys"},
            {"role": "user", "name": "bob", "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://x.org"}}]},
            {"role": "assistant", "content": "ok", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"to\":[\"a\\\"b\"],\"n\":1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "res"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "what",
            "parameters": {"type": "object", "properties": {"to": {"type": "string", "description": "whom"}}}}}],
        "a_new_field": {"deep": ["x"]},
    });
    let expected = [
        (Identity, "ann"),
        (Other, "S"),
        (Identity, "note"),
        (System, "sys"),
        (Identity, "bob"),
        (User, "hi"),
        (Url, "https://x.org"),
        (Assistant, "ok"),
        (ToolArguments, "a\"b"),
        (ToolResult, "res"),
        (Description, "what"),
        (Description, "whom"),
        (Other, "x"),
    ];
    let got = texts(&chat, Part::Request(Api::Chat));
    assert_eq!(got.iter().map(|(k, t)| (*k, t.as_str())).collect::<Vec<_>>(), expected);

    let messages = json!({
        "system": [{"type": "text", "text": "sys", "cache_control": {"type": "ephemeral"}}],
        "metadata": {"user_id": "u"},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"name": "ann", "type": "x"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "res"}]},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "doc"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
        ],
    });
    let mut cache = texts(&messages, Part::Request(Api::Messages));
    cache.retain(|(_, text)| text != "ephemeral");
    assert_eq!(
        cache.iter().map(|(k, t)| (*k, t.as_str())).collect::<Vec<_>>(),
        [
            (System, "sys"),
            (Identity, "u"),
            (User, "hi"),
            (SignedReasoning, "hm"),
            (ToolArguments, "ann"),
            (ToolArguments, "x"),
            (ToolResult, "res"),
            (User, "doc")
        ]
    );

    let responses = json!({"instructions": "sys", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":\"b\"}"},
        {"type": "function_call_output", "call_id": "c", "output": "res"}]});
    assert_eq!(
        texts(&responses, Part::Request(Api::Responses)).iter().map(|(k, t)| (*k, t.as_str())).collect::<Vec<_>>(),
        [(System, "sys"), (User, "hi"), (ToolArguments, "b"), (ToolResult, "res")]
    );
    for (api, body) in [(Api::Completions, json!({"prompt": ["a"]})), (Api::Embeddings, json!({"input": ["a"]}))] {
        assert_eq!(texts(&body, Part::Request(api)), [(User, "a".to_owned())]);
    }

    // What is put into arguments is escaped.
    let mut changed = chat;
    for_each_text(&mut changed, Part::Request(Api::Chat), &mut |place: Place, text| {
        if place.kind == ToolArguments {
            *text = "\"\n".into();
        }
    });
    let arguments = changed["messages"][2]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), json!({"to": ["\"\n"], "n": 1}));
}

/// The pieces that are shown of a stream put together are the texts that are shown of the whole answer.
#[test]
fn texts_of_events_are_those_of_the_answer() {
    for (name, from, bytes) in STREAMS {
        for to in [Api::Chat, Api::Messages, Api::Responses].into_iter().filter(|to| to.can_reach(from)) {
            let (events, _) = crate::streams::translate([bytes.as_bytes()], from, to);
            let mut slots: Vec<((Kind, u64), String)> = Vec::new();
            for event in events.iter().filter(|e| e.data != "[DONE]") {
                let mut value: Value = serde_json::from_str(&event.data).unwrap();
                for_each_text(&mut value, Part::Event(to), &mut |place, text| {
                    if place.extent == Extent::Whole {
                        return;
                    }
                    assert_eq!(place.extent == Extent::JsonDelta, place.kind == Kind::ToolArguments);
                    let key = (place.kind, place.slot);
                    match slots.iter_mut().find(|(k, _)| *k == key) {
                        Some((_, all)) => all.push_str(text),
                        None => slots.push((key, text.clone())),
                    }
                });
            }
            slots.retain(|(_, text)| !text.is_empty());
            let expected = match (name, to) {
                // Anthropic sends no pieces of empty arguments.
                ("messages_tools", Api::Messages) | ("chat_tools", _) => 3,
                ("messages_stop_sequence", _) => 1,
                _ => 4,
            };
            assert_eq!(slots.len(), expected, "{name} to {to}: {slots:?}");
            for ((kind, _), text) in &slots {
                assert_eq!(
                    *kind == Kind::ToolArguments,
                    serde_json::from_str::<Value>(text).is_ok_and(|v| v.is_object())
                );
            }
        }
    }
}

#[test]
fn counts_are_the_same_in_every_api() {
    let usage = Usage { prompt: 583, completion: 89, cached: 100, cache_written: 11, reasoning: 0 };
    for to in [Api::Chat, Api::Messages, Api::Responses] {
        let (_, from, bytes) = STREAMS[0];
        let (events, _) = crate::streams::translate([bytes.as_bytes()], from, to);
        let mut probe = Probe::default();
        events.iter().for_each(|event| probe.raw_event(to, event));
        assert_eq!(probe.usage(), Some(usage), "{to}");
        assert_eq!(probe.model.as_deref(), Some("claude-sonnet-4-5-20250929"));
        assert!(probe.id.is_some() && probe.finish.is_some(), "{to}");
    }
    // A server that lies does not overflow anything.
    let lie = json!({"prompt_tokens": 1, "completion_tokens": u64::MAX, "prompt_tokens_details": {"cached_tokens": u64::MAX}});
    let usage = Usage::read(Api::Chat, &lie).unwrap();
    assert_eq!((usage.total(), usage.cached), (u64::MAX, u64::MAX));
    assert_eq!(Usage::read(Api::Chat, &json!({"prompt_tokens": -1, "completion_tokens": "x"})), Some(Usage::default()));
    assert_eq!(Usage::read(Api::Chat, &json!("x")), None);
}

#[test]
fn what_a_request_asks_for() {
    let chat = json!({"model": "m", "stream": true, "max_tokens": 1, "max_completion_tokens": 2, "n": 3,
                      "tools": [{}], "user": "u"});
    let asked = Asked::of(Api::Chat, &chat);
    assert_eq!((asked.model.as_deref(), asked.stream, asked.max_tokens, asked.n), (Some("m"), true, Some(2), 3));
    assert!(asked.tools && asked.user.as_deref() == Some("u"));
    assert_eq!(Asked::of(Api::Responses, &json!({"max_output_tokens": 5})).max_tokens, Some(5));
    assert_eq!(Asked::of(Api::Messages, &json!({"metadata": {"user_id": "u"}})).user.as_deref(), Some("u"));
    assert_eq!(Asked::of(Api::Chat, &json!([1])), Asked { n: 1, ..Asked::default() });
}

#[test]
fn errors_have_the_shape_of_each_api() {
    let fault = ApiFault {
        status: 429,
        kind: "rate_limit_error".into(),
        message: "slow down".into(),
        code: Some("queue_full".into()),
        param: None,
    };
    assert_eq!(
        error_body(Api::Chat, &fault),
        json!({"error": {"message": "slow down", "type": "rate_limit_error", "param": null, "code": "queue_full"}})
    );
    assert_eq!(
        error_body(Api::Messages, &fault),
        json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})
    );
    assert_eq!(error_event(Api::Messages, &fault).event.as_deref(), Some("error"));
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (529, "overloaded_error"),
    ] {
        let body = error_body(Api::Messages, &ApiFault { status, ..fault.clone() });
        assert_eq!(body["error"]["type"], kind, "{status}");
    }
    let refused = WireError::Unsupported { path: "n".into(), why: "leave it out".into() };
    let fault = ApiFault::from(&refused);
    assert_eq!((fault.status, fault.kind.as_str(), fault.param.as_deref()), (400, "invalid_request_error", Some("n")));
    assert_eq!(ApiFault::from(&WireError::NotUtf8).status, 502);
    // Whose key was refused is not the client's, and its beginning is not for it to see.
    let refused = upstream_error(401, br#"{"error":{"message":"Incorrect API key provided: sk-abc***"}}"#);
    let fault = ApiFault::from(&refused);
    assert!(fault.status == 502 && !fault.message.contains("sk-"), "{fault:?}");
}

#[test]
fn errors_of_servers_are_read_in_all_their_shapes() {
    for (status, body, kind, message, retryable) in [
        (429, r#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#, "t", "m", true),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "overloaded_error",
            "Overloaded",
            true,
        ),
        (
            400,
            r#"{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}"#,
            "BadRequestError",
            "m",
            false,
        ),
        (404, r#"{"error":"model 'x' not found"}"#, "", "model 'x' not found", false),
        (422, r#"{"detail":[{"loc":["body","n"],"msg":"bad"}]}"#, "", r#"[{"loc":["body","n"],"msg":"bad"}]"#, false),
        (400, r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#, "", "m", false),
        (
            502,
            "<html><head><TITLE>502 Bad Gateway</TITLE></head>",
            "",
            "an HTML page instead of an answer: 502 Bad Gateway",
            true,
        ),
        (503, "<!DOCTYPE html><p>down", "", "an HTML page instead of an answer", true),
        (500, "upstream connect error", "", "upstream connect error", true),
        (500, "", "", "the upstream answered with status 500 and no message", true),
        (500, "null", "", "the upstream answered with status 500 and no message", true),
    ] {
        let error = upstream_error(status, body.as_bytes());
        assert_eq!((error.kind.as_str(), error.message.as_str()), (kind, message), "{body}");
        assert_eq!((error.status, error.retryable), (status, retryable), "{body}");
    }
    let long = upstream_error(500, "ä".repeat(100_000).as_bytes());
    assert!(long.message.chars().count() <= 2001);
    assert!(upstream_error(500, b"\xff\xfe").message.contains('\u{fffd}'));
    let wait = |header: &str| UpstreamError::default().with_retry_after(header).retry_after;
    assert_eq!(wait(" 7 "), Some(Duration::from_secs(7)));
    for header in ["-1", "NaN", "inf", "1e300", "soon", ""] {
        assert_eq!(wait(header), None, "{header}");
    }
}

#[test]
fn embeddings_do_not_stream() {
    assert!(matches!(Stream::new(Api::Embeddings, Api::Embeddings, options()), Err(WireError::Pair { .. })));
}
