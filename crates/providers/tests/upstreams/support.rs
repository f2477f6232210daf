//! Mocks, targets for them, and calls with defaults.

use std::time::Duration;

use bantam_providers::answer::{Answered, Attempt, Outcome};
use bantam_providers::call::{Call, Delivery, Outbound, Refusal};
use bantam_providers::client::{Reliability, Upstreams};
use bantam_providers::error::CallError;
use bantam_providers::mock::{Mock, MockConfig};
use bantam_providers::plan::{GroupConfig, Plan};
use bantam_providers::target::{Target, TargetConfig};
use bantam_providers::wire::Api;
use hyper::HeaderMap;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Far more than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) async fn mock(behaviour: &str) -> Mock {
    let config = MockConfig { behaviour: behaviour.parse().unwrap(), keep: 100, ..MockConfig::default() };
    Mock::start(config).await.unwrap()
}

pub(crate) fn config(name: &str, mock: &Mock) -> TargetConfig {
    TargetConfig { base_url: Some(mock.base_url()), ..TargetConfig::new(name, "openai-compatible", "m") }
}

/// Retries without waits worth the name, so that tests are quick.
pub(crate) fn quick() -> Reliability {
    let mut reliability = Reliability::default();
    reliability.retry.backoff = Duration::from_millis(2);
    reliability
}

pub(crate) fn upstreams(targets: &[TargetConfig]) -> Upstreams {
    upstreams_with(targets, quick())
}

pub(crate) fn upstreams_with(targets: &[TargetConfig], reliability: Reliability) -> Upstreams {
    let targets = targets.iter().map(|target| target.resolve().unwrap()).collect();
    Upstreams::new(targets, reliability).unwrap()
}

/// Groups of names: `a b | c` is a and b balanced, then c.
pub(crate) fn plan(upstreams: &Upstreams, text: &str) -> Plan {
    let groups: Vec<GroupConfig> = text.split('|').map(|group| GroupConfig::new(group.split_whitespace())).collect();
    upstreams.plan(&groups).unwrap()
}

pub(crate) fn chat(target: &Target, request: &Value) -> Outbound {
    let mut body = request.clone();
    body["messages"] = json!([{"role": "user", "content": "Hello?"}]);
    if body["model"].is_null() {
        body["model"] = Value::from(target.model.clone());
    }
    Outbound { api: Api::Chat, headers: HeaderMap::new(), body: body.to_string().into() }
}

/// A chat request with these fields.
pub(crate) async fn call(
    upstreams: &Upstreams,
    plan: &Plan,
    request: Value,
    delivery: Delivery,
) -> Result<Answered, CallError> {
    let outgoing = |target: &Target| -> Result<Outbound, Refusal> { Ok(chat(target, &request)) };
    upstreams.call(plan, Call { outgoing: &outgoing, delivery, deadline: Instant::now() + LONG, trace: None }).await
}

/// A whole answer to a request whose model name has this behaviour.
pub(crate) async fn ask(upstreams: &Upstreams, plan: &Plan, behaviour: &str) -> Result<Answered, CallError> {
    call(upstreams, plan, json!({"model": format!("m+{behaviour}")}), Delivery::Whole).await
}

/// A streamed answer.
pub(crate) async fn stream(upstreams: &Upstreams, plan: &Plan, behaviour: &str) -> Result<Answered, CallError> {
    call(upstreams, plan, json!({"model": format!("m+{behaviour}"), "stream": true}), Delivery::Stream).await
}

/// Who was tried and what came of it, in a word each.
pub(crate) fn story(attempts: &[Attempt]) -> Vec<String> {
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Status(status) => status.to_string(),
        Outcome::Fault(fault) => fault.kind().to_owned(),
    };
    let word = |a: &Attempt| format!("{} {} {:?}", a.target.name, outcome(&a.outcome), a.next).to_lowercase();
    attempts.iter().map(word).collect()
}

/// Waits until something is so; nothing here depends on how long that takes.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what} never happened");
        sleep(Duration::from_millis(2)).await;
    }
}
