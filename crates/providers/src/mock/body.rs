//! Bodies that come in their own time, and end as they should or not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep};

use super::Shared;

/// A server-sent event as it is written.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) bytes: Vec<u8>,
    /// Whether it is one for which a model would have to compute.
    pub(super) is_token: bool,
}

impl Event {
    /// Stands for the time of sending, of which it has the length.
    pub(super) const STAMP: &'static str = "t=0000000000000000000 ";

    pub(super) fn data(data: &Value) -> Self {
        Self { bytes: format!("data: {data}\n\n").into_bytes(), is_token: false }
    }

    pub(super) fn done() -> Self {
        Self { bytes: b"data: [DONE]\n\n".to_vec(), is_token: false }
    }

    /// An event with a name, which its data has as `type`.
    pub(super) fn named(name: &str, data: &Value) -> Self {
        let mut whole = json!({"type": name});
        if let (Some(whole), Some(data)) = (whole.as_object_mut(), data.as_object()) {
            whole.extend(data.clone());
        }
        Self { bytes: format!("event: {name}\ndata: {whole}\n\n").into_bytes(), is_token: false }
    }

    pub(super) fn token(self) -> Self {
        Self { is_token: true, ..self }
    }
}

/// A part of a body, and how long after the one before it is sent.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) wait: Duration,
    pub(super) bytes: Vec<u8>,
}

/// What comes after the last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Clean,
    /// The connection is closed.
    Abort,
    /// Nothing, for ever.
    Silence,
}

/// Counts how a request ended: at the end of its answer, or before.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    done: bool,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, done: false }
    }

    pub(super) fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let counter = if self.done { &self.shared.answered } else { &self.shared.disconnects };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(super) enum MockBody {
    /// All at once.
    Whole(Option<Bytes>, Watch),
    /// So many bytes.
    Huge(u64, Watch),
    Paced(Box<Paced>),
}

#[derive(Debug)]
pub(super) struct Paced {
    pieces: std::vec::IntoIter<Piece>,
    next: Option<Piece>,
    timer: Option<Pin<Box<Sleep>>>,
    ending: Ending,
    length: Option<u64>,
    watch: Watch,
}

/// Between the last piece and the closing of the connection, so that the piece is sent.
const BEFORE_ABORT: Duration = Duration::from_millis(30);

impl Paced {
    /// `length` is the length that the answer's headers promise, if they do.
    pub(super) fn new(pieces: Vec<Piece>, ending: Ending, length: Option<u64>, watch: Watch) -> Self {
        Self { pieces: pieces.into_iter(), next: None, timer: None, ending, length, watch }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
                if self.next.is_none() {
                    self.watch.done();
                    return Poll::Ready(Some(Err(io::Error::other("the behaviour ends the answer here"))));
                }
            }
            if let Some(piece) = self.next.take() {
                let mut bytes = piece.bytes;
                stamp(&mut bytes);
                return Poll::Ready(Some(Ok(bytes.into())));
            }
            self.next = self.pieces.next();
            match (&self.next, self.ending) {
                (Some(piece), _) if piece.wait.is_zero() => {}
                (Some(piece), _) => self.timer = Some(Box::pin(sleep(piece.wait))),
                (None, Ending::Clean) => {
                    self.watch.done();
                    return Poll::Ready(None);
                }
                (None, Ending::Abort) => self.timer = Some(Box::pin(sleep(BEFORE_ABORT))),
                (None, Ending::Silence) => return Poll::Pending,
            }
        }
    }
}

/// Writes the time over a place kept for it.
fn stamp(bytes: &mut [u8]) {
    let place = Event::STAMP.as_bytes();
    let Some(at) = bytes.windows(place.len()).position(|window| window == place) else { return };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let text = format!("t={now:019} ");
    if text.len() == place.len() {
        bytes[at..at + place.len()].copy_from_slice(text.as_bytes());
    }
}

static HUGE_PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

impl Body for MockBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match &mut *self {
            MockBody::Whole(bytes, watch) => {
                watch.done();
                Poll::Ready(bytes.take().map(Ok))
            }
            MockBody::Huge(0, watch) => {
                watch.done();
                Poll::Ready(None)
            }
            MockBody::Huge(left, watch) => {
                let now = (*left).min(HUGE_PIECE.len() as u64);
                *left -= now;
                if *left == 0 {
                    watch.done();
                }
                Poll::Ready(Some(Ok(Bytes::from_static(&HUGE_PIECE[..now as usize]))))
            }
            MockBody::Paced(paced) => paced.poll(cx),
        };
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, MockBody::Whole(None, _) | MockBody::Huge(0, _))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            MockBody::Whole(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            MockBody::Huge(left, _) => SizeHint::with_exact(*left),
            MockBody::Paced(paced) => paced.length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// How a connection goes on after a request.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is closed.
    Close,
    /// Bytes are written that are no answer, then it is closed.
    Garbage,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the behaviour ends the connection here")
    }
}

impl std::error::Error for Broken {}

/// Sleeps, if there is anything to sleep for.
pub(super) async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep_until(Instant::now() + time).await;
    }
}
