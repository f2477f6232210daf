//! Thresholds that come with a promise, made from rows that training did not see and that are exchangeable with those to
//! come.

use crate::error::{StatsError, check_finite, check_len, check_min, check_share};
use crate::intervals::{Proportion, clopper_pearson_upper};

/// The split-conformal quantile (Papadopoulos et al. 2002): a new row's score is at most this with probability at least
/// `coverage`, on average over calibration sets. Infinite if there are too few rows for that.
///
/// With scores 1 - p(true class), the classes with 1 - p at most the quantile are a set that holds the true class.
///
/// # Errors
/// Without scores, if one is not finite, and if `coverage` is not between 0 and 1.
pub fn conformal_quantile(scores: &[f64], coverage: f64) -> Result<f64, StatsError> {
    check_min("scores", scores.len(), 1)?;
    check_finite("scores", scores)?;
    check_share("coverage", coverage)?;
    // The small amount keeps a product like 10 * 0.9 that rounds up from asking for one row more.
    let rank = ((scores.len() + 1) as f64 * coverage - 1e-9).ceil().max(1.0) as usize;
    if rank > scores.len() {
        return Ok(f64::INFINITY);
    }
    let mut sorted = scores.to_vec();
    Ok(*sorted.select_nth_unstable_by(rank - 1, f64::total_cmp).1)
}

/// The classes of one row of probabilities that a [`conformal_quantile`] of scores 1 - p(true class) lets through.
#[must_use]
pub fn prediction_set(probabilities: &[f64], quantile: f64) -> Vec<usize> {
    (0..probabilities.len()).filter(|&class| 1.0 - probabilities[class] <= quantile).collect()
}

/// A threshold and what holds for it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Guarantee {
    /// Answer rows from this confidence on.
    pub threshold: f64,
    /// The share of the given rows that it answers.
    pub coverage: f64,
    /// With the confidence asked for, at least this share of answers to new rows is right.
    pub accuracy: f64,
}

/// What must hold.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// The share of answers that must be right, between 0 and 1.
    pub accuracy: f64,
    /// How sure that must be, between 0 and 1: the probability, over calibration sets, that the promise holds.
    pub confidence: f64,
}

/// Selection with guaranteed risk (Geifman and El-Yaniv 2017): searches the lowest threshold whose answers keep the
/// promise. Each of the at most log2(rows) + 1 thresholds that it looks at is tested with an exact binomial bound at its
/// share of the allowed doubt, so the choice is paid for. `None` if these rows support no such promise.
///
/// # Errors
/// Without rows, if the two differ in length, if a confidence is not finite, or if a promise is not between 0 and 1.
pub fn guaranteed_threshold(
    confidences: &[f64],
    correct: &[bool],
    promise: Promise,
) -> Result<Option<Guarantee>, StatsError> {
    check_len("correct", correct.len(), confidences.len())?;
    check_min("confidences", confidences.len(), 1)?;
    check_finite("confidences", confidences)?;
    check_share("accuracy", promise.accuracy)?;
    check_share("confidence", promise.confidence)?;
    let mut rows: Vec<(f64, bool)> = confidences.iter().copied().zip(correct.iter().copied()).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let steps = rows.len().ilog2() + 1;
    let per_step = 1.0 - (1.0 - promise.confidence) / f64::from(steps);
    let (mut low, mut high, mut found) = (1, rows.len(), None);
    for _ in 0..steps {
        if low > high {
            break;
        }
        let middle = low + (high - low) / 2;
        let threshold = rows[middle - 1].0;
        let answered = rows.partition_point(|row| row.0 >= threshold);
        let wrong = rows[..answered].iter().filter(|row| !row.1).count();
        let accuracy = 1.0 - clopper_pearson_upper(Proportion::new(wrong as u64, answered as u64)?, per_step)?;
        if accuracy >= promise.accuracy {
            found = Some(Guarantee { threshold, coverage: answered as f64 / rows.len() as f64, accuracy });
            low = middle + 1;
        } else {
            high = middle - 1;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn uniform(rng: &mut Rng) -> f64 {
        (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn quantile_has_the_rank_of_the_paper() {
        let scores: Vec<f64> = (1..=9).rev().map(f64::from).collect();
        assert_eq!(conformal_quantile(&scores, 0.9).unwrap(), 9.0);
        assert_eq!(conformal_quantile(&scores, 0.5).unwrap(), 5.0);
        assert_eq!(conformal_quantile(&scores, 0.91).unwrap(), f64::INFINITY);
        assert!(conformal_quantile(&scores, 1.0).is_err() && conformal_quantile(&[], 0.5).is_err());
        assert_eq!(prediction_set(&[0.7, 0.2, 0.1], 0.8), [0, 1]);
    }

    /// Over many calibration sets, a new row is covered with the promised probability.
    #[test]
    fn quantile_covers() {
        let mut rng = Rng::new(3);
        let covered = |rng: &mut Rng| {
            let scores: Vec<f64> = (0..40).map(|_| uniform(rng)).collect();
            uniform(rng) <= conformal_quantile(&scores, 0.8).unwrap()
        };
        let share = (0..20_000).filter(|_| covered(&mut rng)).count() as f64 / 20_000.0;
        assert!((0.79..0.83).contains(&share), "{share}");
    }

    /// Rows are right with probability equal to their confidence, so the accuracy above t is (1 + t) / 2.
    #[test]
    fn promises_are_broken_as_rarely_as_they_say() {
        let mut rng = Rng::new(7);
        let promise = Promise { accuracy: 0.85, confidence: 0.9 };
        let (mut broken, mut coverage) = (0, 0.0);
        for _ in 0..300 {
            let confidences: Vec<f64> = (0..2_000).map(|_| uniform(&mut rng)).collect();
            let correct: Vec<bool> = confidences.iter().map(|c| uniform(&mut rng) < *c).collect();
            let Some(found) = guaranteed_threshold(&confidences, &correct, promise).unwrap() else { continue };
            broken += usize::from((1.0 + found.threshold) / 2.0 < promise.accuracy);
            coverage += found.coverage / 300.0;
        }
        assert!(broken <= 30, "{broken} of 300");
        // The best threshold is 0.7, which answers 0.3 of the rows.
        assert!(coverage > 0.18, "{coverage}");
    }

    #[test]
    fn too_few_rows_promise_nothing() {
        let promise = Promise { accuracy: 0.99, confidence: 0.95 };
        assert_eq!(guaranteed_threshold(&[0.5; 20], &[true; 20], promise).unwrap(), None);
        assert!(guaranteed_threshold(&[0.5; 2_000], &[true; 2_000], promise).unwrap().is_some());
        assert!(guaranteed_threshold(&[0.5], &[true], Promise { accuracy: 1.0, ..promise }).is_err());
    }
}
