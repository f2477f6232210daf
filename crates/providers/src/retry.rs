//! When and how often to try again.

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::RETRY_AFTER;
use serde::Deserialize;
use tokio::time::Instant;

/// How failed attempts are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Most attempts in one group of a plan that fail in a way that may pass; the next group has as many again.
    pub attempts: u32,
    /// Seconds of the longest wait before the first repetition at the same target; it doubles each time. The wait itself is drawn evenly
    /// from nothing to that ("full jitter", Brooker, AWS Architecture Blog 2015).
    #[serde(with = "crate::seconds")]
    pub backoff: Duration,
    /// Seconds that the longest wait never exceeds.
    #[serde(with = "crate::seconds")]
    pub backoff_at_most: Duration,
    /// Most seconds of a server's `Retry-After` that a request waits for. If it asks for more, the request goes elsewhere.
    #[serde(with = "crate::seconds")]
    pub retry_after: Duration,
    /// Most seconds for which a server's `Retry-After` keeps requests away from it.
    #[serde(with = "crate::seconds")]
    pub retry_after_at_most: Duration,
    /// Repetitions per request that a target's budget allows in the long run.
    pub budget: f64,
    /// Repetitions a second that it allows in any case.
    pub budget_per_second: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(200),
            backoff_at_most: Duration::from_secs(5),
            retry_after: Duration::from_secs(5),
            retry_after_at_most: Duration::from_secs(60),
            budget: 0.2,
            budget_per_second: 2.0,
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the given number of failures, one at least.
    pub(crate) fn wait(&self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        let doubled = self.backoff.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.backoff_at_most).mul_f64(random.f64())
    }
}

/// The right to repeat, a token bucket: requests to a target fill it, repetitions of what failed there empty it. When everything fails,
/// the load on what is left goes up by the budget's share and no more.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: f64,
    at: Instant,
}

/// Repetitions that may follow each other after a quiet time, in seconds of `budget_per_second`.
const BURST_SECONDS: f64 = 10.0;

impl Budget {
    pub(crate) fn new(policy: &RetryPolicy, now: Instant) -> Self {
        Self { tokens: policy.budget_per_second * BURST_SECONDS, at: now }
    }

    /// A request goes to the target.
    pub(crate) fn deposit(&mut self, policy: &RetryPolicy) {
        // A thousand requests' worth is kept, not more: trouble of today is not paid from the peace of last week.
        let most = policy.budget_per_second * BURST_SECONDS + policy.budget * 1000.0;
        self.tokens = (self.tokens + policy.budget).min(most);
    }

    /// Whether what failed there may be repeated.
    pub(crate) fn withdraw(&mut self, policy: &RetryPolicy, now: Instant) -> bool {
        let floor = policy.budget_per_second * BURST_SECONDS;
        if self.tokens < floor {
            let refill = now.saturating_duration_since(self.at).as_secs_f64() * policy.budget_per_second;
            self.tokens = (self.tokens + refill).min(floor);
        }
        self.at = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// What a server asks for: seconds, milliseconds (as OpenAI and Azure have them) or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let text = text(RETRY_AFTER.as_str())?;
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => httpdate::parse_http_date(text).ok().map(|at| at.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_jittered_and_bounded() {
        let policy = RetryPolicy::default();
        let mut random = fastrand::Rng::with_seed(1);
        for (failures, most) in [(1, 0.2), (2, 0.4), (3, 0.8), (6, 5.0), (40, 5.0), (u32::MAX, 5.0)] {
            let waits: Vec<f64> = (0..200).map(|_| policy.wait(failures, &mut random).as_secs_f64()).collect();
            let largest = waits.iter().copied().fold(0.0, f64::max);
            let smallest = waits.iter().copied().fold(f64::MAX, f64::min);
            assert!(
                largest <= most && largest > 0.9 * most && smallest < 0.1 * most,
                "{failures}: {smallest} {largest}"
            );
        }
    }

    #[test]
    fn the_budget_bounds_repetitions_to_its_share() {
        let policy = RetryPolicy { budget: 0.25, ..RetryPolicy::default() };
        let start = Instant::now();
        let mut budget = Budget::new(&policy, start);
        let repeated = (0..10_000).filter(|_| {
            budget.deposit(&policy);
            budget.withdraw(&policy, start)
        });
        // A quarter, and the burst of 20 on top.
        assert_eq!(repeated.count(), 2_520);
        // With no requests at all, two a second.
        let later = start + Duration::from_secs(3);
        assert_eq!((0..100).filter(|_| budget.withdraw(&policy, later)).count(), 6);
        let much_later = later + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| budget.withdraw(&policy, much_later)).count(), 20);
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let read = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(read("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(read("retry-after", " 1.5 "), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after-ms", "20"), Some(Duration::from_millis(20)));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1983 08:49:37 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "NaN", "inf", "1e300"] {
            assert_eq!(read("retry-after", nonsense), None, "{nonsense}");
        }
    }
}
