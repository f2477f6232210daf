//! A target at work: its connections, its limits, and what is known about its health.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use metrics::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::breaker::{Breaker, BreakerState, Health, Ticket};
use crate::client::Reliability;
use crate::connect::HttpClient;
use crate::error::{Fault, Verdict};
use crate::retry::Budget;
use crate::target::Target;

/// What is known about a target at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSnapshot {
    /// Its name.
    pub name: String,
    /// Attempts that run, streams that are read included.
    pub in_flight: usize,
    /// Requests that wait for a place.
    pub waiting: u32,
    /// What its breaker does.
    pub breaker: BreakerState,
    /// Whether the last active checks succeeded; true where there are none.
    pub healthy: bool,
    /// How long the server asked to be left alone from now on.
    pub cooling: Duration,
    /// Counts since the start.
    pub totals: Totals,
    /// How many faults there were of each kind ([`Fault::kind`]).
    pub fault_kinds: BTreeMap<&'static str, u64>,
}

/// Where a target's times go, in seconds.
#[derive(Clone, Debug)]
pub struct Times {
    /// From the beginning of an attempt to the end of its answer, whatever the status.
    pub duration: Histogram,
    /// From the beginning of an attempt to the first byte of a 2xx answer's body.
    pub first_byte: Histogram,
}

/// Counts of attempts at a target. `attempts` is the sum of the answers, `faults`, `cancelled` and those that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Attempts begun.
    pub attempts: u64,
    /// Answers of 2xx that came to their end.
    pub succeeded: u64,
    /// Answers of 4xx but 429.
    pub rejected: u64,
    /// Answers of 429.
    pub limited: u64,
    /// Answers of 5xx.
    pub failed: u64,
    /// Attempts without an answer, and answers that broke off.
    pub faults: u64,
    /// Attempts that the caller left before their end.
    pub cancelled: u64,
    /// Attempts that repeated one that had failed here.
    pub retries: u64,
}

#[derive(Debug, Default)]
struct Counters {
    attempts: AtomicU64,
    succeeded: AtomicU64,
    rejected: AtomicU64,
    limited: AtomicU64,
    failed: AtomicU64,
    faults: AtomicU64,
    cancelled: AtomicU64,
    retries: AtomicU64,
    fault_kinds: Mutex<BTreeMap<&'static str, u64>>,
}

pub(crate) struct Upstream {
    pub(crate) target: Arc<Target>,
    pub(crate) http: HttpClient,
    places: Arc<Semaphore>,
    waiting: AtomicU32,
    breaker: Mutex<Breaker>,
    budget: Mutex<Budget>,
    healthy: AtomicBool,
    start: Instant,
    /// Milliseconds from `start` until which the server is left alone.
    cooling: AtomicU64,
    counters: Counters,
    times: OnceLock<Times>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

/// Nothing that is done under these locks can panic half-way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upstream {
    pub(crate) fn new(target: Target, http: HttpClient, config: &Reliability) -> Self {
        let now = Instant::now();
        Self {
            places: Arc::new(Semaphore::new(target.limits.in_flight as usize)),
            target: Arc::new(target),
            http,
            waiting: AtomicU32::new(0),
            breaker: Mutex::new(Breaker::new(config.breaker, now)),
            budget: Mutex::new(Budget::new(&config.retry, now)),
            healthy: AtomicBool::new(true),
            start: now,
            cooling: AtomicU64::new(0),
            counters: Counters::default(),
            times: OnceLock::new(),
        }
    }

    /// Nothing if it can be tried now, or how long it is to be left alone.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let cooling = self.cooling(now);
        if !cooling.is_zero() {
            return Some(cooling);
        }
        if !self.healthy.load(Ordering::Relaxed) {
            return Some(self.target.health.as_ref().map_or(Duration::from_secs(1), |(_, check)| check.interval));
        }
        locked(&self.breaker).wait(now)
    }

    /// Attempts that run.
    pub(crate) fn in_flight(&self) -> usize {
        (self.target.limits.in_flight as usize).saturating_sub(self.places.available_permits())
    }

    /// A place and the breaker's admission, if there are both at once.
    pub(crate) fn begin(self: &Arc<Self>, now: Instant) -> Option<Flight> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.admit(place, now)
    }

    fn admit(self: &Arc<Self>, place: OwnedSemaphorePermit, now: Instant) -> Option<Flight> {
        let ticket = locked(&self.breaker).admit(now)?;
        self.counters.attempts.fetch_add(1, Ordering::Relaxed);
        let upstream = Arc::clone(self);
        Some(Flight { upstream, began: now, ticket: Some(ticket), counted: false, place: Some(place) })
    }

    /// Notes times from now on, unless they are noted already.
    pub(crate) fn watch(&self, times: impl FnOnce() -> Times) {
        self.times.get_or_init(times);
    }

    /// Waits for a place, unless too many wait. Nothing if the breaker opened meanwhile.
    pub(crate) async fn begin_later(self: &Arc<Self>) -> Option<Flight> {
        struct Waiting<'a>(&'a AtomicU32);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.target.limits.queue {
            return None;
        }
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        self.admit(place, Instant::now())
    }

    /// A request goes there: its budget of repetitions grows.
    pub(crate) fn deposit(&self, config: &Reliability) {
        locked(&self.budget).deposit(&config.retry);
    }

    /// Whether what failed there may be repeated.
    pub(crate) fn may_retry(&self, config: &Reliability, now: Instant) -> bool {
        locked(&self.budget).withdraw(&config.retry, now)
    }

    pub(crate) fn count_retry(&self) {
        self.counters.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The server asks to be left alone.
    pub(crate) fn cool(&self, now: Instant, time: Duration) {
        let until = (now.saturating_duration_since(self.start) + time).as_millis();
        self.cooling.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn cooling(&self, now: Instant) -> Duration {
        let until = self.cooling.load(Ordering::Relaxed);
        if until == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(until).saturating_sub(now.saturating_duration_since(self.start))
    }

    pub(crate) fn set_healthy(&self, healthy: Health) {
        let healthy = healthy == Health::Good;
        if self.healthy.swap(healthy, Ordering::Relaxed) != healthy {
            let target = &self.target.name;
            if healthy {
                tracing::info!(target_name = %target, "the upstream answers its health check again");
            } else {
                tracing::warn!(target_name = %target, "the upstream fails its health check");
            }
        }
    }

    pub(crate) fn snapshot(&self) -> TargetSnapshot {
        let now = Instant::now();
        let c = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TargetSnapshot {
            name: self.target.name.clone(),
            in_flight: self.in_flight(),
            waiting: self.waiting.load(Ordering::Relaxed),
            breaker: locked(&self.breaker).state(now),
            healthy: self.healthy.load(Ordering::Relaxed),
            cooling: self.cooling(now),
            totals: Totals {
                attempts: get(&c.attempts),
                succeeded: get(&c.succeeded),
                rejected: get(&c.rejected),
                limited: get(&c.limited),
                failed: get(&c.failed),
                faults: get(&c.faults),
                cancelled: get(&c.cancelled),
                retries: get(&c.retries),
            },
            fault_kinds: locked(&c.fault_kinds).clone(),
        }
    }
}

/// An attempt that runs: it holds a place, and tells the breaker and the counters how it went. Dropped before, it was cancelled.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) upstream: Arc<Upstream>,
    began: Instant,
    ticket: Option<Ticket>,
    counted: bool,
    /// Given back at the end, however long the caller keeps what it got.
    place: Option<OwnedSemaphorePermit>,
}

impl Flight {
    fn record(&mut self, health: Health) {
        let mut breaker = locked(&self.upstream.breaker);
        match self.ticket.take() {
            Some(ticket) => breaker.record(Instant::now(), ticket, health),
            None => breaker.record_late(Instant::now(), health),
        }
    }

    fn count(&mut self, counter: impl Fn(&Counters) -> &AtomicU64) {
        if !std::mem::replace(&mut self.counted, true) {
            counter(&self.upstream.counters).fetch_add(1, Ordering::Relaxed);
        }
        self.place = None;
    }

    /// The first byte of a 2xx answer is there.
    pub(crate) fn first_byte(&self, at: Instant) {
        if let Some(times) = self.upstream.times.get() {
            times.first_byte.record(at - self.began);
        }
    }

    /// The first byte of a stream is there.
    pub(crate) fn streaming(&mut self) {
        self.record(Health::Good);
    }

    /// An answer came to its end.
    pub(crate) fn answered(&mut self, status: hyper::StatusCode) {
        if let Some(times) = self.upstream.times.get() {
            times.duration.record(self.began.elapsed());
        }
        match status.as_u16() {
            429 => {
                self.record(Health::Unknown);
                self.count(|c| &c.limited);
            }
            500.. => {
                self.record(if Verdict::of(status) == Verdict::Retry { Health::Bad } else { Health::Unknown });
                self.count(|c| &c.failed);
            }
            400.. => {
                self.record(Health::Unknown);
                self.count(|c| &c.rejected);
            }
            _ => {
                if self.ticket.is_some() {
                    self.record(Health::Good);
                }
                self.count(|c| &c.succeeded);
            }
        }
    }

    pub(crate) fn failed(&mut self, fault: &Fault) {
        let health = match fault {
            Fault::Deadline | Fault::NoApi { .. } | Fault::Refused { .. } | Fault::BodyTooLarge { .. } => {
                Health::Unknown
            }
            _ => Health::Bad,
        };
        self.record(health);
        if !self.counted {
            *locked(&self.upstream.counters.fault_kinds).entry(fault.kind()).or_default() += 1;
        }
        self.count(|c| &c.faults);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.record(Health::Unknown);
        }
        self.count(|c| &c.cancelled);
    }
}
