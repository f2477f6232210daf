//! From a reply to the client: whole answers and server-sent events, in the client's own API.
//!
//! The status goes out with the first event, so whatever fails later is an event of its own. What says that an answer has ended is held back until the
//! answer is on record; everything before it goes out as it comes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bantam_pii::Pseudonyms;
use bantam_providers::target::Target;
use bantam_providers::wire::probe::{Probe, Said};
use bantam_providers::wire::{self, AnswerOptions, Api, SseEvent};
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::app::{App, Bounds};
use crate::config::Bodies;
use crate::counted;
use crate::error::ApiError;
use crate::flow::{Account, Asked};
use crate::keep;
use crate::observe::Trace;
use crate::reply::{Noted, Part, Reply};
use crate::restore::{self, Restoring};

/// Most events that are sent in one write.
const EVENTS_PER_WRITE: usize = 64;

/// Most bytes of a stream that are kept.
const MAX_KEPT: usize = 4 << 20;

const HEARTBEAT: Bytes = Bytes::from_static(b": waiting\n\n");

/// What an answer holds until it has ended.
pub(crate) struct Relay {
    pub(crate) app: Arc<App>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) bounds: Bounds,
    /// The request's place among the concurrent ones.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) account: Account,
    /// In whose form the reply is.
    pub(crate) from: Api,
    /// The server that it comes from, if it does.
    pub(crate) target: Option<Arc<Target>>,
    pub(crate) asked: Arc<Asked>,
    pub(crate) options: AnswerOptions,
    /// What the reply's pseudonyms stand for, if it has any.
    pub(crate) pseudonyms: Option<Arc<Pseudonyms>>,
}

impl Relay {
    /// Writes the reply to the client; a whole one when it is on record.
    pub(crate) async fn respond(self, reply: Reply) -> Result<Response, ApiError> {
        match reply {
            Reply::Stream(parts) => self.stream(parts),
            Reply::Whole { body, noted } => self.whole(body, Some(noted)).await,
            Reply::Upstream(body) => self.whole(body, None).await,
        }
    }

    async fn whole(mut self, body: Bytes, noted: Option<Noted>) -> Result<Response, ApiError> {
        let written = self.write_whole(body, noted);
        self.account.first_token();
        let body = match written {
            Ok(body) => body,
            Err(error) => {
                self.account.fail(&error).await;
                return Err(error);
            }
        };
        let Self { app, asked, mut account, .. } = self;
        account.keep(keep::request(&app, &asked), keep::answer(&app, asked.api, &body));
        account.close().await?;
        Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
    }

    fn write_whole(&mut self, mut body: Bytes, noted: Option<Noted>) -> Result<Bytes, ApiError> {
        let to = self.asked.api;
        let noted = match noted {
            Some(noted) if self.from == to => {
                self.spent(noted);
                return Ok(body);
            }
            noted => noted,
        };
        let no_json = |e| wire::WireError::Answer { path: ".".into(), why: format!("it is not JSON: {e}") };
        let mut value: Value = serde_json::from_slice(&body).map_err(no_json)?;
        if let Some(error) = wire::event_error(&value) {
            let error = ApiError::upstream(error, self.target.as_deref());
            // A response that failed says so in a field of its own.
            let failed = value.get_mut("error").filter(|_| self.from == Api::Responses);
            let failed = failed.ok_or_else(|| error.clone())?;
            *failed = serde_json::json!({"code": failed["code"], "message": error.to_string()});
            body = serde_json::to_vec(&value).map_err(|e| ApiError::internal(&e))?.into();
        }
        match noted {
            Some(noted) => self.spent(noted),
            None => {
                let mut probe = Probe::default();
                probe.body(self.from, &value);
                let mut said = Said::default();
                said.body(self.from, &body).map_err(no_json)?;
                self.account.spent(counted::whole(&self.asked, probe.usage(), &said), probe.finish);
            }
        }
        match &self.pseudonyms {
            Some(pseudonyms) => restore::whole(pseudonyms, self.from, &mut value),
            None if self.from == to => return Ok(body),
            None => {}
        }
        let value = wire::response(value, self.from, to, &self.options)?;
        Ok(serde_json::to_vec(&value).map_err(|e| ApiError::internal(&e))?.into())
    }

    /// Adds up what an answer of this process came to.
    fn spent(&mut self, noted: Noted) {
        self.account.spent(noted.tokens(), noted.finish);
        self.account.drawn(noted.drawn);
    }

    fn stream(self, parts: BoxStream<'static, Result<Part, ApiError>>) -> Result<Response, ApiError> {
        let stream = wire::Stream::new(self.from, self.asked.api, self.options.clone())?;
        // A client that fell behind gets what has gathered in one write.
        let writes = Box::pin(self.events(stream, parts)).ready_chunks(EVENTS_PER_WRITE).map(|events| {
            let mut events = events.into_iter();
            let first = events.next().unwrap_or_default();
            let rest = events.as_slice();
            if rest.is_empty() {
                return Ok::<Bytes, Infallible>(first);
            }
            let mut write = BytesMut::from(first);
            events.for_each(|e| write.extend_from_slice(&e));
            Ok(write.freeze())
        });
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            // Reverse proxies that buffer (nginx) would turn the stream into a whole answer.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        Ok((headers, Body::from_stream(writes)).into_response())
    }

    fn events(
        mut self,
        mut stream: wire::Stream,
        mut parts: BoxStream<'static, Result<Part, ApiError>>,
    ) -> impl futures::Stream<Item = Bytes> + Send {
        let heartbeat = self.app.config.timeouts.heartbeat;
        let (api, trace) = (self.asked.api, Arc::clone(&self.trace));
        let restoring = self.pseudonyms.take().map(|pseudonyms| restore::stream(pseudonyms, self.asked.api));
        async_stream::stream! {
            let mut state = Streaming { restoring, ..Streaming::default() };
            loop {
                let part = match self.bounds.run(timeout(heartbeat, parts.next())).await {
                    Ok(Err(_elapsed)) => {
                        yield HEARTBEAT;
                        continue;
                    }
                    Ok(Ok(None)) => break,
                    Ok(Ok(Some(part))) => part,
                    Err(error) => Err(error),
                };
                match part.and_then(|part| state.take(&mut self, &mut stream, part)) {
                    Ok(Some(write)) => yield write,
                    Ok(None) => {}
                    Err(error) => {
                        yield self.broken(state, error).await;
                        return;
                    }
                }
            }
            match self.ended(&mut state, &mut stream).await {
                Ok(last) => yield last,
                Err(error) => yield ended_by(api, &trace, error),
            }
        }
    }

    /// What a client is told of an answer that broke off, when that is on record.
    async fn broken(self, state: Streaming, error: ApiError) -> Bytes {
        let Relay { app, mut account, asked, trace, .. } = self;
        account.keep(keep::request(&app, &asked), keep::events(&app, asked.api, &state.kept));
        account.fail(&error).await;
        ended_by(asked.api, &trace, error)
    }

    /// The end of the answer, when the answer is on record.
    async fn ended(self, state: &mut Streaming, stream: &mut wire::Stream) -> Result<Bytes, ApiError> {
        let Relay { app, mut account, asked, place: _place, .. } = self;
        let finished = stream.finish().map_err(ApiError::from);
        match state.noted.take() {
            Some(noted) => {
                account.spent(noted.tokens(), noted.finish);
                account.drawn(noted.drawn);
            }
            None => {
                let count = if finished.is_ok() { counted::whole } else { counted::so_far };
                let tokens = count(&asked, stream.probe().usage(), &state.said);
                account.spent(tokens, stream.probe().finish.clone());
            }
        }
        account.keep(keep::request(&app, &asked), keep::events(&app, asked.api, &state.kept));
        if let Err(error) = finished {
            account.fail(&error).await;
            return Err(error);
        }
        account.close().await?;
        Ok(std::mem::take(&mut state.held).into())
    }
}

/// How far a streamed answer is.
#[derive(Default)]
struct Streaming {
    /// What only says that the answer has ended.
    held: Vec<u8>,
    holding: bool,
    noted: Option<Noted>,
    /// What was said so far.
    said: Said,
    out: Vec<SseEvent>,
    restoring: Option<Restoring>,
    /// What the client was sent, for the record.
    kept: Vec<u8>,
}

impl Streaming {
    /// What to write for a part, unless it is held back.
    fn take(&mut self, relay: &mut Relay, stream: &mut wire::Stream, part: Part) -> Result<Option<Bytes>, ApiError> {
        let event = match part {
            Part::Event(event) => event,
            Part::Noted(noted) => {
                self.noted = Some(noted);
                return Ok(None);
            }
            Part::Ending => {
                self.holding = true;
                return Ok(None);
            }
        };
        if event.data != "[DONE]" && self.said.event(relay.from, &event.data).is_err() {
            return Err(wire::WireError::Answer { path: ".".into(), why: "an event is not JSON".into() }.into());
        }
        // What comes before the first text says who speaks and nothing else.
        if self.said.tokens() > 0 {
            relay.account.first_token();
        }
        let pushed = stream.push(&event, &mut self.out);
        relay.account.heard(|| counted::so_far(&relay.asked, stream.probe().usage(), &self.said));
        pushed?;
        if let wire::Outcome::Failed(error) = stream.outcome() {
            // In our words: the server's may hold our key.
            return Err(ApiError::upstream(error.clone(), relay.target.as_deref()));
        }
        if let Some(restoring) = &mut self.restoring {
            let translated = std::mem::take(&mut self.out);
            translated.into_iter().for_each(|event| restoring.push(event, &mut self.out));
        }
        // With several answers the first to end is not the end.
        let one_ended = relay.asked.n == 1 && stream.probe().finish.is_some();
        self.holding |= one_ended || *stream.outcome() != wire::Outcome::Open;
        let mut write = Vec::new();
        self.out.drain(..).for_each(|event| event.write(&mut write));
        if relay.app.bodies != Bodies::None && self.kept.len() + write.len() <= MAX_KEPT {
            self.kept.extend_from_slice(&write);
        }
        if self.holding {
            self.held.append(&mut write);
        }
        Ok((!write.is_empty()).then(|| write.into()))
    }
}

/// The error as the last event: what says that the answer has ended, which was held back, would be believed.
fn ended_by(api: Api, trace: &Trace, error: ApiError) -> Bytes {
    let mut write = Vec::new();
    wire::error_event(api, &error.fault()).write(&mut write);
    // There is only one error per request.
    let _ = trace.late_error.set(error);
    write.into()
}
