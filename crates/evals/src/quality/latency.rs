use bantam_stats::metrics::{Percentiles, percentiles};
use serde::Serialize;

use super::{Judged, QualityError};

const BINS: usize = 32;
/// Shorter times are drawn as this: no clock tells them apart.
const SHORTEST: f64 = 1e-6;

/// How long rows took, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LatencyQuality {
    /// Rows with a time.
    pub rows: usize,
    /// Summary.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// Rows by time, in intervals of equal ratio from the shortest to the longest.
    pub bins: Vec<LatencyBin>,
}

/// Rows that took about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencyBin {
    /// Seconds, included.
    pub from: f64,
    /// Seconds, included in the last bin only.
    pub to: f64,
    /// How many.
    pub rows: usize,
}

pub(super) fn quality(rows: &[Judged]) -> Result<Option<LatencyQuality>, QualityError> {
    let seconds: Vec<f64> = rows.iter().filter_map(|row| row.latency).collect();
    if seconds.is_empty() {
        return Ok(None);
    }
    Ok(Some(LatencyQuality { rows: seconds.len(), percentiles: percentiles(&seconds)?, bins: bins(&seconds) }))
}

fn bins(seconds: &[f64]) -> Vec<LatencyBin> {
    let logs: Vec<f64> = seconds.iter().map(|seconds| libm::log10(seconds.max(SHORTEST))).collect();
    let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = ((high - low) / BINS as f64).max(0.01);
    let edge = |bin: usize| libm::pow(10.0, low + width * bin as f64);
    let mut counts = vec![0; (((high - low) / width).ceil() as usize).clamp(1, BINS)];
    let last = counts.len() - 1;
    logs.iter().for_each(|log| counts[(((log - low) / width) as usize).min(last)] += 1);
    counts.iter().enumerate().map(|(bin, &rows)| LatencyBin { from: edge(bin), to: edge(bin + 1), rows }).collect()
}
