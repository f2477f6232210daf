//! Answers of the ledger that are kept for a moment, so that many viewers ask as much of it as one.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::failure::Failure;

/// Longest time that a page waits for the ledger.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the ledger, but not for ever.
pub(super) async fn patiently<T, E: Into<Failure>>(query: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, query).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Failure::Slow),
    }
}

/// One value that is made again when it is old.
pub(super) struct Cached<T> {
    inner: CachedBy<(), T>,
}

impl<T: Clone> Cached<T> {
    pub(super) fn new(kept: Duration) -> Self {
        Self { inner: CachedBy::new(kept) }
    }

    pub(super) async fn get<E: Into<Failure>>(&self, make: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        self.inner.get((), make).await
    }
}

/// A value for each of a few keys: whoever makes keys sees to it that there are finitely many.
pub(super) struct CachedBy<K, T> {
    kept: Duration,
    values: Mutex<Vec<(K, Instant, T)>>,
}

impl<K: PartialEq, T: Clone> CachedBy<K, T> {
    pub(super) fn new(kept: Duration) -> Self {
        Self { kept, values: Mutex::default() }
    }

    /// The value, which is made if it is not there or too old. One is made at a time: who comes meanwhile finds it made.
    pub(super) async fn get<E: Into<Failure>>(
        &self,
        key: K,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let mut values = self.values.lock().await;
        values.retain(|(_, made, _)| made.elapsed() < self.kept);
        if let Some((_, _, value)) = values.iter().find(|(k, ..)| *k == key) {
            return Ok(value.clone());
        }
        let value = patiently(make).await?;
        values.push((key, Instant::now(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_value_is_made_once_and_a_failure_is_not_kept() {
        let cached = CachedBy::new(Duration::from_secs(600));
        let failed: Result<u32, Failure> = Err(Failure::NoLedger);
        assert!(cached.get(1, async { failed }).await.is_err());
        for (key, made, expected) in [(1, 10, 10), (1, 11, 10), (2, 20, 20), (1, 12, 10)] {
            let value = cached.get(key, async { Ok::<_, Failure>(made) }).await;
            assert_eq!(value.ok().unwrap(), expected);
        }
        let forgetful = Cached::new(Duration::ZERO);
        for made in [1, 2] {
            assert_eq!(forgetful.get(async { Ok::<_, Failure>(made) }).await.ok().unwrap(), made);
        }
    }
}
