use bantam_stats::intervals::{bootstrap_difference, mcnemar_exact};
use serde::Serialize;

use super::{Estimate, Quality, QualityError, resampling};

/// Two systems on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// Rows that both were judged on.
    pub rows: usize,
    /// Accuracy of the first minus that of the second, with a paired bootstrap interval.
    pub difference: Estimate,
    /// Rows that only the first got right.
    pub only_first: usize,
    /// Rows that only the second got right.
    pub only_second: usize,
    /// The exact p-value of McNemar's test: how likely so uneven a split is if both are equally good.
    pub p_value: f64,
}

impl Quality {
    /// Compares the accuracies on the rows that both were judged on, found by their numbers; `None` if there are none.
    ///
    /// # Errors
    /// [`QualityError::Stats`], which no checked input gives.
    pub fn against(&self, other: &Quality) -> Result<Option<Paired>, QualityError> {
        let pair = |(row, outcome): (&usize, &super::Outcome)| Some((outcome.right, other.outcomes.get(row)?.right));
        let pairs: Vec<(bool, bool)> = self.outcomes.iter().filter_map(pair).collect();
        if pairs.is_empty() {
            return Ok(None);
        }
        let share = |rows: &[usize], side: fn(&(bool, bool)) -> bool| {
            rows.iter().filter(|&&row| side(&pairs[row])).count() as f64 / rows.len() as f64
        };
        let config = resampling(pairs.len());
        let found =
            bootstrap_difference(pairs.len(), &config, |rows| share(rows, |p| p.0), |rows| share(rows, |p| p.1))?;
        let only_first = pairs.iter().filter(|pair| pair.0 && !pair.1).count();
        let only_second = pairs.iter().filter(|pair| pair.1 && !pair.0).count();
        let difference = Estimate { value: found.estimate, lower: found.interval.lower, upper: found.interval.upper };
        let p_value = mcnemar_exact(only_first as u64, only_second as u64);
        Ok(Some(Paired { rows: pairs.len(), difference, only_first, only_second, p_value }))
    }
}
