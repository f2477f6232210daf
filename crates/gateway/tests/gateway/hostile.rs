//! Peers on both sides that mean harm or are broken, and a disk that is full: each has a typed outcome, and its entry where there can be one.

use std::time::Duration;

use bantam_gateway::ConfigFile;
use bantam_ledger::{BodyStorage, CommitLimits, Durability, Ledger, LedgerConfig, Reading, Store, query::Filter};
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};

use crate::client::{Client, Reply, parse_events, post};
use crate::connections::Raw;
use crate::ledger::house;
use crate::server::{MODEL, Options, start, start_with};
use crate::upstreams::{chat, file, mock, streamed};

const CHAT: &str = "/v1/chat/completions";
const SURFACES: [&str; 3] = [CHAT, "/v1/messages", "/v1/responses"];

/// A request of any of the surfaces.
fn ask(surface: &str, model: &str) -> Value {
    match surface {
        "/v1/responses" => json!({"model": model, "input": "Hi", "max_output_tokens": 24}),
        _ => chat(model, "Hi"),
    }
}

#[tokio::test]
async fn what_is_no_utf8_is_refused() {
    let server = start().await;
    let mut client = server.client().await;
    for surface in SURFACES {
        for at in [b"Hi".as_slice(), b"toy"] {
            let mut body = ask(surface, MODEL).to_string().into_bytes();
            let place = body.windows(at.len()).position(|w| w == at).unwrap();
            body[place] = 0xff;
            let request = Request::post(surface).header("content-type", "application/json");
            let reply = client.reply(request.body(Full::from(body)).unwrap()).await;
            assert_eq!(reply.status, 400, "{surface}: {}", reply.body);
            assert!(reply.body.contains("UTF-8") || reply.body.contains("unicode"), "{surface}: {}", reply.body);
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_request() {
    let house = house(ConfigFile::default()).await;
    let body = chat(MODEL, "Hi").to_string();
    let head = |length: usize| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    // All of it came, and then the client closed its side: that is how one leaves, so it may be taken for one that did.
    let mut raw = Raw::connect(house.server.address).await;
    raw.write(head(body.len()).as_bytes()).await;
    raw.half_close().await;
    let answer = raw.rest().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Less came than was promised.
    let mut raw = Raw::connect(house.server.address).await;
    raw.write(head(body.len() + 10).as_bytes()).await;
    raw.half_close().await;
    let answer = raw.rest().await;
    assert!(answer.is_empty() || answer.contains("incomplete_body"), "{answer}");
    // Others are served on.
    let mut client = house.server.client().await;
    assert_eq!(client.post(CHAT, chat(MODEL, "Hi")).await.status, 200);
}

#[tokio::test]
async fn headers_cannot_be_injected() {
    let server = start().await;
    let request = |header: &str| format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n");
    for bad in [
        "x-request-id: a\0b",
        "x-request-id: a\rset-cookie: b",
        "x-bantam-labels: a\x0bb",
        "x bad: a",
        "content-length: 2\r\ncontent-length: 3",
        "content-length: +2",
        "transfer-encoding: gzip, identity",
    ] {
        let mut raw = Raw::connect(server.address).await;
        raw.write(request(bad).as_bytes()).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        assert!(!answer.contains("set-cookie"), "{bad:?}: {answer}");
    }
    // Names that travel as text never become headers.
    let mock = mock(&[]).await;
    let more = "[[routes]]\nname = \"odd\\r\\nset-cookie: a=b\"\n\
                targets = [{ provider = \"there\", model = \"m\\r\\nset-cookie: a=b\" }]";
    let server = start_with(Options { file: file(&mock, more), ..Options::default() }).await;
    let mut client = server.client().await;
    for (model, status) in [("odd\r\nset-cookie: a=b", 200), ("none\r\nset-cookie: a=b", 404)] {
        for surface in SURFACES {
            let reply = client.post(surface, ask(surface, model)).await;
            assert_eq!(reply.status, status, "{}", reply.body);
            assert!(reply.header("set-cookie").is_none() && reply.header("x-bantam-model").is_none(), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_clients_headers_stay_here() {
    let mock = mock(&[]).await;
    let server = start_with(Options { file: file(&mock, ""), ..Options::default() }).await;
    let mut client = server.client().await;
    let sent = [
        ("authorization", "Bearer sk-the-clients"),
        ("x-api-key", "sk-the-clients"),
        ("cookie", "session=the-clients"),
        ("proxy-authorization", "Basic the-clients"),
        ("x-forwarded-for", "the-clients"),
        ("x-bantam-mock", "status=503"),
        ("x-bantam-labels", "the-clients"),
    ];
    for (surface, model) in SURFACES.iter().flat_map(|s| [(*s, "big"), (*s, "other")]) {
        let mut request = post(surface, ask(surface, model));
        for (name, value) in sent {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let reply = client.reply(request).await;
        assert_eq!(reply.status, 200, "{surface} {model}: {}", reply.body);
    }
    let seen = mock.seen();
    assert_eq!(seen.len(), 6);
    for seen in seen {
        assert!(!format!("{:?}", seen.headers).contains("the-clients"), "{:?}", seen.headers);
    }
}

#[tokio::test]
async fn usage_that_lies_is_not_believed() {
    let mock = mock(&[]).await;
    let routes = [("lying", "there"), ("lying too", "claude")].map(|(name, provider)| {
        format!("[[routes]]\nname = \"{name}\"\ntargets = [{{ provider = \"{provider}\", model = \"m+lie\" }}]\n")
    });
    let house = house(file(&mock, &routes.concat())).await;
    let mut client = house.server.client().await;
    let mut asked = 0;
    for (surface, model) in SURFACES.iter().flat_map(|s| [(*s, "lying"), (*s, "lying too")]) {
        for body in [ask(surface, model), streamed(ask(surface, model))] {
            let reply = client.post(surface, body).await;
            assert_eq!(reply.status, 200, "{surface} {model}: {}", reply.body);
            asked += 1;
        }
    }
    // It claims a milliard of tokens read and none written.
    for recorded in house.entries(asked).await {
        let entry = recorded.entry;
        assert!((1..=40).contains(&entry.tokens.input), "{} {}: {:?}", entry.surface, entry.asked, entry.tokens);
        assert!((1..=24).contains(&entry.tokens.output), "{} {}: {:?}", entry.surface, entry.asked, entry.tokens);
    }
}

fn with_tool(surface: &str, model: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    let mut body = ask(surface, model);
    body["tools"] = match surface {
        CHAT => json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]),
        "/v1/messages" => json!([{"name": "weather", "input_schema": schema}]),
        _ => json!([{"type": "function", "name": "weather", "parameters": schema}]),
    };
    streamed(body)
}

/// The arguments of each call of a stream, put together as a client would.
fn arguments(surface: &str, reply: &Reply) -> Vec<String> {
    let events: Vec<Value> = match surface {
        CHAT => parse_events(&reply.body),
        _ => reply.body.lines().filter_map(|l| serde_json::from_str(l.strip_prefix("data: ")?).ok()).collect(),
    };
    let mut calls = std::collections::BTreeMap::<u64, String>::new();
    for event in &events {
        let deltas = event["choices"][0]["delta"]["tool_calls"].as_array().cloned().unwrap_or_default();
        let mut piece = |at: &Value, text: &Value| {
            if let Some(text) = text.as_str() {
                calls.entry(at.as_u64().unwrap()).or_default().push_str(text);
            }
        };
        deltas.iter().for_each(|delta| piece(&delta["index"], &delta["function"]["arguments"]));
        piece(&event["index"], &event["delta"]["partial_json"]);
        if event["type"] == "response.function_call_arguments.delta" {
            piece(&event["output_index"], &event["delta"]);
        }
    }
    calls.into_values().collect()
}

#[tokio::test]
async fn tool_calls_that_come_twice_or_in_disorder_are_right_or_an_error() {
    let mock = mock(&[]).await;
    let faults = ["duplicate", "reorder"];
    let routes = faults.iter().flat_map(|fault| {
        ["there", "claude"].map(|provider| {
            let target = format!("{{ provider = \"{provider}\", model = \"m+{fault},calls=2\" }}");
            format!("[[routes]]\nname = \"{provider} {fault}\"\ntargets = [{target}]\n")
        })
    });
    let house = house(file(&mock, &routes.collect::<String>())).await;
    let mut client = house.server.client().await;
    let mut asked = 0;
    for (provider, own) in [("there", CHAT), ("claude", "/v1/messages")] {
        for (fault, surface) in faults.iter().flat_map(|f| SURFACES.map(|s| (*f, s))) {
            let mut body = with_tool(surface, &format!("{provider} {fault}"));
            body["max_tokens"] = 500.into();
            let reply = client.post(surface, body).await;
            asked += 1;
            let what = format!("{provider} {fault} {surface}: {}", reply.body);
            let entry = house.entries(asked).await.pop().unwrap().entry;
            if surface == own {
                // A stream in the client's own API is the server's, as it is.
                assert_eq!((reply.status.as_u16(), entry.status), (200, 200), "{what}");
                continue;
            }
            // OpenAI's deltas are numbered, so that calls may come in turn.
            if (provider, fault) == ("there", "reorder") {
                let calls = arguments(surface, &reply);
                assert_eq!((calls.len(), entry.status), (2, 200), "{what}");
                for call in calls {
                    let read: Value = serde_json::from_str(&call).unwrap_or_else(|e| panic!("{e}: {what}"));
                    assert!(read["city"].is_string() && read["days"].is_u64(), "{what}");
                }
                continue;
            }
            assert_eq!((entry.status, entry.error.as_deref()), (502, Some("upstream_invalid_answer")), "{what}");
            assert!(reply.body.contains("upstream_invalid_answer") || reply.body.contains("api_error"), "{what}");
        }
    }
}

/// A route whose answer takes a minute to begin.
const SLOW: &str = "[[routes]]\nname = \"slow\"\ntargets = [{ provider = \"there\", model = \"m+ttft=60000\" }]";

#[tokio::test]
async fn a_full_disk_under_the_ledger_serves_nothing_unrecorded() {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = Store::Sqlite { path: path.clone(), durability: Durability::Process, max_bytes: Some(400_000) };
    let commit = CommitLimits { patience: Duration::from_millis(200), ..CommitLimits::default() };
    let config = LedgerConfig { store: store.clone(), commit, ..LedgerConfig::sqlite(&path) };
    let ledger = Ledger::open(config).await.unwrap();
    let server =
        start_with(Options { file: file(&mock, SLOW), ledger: Some(ledger.clone()), ..Options::default() }).await;
    let mut client = server.client().await;
    let mut delivered = Vec::new();
    let refused = loop {
        let reply = client.post(CHAT, chat(if delivered.len() % 2 == 0 { "big" } else { MODEL }, "Hi")).await;
        if reply.status != 200 {
            break reply;
        }
        delivered.push(reply.header("x-bantam-id").unwrap().to_owned());
        assert!(delivered.len() < 5000, "the store never gets full");
    };
    assert_eq!((refused.status.as_u16(), &*refused.error().1), (503, "ledger_unavailable"), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("1"));
    for (surface, model) in SURFACES.iter().flat_map(|s| [(*s, "big"), (*s, MODEL)]) {
        for body in [ask(surface, model), streamed(ask(surface, model))] {
            refuses(&mut client, surface, body).await;
        }
    }
    refuses(&mut client, "/v1/embeddings", json!({"model": "tiny-bert", "input": "Hi"})).await;
    refuses(&mut client, "/v1/completions", json!({"model": MODEL, "prompt": "Hi"})).await;
    // Some are let through to see whether there is room again: their answers are not waited for.
    let mut waited = 0;
    for _ in 0..30 {
        match tokio::time::timeout(Duration::from_secs(10), client.post(CHAT, chat("slow", "Hi"))).await {
            Ok(reply) => assert_eq!(reply.status, 503),
            // The last bytes that there were took it.
            Err(_) => {
                waited += 1;
                client = server.client().await;
            }
        }
        assert!(waited <= 2, "answers that cannot be delivered are waited for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It serves on when the disk does, and all that was delivered is on record.
    let reading = Reading::open(&store, BodyStorage::None).await.unwrap();
    let recorded: Vec<_> = reading.requests(&Filter::default(), None, 1000).await.unwrap();
    for id in delivered.iter().rev().take(800) {
        assert!(recorded.iter().any(|r| r.id.to_string() == *id && r.entry.status == 200), "{id} is not on record");
    }
}

/// That no answer comes, or one that began while there was room is told to be none instead of its end.
async fn refuses(client: &mut Client, surface: &str, body: Value) {
    let reply = client.post(surface, &body).await;
    assert!(reply.body.contains("cannot be put on record"), "{surface} {body}: {}", reply.body);
    if body["stream"] == true && reply.status == 200 {
        for end in ["\"finish_reason\":\"", "message_stop", "response.completed", "response.incomplete"] {
            assert!(!reply.body.contains(end), "{surface} {body}: {}", reply.body);
        }
    } else {
        assert_eq!(reply.status, 503, "{surface} {body}: {}", reply.body);
        assert!(!reply.body.contains("Hello"), "{surface} {body}: {}", reply.body);
    }
}
