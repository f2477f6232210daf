use super::Interval;
use crate::error::{StatsError, check_min, check_share};
use crate::rng::Rng;

/// How to resample.
#[derive(Debug, Clone, Copy)]
pub struct BootstrapConfig {
    /// How many resamples; 2,000 put the ends of a 95 % interval within about 2 % of its width.
    pub resamples: usize,
    /// Two-sided, between 0 and 1.
    pub confidence: f64,
    /// The same seed gives the same interval.
    pub seed: u64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self { resamples: 2_000, confidence: 0.95, seed: 0 }
    }
}

/// A statistic and its percentile interval (Efron 1979).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bootstrap {
    /// The statistic over the rows as they are.
    pub estimate: f64,
    /// Where it lies over resampled rows.
    pub interval: Interval,
}

/// The difference of a statistic between two systems on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Difference {
    /// First minus second.
    pub estimate: f64,
    /// Where it lies over resampled rows.
    pub interval: Interval,
    /// Two-sided: twice the share of resamples on the less likely side of 0, counting one more so that it is never 0.
    pub p_value: f64,
}

/// The percentile bootstrap of any statistic of rows: `statistic` gets row indices below `rows`, drawn with replacement.
/// Resamples where it is NaN (a class that was not drawn) are left out.
///
/// # Errors
/// Without rows or resamples, with a `confidence` outside (0, 1), and if the statistic of the rows themselves is not finite.
pub fn bootstrap(
    rows: usize,
    config: &BootstrapConfig,
    statistic: impl FnMut(&[usize]) -> f64,
) -> Result<Bootstrap, StatsError> {
    let (estimate, draws) = resample(rows, config, statistic)?;
    Ok(Bootstrap { estimate, interval: percentile_interval(&draws, config.confidence) })
}

/// The paired bootstrap: both statistics see the same resampled rows, so what the systems share cancels.
///
/// # Errors
/// As [`bootstrap`].
pub fn bootstrap_difference(
    rows: usize,
    config: &BootstrapConfig,
    mut first: impl FnMut(&[usize]) -> f64,
    mut second: impl FnMut(&[usize]) -> f64,
) -> Result<Difference, StatsError> {
    let (estimate, draws) = resample(rows, config, |rows| first(rows) - second(rows))?;
    let below = draws.iter().filter(|&&draw| draw <= 0.0).count();
    let above = draws.iter().filter(|&&draw| draw >= 0.0).count();
    let p_value = (2.0 * (below.min(above) + 1) as f64 / (draws.len() + 1) as f64).min(1.0);
    Ok(Difference { estimate, interval: percentile_interval(&draws, config.confidence), p_value })
}

/// The statistic of all rows, and those of the resamples in ascending order.
fn resample(
    rows: usize,
    config: &BootstrapConfig,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Result<(f64, Vec<f64>), StatsError> {
    check_min("rows", rows, 1)?;
    check_min("resamples", config.resamples, 1)?;
    check_share("confidence", config.confidence)?;
    let mut drawn: Vec<usize> = (0..rows).collect();
    let estimate = statistic(&drawn);
    if !estimate.is_finite() {
        return Err(StatsError::Range { name: "statistic", value: estimate, expected: "finite over all rows" });
    }
    let mut rng = Rng::new(config.seed);
    let mut draws = Vec::new();
    for _ in 0..config.resamples {
        drawn.iter_mut().for_each(|row| *row = rng.below(rows));
        let draw = statistic(&drawn);
        if !draw.is_nan() {
            draws.push(draw);
        }
    }
    check_min("resamples with a value", draws.len(), 1)?;
    draws.sort_by(f64::total_cmp);
    Ok((estimate, draws))
}

fn percentile_interval(sorted: &[f64], confidence: f64) -> Interval {
    let tail = 0.5 * (1.0 - confidence);
    let at = |share| crate::metrics::quantile_of_sorted(sorted, share);
    Interval { lower: at(tail), upper: at(1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(values: &[f64]) -> impl FnMut(&[usize]) -> f64 {
        move |rows| rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64
    }

    /// For a mean, the interval is the normal one.
    #[test]
    fn mean_has_its_normal_interval_and_a_seed_its_result() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 20)).collect();
        let config = BootstrapConfig { resamples: 4_000, ..BootstrapConfig::default() };
        let found = bootstrap(400, &config, mean_of(&values)).unwrap();
        let half = 1.96 * (399.0_f64 / 12.0 / 400.0).sqrt();
        assert_eq!(found.estimate, 9.5);
        assert!(
            (found.interval.lower - (9.5 - half)).abs() < 0.05 && (found.interval.upper - (9.5 + half)).abs() < 0.05
        );
        assert_eq!(found, bootstrap(400, &config, mean_of(&values)).unwrap());
        assert_ne!(found, bootstrap(400, &BootstrapConfig { seed: 1, ..config }, mean_of(&values)).unwrap());
    }

    #[test]
    fn pairing_sees_a_small_steady_difference() {
        let second: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let first: Vec<f64> = second.iter().zip(0..).map(|(x, i)| x + if i % 4 == 0 { 0.0 } else { 0.5 }).collect();
        let config = BootstrapConfig::default();
        let found = bootstrap_difference(100, &config, mean_of(&first), mean_of(&second)).unwrap();
        assert!(found.interval.lower > 0.3 && found.p_value < 0.01, "{found:?}");
        let same = bootstrap_difference(100, &config, mean_of(&first), mean_of(&first)).unwrap();
        assert_eq!((same.estimate, same.p_value), (0.0, 1.0));
    }

    #[test]
    fn bad_input_is_refused_and_nan_resamples_left_out() {
        let config = BootstrapConfig::default();
        assert!(bootstrap(0, &config, |_| 0.0).is_err());
        assert!(bootstrap(3, &BootstrapConfig { resamples: 0, ..config }, |_| 0.0).is_err());
        assert!(bootstrap(3, &config, |_| f64::NAN).is_err());
        let found = bootstrap(2, &config, |rows| if rows[0] == rows[1] { f64::NAN } else { 1.0 }).unwrap();
        assert_eq!(found.interval, Interval { lower: 1.0, upper: 1.0 });
    }
}
