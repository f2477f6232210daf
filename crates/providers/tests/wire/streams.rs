//! Streams of servers, shaped as the real ones send them, on their way to each kind of client.

use bantam_providers::wire::{AnswerOptions, Api, Outcome, SseEvent, SseParser, Stream, WireError};

pub(crate) const STREAMS: [(&str, Api, &str); 4] = [
    ("messages_tools", Api::Messages, include_str!("streams/messages_tools.sse")),
    ("messages_stop_sequence", Api::Messages, include_str!("streams/messages_stop_sequence.sse")),
    ("chat_tools", Api::Chat, include_str!("streams/chat_tools.sse")),
    ("chat_interleaved", Api::Chat, include_str!("streams/chat_interleaved.sse")),
];

const CLIENTS: [Api; 3] = [Api::Chat, Api::Messages, Api::Responses];

pub(crate) fn options() -> AnswerOptions {
    AnswerOptions { id: "0190".into(), created: 1_700_000_000, include_usage: true, ..AnswerOptions::default() }
}

/// The bytes that a client gets for the pieces of a server's stream, and how it ended.
pub(crate) fn translate<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    from: Api,
    to: Api,
) -> (Vec<SseEvent>, Result<Outcome, WireError>) {
    let (mut parser, mut events, mut out) = (SseParser::default(), Vec::new(), Vec::new());
    let mut stream = Stream::new(from, to, options()).unwrap();
    for piece in pieces {
        if let Err(error) = parser.push(piece, &mut events) {
            return (out, Err(error));
        }
        for event in events.drain(..) {
            if let Err(error) = stream.push(&event, &mut out) {
                return (out, Err(error));
            }
        }
    }
    let end = stream.finish().map(|()| stream.outcome().clone());
    (out, end)
}

fn bytes(events: &[SseEvent]) -> String {
    let mut out = Vec::new();
    events.iter().for_each(|event| event.write(&mut out));
    String::from_utf8(out).unwrap()
}

#[test]
fn what_clients_get() {
    for (name, from, stream) in STREAMS {
        for to in CLIENTS.into_iter().filter(|to| to.can_reach(from)) {
            let (out, end) = translate([stream.as_bytes()], from, to);
            assert_eq!(end, Ok(Outcome::Complete), "{name} to {to}");
            if from == to {
                let (_, without_comment) = stream.rsplit_once(": a server that mixes").unwrap_or(("", stream));
                assert!(without_comment.ends_with(&bytes(&out)), "{name} as it is");
            } else {
                insta::assert_snapshot!(format!("{name}_to_{to}"), bytes(&out));
            }
        }
    }
}

/// A stream is translated event by event, so what is cut anywhere has to give the same events.
#[test]
fn cuts_at_any_byte_change_nothing() {
    let parse = |pieces: &[&[u8]]| {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        pieces.iter().for_each(|piece| parser.push(piece, &mut events).unwrap());
        events
    };
    for (name, from, stream) in STREAMS {
        let crlf = stream.replace('\n', "\r\n");
        let whole = parse(&[stream.as_bytes()]);
        for stream in [stream, &crlf] {
            for at in 0..stream.len() {
                let (left, right) = stream.as_bytes().split_at(at);
                assert_eq!(parse(&[left, right]), whole, "{name} cut at {at}");
            }
            for to in CLIENTS.into_iter().filter(|to| to.can_reach(from)) {
                let whole = translate([stream.as_bytes()], from, to);
                assert_eq!(translate(stream.as_bytes().chunks(1), from, to), whole, "{name} to {to} byte by byte");
            }
        }
    }
}

/// A stream that stops anywhere before its end event is an error, and never carries a client's end event.
#[test]
fn no_cut_stream_ends_well() {
    for (name, from, stream) in STREAMS {
        for to in CLIENTS.into_iter().filter(|to| to.can_reach(from)) {
            // Without the blank line after it the end event was not sent.
            for at in (0..stream.len()).filter(|at| stream.as_bytes()[*at] == b'\n') {
                let (out, end) = translate([&stream.as_bytes()[..at]], from, to);
                assert!(matches!(end, Err(WireError::Truncated { .. })), "{name} to {to} until {at}: {end:?}");
                let ended = |e: &SseEvent| {
                    e.data == "[DONE]"
                        || e.data.contains("\"message_stop\"")
                        || e.data.contains("\"response.completed\"")
                        || e.data.contains("\"response.incomplete\"")
                };
                assert!(!out.iter().any(ended), "{name} to {to} until {at}");
            }
        }
    }
}

fn events(from: Api, to: Api, options: AnswerOptions, data: &[&str]) -> (Vec<SseEvent>, Result<Outcome, WireError>) {
    let mut stream = Stream::new(from, to, options).unwrap();
    let mut out = Vec::new();
    for data in data {
        if let Err(error) = stream.push(&SseEvent::data(*data), &mut out) {
            return (out, Err(error));
        }
    }
    let end = stream.finish().map(|()| stream.outcome().clone());
    (out, end)
}

#[test]
fn usage_is_only_for_those_who_asked() {
    let chunks = [
        r#"{"id":"1","choices":[{"index":0,"delta":{"content":"a \"usage\" b"},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        "[DONE]",
    ];
    let silent = AnswerOptions { include_usage: false, ..options() };
    let (out, end) = events(Api::Chat, Api::Chat, silent.clone(), &chunks);
    assert_eq!(end, Ok(Outcome::Complete));
    assert_eq!(out.len(), 3);
    assert!(out[0].data.contains(r#"a \"usage\" b"#) && !out[0].data.contains("\"usage\":"), "{}", out[0].data);
    assert_eq!(events(Api::Chat, Api::Chat, options(), &chunks).0.len(), 4);
    // Whoever keeps account hears of it in any case.
    let mut stream = Stream::new(Api::Chat, Api::Chat, silent).unwrap();
    for chunk in chunks {
        stream.push(&SseEvent::data(chunk), &mut Vec::new()).unwrap();
    }
    let usage = stream.probe().usage().unwrap();
    assert_eq!((usage.prompt, usage.completion, usage.total()), (1, 2, 3));
    assert_eq!(stream.probe().finish.as_deref(), Some("stop"));
}

#[test]
fn the_model_is_called_as_the_client_knows_it() {
    let named = AnswerOptions { model: Some("auto".into()), ..options() };
    for (_, from, stream) in STREAMS {
        for to in CLIENTS.into_iter().filter(|to| to.can_reach(from)) {
            let (mut events, mut out) = (Vec::new(), Vec::new());
            SseParser::default().push(stream.as_bytes(), &mut events).unwrap();
            let mut stream = Stream::new(from, to, named.clone()).unwrap();
            events.iter().for_each(|event| stream.push(event, &mut out).unwrap());
            let models: Vec<&str> = out
                .iter()
                .filter_map(|e| e.data.split_once("\"model\":\""))
                .filter_map(|(_, m)| m.split('"').next())
                .collect();
            assert!(!models.is_empty() && models.iter().all(|m| *m == "auto"), "{from} to {to}: {models:?}");
        }
    }
}

#[test]
fn what_goes_wrong_is_typed_and_no_success() {
    let chunk = |delta: &str, finish: &str| {
        format!(r#"{{"id":"1","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#)
    };
    let call = |rest: &str| chunk(&format!(r#"{{"tool_calls":[{{"index":0,{rest}}}]}}"#), "null");
    let end = || [chunk("{}", "\"tool_calls\""), "[DONE]".to_owned()];
    for (what, chunks) in [
        ("no reason to end", vec![chunk(r#"{"content":"a"}"#, "null"), "[DONE]".into()]),
        ("unknown reason", vec![chunk("{}", "\"tired\"")]),
        ("not JSON", vec!["{\"id\":".into()]),
        ("not an object", vec!["[]".into()]),
        ("HTML", vec!["<html>".into()]),
        ("two answers", vec![r#"{"choices":[{"index":0},{"index":1}]}"#.into()]),
        ("another answer", vec![r#"{"choices":[{"index":1,"delta":{}}]}"#.into()]),
        ("content of another type", vec![chunk(r#"{"content":7}"#, "null")]),
        ("no name", [vec![call(r#""id":"a","function":{"arguments":"{}"}"#)], end().into()].concat()),
        (
            "arguments cut",
            [vec![call(r#""id":"a","function":{"name":"f","arguments":"{\"a\":"}"#)], end().into()].concat(),
        ),
        (
            "arguments twice",
            [vec![call(r#""id":"a","function":{"name":"f","arguments":"{}{}"}"#)], end().into()].concat(),
        ),
        (
            "arguments no object",
            [vec![call(r#""id":"a","function":{"name":"f","arguments":"[]"}"#)], end().into()].concat(),
        ),
        (
            "two names",
            vec![call(r#""id":"a","function":{"name":"f"}"#), call(r#""function":{"name":"g","arguments":"{}"}"#)],
        ),
    ] {
        for to in [Api::Messages, Api::Responses] {
            let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
            let (out, end) = events(Api::Chat, to, options(), &chunks);
            let error = end.expect_err(what);
            assert!(!error.is_clients_fault() && error.status() == 502, "{what}: {error:?}");
            assert!(
                !out.iter().any(|e| e.data.contains("message_stop") || e.data.contains("response.completed")),
                "{what}"
            );
        }
    }
}

#[test]
fn errors_in_the_middle_reach_the_client_in_its_own_words() {
    let anthropic = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let openai =
        r#"{"error":{"message":"Rate limit","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}"#;
    for (from, data, status) in [(Api::Messages, anthropic, 529), (Api::Chat, openai, 429)] {
        for to in CLIENTS.into_iter().filter(|to| to.can_reach(from)) {
            let (out, end) = events(from, to, options(), &[data, "[DONE]", r#"{"type":"message_stop"}"#]);
            let Ok(Outcome::Failed(error)) = end else { panic!("{from} to {to}: {end:?}") };
            assert_eq!((error.status, error.retryable), (status, true));
            assert_eq!(out.len(), 1, "{from} to {to}");
            let value: serde_json::Value = serde_json::from_str(&out[0].data).unwrap();
            assert_eq!(value["error"]["message"], error.message);
            if to == Api::Messages {
                assert_eq!(value["type"], "error");
            }
        }
    }
}

#[test]
fn servers_that_number_all_calls_alike_are_understood() {
    let call = |id: &str, arguments: &str| {
        format!(
            r#"{{"id":"1","choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":"f","arguments":"{arguments}"}}}}]}},"finish_reason":null}}]}}"#
        )
    };
    let last = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let chunks = [call("a", "{}"), call("b", "{\\\"x\\\":1}"), last.to_owned(), "[DONE]".to_owned()];
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let (out, end) = events(Api::Chat, Api::Responses, options(), &chunks);
    assert_eq!(end, Ok(Outcome::Complete));
    let last: serde_json::Value = serde_json::from_str(&out.last().unwrap().data).unwrap();
    let calls: Vec<_> =
        last["response"]["output"].as_array().unwrap().iter().map(|i| (&i["call_id"], &i["arguments"])).collect();
    assert_eq!(calls, [(&"a".into(), &"{}".into()), (&"b".into(), &r#"{"x":1}"#.into())]);
}

#[test]
fn an_answer_cut_by_its_limit_may_end_inside_a_call() {
    let start = r#"{"id":"1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\":"}}]}}]}"#;
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#;
    let (out, outcome) = events(Api::Chat, Api::Messages, options(), &[start, end, "[DONE]"]);
    assert_eq!(outcome, Ok(Outcome::Complete));
    assert!(out[out.len() - 2].data.contains(r#""stop_reason":"max_tokens""#));
    let (out, _) = events(Api::Chat, Api::Responses, options(), &[start, end, "[DONE]"]);
    let last: serde_json::Value = serde_json::from_str(&out.last().unwrap().data).unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
}

/// Whatever a server sends without end, what is kept of it has a limit.
#[test]
fn endless_answers_are_too_large() {
    let big = "x".repeat(1 << 20);
    let chat = |delta: serde_json::Value| serde_json::json!({"id": "1", "choices": [{"index": 0, "delta": delta}]});
    let redacted = serde_json::json!({"type": "redacted_thinking", "data": big});
    let start = serde_json::json!({"type": "message_start", "message": {"id": "1"}});
    for (from, first, again) in [
        (Api::Chat, chat(serde_json::json!({})), chat(serde_json::json!({"content": big}))),
        (Api::Chat, chat(serde_json::json!({})), chat(serde_json::json!({"thinking_blocks": [redacted]}))),
        (
            Api::Chat,
            chat(serde_json::json!({})),
            chat(serde_json::json!({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": big}}]})),
        ),
        (
            Api::Messages,
            serde_json::json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": big}}),
            serde_json::json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": big}}),
        ),
    ] {
        let mut stream = Stream::new(from, Api::Responses, options()).unwrap();
        let mut out = Vec::new();
        if from == Api::Messages {
            stream.push(&SseEvent::data(start.to_string()), &mut out).unwrap();
            let block = serde_json::json!({"type": "content_block_start", "index": 0,
                                           "content_block": {"type": "thinking", "thinking": "", "signature": ""}});
            stream.push(&SseEvent::data(block.to_string()), &mut out).unwrap();
        }
        stream.push(&SseEvent::data(first.to_string()), &mut out).unwrap();
        let event = SseEvent::data(again.to_string());
        let error = (0..100).find_map(|_| {
            out.clear();
            stream.push(&event, &mut out).err()
        });
        assert!(matches!(error, Some(WireError::TooLarge { what: "answer", .. })), "{error:?}");
    }
}
