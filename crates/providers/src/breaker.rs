//! A circuit breaker: a target that mostly fails is left alone for a while, then tried with one request.
//!
//! Time comes in as an argument, so that what happens in a minute is tested in none.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerPolicy {
    /// Seconds whose outcomes count.
    #[serde(with = "crate::seconds")]
    pub window: Duration,
    /// Outcomes in the window below which it never opens.
    pub minimum: u32,
    /// Share of failures, over 0 to 1, from which on it opens.
    pub failure_share: f64,
    /// Seconds until the first probe; doubles with each probe that fails.
    #[serde(with = "crate::seconds")]
    pub open_for: Duration,
    /// Most seconds between two probes.
    #[serde(with = "crate::seconds")]
    pub open_at_most: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            minimum: 10,
            failure_share: 0.5,
            open_for: Duration::from_secs(2),
            open_at_most: Duration::from_secs(60),
        }
    }
}

/// What a breaker does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// They pass.
    Closed,
    /// They do not.
    Open,
    /// One at a time passes, to see.
    HalfOpen,
}

/// How an attempt went, as far as the target's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Good,
    Bad,
    /// It says nothing: the caller left, or the request was at fault.
    Unknown,
}

/// Admission of one attempt, which must be given back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    generation: u64,
}

const SLICES: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    number: u64,
    good: u32,
    bad: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
}

#[derive(Debug)]
pub(crate) struct Breaker {
    policy: BreakerPolicy,
    start: Instant,
    state: State,
    /// How long it is open the next time.
    wait: Duration,
    /// Goes up with each change of state: what began before says nothing about what is now.
    generation: u64,
    slices: [Slice; SLICES],
}

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy, now: Instant) -> Self {
        let slices = [Slice::default(); SLICES];
        Self { policy, start: now, state: State::Closed, wait: policy.open_for, generation: 0, slices }
    }

    /// Nothing if an attempt would be admitted now, or how long it has to wait.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } if now < until => Some(until - now),
            State::HalfOpen { probing: true } => Some(self.policy.open_for),
            _ => None,
        }
    }

    pub(crate) fn admit(&mut self, now: Instant) -> Option<Ticket> {
        if self.wait(now).is_some() {
            return None;
        }
        match &mut self.state {
            State::Closed => {}
            State::HalfOpen { probing } => *probing = true,
            State::Open { .. } => self.enter(State::HalfOpen { probing: true }),
        }
        Some(Ticket { generation: self.generation })
    }

    pub(crate) fn record(&mut self, now: Instant, ticket: Ticket, health: Health) {
        if ticket.generation != self.generation {
            return;
        }
        match (self.state, health) {
            (State::Closed, Health::Unknown) | (State::Open { .. }, _) => {}
            (State::Closed, _) => {
                let (good, bad) = self.count(now, health);
                let all = good + bad;
                if all >= self.policy.minimum && f64::from(bad) >= self.policy.failure_share * f64::from(all) {
                    self.open(now);
                }
            }
            (State::HalfOpen { .. }, Health::Unknown) => self.state = State::HalfOpen { probing: false },
            (State::HalfOpen { .. }, Health::Good) => {
                self.wait = self.policy.open_for;
                self.slices = [Slice::default(); SLICES];
                self.enter(State::Closed);
            }
            (State::HalfOpen { .. }, Health::Bad) => self.open(now),
        }
    }

    /// A stream that had been counted as good broke later.
    pub(crate) fn record_late(&mut self, now: Instant, health: Health) {
        let ticket = Ticket { generation: self.generation };
        if matches!(self.state, State::Closed) {
            self.record(now, ticket, health);
        }
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }

    fn open(&mut self, now: Instant) {
        self.enter(State::Open { until: now + self.wait });
        self.wait = self.wait.saturating_mul(2).min(self.policy.open_at_most);
    }

    /// Counts one outcome; returns those of the window.
    fn count(&mut self, now: Instant, health: Health) -> (u32, u32) {
        let slice = (self.policy.window / SLICES as u32).max(Duration::from_millis(1));
        let number = (now.saturating_duration_since(self.start).as_nanos() / slice.as_nanos()) as u64;
        let current = &mut self.slices[(number % SLICES as u64) as usize];
        if current.number != number {
            *current = Slice { number, good: 0, bad: 0 };
        }
        match health {
            Health::Good => current.good = current.good.saturating_add(1),
            Health::Bad => current.bad = current.bad.saturating_add(1),
            Health::Unknown => {}
        }
        let recent = self.slices.iter().filter(|slice| slice.number + SLICES as u64 > number);
        recent.fold((0, 0), |(good, bad), slice| (good.saturating_add(slice.good), bad.saturating_add(slice.bad)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(BreakerPolicy::default(), now), now)
    }

    fn go(breaker: &mut Breaker, now: Instant, health: Health) {
        let ticket = breaker.admit(now).unwrap();
        breaker.record(now, ticket, health);
    }

    const fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn it_opens_at_the_share_and_not_before_the_minimum() {
        let (mut breaker, now) = breaker();
        for i in 0..9 {
            go(&mut breaker, now, if i % 2 == 0 { Health::Bad } else { Health::Good });
            assert_eq!(breaker.state(now), BreakerState::Closed);
        }
        go(&mut breaker, now, Health::Unknown);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        go(&mut breaker, now, Health::Bad);
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert_eq!((breaker.admit(now), breaker.wait(now)), (None, Some(seconds(2))));
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let (mut breaker, now) = breaker();
        for i in 0..30 {
            // One failure in two seconds: five in any window.
            go(&mut breaker, now + seconds(2 * i), Health::Bad);
        }
        assert_eq!(breaker.state(now + seconds(58)), BreakerState::Closed);
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let (mut breaker, now) = breaker();
        (0..10).for_each(|_| go(&mut breaker, now, Health::Bad));
        let later = now + seconds(2);
        let probe = breaker.admit(later).unwrap();
        assert_eq!(breaker.admit(later), None);
        // The caller left: another may probe.
        breaker.record(later, probe, Health::Unknown);
        let probe = breaker.admit(later).unwrap();
        breaker.record(later, probe, Health::Bad);
        // Twice as long as before, and so on up to the bound.
        assert_eq!(breaker.wait(later), Some(seconds(4)));
        let mut at = later;
        for _ in 0..10 {
            at += breaker.wait(at).unwrap();
            go(&mut breaker, at, Health::Bad);
        }
        assert_eq!(breaker.wait(at), Some(seconds(60)));
        at += seconds(60);
        go(&mut breaker, at, Health::Good);
        assert_eq!(breaker.state(at), BreakerState::Closed);
        // A clean slate, and the first wait again.
        (0..9).for_each(|_| go(&mut breaker, at, Health::Bad));
        assert_eq!(breaker.state(at), BreakerState::Closed);
        go(&mut breaker, at, Health::Bad);
        assert_eq!(breaker.wait(at), Some(seconds(2)));
    }

    #[test]
    fn outcomes_of_before_do_not_close_it() {
        let (mut breaker, now) = breaker();
        let early = breaker.admit(now).unwrap();
        (0..10).for_each(|_| go(&mut breaker, now, Health::Bad));
        breaker.record(now, early, Health::Good);
        assert_eq!(breaker.state(now), BreakerState::Open);
        let probe = breaker.admit(now + seconds(2)).unwrap();
        breaker.record(now + seconds(2), early, Health::Good);
        assert_eq!(breaker.state(now + seconds(2)), BreakerState::HalfOpen);
        breaker.record(now + seconds(2), probe, Health::Good);
        assert_eq!(breaker.state(now + seconds(2)), BreakerState::Closed);
    }
}
