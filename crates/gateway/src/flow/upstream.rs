//! Answers of models elsewhere.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, StatusCode, header};
use bantam_ledger::Attempt;
use bantam_providers::answer::{AnswerBody, Answered as Received, Outcome};
use bantam_providers::call::{Call, Delivery, Outbound, Refusal};
use bantam_providers::error::{CallError, CallErrorKind, Fault};
use bantam_providers::plan::Plan;
use bantam_providers::target::Target;
use bantam_providers::wire::probe::Said;
use bantam_providers::wire::{self, Api, SseParser};
use futures::StreamExt;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::account::{Account, Answerer, micros};
use super::route::Leaving;
use super::{Answered, Asked, Scope};
use crate::counted;
use crate::error::ApiError;
use crate::reply::{Part, Reply};
use crate::telemetry::RequestSpan;

/// Headers that mean something to upstreams of the client's own kind.
const PASSED: [&str; 2] = ["anthropic-version", "anthropic-beta"];

pub(super) fn passed(headers: &HeaderMap) -> HeaderMap {
    let named = PASSED.iter().filter_map(|name| Some((name, headers.get(*name)?)));
    named.map(|(name, value)| (axum::http::HeaderName::from_static(name), value.clone())).collect()
}

/// Which of its APIs a target is asked by: the client's own if it has that.
fn native(asked: Api, target: &Target) -> Api {
    let has = |api: Api| target.has(api);
    match asked {
        Api::Completions | Api::Embeddings => asked,
        _ if has(asked) => asked,
        _ if has(Api::Chat) => Api::Chat,
        _ => Api::Messages,
    }
}

impl Scope {
    pub(super) async fn upstream(&mut self, plan: &Plan, account: &mut Account) -> Result<Answered, ApiError> {
        let asked = Arc::clone(&self.asked);
        // Whoever begins to answer has read the prompt.
        let read = counted::so_far(&asked, None, &Said::default());
        let sent = account.sent();
        let outgoing = |target: &Target| {
            let outbound = self.outbound(target)?;
            sent.to(hosted(target), read);
            Ok(outbound)
        };
        let delivery = if asked.stream { Delivery::Stream } else { Delivery::Whole };
        let span = self.trace.span.as_ref();
        let trace = span.map(RequestSpan::context);
        let call = Call { outgoing: &outgoing, delivery, deadline: self.bounds.deadline(), trace };
        let began = Instant::now();
        let (live, mut bounds) = (Arc::clone(&self.live), self.bounds.clone());
        let called = async {
            // The request is put on record while its answer is under way. Where it cannot be, nobody waits for the answer.
            let called = async { Ok(live.upstreams.call(plan, call).await) };
            let (called, ()) = tokio::try_join!(called, account.durable())?;
            if let Some(span) = span {
                let attempts = called.as_ref().map_or_else(|error| &error.attempts, |received| &received.attempts);
                span.attempts(asked.api.name(), began, attempts);
            }
            Ok::<_, ApiError>(called)
        };
        let called = bounds.run(called).await?;
        sent.over();
        let Received { target, status, headers, body, attempts } = match called? {
            Ok(received) => received,
            Err(CallError { attempts, kind }) => {
                account.attempts(attempts.iter().map(attempt));
                return Err(kind.into());
            }
        };
        let api = native(asked.api, &target);
        if !status.is_success() {
            account.attempts(attempts.iter().map(attempt));
            let body = body.collect().await.unwrap_or_default();
            let mut error = wire::upstream_error(status.as_u16(), &body);
            if let Some(wait) = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()) {
                error = error.with_retry_after(wait);
            }
            return Err(ApiError::upstream(error, Some(&target)));
        }
        account.attempts(attempts.iter().rev().skip(1).rev().map(attempt));
        let by = hosted(&target);
        account.answers(by.clone());
        account.heard(|| read);
        let reply = if asked.stream {
            Reply::Stream(parts(body).boxed())
        } else {
            let body = body.collect().await.map_err(|fault| ApiError::no_upstream(&fault))?;
            Reply::Upstream(body)
        };
        let pseudonyms = match self.leaving(&target.attributes) {
            Some(Leaving::Redacted(redacted)) if !redacted.pseudonyms.is_empty() => {
                account.decided("redacted", redacted.pseudonyms.len());
                Some(Arc::clone(&redacted.pseudonyms))
            }
            _ => None,
        };
        Ok(Answered { reply, api, by, target: Some(target), pseudonyms })
    }

    /// The request as a target takes it.
    fn outbound(&self, target: &Target) -> Result<Outbound, Refusal> {
        let body = match self.leaving(&target.attributes) {
            Some(Leaving::AsItIs) => &self.asked.body,
            Some(Leaving::Redacted(redacted)) => &redacted.body,
            // Such a target is in no plan.
            None => return Err(Box::new(ApiError::MustStay { rule: "policy".into() })),
        };
        outbound(&self.asked, body, target, &self.passed)
    }
}

fn outbound(asked: &Asked, body: &Value, target: &Target, passed: &HeaderMap) -> Result<Outbound, Refusal> {
    let api = native(asked.api, target);
    let body = match api == asked.api {
        true => Cow::Borrowed(body),
        false => Cow::Owned(wire::request(body.clone(), asked.api, api)?),
    };
    let mut fields = Fields(body.as_object().into_iter().flatten().map(|(k, v)| (&**k, Cow::Borrowed(v))).collect());
    *fields.entry("model").to_mut() = target.model.as_str().into();
    if asked.stream && matches!(api, Api::Chat | Api::Completions) {
        // Without it the tokens of a stream would not be known.
        let options = fields.entry("stream_options").to_mut();
        if options.is_null() {
            *options = json!({});
        }
        if let Some(options) = options.as_object_mut() {
            options.insert("include_usage".into(), true.into());
        }
    }
    if let Some(name) = target.preset.max_tokens.as_deref().filter(|_| api == Api::Chat) {
        fields.rename("max_tokens", name);
    }
    let headers = if api == Api::Messages { passed.clone() } else { HeaderMap::new() };
    Ok(Outbound { api, headers, body: serde_json::to_vec(&fields)?.into() })
}

/// A body's fields, of which only those that change are copied: the others may be long.
struct Fields<'a>(Vec<(&'a str, Cow<'a, Value>)>);

impl<'a> Fields<'a> {
    /// A field, null if it was not there.
    fn entry(&mut self, name: &'a str) -> &mut Cow<'a, Value> {
        let at = self.0.iter().position(|(key, _)| *key == name).unwrap_or_else(|| {
            self.0.push((name, Cow::Owned(Value::Null)));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Gives a field another name, unless there is one of that name.
    fn rename(&mut self, from: &str, to: &'a str) {
        if self.0.iter().all(|(key, _)| *key != to)
            && let Some((key, _)) = self.0.iter_mut().find(|(key, _)| *key == from)
        {
            *key = to;
        }
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The events of a streamed answer.
fn parts(mut body: AnswerBody) -> impl futures::Stream<Item = Result<Part, ApiError>> + Send {
    async_stream::try_stream! {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|fault| ApiError::no_upstream(&fault))?;
            parser.push(&piece, &mut events)?;
            for event in events.drain(..) {
                yield Part::Event(event);
            }
        }
    }
}

fn hosted(target: &Target) -> Answerer {
    Answerer::Hosted { provider: provider(target).into(), preset: &target.preset.name, model: target.model.clone() }
}

/// The configuration's name for who serves a target.
fn provider(target: &Target) -> &str {
    target.name.split('/').next().unwrap_or(&target.name)
}

fn attempt(attempt: &bantam_providers::answer::Attempt) -> Attempt {
    let (status, error) = match &attempt.outcome {
        Outcome::Status(status) => (Some(*status), None),
        Outcome::Fault(fault) => (None, Some(fault.kind().to_owned())),
    };
    Attempt {
        provider: provider(&attempt.target).into(),
        model: attempt.target.model.clone(),
        status,
        error,
        latency_us: micros(attempt.took),
        ..Attempt::default()
    }
}

impl ApiError {
    fn no_upstream(fault: &Fault) -> Self {
        Self::NoUpstream { why: fault.to_string(), status: StatusCode::BAD_GATEWAY, retry_after: None }
    }
}

impl From<CallErrorKind> for ApiError {
    fn from(kind: CallErrorKind) -> Self {
        let why = kind.to_string();
        let (status, retry_after) = match kind {
            // The same request would fail the same way.
            CallErrorKind::Failed { target, fault: fault @ Fault::NoApi { .. } } => {
                return Self::unsupported("model", format!("'{target}': {fault}"));
            }
            CallErrorKind::Failed { .. } => (StatusCode::BAD_GATEWAY, None),
            CallErrorKind::Unavailable { retry_after } => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(retry_after.as_secs().max(1)))
            }
            CallErrorKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            CallErrorKind::Deadline => (StatusCode::GATEWAY_TIMEOUT, None),
            CallErrorKind::Refused(refusal) => match refusal.downcast::<wire::WireError>() {
                Ok(error) => return (*error).into(),
                Err(other) => return Self::internal(&other),
            },
        };
        Self::NoUpstream { why, status, retry_after }
    }
}
