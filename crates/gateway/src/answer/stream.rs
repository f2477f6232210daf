//! Answers as server-sent events.
//!
//! The status goes out with the first event, so whatever fails later is an event of its own: `data:` with the error
//! object, which OpenAI's clients raise. Every stream that the server ends itself ends with `data: [DONE]`.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream::StreamExt;
use serde::Serialize;
use tokio::time::timeout;

use super::choices::{Choices, Step, Tally};
use super::format::{Format, Head, StreamEvent};
use super::{Context, note};
use crate::error::ApiError;

/// Most events that are sent in one write.
const EVENTS_PER_WRITE: usize = 64;

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");
const HEARTBEAT: Bytes = Bytes::from_static(b": waiting\n\n");

/// An answer to be streamed.
pub(super) struct Stream<F> {
    pub(super) head: Head,
    pub(super) choices: Choices,
    pub(super) format: F,
    pub(super) include_usage: bool,
}

pub(super) fn response<F: Format>(context: Context, stream: Stream<F>) -> Response {
    // A client that fell behind gets what has gathered in one write.
    let writes = Box::pin(events(context, stream)).ready_chunks(EVENTS_PER_WRITE).map(|events| {
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
    (headers, Body::from_stream(writes)).into_response()
}

fn events<F: Format>(mut context: Context, stream: Stream<F>) -> impl futures::Stream<Item = Bytes> + Send {
    let Stream { head, mut choices, mut format, include_usage } = stream;
    let no_usage = include_usage.then_some(None);
    let heartbeat = context.app.config.timeouts.heartbeat;
    async_stream::stream! {
        let mut tally = Tally::default();
        for index in 0..choices.len() {
            if let Some(chunk) = format.chunk(&head, index, StreamEvent::Open, no_usage) {
                yield event(&chunk);
            }
        }
        loop {
            let next = context.bounds.run(timeout(heartbeat, choices.next())).await;
            let (index, step) = match next {
                Ok(Err(_elapsed)) => {
                    yield HEARTBEAT;
                    continue;
                }
                Ok(Ok(None)) => break,
                Ok(Ok(Some(Ok(step)))) => step,
                Ok(Ok(Some(Err(e)))) | Err(e) => {
                    yield event(&e.body());
                    // There is only one error per request.
                    let _ = context.trace.late_error.set(e);
                    yield DONE;
                    return;
                }
            };
            let step = match step {
                Step::Piece(piece) => StreamEvent::Piece(piece),
                Step::Finish(finished) => {
                    note(&context, &head, &finished);
                    tally.add(index, choices.per_prompt(), &finished);
                    StreamEvent::Close(finished.finish)
                }
            };
            if let Some(chunk) = format.chunk(&head, index, step, no_usage) {
                yield event(&chunk);
            }
        }
        if include_usage {
            yield event(&format.usage_chunk(&head, tally.usage()));
        }
        yield DONE;
    }
}

/// One event. JSON has no line breaks outside strings, and inside they are escaped, so one `data:` line holds it.
fn event(value: &impl Serialize) -> Bytes {
    let mut line = b"data: ".to_vec();
    match serde_json::to_writer(&mut line, value) {
        Ok(()) => {
            line.extend_from_slice(b"\n\n");
            line.into()
        }
        Err(e) => {
            // Unreachable with the wire types, whose keys are strings and whose numbers are finite.
            let _ = ApiError::internal(&e);
            Bytes::new()
        }
    }
}
