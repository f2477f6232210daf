//! Rates: how many requests and tokens in a minute. Kept by each process for itself.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::RateLimited;
use crate::keys::KeyId;
use crate::limits::Limits;

const MINUTE: u64 = 60_000_000_000;

/// Generic cell rate algorithm (ITU-T I.371): one number per limit, the time when all that was taken will have been given back. A minute's
/// worth may be taken at once; what is more than that is let in when nothing is taken.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    empty_at: u64,
}

impl Bucket {
    fn cost(per_minute: u64, amount: u64) -> u64 {
        let nanos = u128::from(amount) * u128::from(MINUTE) / u128::from(per_minute.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How long to wait for `amount`.
    fn wait(&self, now: u64, per_minute: u64, amount: u64) -> Option<Duration> {
        if per_minute == 0 {
            return Some(Duration::from_nanos(MINUTE));
        }
        let taken = self.empty_at.saturating_sub(now);
        let over = taken.saturating_add(Self::cost(per_minute, amount)).saturating_sub(MINUTE);
        let wait = over.min(taken);
        (wait > 0).then(|| Duration::from_nanos(wait))
    }

    fn take(&mut self, now: u64, per_minute: u64, amount: u64) {
        self.empty_at = self.empty_at.max(now).saturating_add(Self::cost(per_minute, amount));
    }

    fn give_back(&mut self, per_minute: u64, amount: u64) {
        self.empty_at = self.empty_at.saturating_sub(Self::cost(per_minute, amount));
    }
}

/// The rates of all keys, and of all together.
#[derive(Debug)]
pub(crate) struct Rates {
    start: Instant,
    buckets: Mutex<HashMap<Option<KeyId>, [Bucket; 2]>>,
}

/// Whose limits a request counts against.
pub(crate) type Payer<'a> = (Option<&'a KeyId>, &'a Limits);

fn limits(of: &Limits, tokens: u64) -> [(&'static str, Option<u64>, u64); 2] {
    [("requests", of.requests_per_minute.map(u64::from), 1), ("tokens", of.tokens_per_minute, tokens)]
}

impl Rates {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), buckets: Mutex::default() }
    }

    /// Takes a request and its tokens from all payers, or from none.
    pub(crate) fn take(&self, payers: &[Payer<'_>], tokens: u64) -> Result<(), RateLimited> {
        self.take_at(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX), payers, tokens)
    }

    fn take_at(&self, now: u64, payers: &[Payer<'_>], tokens: u64) -> Result<(), RateLimited> {
        if payers.iter().all(|(_, of)| limits(of, tokens).iter().all(|(_, limit, _)| limit.is_none())) {
            return Ok(());
        }
        let mut buckets = self.lock();
        for (key, of) in payers {
            let held = buckets.get(&key.cloned()).copied().unwrap_or_default();
            for (bucket, (what, limit, amount)) in held.iter().zip(limits(of, tokens)) {
                let Some(limit) = limit else { continue };
                if let Some(retry_after) = bucket.wait(now, limit, amount) {
                    return Err(RateLimited { key: key.cloned(), what, limit, retry_after });
                }
            }
        }
        for (key, of) in payers {
            let held = buckets.entry(key.cloned()).or_default();
            for (bucket, (_, limit, amount)) in held.iter_mut().zip(limits(of, tokens)) {
                if let Some(limit) = limit {
                    bucket.take(now, limit, amount);
                }
            }
        }
        Ok(())
    }

    /// Gives back tokens that were taken and not used.
    pub(crate) fn give_back_tokens(&self, payers: &[Payer<'_>], tokens: u64) {
        if payers.iter().all(|(_, of)| of.tokens_per_minute.is_none()) {
            return;
        }
        let mut buckets = self.lock();
        for (key, of) in payers {
            if let (Some(limit), Some([_, bucket])) = (of.tokens_per_minute, buckets.get_mut(&key.cloned())) {
                bucket.give_back(limit, tokens);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Option<KeyId>, [Bucket; 2]>> {
        self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_minutes_worth_at_once_and_then_at_the_rate() {
        let rates = Rates::new();
        let of = Limits { requests_per_minute: Some(60), ..Limits::default() };
        let payers: [Payer<'_>; 1] = [(None, &of)];
        for _ in 0..60 {
            rates.take_at(0, &payers, 0).unwrap();
        }
        let refused = rates.take_at(0, &payers, 0).unwrap_err();
        assert_eq!((refused.what, refused.limit, refused.retry_after), ("requests", 60, Duration::from_secs(1)));
        rates.take_at(SECOND, &payers, 0).unwrap();
        rates.take_at(SECOND, &payers, 0).unwrap_err();
    }

    #[test]
    fn what_is_larger_than_a_minute_waits_for_an_idle_one() {
        let rates = Rates::new();
        let of = Limits { tokens_per_minute: Some(100), ..Limits::default() };
        let payers: [Payer<'_>; 1] = [(None, &of)];
        rates.take_at(0, &payers, 250).unwrap();
        let refused = rates.take_at(0, &payers, 1).unwrap_err();
        assert!(refused.retry_after > Duration::from_secs(90), "{refused:?}");
        rates.give_back_tokens(&payers, 200);
        rates.take_at(0, &payers, 50).unwrap();
    }

    #[test]
    fn all_payers_or_none() {
        let rates = Rates::new();
        let key = KeyId::from("k");
        let wide = Limits { requests_per_minute: Some(2), ..Limits::default() };
        let none = Limits { requests_per_minute: Some(0), ..Limits::default() };
        rates.take_at(0, &[(None, &wide), (Some(&key), &none)], 0).unwrap_err();
        for _ in 0..2 {
            rates.take_at(0, &[(None, &wide)], 0).unwrap();
        }
    }

    proptest! {
        /// Whatever is asked when: no window of a minute admits more than two minutes' worth, and the wait that is told is enough.
        #[test]
        fn never_more_than_the_rate(asked in prop::collection::vec((0..20 * SECOND, 1..40u64), 1..60)) {
            let rates = Rates::new();
            let of = Limits { tokens_per_minute: Some(40), ..Limits::default() };
            let payers: [Payer<'_>; 1] = [(None, &of)];
            let (mut now, mut admitted) = (0, Vec::new());
            for (gap, tokens) in asked {
                now += gap;
                if let Err(refused) = rates.take_at(now, &payers, tokens) {
                    now += u64::try_from(refused.retry_after.as_nanos()).unwrap();
                    prop_assert!(rates.take_at(now, &payers, tokens).is_ok(), "the wait was too short");
                }
                admitted.push((now, tokens));
                let window: u64 = admitted.iter().filter(|(at, _)| *at + MINUTE > now).map(|(_, n)| n).sum();
                prop_assert!(window <= 80, "{window} tokens in a minute");
            }
        }
    }
}
