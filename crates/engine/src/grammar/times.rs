//! How long masks take.

use std::time::Duration;

/// Times in buckets that grow by a quarter power of two, from one microsecond to four seconds.
const BUCKETS: usize = 88;

/// How often, and for how long, it was computed what may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskTimes {
    /// How often.
    pub count: u64,
    /// For how long in all.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
    buckets: [u32; BUCKETS],
}

impl Default for MaskTimes {
    fn default() -> Self {
        MaskTimes { count: 0, total: Duration::ZERO, max: Duration::ZERO, buckets: [0; BUCKETS] }
    }
}

impl MaskTimes {
    pub(crate) fn add(&mut self, time: Duration) {
        self.count += 1;
        self.total += time;
        self.max = self.max.max(time);
        let bucket = (time.as_secs_f64() * 1e6).max(1.0).log2() * 4.0;
        let bucket = &mut self.buckets[(bucket as usize).min(BUCKETS - 1)];
        *bucket = bucket.saturating_add(1);
    }

    /// Takes in the times of another.
    pub fn merge(&mut self, other: &MaskTimes) {
        self.count += other.count;
        self.total += other.total;
        self.max = self.max.max(other.max);
        for (mine, other) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.saturating_add(other);
        }
    }

    /// The time that this share of them (0 to 1) took at most, exact to a fifth.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil().max(1.0);
        let mut seen = 0.0;
        let bucket = self.buckets.iter().position(|&n| {
            seen += f64::from(n);
            seen >= wanted
        });
        let upper = |bucket: usize| Duration::from_secs_f64(2f64.powf((bucket + 1) as f64 / 4.0) * 1e-6);
        bucket.map_or(Duration::ZERO, |bucket| upper(bucket).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_and_never_below() {
        let mut times = MaskTimes::default();
        assert_eq!(times.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|n| times.add(Duration::from_micros(n)));
        for (share, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = times.quantile(share).as_secs_f64() * 1e6;
            assert!((exact..exact * 1.2).contains(&found) || found == 1000.0, "{share}: {found}");
        }
        let mut all = MaskTimes::default();
        all.merge(&times);
        assert_eq!(all, times);
        times.add(Duration::from_secs(100));
        assert_eq!(times.quantile(1.0), times.max.min(Duration::from_secs_f64(2f64.powf(22.0) * 1e-6)));
    }
}
