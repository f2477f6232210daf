use crate::error::{StatsError, check_finite, check_min};

/// What latencies are reported by.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// The arithmetic mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 9 of 10 are at most this.
    pub p90: f64,
    /// 19 of 20 are at most this.
    pub p95: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Summarises measurements in any unit and order, with linear interpolation between neighbours.
///
/// # Errors
/// Without values, and if one is not finite.
pub fn percentiles(values: &[f64]) -> Result<Percentiles, StatsError> {
    check_min("values", values.len(), 1)?;
    check_finite("values", values)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share| quantile_of_sorted(&sorted, share);
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    Ok(Percentiles { mean, p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), max: at(1.0) })
}

/// Type 7 of Hyndman and Fan (1996), the default of R and NumPy; NaN of nothing.
pub(crate) fn quantile_of_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = share.clamp(0.0, 1.0) * last as f64;
    let low = position as usize;
    let high = (low + 1).min(last);
    sorted[low] + (position - low as f64) * (sorted[high] - sorted[low])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.percentile([1, 2, 4, 8, 16], [50, 90, 95, 99])`
    #[test]
    fn agrees_with_numpy() {
        let found = percentiles(&[16.0, 1.0, 4.0, 2.0, 8.0]).unwrap();
        assert_eq!((found.mean, found.p50, found.max), (6.2, 4.0, 16.0));
        assert!(
            (found.p90 - 12.8).abs() < 1e-12 && (found.p95 - 14.4).abs() < 1e-12 && (found.p99 - 15.68).abs() < 1e-12
        );
        assert!(percentiles(&[]).is_err() && percentiles(&[f64::NAN]).is_err());
    }
}
