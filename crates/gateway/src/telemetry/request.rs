//! What becomes of a request, as its spans tell it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use axum::http::HeaderMap;
use bantam_ledger::{Outcome as Entry, TokenCounts};
use bantam_providers::answer::{self, Attempt};
use bantam_providers::target::Target;
use bantam_providers::trace::{TRACEPARENT, TraceContext};

use super::{AttemptSpan, Attribute, Ended, OpenSpan, Outcome, Place, Spans};

type Attributes = Vec<(&'static str, Attribute)>;

/// Who answers here, in the words of `gen_ai.provider.name`.
const HERE: &str = "bantam";

/// What ended a request whose client did not wait; nobody failed.
pub(crate) const CLIENT_LEFT: &str = "client_left";

/// The spans of a request while it is answered.
pub(crate) struct RequestSpan {
    context: TraceContext,
    state: Mutex<State>,
}

struct State {
    /// Gone when it has ended.
    open: Option<Box<dyn OpenSpan>>,
    ended: Ended,
}

/// What a request's end looks like from HTTP.
pub(crate) struct HttpEnd<'a> {
    pub(crate) method: &'static str,
    pub(crate) route: &'a str,
    /// The status that was sent, if one was.
    pub(crate) status: Option<u16>,
    /// What ended it otherwise than with its answer's last byte.
    pub(crate) error: Option<&'static str>,
}

impl RequestSpan {
    /// Begins the span of a request, below the client's span if it names one.
    pub(crate) fn begin(spans: &dyn Spans, name: String, headers: &HeaderMap) -> Self {
        let mut named = headers.get_all(TRACEPARENT).iter();
        let parent = match (named.next(), named.next()) {
            (Some(parent), None) => parent.to_str().ok().and_then(TraceContext::parse),
            _ => None,
        };
        let open = spans.begin(name, parent);
        Self { context: open.context(), state: Mutex::new(State { open: Some(open), ended: Ended::default() }) }
    }

    /// Its place in the trace.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A model here begins to answer.
    pub(crate) fn begins_here(&self, surface: &str, model: &str) {
        let mut attributes = vec![("gen_ai.provider.name", HERE.into())];
        let name = of_model(&mut attributes, surface, model);
        self.state().ended.attempts.push(AttemptSpan {
            context: self.context.child(),
            name,
            began: SystemTime::now(),
            ended: None,
            place: Place::Here,
            attributes,
            outcome: Outcome::Good,
        });
    }

    /// A call elsewhere that began at `since` took these attempts. If the last brought an answer, it stays open until that was read.
    pub(crate) fn attempts(&self, surface: &str, since: Instant, attempts: &[Attempt]) {
        let began = SystemTime::now().checked_sub(since.elapsed()).unwrap_or_else(SystemTime::now);
        let ended = &mut self.state().ended;
        for (i, attempt) in attempts.iter().enumerate() {
            let began = began + attempt.started;
            let mut attributes = elsewhere(&attempt.target);
            let name = of_model(&mut attributes, surface, &attempt.target.model);
            if i > 0 {
                attributes.push(("http.request.resend_count", (i as u64).into()));
            }
            let failed = match &attempt.outcome {
                answer::Outcome::Status(status) => {
                    attributes.push(("http.response.status_code", (*status).into()));
                    let failed = *status >= 400;
                    if failed {
                        attributes.push(("error.type", status.to_string().into()));
                    }
                    failed
                }
                answer::Outcome::Fault(fault) => {
                    attributes.push(("error.type", fault.kind().into()));
                    true
                }
            };
            let open = i + 1 == attempts.len() && !failed;
            ended.attempts.push(AttemptSpan {
                context: attempt.trace.unwrap_or_else(|| self.context.child()),
                name,
                began,
                ended: (!open).then(|| began + attempt.took),
                place: Place::Elsewhere,
                attributes,
                outcome: if failed { Outcome::Failed } else { Outcome::Good },
            });
        }
    }

    /// The answer that was being given has ended, and came to this.
    pub(crate) fn answered(&self, tokens: &TokenCounts, stop: Option<&str>) {
        if let Some(attempt) = self.state().ended.attempts.last_mut().filter(|attempt| attempt.ended.is_none()) {
            attempt.ended = Some(SystemTime::now());
            spent(&mut attempt.attributes, tokens, stop);
        }
    }

    /// Who was asked has no answer.
    pub(crate) fn passed_on(&self, error: &'static str) {
        if let Some(attempt) = self.state().ended.attempts.last_mut().filter(|attempt| attempt.ended.is_none()) {
            attempt.ended = Some(SystemTime::now());
            attempt.attributes.push(("error.type", error.into()));
            attempt.outcome = Outcome::Failed;
        }
    }

    /// What goes on record of it.
    pub(crate) fn recorded(&self, about: About<'_>, entry: &Entry) {
        let attributes = &mut self.state().ended.attributes;
        attributes.push(("gen_ai.operation.name", operation(about.surface).into()));
        attributes.push(("gen_ai.request.stream", Attribute::Flag(entry.streamed)));
        attributes.push(("bantam.request.id", about.id.into()));
        if let Some(model) = about.model {
            attributes.push(("gen_ai.request.model", model.into()));
        }
        if let Some(model) = &entry.model {
            attributes.push(("gen_ai.response.model", model.as_str().into()));
            attributes.push(("bantam.cost.nanodollars", Attribute::Number(entry.cost.0)));
            spent(attributes, &entry.tokens, entry.stop.as_deref());
        }
        if let Some(provider) = &entry.provider {
            attributes.push(("bantam.provider", provider.as_str().into()));
        }
        if let Some(error) = &entry.error {
            attributes.push(("error.type", error.as_str().into()));
        }
    }

    /// The request has ended.
    pub(crate) fn end(&self, http: &HttpEnd<'_>) {
        let mut state = self.state();
        let Some(open) = state.open.take() else { return };
        let mut ended = std::mem::take(&mut state.ended);
        drop(state);
        let attributes = &mut ended.attributes;
        attributes.push(("http.request.method", http.method.into()));
        attributes.push(("http.route", http.route.into()));
        if let Some(status) = http.status {
            attributes.push(("http.response.status_code", status.into()));
        }
        let failed = match http.error {
            Some(error) => error != CLIENT_LEFT,
            None => http.status.is_none_or(|status| status >= 500),
        };
        if (failed || http.error.is_some()) && !attributes.iter().any(|(name, _)| *name == "error.type") {
            let error = http.error.map(str::to_owned).or(http.status.map(|status| status.to_string()));
            attributes.push(("error.type", error.unwrap_or_else(|| "unknown".to_owned()).into()));
        }
        ended.outcome = if failed { Outcome::Failed } else { Outcome::Good };
        open.end(ended);
    }
}

/// What a request asked for.
pub(crate) struct About<'a> {
    /// Its name in the ledger.
    pub(crate) id: String,
    pub(crate) surface: &'a str,
    /// The name asked for, if there is such a route.
    pub(crate) model: Option<&'a str>,
}

/// Adds what a span about a model has, and makes its name.
fn of_model(attributes: &mut Attributes, surface: &str, model: &str) -> String {
    let operation = operation(surface);
    attributes.push(("gen_ai.operation.name", operation.into()));
    attributes.push(("gen_ai.request.model", model.into()));
    format!("{operation} {model}")
}

fn spent(attributes: &mut Attributes, tokens: &TokenCounts, stop: Option<&str>) {
    attributes.push(("gen_ai.usage.input_tokens", tokens.input.into()));
    attributes.push(("gen_ai.usage.output_tokens", tokens.output.into()));
    for (name, count) in [
        ("gen_ai.usage.cache_read.input_tokens", tokens.cached),
        ("gen_ai.usage.reasoning.output_tokens", tokens.reasoning),
    ] {
        if count > 0 {
            attributes.push((name, count.into()));
        }
    }
    if let Some(stop) = stop {
        attributes.push(("gen_ai.response.finish_reasons", Attribute::Texts(vec![stop.to_owned()])));
    }
}

fn elsewhere(target: &Target) -> Attributes {
    let base = target.base_url();
    let port = base.port_u16().unwrap_or(if base.scheme_str() == Some("https") { 443 } else { 80 });
    vec![
        ("gen_ai.provider.name", provider(&target.preset.name).into()),
        ("server.address", base.host().unwrap_or_default().into()),
        ("server.port", port.into()),
        ("http.request.method", "POST".into()),
    ]
}

/// The conventions' word for what a surface does.
fn operation(surface: &str) -> &'static str {
    match surface {
        "completions" => "text_completion",
        "embeddings" => "embeddings",
        _ => "chat",
    }
}

/// The conventions' name for a kind of server; the kinds that it has no name for keep ours.
fn provider(preset: &str) -> &str {
    match preset {
        "azure" => "azure.ai.openai",
        "gemini" => "gcp.gemini",
        "mistral" => "mistral_ai",
        other => other,
    }
}
