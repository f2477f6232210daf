//! One request to one target, and its answer as it comes.

use std::error::Error as StdError;
use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connected;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::answer::{AnswerBody, BodyKind};
use crate::call::{Delivery, Outbound};
use crate::connect::{self, Answered};
use crate::error::Fault;
use crate::target::Target;
use crate::upstream::Flight;

/// Bytes kept of the body of an answer that is none of 2xx.
const ERROR_BODY: u64 = 256 << 10;
/// How long such a body may take once its headers are there.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

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

/// When an answer has to be where.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
    /// When the first byte of the body has to be there.
    first_byte: Instant,
    total: Instant,
    deadline: Instant,
    idle: Duration,
    began: bool,
}

impl Clock {
    fn new(target: &Target, deadline: Instant) -> Self {
        let start = Instant::now();
        let total = start + target.timeouts.total;
        Self { start, first_byte: total, total, deadline, idle: target.timeouts.idle, began: false }
    }

    fn before_first_byte(&self) -> Instant {
        self.first_byte.min(self.total).min(self.deadline)
    }

    fn fault_before_first_byte(&self, target: &Target) -> Fault {
        let at = self.before_first_byte();
        if at == self.deadline {
            Fault::Deadline
        } else if at == self.total {
            Fault::TotalTimeout { after: target.timeouts.total }
        } else {
            Fault::FirstByteTimeout { after: target.timeouts.first_byte }
        }
    }

    /// When the next piece of the body has to be there.
    fn next(&self, now: Instant) -> Instant {
        if self.began { (now + self.idle).min(self.total).min(self.deadline) } else { self.before_first_byte() }
    }

    fn fault(&self, now: Instant, target: &Target) -> Fault {
        if now >= self.deadline {
            Fault::Deadline
        } else if now >= self.total {
            Fault::TotalTimeout { after: target.timeouts.total }
        } else if self.began {
            Fault::IdleTimeout { after: self.idle }
        } else {
            Fault::FirstByteTimeout { after: target.timeouts.first_byte }
        }
    }
}

/// A body that is still coming, under its times and limits.
pub(crate) struct Streaming {
    /// Gone when the body failed: that closes the connection.
    incoming: Option<Incoming>,
    /// What came before the stream was handed over.
    first: Option<Bytes>,
    clock: Clock,
    timer: Pin<Box<Sleep>>,
    /// Whether `timer` is set for the piece that is waited for.
    armed: bool,
    taken: u64,
    limit: u64,
    status: StatusCode,
    ended: bool,
    flight: Flight,
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").field("taken", &self.taken).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Streaming {
    fn new(incoming: Incoming, clock: Clock, limit: u64, flight: Flight) -> Self {
        let timer = Box::pin(sleep_until(clock.before_first_byte()));
        let status = StatusCode::OK;
        let incoming = Some(incoming);
        Self { incoming, first: None, clock, timer, armed: true, taken: 0, limit, status, ended: false, flight }
    }

    /// The next piece, never empty; nothing at the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        while let Some(incoming) = self.incoming.as_mut().filter(|_| !self.ended) {
            let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
                if !std::mem::replace(&mut self.armed, true) {
                    let next = self.clock.next(Instant::now());
                    self.timer.as_mut().reset(next);
                }
                ready!(self.timer.as_mut().poll(cx));
                let fault = self.clock.fault(Instant::now(), &self.flight.upstream.target);
                return Poll::Ready(Some(Err(self.fail(fault))));
            };
            self.armed = false;
            match frame {
                // Trailers say nothing here.
                Some(Ok(frame)) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    if piece.is_empty() {
                        continue;
                    }
                    self.clock.began = true;
                    self.taken += piece.len() as u64;
                    if self.taken > self.limit {
                        let fault = Fault::BodyTooLarge { limit: self.limit };
                        return Poll::Ready(Some(Err(self.fail(fault))));
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Some(Err(error)) => {
                    let fault = Fault::Truncated { why: innermost(&error) };
                    return Poll::Ready(Some(Err(self.fail(fault))));
                }
                None => {
                    self.ended = true;
                    self.flight.answered(self.status);
                }
            }
        }
        Poll::Ready(None)
    }

    async fn piece(&mut self) -> Option<Result<Bytes, Fault>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.ended = true;
        self.incoming = None;
        self.flight.failed(&fault);
        fault
    }

    /// From now on what fails is the reader's to see.
    fn begun(&mut self, first: Option<Bytes>) {
        if !self.ended {
            self.flight.streaming();
        }
        self.first = first;
    }

    async fn rest(&mut self, first: Option<Bytes>) -> Result<Bytes, Fault> {
        let Some(first) = first else { return Ok(Bytes::new()) };
        let Some(second) = self.piece().await.transpose()? else { return Ok(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(piece) = self.piece().await.transpose()? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// As much of an error's body as comes soon and is not too much.
    async fn prefix(&mut self) -> (Bytes, Instant) {
        let mut all = BytesMut::new();
        let mut first_byte = None;
        let until = (Instant::now() + ERROR_BODY_TIME).min(self.clock.deadline);
        let Some(incoming) = &mut self.incoming else { return (Bytes::new(), Instant::now()) };
        while let Ok(Some(frame)) = timeout_at(until, incoming.frame()).await {
            let Ok(piece) = frame.map(|frame| frame.into_data().unwrap_or_default()) else { break };
            first_byte.get_or_insert_with(Instant::now);
            let room = (self.limit as usize).saturating_sub(all.len());
            all.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                break;
            }
        }
        (all.freeze(), first_byte.unwrap_or_else(Instant::now))
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
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
