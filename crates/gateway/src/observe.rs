//! The outermost layer: request ids, the check of the `Host`, and one log line and one count per request.
//!
//! A request ends when its answer's last byte was handed to the connection or when the client left, whichever is
//! first; a stream may last minutes after its headers went out. So the record travels with the body.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use uuid::Uuid;

use crate::app::App;
use crate::error::ApiError;
use crate::host::is_local;
use crate::metrics::Ended;
use crate::server::Peer;
use crate::telemetry::{self, HttpEnd, RequestSpan};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What paths of the API begin with.
const API: &str = "/v1/";
/// The path of Anthropic's API, whose clients look for it elsewhere.
pub(crate) const MESSAGES: &str = "/v1/messages";
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Longest request id taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// Most characters of a name asked for that are written down.
const MAX_NAME: usize = 128;

/// The status a request is counted under when its client left before the end, as nginx does.
pub(crate) const CLIENT_LEFT: u16 = 499;

/// What is learned about a request while it is answered.
pub(crate) struct Trace {
    /// The request's name in the ledger.
    pub(crate) id: Uuid,
    pub(crate) model: OnceLock<String>,
    /// The name asked for, which need not be one of ours, as [`shown`].
    pub(crate) asked_for: OnceLock<String>,
    pub(crate) prompt_tokens: AtomicUsize,
    pub(crate) cached_tokens: AtomicUsize,
    pub(crate) completion_tokens: AtomicUsize,
    /// The error that ended a stream whose status had already been sent.
    pub(crate) late_error: OnceLock<ApiError>,
    /// Where traces are exported, its span.
    pub(crate) span: Option<RequestSpan>,
}

impl Trace {
    /// Of a request that begins now.
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            model: OnceLock::new(),
            asked_for: OnceLock::new(),
            prompt_tokens: AtomicUsize::new(0),
            cached_tokens: AtomicUsize::new(0),
            completion_tokens: AtomicUsize::new(0),
            late_error: OnceLock::new(),
            span: None,
        }
    }

    /// Notes the name that a client asks for, for the log.
    pub(crate) fn asks_for(&self, name: &str) {
        // The first is what the request says.
        let _ = self.asked_for.set(shown(name));
    }

    /// Tokens as they were counted elsewhere.
    pub(crate) fn set_tokens(&self, prompt: u64, cached: u64, completion: u64) {
        let counts =
            [(&self.prompt_tokens, prompt), (&self.cached_tokens, cached), (&self.completion_tokens, completion)];
        for (count, tokens) in counts {
            count.store(usize::try_from(tokens).unwrap_or(usize::MAX), Ordering::Relaxed);
        }
    }

    /// Prompt and completion tokens up to now.
    pub(crate) fn tokens_so_far(&self) -> (u64, u64) {
        (self.prompt_tokens.load(Ordering::Relaxed) as u64, self.completion_tokens.load(Ordering::Relaxed) as u64)
    }
}

/// A name that a client made up, so that it can be written down: of bounded length and without control characters.
pub(crate) fn shown(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(MAX_NAME) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Observes every request.
pub(crate) async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let mut trace = Trace::new();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unknown".into(), |p| p.as_str().to_string());
    if let Some(spans) = app.spans.as_deref().filter(|_| route.starts_with(API)) {
        trace.span = Some(RequestSpan::begin(spans, format!("{method} {route}"), request.headers()));
    }
    let trace = Arc::new(trace);
    let id = request_id(&request, trace.id);
    request.extensions_mut().insert(Arc::clone(&trace));
    let mut record = Record {
        id: id.clone(),
        method,
        route,
        peer: request.extensions().get::<Peer>().map(|p| p.0.to_string()).unwrap_or_default(),
        started: Instant::now(),
        status: None,
        complete: false,
        trace,
        app: Arc::clone(&app),
    };
    app.metrics.in_flight().increment(1.0);
    let mut response = match check_host(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(e) => e.into_response(),
    };
    record.status = Some(response.status().as_u16());
    if record.route == MESSAGES {
        response.headers_mut().insert(ANTHROPIC_REQUEST_ID, id.clone());
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response.map(|inner| {
        record.complete = inner.is_end_stream();
        Body::new(ObservedBody { inner, record })
    })
}

fn request_id(request: &Request, own: Uuid) -> HeaderValue {
    let acceptable = |v: &&HeaderValue| {
        let bytes = v.as_bytes();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-:".contains(b);
        !bytes.is_empty() && bytes.len() <= MAX_REQUEST_ID && bytes.iter().all(plain)
    };
    let given = request.headers().get(REQUEST_ID).filter(acceptable).cloned();
    given.unwrap_or_else(|| {
        let id = own.to_string();
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-"))
    })
}

fn check_host(app: &App, request: &Request) -> Result<(), ApiError> {
    if !app.loopback {
        return Ok(());
    }
    // HTTP/1.0 clients may send none; a browser always does.
    let Some(host) = request.headers().get(header::HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    if is_local(host, &app.config.allowed_hosts) { Ok(()) } else { Err(ApiError::HostNotAllowed { host: host.into() }) }
}

/// Methods are a label, so there must be finitely many.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Logs and counts its request when dropped.
struct Record {
    id: HeaderValue,
    method: &'static str,
    route: String,
    peer: String,
    started: Instant,
    /// Absent until the answer has begun.
    status: Option<u16>,
    complete: bool,
    trace: Arc<Trace>,
    app: Arc<App>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let status = self.status.filter(|_| self.complete).unwrap_or(CLIENT_LEFT);
        let model = self.trace.model.get().map_or("", String::as_str);
        self.app.metrics.in_flight().decrement(1.0);
        self.app.metrics.request(&Ended { route: &self.route, method: self.method, model, status, duration });
        let late_error = self.trace.late_error.get();
        if let Some(span) = &self.trace.span {
            let left = (!self.complete).then_some(telemetry::CLIENT_LEFT);
            let error = late_error.map(ApiError::code).or(left);
            span.end(&HttpEnd { method: self.method, route: &self.route, status: self.status, error });
        }
        let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        tracing::info!(
            request_id = self.id.to_str().unwrap_or("-"),
            method = self.method,
            route = self.route,
            // A label must be one of ours; a log may say what else was asked for.
            model = self.trace.model.get().or(self.trace.asked_for.get()).map_or("", String::as_str),
            status,
            peer = self.peer,
            duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3,
            prompt_tokens = count(&self.trace.prompt_tokens),
            cached_tokens = count(&self.trace.cached_tokens),
            completion_tokens = count(&self.trace.completion_tokens),
            error = late_error.map(tracing::field::display),
            "request"
        );
    }
}

struct ObservedBody {
    inner: Body,
    record: Record,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        // A body of known length is not asked for the end after its last frame.
        if matches!(frame, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.record.complete = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
