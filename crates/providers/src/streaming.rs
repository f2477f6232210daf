//! An answer that is coming: its times and its limits.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::error::Fault;
use crate::exchange::innermost;
use crate::target::Target;
use crate::upstream::Flight;

/// How long the body of an answer that is none of 2xx may take once its headers are there.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// When an answer has to be where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) start: Instant,
    /// When the first byte of the body has to be there.
    pub(crate) first_byte: Instant,
    total: Instant,
    deadline: Instant,
    idle: Duration,
    began: bool,
}

impl Clock {
    pub(crate) fn new(target: &Target, deadline: Instant) -> Self {
        let start = Instant::now();
        let total = start + target.timeouts.total;
        Self { start, first_byte: total, total, deadline, idle: target.timeouts.idle, began: false }
    }

    pub(crate) fn before_first_byte(&self) -> Instant {
        self.first_byte.min(self.total).min(self.deadline)
    }

    pub(crate) fn fault_before_first_byte(&self, target: &Target) -> Fault {
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
    /// Of the answer, for what it counts as at its end.
    pub(crate) status: StatusCode,
    ended: bool,
    pub(crate) flight: Flight,
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").field("taken", &self.taken).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Streaming {
    pub(crate) fn new(incoming: Incoming, clock: Clock, limit: u64, flight: Flight) -> Self {
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

    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, Fault>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    pub(crate) fn fail(&mut self, fault: Fault) -> Fault {
        self.ended = true;
        self.incoming = None;
        self.flight.failed(&fault);
        fault
    }

    /// From now on what fails is the reader's to see.
    pub(crate) fn begun(&mut self, first: Option<Bytes>) {
        if !self.ended {
            self.flight.streaming();
        }
        self.first = first;
    }

    pub(crate) async fn rest(&mut self, first: Option<Bytes>) -> Result<Bytes, Fault> {
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
    pub(crate) async fn prefix(&mut self) -> (Bytes, Instant) {
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
