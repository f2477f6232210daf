//! Telling the caller how a pull goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::SourceError;

/// Something that happened during a pull.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another process pulls the same model; this one waits for it.
    Waiting {
        /// The model.
        name: &'a str,
    },
    /// A source is being tried.
    Trying {
        /// The source.
        source: &'a str,
    },
    /// Bytes arrived. Sent at most about ten times a second, and once at the end.
    Bytes {
        /// Bytes here so far, those of an earlier attempt included.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
        /// Bytes a second over the last few seconds.
        rate: f64,
        /// Time left at this rate, where it can be told.
        left: Option<Duration>,
    },
    /// A fault that may pass: the same source is tried again after a wait.
    Retrying {
        /// What went wrong.
        error: &'a SourceError,
        /// The wait.
        wait: Duration,
    },
    /// A source failed; the next is tried, if there is one.
    Failed {
        /// The source.
        source: &'a str,
        /// What went wrong.
        error: &'a SourceError,
    },
    /// All bytes are here and are being checked and put in place.
    Checking,
}

/// Receives the events of a pull, on the thread that runs it.
pub trait Progress {
    /// Takes one event. Should be quick.
    fn event(&self, event: Event<'_>);
}

/// Ignores all events.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Which bytes of a model a file is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    /// Bytes of the model's files that come before it.
    pub(crate) before: u64,
    /// Bytes of those that come after it.
    pub(crate) after: u64,
}

/// Turns byte counts of one file into [`Event::Bytes`] of the model, with rate and time left.
pub(crate) struct Meter<'a> {
    progress: &'a dyn Progress,
    before: u64,
    total: u64,
    /// (time, bytes) of the last few seconds.
    seen: VecDeque<(Instant, u64)>,
    last_sent: Option<Instant>,
}

impl<'a> Meter<'a> {
    const WINDOW: Duration = Duration::from_secs(5);
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(progress: &'a dyn Progress, span: Span, size: u64) -> Self {
        let total = span.before.saturating_add(size).saturating_add(span.after);
        Meter { progress, before: span.before, total, seen: VecDeque::new(), last_sent: None }
    }

    /// Notes that `done` bytes of the file are here, and tells so unless it did a moment ago.
    pub(crate) fn update(&mut self, done: u64) {
        if self.last_sent.is_none_or(|last| last.elapsed() >= Self::INTERVAL) {
            self.send(done);
        }
    }

    /// Notes that `done` bytes of the file are here, and tells so.
    pub(crate) fn send(&mut self, done: u64) {
        let done = self.before.saturating_add(done);
        let now = Instant::now();
        while self.seen.front().is_some_and(|(time, _)| now.duration_since(*time) > Self::WINDOW) {
            self.seen.pop_front();
        }
        self.seen.push_back((now, done));
        self.last_sent = Some(now);
        let (then, before) = self.seen.front().copied().unwrap_or((now, done));
        let seconds = now.duration_since(then).as_secs_f64();
        let rate = if seconds > 0.0 { done.saturating_sub(before) as f64 / seconds } else { 0.0 };
        // The first bytes of a connection tell nothing about the rest.
        let left = if rate >= 1.0 && seconds >= 1.0 {
            Duration::try_from_secs_f64(self.total.saturating_sub(done) as f64 / rate).ok()
        } else {
            None
        };
        self.progress.event(Event::Bytes { done, total: Some(self.total), rate, left });
    }
}
