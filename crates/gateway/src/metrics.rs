//! What `/metrics` shows.
//!
//! The recorder belongs to one server instead of the process, so that several servers (tests) do not count into each
//! other. Labels come from sets we control: routes by their pattern, models by the names served.

use std::time::Duration;

use bantam_engine::{EngineStats, Timings};
use bantam_tasks::{RowError, TaskResult};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::model::Running;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

const REQUESTS: &str = "bantam_http_requests_total";
const IN_FLIGHT: &str = "bantam_http_requests_in_flight";
const DURATION: &str = "bantam_http_request_duration_seconds";
const CONNECTIONS: &str = "bantam_http_connections";
const FIRST_TOKEN: &str = "bantam_time_to_first_token_seconds";
const PER_TOKEN: &str = "bantam_time_per_output_token_seconds";

const TASK_INPUTS: &str = "bantam_task_inputs_total";
const TASK_DURATION: &str = "bantam_task_input_duration_seconds";

const DURATION_BUCKETS: [f64; 14] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const TOKEN_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.5];

/// A figure the engine keeps, as `/metrics` names it.
struct EngineFigure {
    name: &'static str,
    help: &'static str,
    value: fn(&EngineStats) -> u64,
}

const ENGINE_TOTALS: [EngineFigure; 14] = [
    EngineFigure {
        name: "bantam_prompt_tokens_total",
        help: "Prompt tokens of requests taken up",
        value: |s| s.prompt_tokens,
    },
    EngineFigure {
        name: "bantam_cached_prompt_tokens_total",
        help: "Prompt tokens found in the prefix cache",
        value: |s| s.cached_tokens,
    },
    EngineFigure { name: "bantam_generated_tokens_total", help: "Tokens generated", value: |s| s.generated_tokens },
    EngineFigure {
        name: "bantam_drafted_tokens_total",
        help: "Tokens drafted and verified",
        value: |s| s.drafted_tokens,
    },
    EngineFigure {
        name: "bantam_accepted_tokens_total",
        help: "Drafted tokens that were generated",
        value: |s| s.accepted_tokens,
    },
    EngineFigure {
        name: "bantam_forced_tokens_total",
        help: "Generated tokens that a grammar left no choice about",
        value: |s| s.forced_tokens,
    },
    EngineFigure {
        name: "bantam_grammar_masks_total",
        help: "Times it was computed what a grammar allows",
        value: |s| s.masks.count,
    },
    EngineFigure {
        name: "bantam_grammar_mask_microseconds_total",
        help: "Time that took",
        value: |s| u64::try_from(s.masks.total.as_micros()).unwrap_or(u64::MAX),
    },
    EngineFigure { name: "bantam_engine_steps_total", help: "Model steps run", value: |s| s.steps },
    EngineFigure {
        name: "bantam_engine_computed_tokens_total",
        help: "Tokens that went through the model",
        value: |s| s.computed_tokens,
    },
    EngineFigure {
        name: "bantam_engine_cancelled_requests_total",
        help: "Requests given up by their client",
        value: |s| s.cancelled_requests,
    },
    EngineFigure {
        name: "bantam_engine_failed_requests_total",
        help: "Requests that ended with an error",
        value: |s| s.failed_requests,
    },
    EngineFigure {
        name: "bantam_engine_refused_requests_total",
        help: "Requests refused because the queue was full",
        value: |s| s.refused_requests,
    },
    EngineFigure {
        name: "bantam_engine_preemptions_total",
        help: "Times a sequence lost its pages to an older one",
        value: |s| s.preemptions,
    },
];

const ENGINE_GAUGES: [EngineFigure; 7] = [
    EngineFigure { name: "bantam_engine_running", help: "Sequences in the batch", value: |s| s.running as u64 },
    EngineFigure { name: "bantam_engine_waiting", help: "Requests waiting for a place", value: |s| s.waiting as u64 },
    EngineFigure {
        name: "bantam_engine_queue_limit",
        help: "Most requests that may wait",
        value: |s| s.queue_limit as u64,
    },
    EngineFigure { name: "bantam_kv_pages_total", help: "KV pages in the pool", value: |s| s.kv_pages_total as u64 },
    EngineFigure {
        name: "bantam_kv_pages_used",
        help: "KV pages held by running sequences and pins",
        value: |s| s.kv_pages_used as u64,
    },
    EngineFigure {
        name: "bantam_kv_pages_pinned",
        help: "KV pages of pinned prompts",
        value: |s| s.kv_pages_pinned as u64,
    },
    EngineFigure {
        name: "bantam_kv_pages_cached",
        help: "KV pages only the prefix cache remembers",
        value: |s| s.kv_pages_cached as u64,
    },
];

/// Names and help texts, in the order of [`Metrics::render`].
const EMBEDDER_TOTALS: [(&str, &str); 3] = [
    ("bantam_embedded_texts_total", "Texts embedded"),
    ("bantam_embedded_tokens_total", "Tokens of embedded texts"),
    ("bantam_embedder_refused_requests_total", "Requests for vectors refused because the queue was full"),
];
const EMBEDDER_WAITING: (&str, &str) = ("bantam_embedder_waiting", "Texts waiting for their vectors");

pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&DURATION_BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(PER_TOKEN.into()), &TOKEN_BUCKETS)?
            .build_recorder();
        let describe = |name: &'static str, help: &'static str| (KeyName::from_const_str(name), None, help.into());
        for (name, help) in [
            (REQUESTS, "Requests answered; status 499 is a client that left"),
            (TASK_INPUTS, "Inputs of tasks by what became of them: a verdict, or why there is no answer"),
        ]
        .into_iter()
        .chain(ENGINE_TOTALS.iter().map(|f| (f.name, f.help)))
        .chain(EMBEDDER_TOTALS)
        {
            let (key, unit, help) = describe(name, help);
            recorder.describe_counter(key, unit, help);
        }
        for (name, help) in [(IN_FLIGHT, "Requests being answered"), (CONNECTIONS, "Open connections")]
            .into_iter()
            .chain(ENGINE_GAUGES.iter().map(|f| (f.name, f.help)))
            .chain([EMBEDDER_WAITING])
        {
            let (key, unit, help) = describe(name, help);
            recorder.describe_gauge(key, unit, help);
        }
        for (name, help) in [
            (DURATION, "From a request's headers to the end of its answer"),
            (FIRST_TOKEN, "From submission to the first token"),
            (PER_TOKEN, "Mean time per token after the first, of one answer"),
            (TASK_DURATION, "From an input's submission to a task's model to its answer"),
        ] {
            let (key, unit, help) = describe(name, help);
            recorder.describe_histogram(key, unit, help);
        }
        let handle = recorder.handle();
        Ok(Self { recorder, handle })
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }

    pub(crate) fn in_flight(&self) -> Gauge {
        self.gauge(IN_FLIGHT, Vec::new())
    }

    pub(crate) fn connections(&self) -> Gauge {
        self.gauge(CONNECTIONS, Vec::new())
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

    /// Everything in Prometheus' text format, with the engines' figures as they are now.
    pub(crate) fn render(&self, running: &Running) -> String {
        for model in &running.models {
            let stats = model.engine.stats();
            let label = || vec![Label::new("model", model.id.clone())];
            for figure in &ENGINE_TOTALS {
                self.counter(figure.name, label()).absolute((figure.value)(&stats));
            }
            for figure in &ENGINE_GAUGES {
                self.gauge(figure.name, label()).set((figure.value)(&stats) as f64);
            }
        }
        for encoder in &running.encoders {
            let stats = encoder.embedder.stats();
            let label = || vec![Label::new("model", encoder.id.clone())];
            for (figure, value) in EMBEDDER_TOTALS.iter().zip([stats.texts, stats.tokens, stats.refused_requests]) {
                self.counter(figure.0, label()).absolute(value);
            }
            self.gauge(EMBEDDER_WAITING.0, label()).set(stats.waiting as f64);
        }
        self.handle.render()
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
