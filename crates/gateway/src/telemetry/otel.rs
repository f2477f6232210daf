//! Export by OpenTelemetry's SDK, over OTLP.
//!
//! Finished spans go into a bounded queue (`OTEL_BSP_MAX_QUEUE_SIZE`) that a thread of the SDK empties; when it is full they are dropped, so that a collector
//! that is slow or gone costs a request nothing.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    NoExporterBuilderSet, SpanExporter, SpanExporterBuilder, TonicExporterBuilderSet, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider, Span};

use super::{AttemptSpan, Attribute, ENDPOINTS, Ended, OpenSpan, Outcome, Place, Spans, TelemetryError, TraceContext};

const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// How long the collector may take for a batch, if the environment does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The name under which traces are found, if the environment does not say.
const SERVICE: &str = "bantam";

pub(super) struct Otel {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Otel {
    pub(super) fn from_env() -> Result<Self, TelemetryError> {
        let builder = SpanExporter::builder();
        let exporter = match first(PROTOCOLS) {
            None => builder.with_http().with_http_client(http_client()?).build(),
            Some((_, protocol)) if protocol == "http/protobuf" => {
                builder.with_http().with_http_client(http_client()?).build()
            }
            Some((_, protocol)) if protocol == "grpc" => grpc(builder).build(),
            Some((variable, other)) => {
                let why = format!("{other:?} is not spoken here; use grpc or http/protobuf");
                return Err(TelemetryError { variable, why });
            }
        };
        let variable = first(ENDPOINTS).map_or(ENDPOINTS[1], |(name, _)| name);
        let exporter = exporter.map_err(|error| TelemetryError { variable, why: error.to_string() })?;
        let named = |resource: &Resource| {
            let name = resource.get(&"service.name".into());
            name.is_some_and(|name| !name.as_str().starts_with("unknown_service"))
        };
        let mut resource = Resource::builder().build();
        if !named(&resource) {
            resource = Resource::builder().with_service_name(SERVICE).build();
        }
        let provider = SdkTracerProvider::builder()
            .with_id_generator(Ids::default())
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self { provider, tracer })
    }
}

/// An exporter by gRPC, which trusts whom the system trusts.
fn grpc(builder: SpanExporterBuilder<NoExporterBuilderSet>) -> SpanExporterBuilder<TonicExporterBuilderSet> {
    let builder = builder.with_tonic();
    match first(ENDPOINTS) {
        Some((_, endpoint)) if endpoint.starts_with("https:") => {
            builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
        }
        _ => builder,
    }
}

/// The first of these variables that is set, and its value.
fn first(names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(|v| (name, v)))
}

/// A client that goes where it is told and nowhere else.
fn http_client() -> Result<reqwest::blocking::Client, TelemetryError> {
    // Whoever was here before has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout = match first(TIMEOUTS) {
        None => TIMEOUT,
        Some((variable, text)) => {
            let millis = text
                .parse()
                .map_err(|_| TelemetryError { variable, why: format!("{text:?} is no number of milliseconds") })?;
            Duration::from_millis(millis)
        }
    };
    // It has a runtime of its own, which cannot begin inside another.
    let building = std::thread::spawn(move || {
        let builder = reqwest::blocking::Client::builder().redirect(reqwest::redirect::Policy::none());
        builder.timeout(timeout).build()
    });
    let fault = |why: String| TelemetryError { variable: ENDPOINTS[1], why };
    let built = building.join().map_err(|_| fault("the HTTP client could not be started".to_owned()))?;
    built.map_err(|error| fault(error.to_string()))
}

impl Spans for Otel {
    fn begin(&self, name: String, parent: Option<TraceContext>) -> Box<dyn OpenSpan> {
        let parent = parent.map_or_else(Context::new, |parent| below(parent, Remote::Yes));
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_start_time(SystemTime::now());
        let span = self.tracer.build_with_context(builder, &parent);
        Box::new(Open { span, tracer: self.tracer.clone() })
    }

    fn shutdown(&self, within: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(within) {
            tracing::warn!(%error, "the last traces could not be exported");
        }
    }
}

struct Open {
    span: Span,
    tracer: SdkTracer,
}

impl OpenSpan for Open {
    fn context(&self) -> TraceContext {
        let context = self.span.span_context();
        TraceContext {
            trace: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
        }
    }

    fn end(mut self: Box<Self>, ended: Ended) {
        if !self.span.is_recording() {
            return;
        }
        let now = SystemTime::now();
        let parent = below(self.context(), Remote::No);
        for attempt in ended.attempts {
            self.attempt(attempt, &parent, now);
        }
        for (name, value) in ended.attributes {
            self.span.set_attribute(key_value(name, value));
        }
        if ended.outcome == Outcome::Failed {
            self.span.set_status(Status::error(""));
        }
        self.span.end_with_timestamp(now);
    }
}

impl Open {
    fn attempt(&self, attempt: AttemptSpan, parent: &Context, now: SystemTime) {
        let AttemptSpan { context, name, began, ended, place, attributes, outcome } = attempt;
        let kind = match place {
            Place::Here => SpanKind::Internal,
            Place::Elsewhere => SpanKind::Client,
        };
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(began)
            .with_attributes(attributes.into_iter().map(|(name, value)| key_value(name, value)));
        // The upstream has been told its name already.
        NEXT.set(Some(context.span));
        let mut span = self.tracer.build_with_context(builder, parent);
        NEXT.set(None);
        if outcome == Outcome::Failed {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(ended.unwrap_or(now));
    }
}

/// Whether a span is another process's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remote {
    Yes,
    No,
}

fn below(parent: TraceContext, remote: Remote) -> Context {
    let flags = TraceFlags::default().with_sampled(parent.sampled);
    let (trace, span) = (TraceId::from(parent.trace), SpanId::from(parent.span));
    let context = SpanContext::new(trace, span, flags, remote == Remote::Yes, TraceState::NONE);
    Context::new().with_remote_span_context(context)
}

fn key_value(name: &'static str, value: Attribute) -> KeyValue {
    let value = match value {
        Attribute::Text(text) => Value::String(text.into()),
        Attribute::Number(number) => Value::I64(number),
        Attribute::Flag(flag) => Value::Bool(flag),
        Attribute::Texts(texts) => Value::Array(Array::String(texts.into_iter().map(StringValue::from).collect())),
    };
    KeyValue::new(name, value)
}

thread_local! {
    /// The id of the span that this thread begins next, where it has one already.
    static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Random ids, but for spans that have theirs.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        self.0.new_trace_id()
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.take().map_or_else(|| self.0.new_span_id(), SpanId::from)
    }
}
