//! From a reply to the client: whole answers and server-sent events.
//!
//! The status goes out with the first event, so whatever fails later is an event of its own. What says that an answer has ended is held back until the
//! answer is on record; everything before it goes out as it comes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::app::{App, Bounds};
use crate::error::ApiError;
use crate::observe::Trace;
use crate::reply::{Part, Reply};

/// Most events that are sent in one write.
const EVENTS_PER_WRITE: usize = 64;

const DONE: &[u8] = b"data: [DONE]\n\n";
const HEARTBEAT: Bytes = Bytes::from_static(b": waiting\n\n");

/// What an answer holds until it has ended.
pub(crate) struct Relay {
    pub(crate) app: Arc<App>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) bounds: Bounds,
    /// The request's place among the concurrent ones.
    pub(crate) place: OwnedSemaphorePermit,
}

impl Relay {
    /// Writes the reply to the client.
    pub(crate) fn respond(self, reply: Reply) -> Response {
        match reply {
            Reply::Whole { body, .. } => {
                ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
            }
            Reply::Stream(parts) => self.stream(parts),
        }
    }

    fn stream(self, parts: BoxStream<'static, Result<Part, ApiError>>) -> Response {
        // A client that fell behind gets what has gathered in one write.
        let writes = Box::pin(self.events(parts)).ready_chunks(EVENTS_PER_WRITE).map(|events| {
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

    fn events(
        mut self,
        mut parts: BoxStream<'static, Result<Part, ApiError>>,
    ) -> impl futures::Stream<Item = Bytes> + Send {
        let heartbeat = self.app.config.timeouts.heartbeat;
        async_stream::stream! {
            let _place = self.place;
            // What is held back once the answer only has to say that it has ended.
            let mut last: Option<BytesMut> = None;
            loop {
                let part = match self.bounds.run(timeout(heartbeat, parts.next())).await {
                    Ok(Err(_elapsed)) => {
                        yield HEARTBEAT;
                        continue;
                    }
                    Ok(Ok(None)) => break,
                    Ok(Ok(Some(Ok(part)))) => part,
                    Ok(Ok(Some(Err(e)))) | Err(e) => {
                        let mut error = last.unwrap_or_default();
                        error.extend_from_slice(&event(&e.body_bytes()));
                        error.extend_from_slice(DONE);
                        // There is only one error per request.
                        let _ = self.trace.late_error.set(e);
                        yield error.freeze();
                        return;
                    }
                };
                match part {
                    Part::Event(data) => match &mut last {
                        Some(last) => last.extend_from_slice(&event(&data)),
                        None => yield event(&data),
                    },
                    Part::Noted(_) => {}
                    Part::Ending => last = Some(BytesMut::new()),
                }
            }
            let mut last = last.unwrap_or_default();
            last.extend_from_slice(DONE);
            yield last.freeze();
        }
    }
}

/// One event, of data that stands on one line.
fn event(data: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(data.len() + 8);
    line.extend_from_slice(b"data: ");
    line.extend_from_slice(data);
    line.extend_from_slice(b"\n\n");
    line.into()
}
