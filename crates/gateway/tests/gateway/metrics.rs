//! What `/metrics` says of routes, upstreams, decisions, money and the ledger.

use std::collections::{BTreeMap, BTreeSet};

use bantam_gateway::SecretRef;
use http_body_util::BodyExt;
use hyper::Request;
use serde_json::{Value, json};

use crate::client::{Client, post};
use crate::ledger::{House, house};
use crate::server::MODEL;
use crate::upstreams::{chat, file, mock, streamed};

const CHAT: &str = "/v1/chat/completions";

/// Values by name and labels, and each family's type by its name.
struct Scraped {
    values: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Scraped {
    /// Reads Prometheus' text format, and fails where it is none.
    fn read(text: &str) -> Self {
        let mut scraped = Self { values: BTreeMap::new(), types: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap();
                assert!(scraped.types.insert(name.into(), kind.into()).is_none(), "{name} is there twice");
                let legal = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
                assert!(legal && name.starts_with("bantam_"), "{name}");
                assert_eq!(kind == "counter", name.ends_with("_total") && name != "bantam_kv_pages_total", "{name}");
            } else if !line.starts_with("# HELP ") {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let before = scraped.values.insert(sample.into(), value.parse().unwrap());
                assert!(before.is_none(), "{sample} is there twice");
            }
        }
        scraped
    }

    #[track_caller]
    fn get(&self, sample: &str) -> f64 {
        *self.values.get(sample).unwrap_or_else(|| panic!("no {sample} among {:#?}", self.values.keys()))
    }

    /// Names that expressions may use.
    fn names(&self) -> BTreeSet<&str> {
        self.values.keys().map(|sample| sample.split('{').next().unwrap()).collect()
    }
}

/// The names of metrics and of their labels that an expression uses.
fn used(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("bantam_").filter(|(at, _)| !expression[..*at].ends_with(word));
    // `by (...)` stands before what it sums.
    let by = expression.match_indices(" by (").flat_map(|(at, by)| {
        let names = &expression[at + by.len()..];
        names[..names.find(')').unwrap()].split(", ").filter(|label| *label != "le")
    });
    let by: Vec<&str> = by.collect();
    starts
        .map(|(at, _)| {
            let rest = &expression[at..];
            let (name, rest) = rest.split_at(rest.find(|c| !word(c)).unwrap_or(rest.len()));
            let within = rest.strip_prefix('{').map_or("", |rest| &rest[..rest.find('}').unwrap()]);
            let labels = within.split("\",").filter_map(|pair| pair.split(['=', '!']).next()).filter(|l| !l.is_empty());
            (name, labels.chain(by.iter().copied()).collect())
        })
        .collect()
}

#[test]
fn names_are_found_in_expressions() {
    let expression = r#"sum by (le, route) (rate(bantam_a_bucket{route=~"$route",by="x"}[1m])) / bantam_b_total > 0"#;
    assert_eq!(
        used(expression),
        [("bantam_a_bucket", vec!["route", "by", "route"]), ("bantam_b_total", vec!["route"])]
    );
}

#[tokio::test]
async fn the_grafana_dashboard_shows_what_is_there() {
    let (_house, mut client) = lived_in().await;
    let scraped = scrape(&mut client).await;
    let names = scraped.names();
    let labels = |name: &str| -> BTreeSet<&str> {
        let samples = scraped.values.keys().filter_map(|sample| sample.split_once('{')).filter(|(of, _)| *of == name);
        samples.flat_map(|(_, labels)| labels.split("\",").filter_map(|pair| pair.split('=').next())).collect()
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grafana/bantam.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!((&variables[0]["type"], &variables[0]["query"]), (&json!("datasource"), &json!("prometheus")));
    let mut expressions = vec!["bantam_route_requests_total{route=\"\"}"];
    assert_eq!(variables[1]["definition"], "label_values(bantam_route_requests_total, route)");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
        assert_eq!(target["datasource"]["uid"], "${datasource}");
        expressions.push(target["expr"].as_str().unwrap());
    }
    let mut shown = BTreeSet::new();
    for expression in expressions {
        let used = used(expression);
        assert!(!used.is_empty(), "{expression}");
        for (name, wanted) in used {
            assert!(names.contains(name), "{name} of {expression} is not served");
            let there = labels(name);
            assert!(wanted.iter().all(|label| there.contains(label)), "{expression}: {name} has only {there:?}");
            shown.insert(name.to_owned());
        }
    }
    // What the gateway counts is shown, too.
    let bare = |name: &str| name.replace("_bucket", "").replace("_count", "").replace("_sum", "");
    let shown: BTreeSet<String> = shown.iter().map(|name| bare(name)).collect();
    let families =
        ["bantam_route_", "bantam_router_", "bantam_policy_", "bantam_upstream_", "bantam_ledger_", "bantam_budget_"];
    for name in scraped.types.keys().filter(|name| families.iter().any(|family| name.starts_with(family))) {
        assert!(shown.contains(name), "{name} is in no panel");
    }
}

async fn scrape(client: &mut Client) -> Scraped {
    Scraped::read(&client.get("/metrics").await.body)
}

const MORE: &str = r#"
    [[routes]]
    name = "slow"
    targets = [{ provider = "there", model = "m+token=50,tokens=1000" }]
    [[routes]]
    name = "closing"
    targets = [{ provider = "there", model = "m+close" }]
    [[prices.models]]
    name = "gpt-big"
    input_per_million = 1.0
    output_per_million = 4.0
    [[prices.models]]
    name = "big"
    input_per_million = 2.0
    output_per_million = 8.0
    [auto]
    small = "toy"
    large = "big"
    cascade = 1.0
    [[policy.rules]]
    name = "mail is replaced"
    entities = ["EMAIL_ADDRESS"]
    then = "redact_then_allow"
    [[policy.rules]]
    name = "cards stay"
    entities = ["CREDIT_CARD"]
    then = "local_only"
    [[policy.rules]]
    name = "secret"
    labels = ["secret"]
    then = "refuse"
"#;

/// A server to which everything has happened that is counted.
async fn lived_in() -> (House, Client) {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    let house = house(file(&mock, MORE)).await;
    let mut client = house.server.client().await;
    assert_eq!(client.post(CHAT, chat("big", "Hi")).await.status, 200);
    client.events(CHAT, streamed(chat("big", "Hi"))).await;
    assert_eq!(client.post(CHAT, chat("big", "Write to ada@example.org!")).await.status, 200);
    assert_eq!(client.post(CHAT, chat("big", "My card is 4111 1111 1111 1111.")).await.status, 200);
    let mut refused = post(CHAT, chat("big", "Hi"));
    refused.headers_mut().insert("x-bantam-labels", "secret".parse().unwrap());
    assert_eq!(client.reply(refused).await.status, 403);
    assert_eq!(client.post(CHAT, chat("auto", "Hi")).await.status, 200);
    assert_eq!(client.post(CHAT, chat("failing", "Hi")).await.status, 200);
    assert_eq!(client.post(CHAT, chat("closing", "Hi")).await.status, 502);
    assert_eq!(client.post(CHAT, chat(MODEL, "Hi")).await.status, 200);
    for name in ["none", "another that there is not"] {
        assert_eq!(client.post(CHAT, chat(name, "Hi")).await.status, 404);
    }
    let budget = json!([{"period": "day", "amount": {"money": 1_500_000_000_i64}}, {"period": "month", "amount": {"tokens": 1000}}]);
    let made = client.post("/admin/keys", json!({"name": "app", "limits": {"budgets": budget}})).await.json();
    let mut with_key = post(CHAT, chat("big", "Hi"));
    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    with_key.headers_mut().insert("authorization", bearer.parse().unwrap());
    assert_eq!(client.reply(with_key).await.status, 200);
    let mut leaving = house.server.client().await;
    let mut response = leaving.send(post(CHAT, streamed(chat("slow", "Hi")))).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop((response, leaving));
    // Twelve that were answered, and the one whose client left.
    house.entries(13).await;
    (house, client)
}

#[tokio::test]
async fn figures_of_the_gateway() {
    let (house, mut client) = lived_in().await;
    let scraped = scrape(&mut client).await;
    for (sample, value) in [
        (r#"bantam_route_requests_total{route="big",outcome="ok"}"#, 5.0),
        (r#"bantam_route_requests_total{route="big",outcome="policy"}"#, 1.0),
        (r#"bantam_route_requests_total{route="big",outcome="invalid"}"#, 0.0),
        (r#"bantam_route_requests_total{route="auto",outcome="ok"}"#, 1.0),
        (r#"bantam_route_requests_total{route="failing",outcome="ok"}"#, 1.0),
        (r#"bantam_route_requests_total{route="closing",outcome="upstream"}"#, 1.0),
        (r#"bantam_route_requests_total{route="slow",outcome="client_left"}"#, 1.0),
        // What clients make up gets no label of its own.
        (r#"bantam_route_requests_total{route="unknown",outcome="invalid"}"#, 2.0),
        (r#"bantam_route_answers_total{route="big",by="elsewhere"}"#, 4.0),
        (r#"bantam_route_answers_total{route="big",by="here"}"#, 1.0),
        (r#"bantam_route_answers_total{route="failing",by="here"}"#, 1.0),
        (r#"bantam_route_request_duration_seconds_count{route="big"}"#, 5.0),
        (r#"bantam_route_request_duration_seconds_bucket{route="big",le="+Inf"}"#, 5.0),
        (r#"bantam_route_time_to_first_token_seconds_count{route="big"}"#, 1.0),
        (r#"bantam_router_decisions_total{decision="escalated"}"#, 1.0),
        (r#"bantam_router_decisions_total{decision="small"}"#, 0.0),
        (r#"bantam_policy_requests_total{outcome="redacted"}"#, 1.0),
        (r#"bantam_policy_requests_total{outcome="kept_here"}"#, 1.0),
        (r#"bantam_policy_requests_total{outcome="refused"}"#, 1.0),
        (r#"bantam_policy_found_total{entity="EMAIL_ADDRESS"}"#, 1.0),
        (r#"bantam_policy_found_total{entity="CREDIT_CARD"}"#, 1.0),
        (r#"bantam_upstream_attempts_total{target="there/gpt-big",outcome="succeeded"}"#, 5.0),
        (r#"bantam_upstream_attempts_total{target="there/m+token=50,tokens=1000",outcome="cancelled"}"#, 1.0),
        (r#"bantam_upstream_request_duration_seconds_count{target="there/gpt-big"}"#, 5.0),
        (r#"bantam_upstream_time_to_first_byte_seconds_count{target="there/gpt-big"}"#, 5.0),
        (r#"bantam_upstream_in_flight{target="there/gpt-big"}"#, 0.0),
        (r#"bantam_upstream_breaker{target="there/gpt-big",state="closed"}"#, 1.0),
        (r#"bantam_upstream_breaker{target="there/gpt-big",state="open"}"#, 0.0),
        (r#"bantam_upstream_healthy{target="there/gpt-big"}"#, 1.0),
        ("bantam_ledger_entries_total", 14.0),
        ("bantam_ledger_faults_total", 0.0),
        ("bantam_ledger_up", 1.0),
        ("bantam_ledger_open_requests", 0.0),
        (r#"bantam_ledger_durable_seconds_count{record="entry"}"#, 12.0),
    ] {
        assert_eq!(scraped.get(sample), value, "{sample}");
    }
    let failed = scraped.get(r#"bantam_upstream_attempts_total{target="there/x+status=503",outcome="failed"}"#);
    let retried = scraped.get(r#"bantam_upstream_retries_total{target="there/x+status=503"}"#);
    assert!(failed > 1.0 && retried == failed - 1.0, "{failed} {retried}");
    let faults = scraped.get(r#"bantam_upstream_attempts_total{target="there/m+close",outcome="fault"}"#);
    assert!(faults > 0.0);
    assert_eq!(scraped.get(r#"bantam_upstream_faults_total{target="there/m+close",kind="closed"}"#), faults);
    assert!(scraped.get("bantam_ledger_commits_total") > 0.0);

    // Tokens and money are those of the entries.
    let all = house.entries(13).await;
    let of = |route: &str| {
        let asked = if route == "unknown" { "none" } else { route };
        let mine = all.iter().filter(move |r| r.entry.asked == asked);
        mine.map(|r| (r.entry.tokens.input, r.entry.tokens.output, r.entry.cost.0, r.entry.counterfactual)).fold(
            (0, 0, 0, 0, 0),
            |sum, (input, output, cost, counterfactual)| {
                let (compared, counterfactual) = counterfactual.map_or((0, 0), |c| (cost, c.0));
                (sum.0 + input, sum.1 + output, sum.2 + cost, sum.3 + compared, sum.4 + counterfactual)
            },
        )
    };
    for route in ["big", "auto", "failing", MODEL, "slow", "unknown"] {
        let (input, output, cost, compared, counterfactual) = of(route);
        let get = |name: &str| scraped.get(&format!("{name}{{route=\"{route}\"}}"));
        let nanos = |name: &str| (get(name) * 1e9).round() as i64;
        assert_eq!(get("bantam_route_input_tokens_total"), input as f64, "{route}");
        assert_eq!(get("bantam_route_output_tokens_total"), output as f64, "{route}");
        assert_eq!(nanos("bantam_cost_dollars_total"), cost, "{route}");
        assert_eq!(nanos("bantam_compared_cost_dollars_total"), compared, "{route}");
        assert_eq!(nanos("bantam_counterfactual_cost_dollars_total"), counterfactual, "{route}");
    }
    let (_, _, _, compared, counterfactual) = of("big");
    assert!(compared > 0 && counterfactual > 0 && compared != counterfactual, "{compared} {counterfactual}");

    // Budgets are those of the key.
    let key = client.get("/admin/keys").await.json();
    let id = key["data"][0]["id"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();
    let get = |name: &str, period: &str| scraped.get(&format!("{name}{{key=\"{id}\",period=\"{period}\"}}"));
    let entry = &all.iter().find(|r| r.entry.key.is_some()).unwrap().entry;
    assert_eq!(get("bantam_budget_limit_dollars", "day"), 1.5);
    assert_eq!((get("bantam_budget_spent_dollars", "day") * 1e9).round() as i64, entry.cost.0);
    assert_eq!(get("bantam_budget_reserved_dollars", "day"), 0.0);
    assert_eq!(get("bantam_budget_limit_tokens", "month"), 1000.0);
    assert_eq!(get("bantam_budget_spent_tokens", "month"), entry.charged_tokens as f64);
}

#[tokio::test]
async fn who_may_not_administer_sees_no_money() {
    let mock = mock(&[]).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "the admin's own").unwrap();
    let mut file = file(&mock, "");
    file.keys.admin = Some(SecretRef { env: None, file: Some(secret.path().to_owned()) });
    let house = house(file).await;
    let mut client = house.server.client().await;
    assert_eq!(client.post(CHAT, chat("big", "Hi")).await.status, 200);
    let request = Request::get("/metrics").header("authorization", "Bearer the admin's own");
    let all = Scraped::read(&client.reply(request.body(http_body_util::Full::default()).unwrap()).await.body);
    let less = scrape(&mut client).await;
    let missing: Vec<&str> = all.names().difference(&less.names()).copied().collect();
    let costs =
        ["bantam_compared_cost_dollars_total", "bantam_cost_dollars_total", "bantam_counterfactual_cost_dollars_total"];
    assert_eq!(missing, costs);
    assert_eq!(less.get(r#"bantam_route_requests_total{route="big",outcome="ok"}"#), 1.0);
}
