//! Traces of requests.
//!
//! A request to the API is a span, and below it each attempt at an answer is one: what OpenTelemetry calls a server span and client spans, with its
//! semantic conventions for HTTP and for generative AI. No text of a request or an answer and no secret is in them. Who exports them is behind
//! [`Spans`]; with the feature `otel` that is OpenTelemetry's SDK, set up by [`from_env`].

#[cfg(feature = "otel")]
mod otel;
mod request;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use bantam_providers::trace::TraceContext;
pub(crate) use request::{About, CLIENT_LEFT, HttpEnd, RequestSpan};

/// Variables of OpenTelemetry that say where traces go.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Where spans go.
pub trait Spans: Send + Sync {
    /// Begins the span of a request that a client's span is the parent of, if it named one.
    fn begin(&self, name: String, parent: Option<TraceContext>) -> Box<dyn OpenSpan>;

    /// Exports what is left, but does not take longer than this.
    fn shutdown(&self, within: Duration);
}

/// A request's span while the request is answered.
pub trait OpenSpan: Send {
    /// Its place in the trace, which the spans below it and upstreams are told.
    fn context(&self) -> TraceContext;

    /// Ends it now.
    fn end(self: Box<Self>, ended: Ended);
}

/// What a request's span came to.
#[derive(Debug, Default)]
pub struct Ended {
    /// Attributes by the names that the conventions have.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it failed through no fault of the client's.
    pub outcome: Outcome,
    /// The attempts at an answer, in order.
    pub attempts: Vec<AttemptSpan>,
}

/// A span below a request's.
#[derive(Debug)]
pub struct AttemptSpan {
    /// Its own place in the trace.
    pub context: TraceContext,
    /// Its name.
    pub name: String,
    /// When it began.
    pub began: SystemTime,
    /// When it ended; where it is still open, with the request.
    pub ended: Option<SystemTime>,
    /// Who does the work.
    pub place: Place,
    /// Attributes by the names that the conventions have.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it failed.
    pub outcome: Outcome,
}

/// Who does the work of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This process.
    Here,
    /// A server elsewhere.
    Elsewhere,
}

/// How a span ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// As it should, or by a fault of who asked.
    #[default]
    Good,
    /// With an error.
    Failed,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A count.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    Texts(Vec<String>),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Attribute {
    fn from(count: u64) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Attribute {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// Why traces cannot be exported as the environment says.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {why}")]
pub struct TelemetryError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong and what would be right.
    pub why: String,
}

/// Whether the environment asks for traces.
fn wanted() -> bool {
    let get = |name: &str| std::env::var(name).unwrap_or_default();
    let off = get("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true") || get("OTEL_TRACES_EXPORTER") == "none";
    !off && ENDPOINTS.iter().any(|name| !get(name).is_empty())
}

/// What the environment's `OTEL_*` variables ask for: an exporter where one of the endpoints is set, otherwise nothing. Must run inside a tokio runtime.
///
/// # Errors
/// When a variable has a value that cannot work.
#[cfg(feature = "otel")]
pub fn from_env() -> Result<Option<Arc<dyn Spans>>, TelemetryError> {
    wanted().then(|| otel::Otel::from_env().map(|otel| Arc::new(otel) as Arc<dyn Spans>)).transpose()
}

/// What the environment's `OTEL_*` variables ask for, which this build does not have: it says so, and exports nothing.
///
/// # Errors
/// None.
#[cfg(not(feature = "otel"))]
pub fn from_env() -> Result<Option<Arc<dyn Spans>>, TelemetryError> {
    if wanted() {
        let variable = ENDPOINTS[1];
        tracing::warn!("{variable} is set, and this build has no OpenTelemetry: build it with --features otel");
    }
    Ok(None)
}
