//! What `/metrics` shows.
//!
//! The recorder belongs to one server instead of the process, so that several servers (tests) do not count into each
//! other. Labels come from sets we control: routes by their pattern, models, routes, targets and keys by their configured names.
//!
//! What happens is counted as it happens. What is (queues, breakers, budgets) and what others count anyway is asked for when somebody looks.

mod engines;
mod records;
mod routes;
mod text;
mod upstreams;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bantam_engine::Timings;
use bantam_providers::Times;
use bantam_tasks::{RowError, TaskResult};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::{Map, Value};

use crate::app::App;
pub(crate) use routes::{Measures, RouteMeasures};
use text::Text;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

const REQUESTS: &str = "bantam_http_requests_total";
const IN_FLIGHT: &str = "bantam_http_requests_in_flight";
const DURATION: &str = "bantam_http_request_duration_seconds";
const CONNECTIONS: &str = "bantam_http_connections";
const FIRST_TOKEN: &str = "bantam_time_to_first_token_seconds";
const PER_TOKEN: &str = "bantam_time_per_output_token_seconds";

const TASK_INPUTS: &str = "bantam_task_inputs_total";
const TASK_DURATION: &str = "bantam_task_input_duration_seconds";

const DECISIONS: &str = "bantam_router_decisions_total";
const POLICY: &str = "bantam_policy_requests_total";
const FOUND: &str = "bantam_policy_found_total";
const DURABLE: &str = "bantam_ledger_durable_seconds";
const UPSTREAM_DURATION: &str = "bantam_upstream_request_duration_seconds";
const FIRST_BYTE: &str = "bantam_upstream_time_to_first_byte_seconds";

const DURATION_BUCKETS: [f64; 14] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const DURABLE_BUCKETS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 10.0];
const TOKEN_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.5];

const COUNTERS: [(&str, &str); 10] = [
    (REQUESTS, "Requests answered; status 499 is a client that left"),
    (TASK_INPUTS, "Inputs of tasks by what became of them: a verdict, or why there is no answer"),
    (routes::REQUESTS, "Requests for a route's answers by what became of them"),
    (routes::ANSWERS, "Requests answered by a model here, and by one elsewhere"),
    (routes::INPUT, "Tokens of prompts, cached ones included"),
    (routes::CACHED, "Tokens of prompts that whoever answered had in its cache"),
    (routes::OUTPUT, "Tokens of answers, reasoning included"),
    (
        DECISIONS,
        "Requests for auto: the small model's answer stood, it was escalated to the large one, or the large one was asked at once",
    ),
    (POLICY, "Requests that the policy changed, kept here or refused, and those that could not be looked through"),
    (FOUND, "Requests in which personal data or a secret of this type was found"),
];

const HISTOGRAMS: [(&str, &str); 9] = [
    (DURATION, "From a request's headers to the end of its answer"),
    (FIRST_TOKEN, "From submission to the first token"),
    (PER_TOKEN, "Mean time per token after the first, of one answer"),
    (TASK_DURATION, "From an input's submission to a task's model to its answer"),
    (routes::DURATION, "From the arrival of a request that was answered to the end of its answer"),
    (routes::FIRST_TOKEN, "From the arrival of a request to the first event of its streamed answer"),
    (DURABLE, "Until the ledger had committed the record of a request's arrival, or its entry"),
    (UPSTREAM_DURATION, "From the beginning of an attempt at a target to the end of its answer"),
    (FIRST_BYTE, "From the beginning of an attempt at a target to the first byte of its answer"),
];

/// Which side of a choice between a small and a large model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The small model's answer stands.
    Small,
    /// The large one is asked after the small one.
    Escalated,
    /// The large one is asked at once.
    Large,
}

/// In the order of [`Side`].
const SIDES: [&str; 3] = ["small", "escalated", "large"];

/// What the ledger commits for a request.
#[derive(Clone, Copy)]
pub(crate) enum Record {
    Arrival,
    Entry,
}

/// What is noted of the policy in a request's decision, and the outcome that it is.
const POLICY_NOTES: [(&str, &str); 3] =
    [("redacted", "redacted"), ("stand_in", "kept_here"), ("detection_failed", "detection_failed")];

/// Who looks at the figures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Viewer {
    /// Whoever may administer: sees what was spent, and by whom.
    Admin,
    Anybody,
}

pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    in_flight: Gauge,
    connections: Gauge,
    sides: [Counter; SIDES.len()],
    policy: [Counter; POLICY_NOTES.len()],
    refused: Counter,
    /// In the order of [`Record`].
    durable: [Histogram; 2],
    /// Of all routes that there have been. Locked when a configuration is read and when somebody looks.
    routes: Mutex<BTreeMap<String, Arc<RouteMeasures>>>,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&DURATION_BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(PER_TOKEN.into()), &TOKEN_BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(DURABLE.into()), &DURABLE_BUCKETS)?
            .build_recorder();
        for (name, help) in COUNTERS {
            recorder.describe_counter(KeyName::from_const_str(name), None, help.into());
        }
        for (name, help) in [(IN_FLIGHT, "Requests being answered"), (CONNECTIONS, "Open connections")] {
            recorder.describe_gauge(KeyName::from_const_str(name), None, help.into());
        }
        for (name, help) in HISTOGRAMS {
            recorder.describe_histogram(KeyName::from_const_str(name), None, help.into());
        }
        let handle = recorder.handle();
        let key = Key::from_parts::<&'static str, Vec<Label>>;
        let counter = |name: &'static str, label, value: &'static str| {
            recorder.register_counter(&key(name, vec![Label::new(label, value)]), &METADATA)
        };
        let gauge = |name: &'static str| recorder.register_gauge(&key(name, Vec::new()), &METADATA);
        let durable =
            |of: &'static str| recorder.register_histogram(&key(DURABLE, vec![Label::new("record", of)]), &METADATA);
        Ok(Self {
            in_flight: gauge(IN_FLIGHT),
            connections: gauge(CONNECTIONS),
            sides: SIDES.map(|side| counter(DECISIONS, "decision", side)),
            policy: POLICY_NOTES.map(|(_, outcome)| counter(POLICY, "outcome", outcome)),
            refused: counter(POLICY, "outcome", "refused"),
            durable: ["arrival", "entry"].map(durable),
            routes: Mutex::default(),
            recorder,
            handle,
        })
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }

    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// The counters of a route or a task, which stay the same as long as the server runs.
    fn route(&self, name: &str) -> Arc<RouteMeasures> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry(name.to_owned()).or_insert_with(|| Arc::new(RouteMeasures::new(self, name))))
    }

    /// Where the times of a target elsewhere go.
    pub(crate) fn target(&self, name: &str) -> Times {
        let label = || vec![Label::new("target", name.to_owned())];
        Times { duration: self.histogram(UPSTREAM_DURATION, label()), first_byte: self.histogram(FIRST_BYTE, label()) }
    }

    /// Counts a choice between a small and a large model.
    pub(crate) fn chose(&self, side: Side) {
        self.sides[side as usize].increment(1);
    }

    /// Counts what the policy did to a request, by what was noted of it.
    pub(crate) fn policy(&self, decision: &Map<String, Value>, error: Option<&str>) {
        for ((note, _), counter) in POLICY_NOTES.iter().zip(&self.policy) {
            if decision.contains_key(*note) {
                counter.increment(1);
            }
        }
        if matches!(error, Some("policy_refused" | "policy_local_only")) {
            self.refused.increment(1);
        }
        for entity in decision.get("found").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            self.counter(FOUND, vec![Label::new("entity", entity.to_owned())]).increment(1);
        }
    }

    /// Notes how long the ledger took.
    pub(crate) fn durable(&self, record: Record, after: Duration) {
        self.durable[record as usize].record(after);
    }

    /// Counts a request that has ended.
    pub(crate) fn request(&self, ended: &Ended<'_>) {
        let model = Label::new("model", ended.model.to_string());
        let route = Label::new("route", ended.route.to_string());
        let labels = vec![
            route.clone(),
            model.clone(),
            Label::new("method", ended.method),
            Label::new("status", ended.status.to_string()),
        ];
        self.counter(REQUESTS, labels).increment(1);
        self.histogram(DURATION, vec![route, model]).record(ended.duration);
    }

    /// Notes how fast one answer came.
    pub(crate) fn answer(&self, model: &str, timings: &Timings, completion_tokens: usize) {
        let label = Label::new("model", model.to_string());
        self.histogram(FIRST_TOKEN, vec![label.clone()]).record(timings.time_to_first_token());
        if let Some(rate) = timings.decode_rate(completion_tokens) {
            self.histogram(PER_TOKEN, vec![label]).record(1.0 / rate);
        }
    }

    /// Counts what became of one input of a task.
    pub(crate) fn task_input(&self, task: &str, outcome: &Result<TaskResult, RowError>) {
        let label = Label::new("task", task.to_owned());
        let verdict = match outcome {
            Ok(result) => result.verdict.name(),
            Err(error) => error.code(),
        };
        self.counter(TASK_INPUTS, vec![label.clone(), Label::new("verdict", verdict)]).increment(1);
        if let Ok(result) = outcome {
            self.histogram(TASK_DURATION, vec![label]).record(result.latency_ms / 1e3);
        }
    }

    /// Everything in Prometheus' text format, as it is now.
    pub(crate) async fn render(&self, app: &App, viewer: Viewer) -> String {
        let mut text = Text::after(self.handle.render());
        engines::write(&mut text, &app.running);
        upstreams::write(&mut text, &app.live().upstreams.snapshot());
        if let Some(ledger) = &app.ledger {
            records::write(&mut text, ledger);
        }
        if viewer == Viewer::Admin {
            routes::write_costs(&mut text, &self.routes.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(ledger) = &app.ledger {
                records::write_budgets(&mut text, ledger).await;
            }
        }
        text.finish()
    }

    /// Moves recorded samples into their buckets; without it they pile up when nobody looks at the metrics.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// A request that has ended.
pub(crate) struct Ended<'a> {
    pub(crate) route: &'a str,
    pub(crate) method: &'static str,
    pub(crate) model: &'a str,
    pub(crate) status: u16,
    pub(crate) duration: Duration,
}
