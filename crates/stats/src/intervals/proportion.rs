use super::Interval;
use crate::error::{StatsError, check_min, check_share};
use crate::special::{beta_quantile, incomplete_beta, normal_quantile};

/// How often something came out in how many trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proportion {
    successes: u64,
    trials: u64,
}

impl Proportion {
    /// `successes` of `trials`.
    ///
    /// # Errors
    /// Without a trial, and with more successes than trials.
    pub fn new(successes: u64, trials: u64) -> Result<Self, StatsError> {
        check_min("trials", usize::from(trials > 0), 1)?;
        if successes > trials {
            let value = successes as f64;
            return Err(StatsError::Range { name: "successes", value, expected: "at most the number of trials" });
        }
        Ok(Self { successes, trials })
    }

    /// The observed share.
    #[must_use]
    pub fn value(self) -> f64 {
        self.successes as f64 / self.trials as f64
    }
}

/// The exact two-sided binomial interval of Clopper and Pearson (1934): it covers with at least `confidence`.
///
/// # Errors
/// If `confidence` is not between 0 and 1.
pub fn clopper_pearson(proportion: Proportion, confidence: f64) -> Result<Interval, StatsError> {
    check_share("confidence", confidence)?;
    let one_sided = 0.5 + 0.5 * confidence;
    Ok(Interval {
        lower: clopper_pearson_lower(proportion, one_sided)?,
        upper: clopper_pearson_upper(proportion, one_sided)?,
    })
}

/// The exact one-sided lower bound: the true share is at least this with at least `confidence`.
///
/// # Errors
/// If `confidence` is not between 0 and 1.
pub fn clopper_pearson_lower(Proportion { successes, trials }: Proportion, confidence: f64) -> Result<f64, StatsError> {
    check_share("confidence", confidence)?;
    if successes == 0 {
        return Ok(0.0);
    }
    Ok(beta_quantile(successes as f64, (trials - successes + 1) as f64, 1.0 - confidence))
}

/// The exact one-sided upper bound: the true share is at most this with at least `confidence`.
///
/// # Errors
/// If `confidence` is not between 0 and 1.
pub fn clopper_pearson_upper(Proportion { successes, trials }: Proportion, confidence: f64) -> Result<f64, StatsError> {
    let failures = Proportion { successes: trials - successes, trials };
    Ok(1.0 - clopper_pearson_lower(failures, confidence)?)
}

/// The score interval of Wilson (1927): closer to `confidence` on average than the exact one, sometimes below it.
///
/// # Errors
/// If `confidence` is not between 0 and 1.
pub fn wilson(proportion: Proportion, confidence: f64) -> Result<Interval, StatsError> {
    check_share("confidence", confidence)?;
    let (p, n) = (proportion.value(), proportion.trials as f64);
    let z2 = normal_quantile(0.5 + 0.5 * confidence).powi(2);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
    // At the ends centre and half are equal, but for what rounding leaves.
    let Proportion { successes, trials } = proportion;
    let lower = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let upper = if successes == trials { 1.0 } else { (centre + half).min(1.0) };
    Ok(Interval { lower, upper })
}

/// The exact two-sided p-value of McNemar's test: of the rows that only one of two systems got right, `first` and
/// `second` are how many each got right; under no difference they are fair coin tosses.
#[must_use]
pub fn mcnemar_exact(first: u64, second: u64) -> f64 {
    let (few, many) = (first.min(second), first.max(second));
    // P(Bin(n, 1/2) <= few) = I_{1/2}(n - few, few + 1)
    (2.0 * incomplete_beta(many as f64, (few + 1) as f64, 0.5)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(successes: u64, trials: u64) -> Proportion {
        Proportion::new(successes, trials).unwrap()
    }

    fn close(found: Interval, lower: f64, upper: f64) {
        assert!((found.lower - lower).abs() < 5e-5 && (found.upper - upper).abs() < 5e-5, "{found:?}");
    }

    /// Values of published tables (0.95, two-sided).
    #[test]
    fn intervals_match_tables() {
        close(clopper_pearson(of(0, 10), 0.95).unwrap(), 0.0, 0.3085);
        close(clopper_pearson(of(1, 10), 0.95).unwrap(), 0.0025, 0.4450);
        close(clopper_pearson(of(5, 10), 0.95).unwrap(), 0.1871, 0.8129);
        close(clopper_pearson(of(10, 10), 0.95).unwrap(), 0.6915, 1.0);
        // Newcombe 1998, table I: 81/263 and 15/148.
        close(clopper_pearson(of(81, 263), 0.95).unwrap(), 0.2527, 0.3676);
        close(clopper_pearson(of(15, 148), 0.95).unwrap(), 0.0578, 0.1617);
        close(wilson(of(81, 263), 0.95).unwrap(), 0.2553, 0.3662);
        close(wilson(of(15, 148), 0.95).unwrap(), 0.0624, 0.1605);
        close(wilson(of(0, 20), 0.95).unwrap(), 0.0, 0.1611);
        close(wilson(of(1, 29), 0.95).unwrap(), 0.0061, 0.1718);
        for trials in 1..200 {
            assert_eq!(wilson(of(0, trials), 0.95).unwrap().lower, 0.0);
            assert_eq!(wilson(of(trials, trials), 0.95).unwrap().upper, 1.0);
        }
    }

    /// The lower bound L of k of n has P(Bin(n, L) >= k) = 1 - confidence, and the rule of three holds.
    #[test]
    fn one_sided_bounds() {
        let upper = clopper_pearson_upper(of(0, 300), 0.95).unwrap();
        assert!((upper - (1.0 - f64::powf(0.05, 1.0 / 300.0))).abs() < 1e-12);
        let lower = clopper_pearson_lower(of(300, 300), 0.95).unwrap();
        assert!((lower - f64::powf(0.05, 1.0 / 300.0)).abs() < 1e-12);
    }

    #[test]
    fn mcnemar_is_twice_the_smaller_tail() {
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(7, 7), 1.0);
        assert!((mcnemar_exact(0, 5) - 2.0 / 32.0).abs() < 1e-14);
        assert!((mcnemar_exact(2, 8) - 2.0 * 56.0 / 1024.0).abs() < 1e-14);
        assert_eq!(mcnemar_exact(3, 12), mcnemar_exact(12, 3));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(Proportion::new(0, 0).is_err() && Proportion::new(3, 2).is_err());
        for confidence in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(clopper_pearson(of(1, 2), confidence).is_err() && wilson(of(1, 2), confidence).is_err());
        }
    }
}
