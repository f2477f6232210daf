//! Requests on record: entries, keys, budgets, feedback, and answers computed again.

use std::time::Duration;

use bantam_engine::EngineConfig;
use bantam_gateway::{Bodies, ConfigFile, Replay, Replayed};
use bantam_ledger::query::{Filter, Text};
use bantam_ledger::{BodyStorage, EncryptionKey, Ledger, LedgerConfig, Part, Recorded, Retention};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Reply, post};
use crate::server::{MODEL, Options, Server, start_with};
use crate::upstreams::{chat, file, mock, streamed};

pub(crate) struct House {
    pub(crate) server: Server,
    ledger: Ledger,
    _dir: TempDir,
}

pub(crate) async fn house(file: ConfigFile) -> House {
    house_with(Options { file, ..Options::default() }).await
}

pub(crate) async fn house_with(mut options: Options) -> House {
    let dir = tempfile::tempdir().unwrap();
    let mut config = LedgerConfig::sqlite(&dir.path().join("ledger.db"));
    if options.file.ledger.bodies == Bodies::Encrypted {
        config.bodies = BodyStorage::Encrypted { key: EncryptionKey::from_hex(&"5a".repeat(32)).unwrap() };
    }
    options.file.machine.dollars_per_hour = 36.0;
    let ledger = Ledger::open(config).await.unwrap();
    options.ledger = Some(ledger.clone());
    let server = start_with(options).await;
    House { server, ledger, _dir: dir }
}

impl House {
    /// All entries of requests, the oldest first, when there are so many.
    pub(crate) async fn entries(&self, count: usize) -> Vec<Recorded> {
        for _ in 0..500 {
            let mut all = self.ledger.reading().requests(&Filter::default(), None, 100).await.unwrap();
            if all.len() >= count {
                all.reverse();
                return all;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are not {count} entries");
    }

    async fn key(&self, body: Value) -> (String, String) {
        let mut client = self.server.client().await;
        let reply = client.post("/admin/keys", body).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        let made = reply.json();
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    }
}

async fn with_key(client: &mut Client, key: &str, path: &str, body: Value) -> Reply {
    let mut request = post(path, body);
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    client.reply(request).await
}

#[tokio::test]
async fn every_request_has_an_entry() {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    let more = "[[prices.models]]\nname = \"gpt-big\"\ninput_per_million = 1.0\noutput_per_million = 4.0";
    let house = house(file(&mock, more)).await;
    let mut client = house.server.client().await;
    let whole = client.post("/v1/chat/completions", chat("big", "Hi")).await;
    let id = whole.header("x-bantam-id").unwrap().to_owned();
    client.post("/v1/messages", streamed(chat("big", "Hi"))).await;
    client.post("/v1/chat/completions", chat(MODEL, "Hi")).await;
    client.post("/v1/chat/completions", chat("failing", "Hi")).await;
    client.post("/v1/chat/completions", chat("none", "Hi")).await;
    client.post("/v1/chat/completions", "{").await;
    client.post("/v1/embeddings", json!({"model": "tiny-bert", "input": "Hi"})).await;
    let all = house.entries(7).await;
    let told: Vec<_> = all
        .iter()
        .map(|r| {
            let e = &r.entry;
            (
                &*e.surface,
                &*e.asked,
                e.status,
                e.provider.as_deref(),
                e.model.as_deref(),
                e.streamed,
                e.error.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("chat", "big", 200, Some("there"), Some("gpt-big"), false, None),
            ("messages", "big", 200, Some("there"), Some("gpt-big"), true, None),
            ("chat", MODEL, 200, Some("local"), Some(MODEL), false, None),
            ("chat", "failing", 200, Some("local"), Some(MODEL), false, None),
            ("chat", "none", 404, None, None, false, Some("model_not_found")),
            ("chat", "", 400, None, None, false, Some("invalid_json")),
            ("embeddings", "tiny-bert", 200, Some("local"), Some("tiny-bert"), false, None),
        ]
    );
    assert_eq!(all[0].id.to_string(), id);
    let usage = &whole.json()["usage"];
    let tokens = all[0].entry.tokens;
    assert_eq!(
        (json!(tokens.input), json!(tokens.output)),
        (usage["prompt_tokens"].clone(), usage["completion_tokens"].clone())
    );
    assert_eq!(all[0].entry.cost.0, (tokens.input * 1000 + tokens.output * 4000) as i64);
    assert_eq!(all[1].entry.cost, all[0].entry.cost, "a stream costs what the whole answer costs");
    assert!(all[2].entry.cost.0 > 0 && all[6].entry.cost.0 > 0, "what this machine computes is not free");
    assert_eq!(all[2].entry.model_digest.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    assert!(
        all[3].entry.attempts.len() > 1 && all[3].entry.attempts[0].status == Some(503),
        "{:?}",
        all[3].entry.attempts
    );
    assert!(all[0].entry.first_token_us.unwrap() <= all[0].entry.latency_us);
}

#[tokio::test]
async fn an_end_users_texts_are_erased_while_serving() {
    let file = ConfigFile {
        ledger: bantam_gateway::LedgerTable { bodies: Bodies::Encrypted, ..Default::default() },
        ..ConfigFile::default()
    };
    let house = house(file).await;
    let mut client = house.server.client().await;
    for user in ["anna", "bert"] {
        let mut body = chat(MODEL, "Hi");
        body["user"] = user.into();
        assert_eq!(client.post("/v1/chat/completions", body).await.status, 200);
    }
    let erased = client.post("/admin/erase", json!({"subject": "anna"})).await;
    assert_eq!(erased.json()["requests"], 1, "{}", erased.body);
    assert_eq!(client.post("/admin/erase", json!({"subject": "anna"})).await.json()["requests"], 0);
    assert_eq!(client.post("/admin/erase", json!({"subject": ""})).await.status, 400);
    let all = house.entries(2).await;
    for (recorded, kept) in all.iter().zip([false, true]) {
        let story = house.ledger.reading().story(recorded.id).await.unwrap();
        assert_eq!((story.subject.is_some(), !story.bodies.is_empty(), story.erased.is_none()), (kept, kept, kept));
    }
}

#[tokio::test]
async fn the_first_token_is_the_first_that_says_something() {
    let step_time = Duration::from_millis(50);
    let house = house_with(Options { step_time, ..Options::default() }).await;
    let mut client = house.server.client().await;
    client.events("/v1/chat/completions", streamed(chat(MODEL, "Hi"))).await;
    let first = house.entries(1).await[0].entry.first_token_us.unwrap();
    assert!(first >= 50_000, "{first}: the event before it says who speaks");
}

#[tokio::test]
async fn a_client_that_leaves_is_on_record_and_the_upstream_is_told() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, &charged("m+token=20,tokens=1000"))).await;
    let surfaces = ["/v1/chat/completions", "/v1/messages"];
    let routes = surfaces.iter().flat_map(|surface| [(*surface, "there"), (*surface, "claude")]);
    for (left, (surface, route)) in routes.enumerate() {
        let mut ask = streamed(chat(route, "Hi"));
        ask["max_tokens"] = 1000.into();
        let mut client = house.server.client().await;
        let mut response = client.send(post(surface, ask)).await;
        let mut seen = String::new();
        while seen.matches("data: ").count() < 12 {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        drop((response, client));
        let entry = &house.entries(left + 1).await[left].entry;
        assert_eq!((entry.status, entry.error.as_deref()), (499, Some("client_left")));
        // What was sent until the gateway noticed.
        assert!((5..=300).contains(&entry.tokens.output), "{surface} {route}: {:?}", entry.tokens);
        let prompt = if route == "claude" { 1..=1 } else { 1..=40 };
        assert!(prompt.contains(&entry.tokens.input), "{surface} {route}: {:?}", entry.tokens);
        assert_eq!(entry.cost.0, (entry.tokens.input * 1000 + entry.tokens.output * 4000) as i64);
        house.server.wait("disconnect", || mock.stats().disconnects == left as u64 + 1).await;
    }
}

/// Routes by each provider to a model that has a price.
fn charged(model: &str) -> String {
    let routes = ["there", "claude"].map(|provider| {
        format!("[[routes]]\nname = \"{provider}\"\ntargets = [{{ provider = \"{provider}\", model = \"{model}\" }}]\n")
    });
    let price = "input_per_million = 1.0\noutput_per_million = 4.0\n";
    format!("{}[[prices.models]]\nname = \"{model}\"\n{price}", routes.concat())
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_charged() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, &charged("m+cut=10"))).await;
    let mut client = house.server.client().await;
    for (asked, route) in ["there", "claude"].into_iter().enumerate() {
        let reply = client.post("/v1/chat/completions", streamed(chat(route, "Hi"))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let entry = &house.entries(asked + 1).await[asked].entry;
        assert_eq!((entry.status, entry.error.as_deref()), (502, Some("no_upstream")));
        assert!((10..=20).contains(&entry.tokens.output), "{route}: {:?}", entry.tokens);
        assert!((1..=40).contains(&entry.tokens.input), "{route}: {:?}", entry.tokens);
        assert_eq!(entry.cost.0, (entry.tokens.input * 1000 + entry.tokens.output * 4000) as i64);
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_pays_for_its_prompt() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, &charged("m+hang"))).await;
    for (left, ask) in [chat("there", "Hi"), streamed(chat("claude", "Hi"))].into_iter().enumerate() {
        let mut client = house.server.client().await;
        tokio::select! {
            reply = client.post("/v1/chat/completions", ask) => panic!("an answer: {}", reply.body),
            () = house.server.wait("request", || mock.stats().requests == left as u64 + 1) => {}
        }
        drop(client);
        let entry = &house.entries(left + 1).await[left].entry;
        assert_eq!((entry.status, entry.tokens.output), (499, 0));
        assert!((1..=40).contains(&entry.tokens.input), "{:?}", entry.tokens);
        assert_eq!(entry.cost.0, (entry.tokens.input * 1000) as i64);
        assert_eq!(entry.attempts.len(), 1);
    }
}

#[tokio::test]
async fn a_local_stream_that_breaks_off_is_charged_by_its_tokens() {
    let mut options = Options { step_time: Duration::from_millis(20), ..Options::default() };
    options.gateway.timeouts.request = Duration::from_millis(700);
    let house = house_with(options).await;
    let mut ask = streamed(chat(MODEL, "Hi"));
    ask["max_tokens"] = 400.into();
    let reply = house.server.client().await.post("/v1/chat/completions", ask).await;
    let entry = &house.entries(1).await[0].entry;
    assert_eq!((entry.status, entry.error.as_deref()), (504, Some("request_timeout")));
    let events = reply.body.matches("data: ").count() as u64;
    assert!((1..=events).contains(&entry.tokens.output), "{:?} in {events} events", entry.tokens);
}

#[tokio::test]
async fn keys_open_what_they_are_for() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, "[keys]\nrequired = true")).await;
    let mut client = house.server.client().await;
    let (status, code, _, why) = client.post("/v1/chat/completions", chat("big", "Hi")).await.error();
    assert_eq!((status, &*code), (401, "invalid_api_key"));
    assert!(why.contains("bantam key create") && why.contains("/admin/keys"), "{why}");
    assert_eq!(client.post("/analyze", json!({"text": "Hi"})).await.error().1, "invalid_api_key");
    let (id, key) = house.key(json!({"name": "app", "models": ["big"]})).await;
    let (.., why) = client.post("/v1/chat/completions", chat("big", "Hi")).await.error();
    assert_eq!(why, "this server needs an API key (sk-bantam-...)");
    let other = if key.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{other}", &key[..key.len() - 1]);
    for bad in ["sk-bantam-nothing-at-all", &wrong, "sk-other"] {
        let reply = with_key(&mut client, bad, "/v1/chat/completions", chat("big", "Hi")).await;
        assert_eq!(reply.status, 401, "{bad} beside {key}: {}", reply.body);
        let (_, code, _, why) = reply.error();
        assert_eq!((&*code, &*why), ("invalid_api_key", "the API key is not valid here"), "{bad}");
    }
    let reply = with_key(&mut client, &key, "/v1/chat/completions", chat("big", "Hi")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let reply = with_key(&mut client, &key, "/v1/chat/completions", chat("other", "Hi")).await;
    assert_eq!((reply.status.as_u16(), &*reply.error().1), (403, "model_not_allowed"));
    // Anthropic's clients send it in another header.
    let mut request =
        post("/v1/messages", json!({"model": "big", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}));
    request.headers_mut().insert("x-api-key", key.parse().unwrap());
    assert_eq!(client.reply(request).await.status, 200);
    let request = Request::get("/v1/models").header("authorization", format!("Bearer {key}"));
    let models = client.reply(request.body(Full::default()).unwrap()).await.json();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["big"]);
    // The gateway's key goes no further.
    assert!(mock.seen().iter().all(|s| !s.headers.values().any(|v| v.to_str().is_ok_and(|v| v.contains("sk-bantam")))));

    let reply = client.post(&format!("/admin/keys/{id}/rotate"), json!({"grace_s": 0})).await;
    let rotated = reply.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(with_key(&mut client, &key, "/v1/chat/completions", chat("big", "Hi")).await.status, 401);
    assert_eq!(with_key(&mut client, &rotated, "/v1/chat/completions", chat("big", "Hi")).await.status, 200);
    let shown = client.get("/admin/keys").await;
    assert!(!shown.body.contains(&rotated) && shown.body.contains(&id), "{}", shown.body);
}

#[tokio::test]
async fn budgets_and_rates_hold() {
    let mock = mock(&[]).await;
    let more = "[[prices.models]]\nname = \"gpt-big\"\ninput_per_million = 0.0\noutput_per_million = 1000.0";
    let house = house(file(&mock, more)).await;
    let mut client = house.server.client().await;
    // An answer of at most 24 tokens is reserved 24 tenths of a cent, and costs the 16 of the mock.
    let budget = json!([{"period": "day", "amount": {"money": 50_000_000_i64}}]);
    let (_, key) = house.key(json!({"name": "poor", "limits": {"budgets": budget}})).await;
    let mut answered = 0;
    let refused = loop {
        let reply = with_key(&mut client, &key, "/v1/chat/completions", chat("big", "Hi")).await;
        if reply.status != 200 {
            break reply;
        }
        answered += 1;
        assert!(answered < 10, "the budget holds nothing");
    };
    assert_eq!((refused.status.as_u16(), &*refused.error().1), (429, "budget_exceeded"), "{}", refused.body);
    assert_eq!(refused.json()["error"]["type"], "insufficient_quota");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let spent: i64 = house.entries(answered + 1).await.iter().map(|r| r.entry.cost.0).sum();
    assert!(spent > 0 && spent <= 50_000_000, "{spent}");

    let (_, key) = house.key(json!({"name": "slow", "limits": {"requests_per_minute": 2}})).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(with_key(&mut client, &key, "/v1/messages", chat("big", "Hi")).await.status.as_u16());
    }
    assert_eq!(codes, [200, 200, 429]);
}

#[tokio::test]
async fn where_others_can_connect_this_machine_may_not_administer_without_a_secret() {
    let mut options = Options::default();
    options.gateway.host = "0.0.0.0".into();
    let mut house = house_with(options).await;
    house.server.address.set_ip([127, 0, 0, 1].into());
    let reply = house.server.client().await.post("/admin/keys", json!({"name": "app"})).await;
    let (status, code, _, why) = reply.error();
    assert_eq!((status, &*code), (401, "invalid_api_key"));
    for part in ["keys.admin", "bantam key create", "this machine"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    // And what asks for a key does not send there without one.
    let (.., why) = house.server.client().await.post("/v1/chat/completions", chat(MODEL, "Hi")).await.error();
    assert!(why.contains("POST /admin/keys and the secret of keys.admin"), "{why}");
}

#[tokio::test]
async fn over_a_budget_the_client_hears_what_may_fit() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, "")).await;
    let mut client = house.server.client().await;
    let budget = json!([{"period": "day", "amount": {"tokens": 60}}]);
    let (_, key) = house.key(json!({"name": "few", "limits": {"budgets": budget}})).await;
    let mut ask = async |path: &str, body: Value| {
        let reply = with_key(&mut client, &key, path, body).await;
        (reply.status.as_u16(), reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let mut unbounded = chat("big", "Hi");
    unbounded.as_object_mut().unwrap().remove("max_tokens");
    let mut long = unbounded.clone();
    long["max_tokens"] = 1000.into();
    let (status, why) = ask("/v1/chat/completions", unbounded).await;
    assert!(status == 429 && why.contains("gives no 'max_tokens'"), "{status}: {why}");
    let (status, why) = ask("/v1/chat/completions", long.clone()).await;
    assert!(status == 429 && why.contains("a smaller 'max_tokens' may fit"), "{status}: {why}");
    let (status, why) = ask("/v1/responses", json!({"model": MODEL, "input": "Hi"})).await;
    assert!(status == 429 && why.contains("gives no 'max_output_tokens'"), "{status}: {why}");
    let mut short = long.clone();
    short["max_tokens"] = 5.into();
    short["model"] = MODEL.into();
    assert_eq!(ask("/v1/chat/completions", short).await.0, 200);
}

#[tokio::test]
async fn a_budget_of_money_is_not_spent_on_what_has_no_price() {
    let mock = mock(&[]).await;
    let priced = "[[prices.models]]\nname = \"gpt-big\"\ninput_per_million = 0.0\noutput_per_million = 0.0";
    let day = |amount: Value| json!({"limits": {"budgets": [{"period": "day", "amount": amount}]}});
    for (more, fails) in [("", true), (priced, false), ("[auto]\nsmall = \"toy\"\nlarge = \"big\"", true)] {
        let house = house(file(&mock, more)).await;
        let mut client = house.server.client().await;
        let key = async |name: &str, mut limits: Value| {
            limits["name"] = name.into();
            house.key(limits).await.1
        };
        let money = key("money", day(json!({"money": 1_000_000_000_i64}))).await;
        let tokens = key("tokens", day(json!({"tokens": 100_000}))).await;
        let model = if more.contains("auto") { "auto" } else { "big" };
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let reply = with_key(&mut client, &money, path, chat(model, "Hi")).await;
            assert_eq!(reply.status, if fails { 403 } else { 200 }, "{more}: {}", reply.body);
            let told = ["'gpt-big'", "[[prices.models]]", "budget of tokens"];
            assert!(!fails || told.iter().all(|part| reply.body.contains(part)), "{}", reply.body);
            let reply = with_key(&mut client, &tokens, path, chat(model, "Hi")).await;
            assert_eq!(reply.status, 200, "{}", reply.body);
        }
        assert_eq!(with_key(&mut client, &money, "/v1/chat/completions", chat(MODEL, "Hi")).await.status, 200);
    }
    // The budget of all keys together binds those without one.
    let dir = tempfile::tempdir().unwrap();
    let file = ConfigFile { keys: toml::from_str("budget_per_day = '5'").unwrap(), ..file(&mock, "") };
    let config = file.ledger_config(&dir.path().join("ledger.db")).unwrap().unwrap();
    let ledger = Ledger::open(config).await.unwrap();
    let server = start_with(Options { file, ledger: Some(ledger), ..Options::default() }).await;
    let reply = server.client().await.post("/v1/chat/completions", chat("big", "Hi")).await;
    assert_eq!((reply.status.as_u16(), &*reply.error().1), (403, "no_price"), "{}", reply.body);
}

#[tokio::test]
async fn texts_that_are_too_old_go_while_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = LedgerConfig::sqlite(&dir.path().join("ledger.db"));
    config.bodies = BodyStorage::Redacted;
    let mut file = ConfigFile::default();
    file.ledger.bodies = Bodies::Redacted;
    let ledger = Ledger::open(config.clone()).await.unwrap();
    let mut server =
        start_with(Options { file: file.clone(), ledger: Some(ledger.clone()), ..Options::default() }).await;
    let mut ask = chat(MODEL, "Hi");
    ask["user"] = "anna".into();
    let reply = server.client().await.post("/v1/chat/completions", ask).await;
    let id = reply.header("x-bantam-id").unwrap().parse().unwrap();
    let story = ledger.reading().story(id).await.unwrap();
    assert_eq!((story.subject.as_deref(), story.bodies.len()), (Some("anna"), 2));
    server.begin_shutdown();
    server.ended().await;
    ledger.close().await.unwrap();
    // After no days at all everything is too old.
    config.retention = Retention { bodies_days: Some(0), entries_days: None };
    let ledger = Ledger::open(config).await.unwrap();
    let _server = start_with(Options { file, ledger: Some(ledger.clone()), ..Options::default() }).await;
    for _ in 0..500 {
        let story = ledger.reading().story(id).await.unwrap();
        if story.erased.is_some() {
            assert_eq!((story.subject, story.bodies.len(), story.recorded.entry.status), (None, 0, 200));
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was removed");
}

#[tokio::test]
async fn feedback_goes_with_its_answer() {
    let house = house(ConfigFile::default()).await;
    let mut client = house.server.client().await;
    let answered = client.post("/v1/chat/completions", chat(MODEL, "Hi")).await;
    let id = answered.header("x-bantam-id").unwrap();
    let said = json!({"id": id, "rating": 1, "accepted": true});
    assert_eq!(client.post("/v1/feedback", said).await.status, 201);
    let story = house.ledger.reading().story(id.parse().unwrap()).await.unwrap();
    assert_eq!(story.feedback.len(), 1);
    for (body, field) in [
        (json!({"id": "x", "rating": 1}), "id"),
        (json!({"id": id}), "rating"),
        (json!({"id": id, "rating": 7}), "rating"),
        // This ledger keeps no texts.
        (json!({"id": id, "correction": "Hello!"}), "correction"),
        (json!({"id": "0190f4a2-0000-7000-8000-000000000000", "rating": 1}), "id"),
    ] {
        let (status, _, param, _) = client.post("/v1/feedback", body).await.error();
        assert_eq!((status, param.as_deref()), (400, Some(field)));
    }
}

#[tokio::test]
async fn local_answers_are_computed_again() {
    let mut file = ConfigFile::default();
    file.ledger.bodies = Bodies::Encrypted;
    let house = house(file).await;
    let mut client = house.server.client().await;
    let mut ask = chat(MODEL, "Tell me something");
    ask["temperature"] = 1.2.into();
    ask["n"] = 2.into();
    client.post("/v1/chat/completions", ask.clone()).await;
    client.events("/v1/chat/completions", streamed(ask.clone())).await;
    ask["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"a": {"enum": ["yes", "no"]}}, "required": ["a"], "additionalProperties": false}}});
    client.post("/v1/chat/completions", ask).await;
    client.post("/v1/completions", json!({"model": MODEL, "prompt": ["one", "two"], "max_tokens": 9})).await;
    // Another engine with another way of computing the same.
    let other = start_with(Options {
        engine: EngineConfig { prefill_chunk: 3, ..EngineConfig::default() },
        ..Options::default()
    })
    .await;
    for recorded in house.entries(4).await {
        let story = house.ledger.reading().story(recorded.id).await.unwrap();
        let body = |wanted: Part| {
            let (_, text) = story.bodies.iter().find(|(part, _)| *part == wanted).unwrap();
            let Text::Plain(bytes) = text else { panic!("locked") };
            bytes.clone()
        };
        assert!(!body(Part::Request).is_empty() && !body(Part::Response).is_empty());
        let mut replay = Replay::read(&body(Part::Replay)).unwrap();
        let engine = other.engine.clone();
        let replayed = tokio::task::spawn_blocking(move || {
            let first = replay.run(&engine, 1).unwrap();
            replay.numerics = 2;
            assert!(replay.run(&engine, 1).is_err());
            first
        });
        assert!(matches!(replayed.await.unwrap(), Replayed::Same { tokens } if tokens > 0));
    }
}
