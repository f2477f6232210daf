//! One request to one target, and its answer as it comes.

use std::error::Error as StdError;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connected;
use tokio::time::{Instant, timeout_at};

use crate::answer::{AnswerBody, BodyKind};
use crate::call::{Delivery, Outbound};
use crate::connect::{self, Answered};
use crate::error::Fault;
use crate::streaming::{Clock, Streaming};
use crate::target::Target;
use crate::trace::{TRACEPARENT, TraceContext};
use crate::upstream::Flight;

/// Bytes kept of the body of an answer that is none of 2xx.
const ERROR_BODY: u64 = 256 << 10;

/// Headers of a caller that are never passed on: those of its connection, those that the client sets, and credentials, which are for us and
/// not for the upstream.
const NOT_PASSED: [&str; 20] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "forwarded",
    "x-forwarded-for",
];

/// An answer whose headers are there, and whose body is there as far as it was wanted.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
    /// When the first byte of the body came.
    pub(crate) first_byte: Instant,
}

/// How one request is made.
pub(crate) struct Exchange<'a> {
    pub(crate) outbound: &'a Outbound,
    pub(crate) delivery: Delivery,
    pub(crate) deadline: Instant,
    pub(crate) trace: Option<TraceContext>,
}

impl Exchange<'_> {
    /// Sends the request and waits for as much of the answer as is wanted.
    pub(crate) async fn run(&self, mut flight: Flight) -> Result<Reply, Fault> {
        match self.attempt(&mut flight).await {
            Ok((response, clock)) => self.receive(response, clock, flight).await,
            Err(fault) => {
                flight.failed(&fault);
                Err(fault)
            }
        }
    }

    async fn attempt(&self, flight: &mut Flight) -> Result<(Response<Incoming>, Clock), Fault> {
        let upstream = &flight.upstream;
        let mut clock = Clock::new(&upstream.target, self.deadline);
        if self.delivery == Delivery::Stream {
            clock.first_byte = clock.start + upstream.target.timeouts.first_byte;
        }
        let mut sending = pin!(upstream.http.request(self.request(&upstream.target)?));
        let mut fresh = false;
        loop {
            let sent = timeout_at(clock.before_first_byte(), &mut sending).await;
            let error = match sent.map_err(|_| clock.fault_before_first_byte(&upstream.target))? {
                Ok(response) => {
                    if let Some(answered) = response.extensions().get::<Answered>() {
                        answered.set();
                    }
                    return Ok((response, clock));
                }
                Err(error) => error,
            };
            let (fault, reused) = describe(&error, &upstream.target);
            // The server closed a connection that had been idle while the request was on its way.
            if fault != Fault::Closed || !reused || fresh {
                return Err(fault);
            }
            fresh = true;
            sending.set(upstream.http.request(self.request(&upstream.target)?));
        }
    }

    fn request(&self, target: &Target) -> Result<Request<Full<Bytes>>, Fault> {
        let api = self.outbound.api;
        let address = target.addresses.get(&api).ok_or(Fault::NoApi { api })?;
        let mut request = Request::new(Full::new(self.outbound.body.clone()));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = address.clone();
        *request.headers_mut() = target.headers.clone();
        for (name, value) in &self.outbound.headers {
            if !NOT_PASSED.contains(&name.as_str()) && !target.headers.contains_key(name) {
                request.headers_mut().append(name, value.clone());
            }
        }
        if let Some(trace) = self.trace {
            request.headers_mut().insert(TRACEPARENT, trace.header());
        }
        Ok(request)
    }

    async fn receive(&self, response: Response<Incoming>, clock: Clock, mut flight: Flight) -> Result<Reply, Fault> {
        let (parts, incoming) = response.into_parts();
        let (status, headers) = (parts.status, parts.headers);
        if status.is_redirection() || status.is_informational() {
            let fault = Fault::Redirect { status: status.as_u16() };
            flight.failed(&fault);
            return Err(fault);
        }
        let limit = if status.is_success() { flight.upstream.target.limits.body_bytes } else { ERROR_BODY };
        let mut streaming = Streaming::new(incoming, clock, limit, flight);
        let page = headers.get(header::CONTENT_TYPE).filter(|value| value.as_bytes().starts_with(b"text/html"));
        if let Some(page) = page.filter(|_| status.is_success()) {
            let content_type = String::from_utf8_lossy(page.as_bytes()).into_owned();
            return Err(streaming.fail(Fault::NotApi { content_type }));
        }
        if !status.is_success() {
            let (body, first_byte) = streaming.prefix().await;
            streaming.flight.answered(status);
            return Ok(Reply { status, headers, body: AnswerBody(BodyKind::Whole(body)), first_byte });
        }
        streaming.status = status;
        let first = streaming.piece().await.transpose()?;
        let first_byte = Instant::now();
        streaming.flight.first_byte(first_byte);
        let body = match self.delivery {
            Delivery::Whole => BodyKind::Whole(streaming.rest(first).await?),
            Delivery::Stream => {
                streaming.begun(first);
                BodyKind::Streaming(Box::new(streaming))
            }
        };
        Ok(Reply { status, headers, body: AnswerBody(body), first_byte })
    }
}

/// What a failed request means, and whether its connection had brought answers before.
fn describe(error: &legacy::Error, target: &Target) -> (Fault, bool) {
    let reused = error.connect_info().and_then(answered).is_some_and(|answered| answered.get());
    if error.is_connect() {
        return (connect_fault(error, target), reused);
    }
    let Some(inner) = error.source().and_then(|source| source.downcast_ref::<hyper::Error>()) else {
        return (Fault::Closed, reused);
    };
    let broken_pipe = find::<std::io::Error>(inner).is_some();
    let fault = if inner.is_parse() || inner.is_parse_too_large() {
        Fault::Protocol { why: innermost(inner) }
    } else if inner.is_incomplete_message() || inner.is_canceled() || inner.is_closed() || broken_pipe {
        Fault::Closed
    } else {
        Fault::Protocol { why: innermost(inner) }
    };
    (fault, reused)
}

fn connect_fault(error: &legacy::Error, target: &Target) -> Fault {
    if find::<connect::TimedOut>(error).is_some() {
        return Fault::ConnectTimeout { after: target.timeouts.connect };
    }
    if find::<connect::Public>(error).is_some() {
        return Fault::PublicPlainHttp;
    }
    Fault::Connect { why: innermost(error) }
}

fn answered(info: &Connected) -> Option<Answered> {
    let mut extras = hyper::http::Extensions::new();
    info.get_extras(&mut extras);
    extras.get::<Answered>().cloned()
}

/// The first error of a type in a chain of causes.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An I/O error shows the cause of what it wraps, not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        if let Some(found) = wrapped.and_then(|inner| inner.downcast_ref::<E>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What is at the bottom of an error.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
