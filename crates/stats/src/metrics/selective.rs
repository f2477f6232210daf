use crate::error::{StatsError, check_finite, check_len, check_min, check_share};
use crate::intervals::{Proportion, clopper_pearson_lower};

/// What happens if only rows with at least `threshold` are answered.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct RiskPoint {
    /// The lowest confidence that is answered.
    pub threshold: f64,
    /// Rows answered.
    pub answered: usize,
    /// Of those, the wrong ones.
    pub wrong: usize,
}

/// The trade between how many rows are answered and how many answers are wrong (Geifman and El-Yaniv 2017).
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RiskCoverage {
    rows: usize,
    points: Vec<RiskPoint>,
}

/// What a threshold must promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Criterion {
    /// The observed accuracy reaches the target.
    Observed,
    /// The one-sided Clopper-Pearson lower bound reaches it, at this confidence, as if the threshold had been fixed before
    /// these rows were seen. For a promise that counts the choice, see [`crate::conformal::guaranteed_threshold`].
    LowerBound(f64),
}

/// The largest share of rows that can be answered at a target accuracy.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Answerable {
    /// Answer from this confidence on.
    pub threshold: f64,
    /// The share of rows answered.
    pub coverage: f64,
    /// The observed share of correct answers.
    pub accuracy: f64,
}

impl RiskCoverage {
    /// The curve of these confidences, in any monotone unit.
    ///
    /// # Errors
    /// Without rows, if the two differ in length, and if a confidence is not finite.
    pub fn new(confidences: &[f64], correct: &[bool]) -> Result<Self, StatsError> {
        check_len("correct", correct.len(), confidences.len())?;
        check_min("confidences", confidences.len(), 1)?;
        check_finite("confidences", confidences)?;
        let mut rows: Vec<(f64, bool)> = confidences.iter().copied().zip(correct.iter().copied()).collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut answered, mut wrong) = (0, 0);
        // Rows of equal confidence are answered together.
        let points = rows.chunk_by(|a, b| a.0 == b.0).map(|tied| {
            answered += tied.len();
            wrong += tied.iter().filter(|row| !row.1).count();
            RiskPoint { threshold: tied[0].0, answered, wrong }
        });
        let points = points.collect();
        Ok(Self { rows: rows.len(), points })
    }

    /// One point per distinct confidence, from the fewest rows answered to all.
    #[must_use]
    pub fn points(&self) -> &[RiskPoint] {
        &self.points
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The area under the curve: the mean of the risk when 1, 2, ... all rows are answered. Among equal confidences,
    /// wrong rows count as spread evenly.
    #[must_use]
    pub fn area(&self) -> f64 {
        let (mut sum, mut answered, mut wrong) = (0.0, 0, 0);
        for point in &self.points {
            let (rows, errors) = (point.answered - answered, point.wrong - wrong);
            for i in 1..=rows {
                let so_far = wrong as f64 + errors as f64 * i as f64 / rows as f64;
                sum += so_far / (answered + i) as f64;
            }
            (answered, wrong) = (point.answered, point.wrong);
        }
        sum / self.rows as f64
    }

    /// The lowest threshold at which answers are right often enough; `None` if there is none.
    ///
    /// # Errors
    /// If `target` or the confidence of the criterion is not between 0 and 1.
    pub fn answerable(&self, target: f64, criterion: Criterion) -> Result<Option<Answerable>, StatsError> {
        check_share("target", target)?;
        for point in self.points.iter().rev() {
            let right = Proportion::new((point.answered - point.wrong) as u64, point.answered as u64)?;
            let reached = match criterion {
                Criterion::Observed => right.value(),
                // The bound lies below the observed share, which is cheaper.
                Criterion::LowerBound(confidence) if right.value() >= target => {
                    clopper_pearson_lower(right, confidence)?
                }
                Criterion::LowerBound(confidence) => {
                    check_share("confidence", confidence)?;
                    continue;
                }
            };
            if reached >= target {
                let coverage = point.answered as f64 / self.rows as f64;
                return Ok(Some(Answerable { threshold: point.threshold, coverage, accuracy: right.value() }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curve_by_hand() {
        let curve = RiskCoverage::new(&[0.9, 0.8, 0.8, 0.3], &[true, false, true, false]).unwrap();
        let points: Vec<_> = curve.points().iter().map(|p| (p.threshold, p.answered, p.wrong)).collect();
        assert_eq!(points, [(0.9, 1, 0), (0.8, 3, 1), (0.3, 4, 2)]);
        // 0, then (1/2)/2 and 1/3 within the tie, then 2/4
        assert!((curve.area() - (0.0 + 0.25 + 1.0 / 3.0 + 0.5) / 4.0).abs() < 1e-15);
        let found = curve.answerable(0.6, Criterion::Observed).unwrap().unwrap();
        assert_eq!((found.threshold, found.coverage), (0.8, 0.75));
        assert_eq!(curve.answerable(0.99, Criterion::LowerBound(0.95)).unwrap(), None);
        assert!(curve.answerable(1.0, Criterion::Observed).is_err());
        assert!(curve.answerable(0.9, Criterion::LowerBound(2.0)).is_err());
    }

    #[test]
    fn a_bound_asks_for_more_than_the_observed_share() {
        let confidences: Vec<f64> = (0..1_000).map(f64::from).collect();
        let correct: Vec<bool> = (0..1_000).map(|i| i > 100 && i % 50 != 0).collect();
        let curve = RiskCoverage::new(&confidences, &correct).unwrap();
        let observed = curve.answerable(0.95, Criterion::Observed).unwrap().unwrap();
        let bound = curve.answerable(0.95, Criterion::LowerBound(0.95)).unwrap().unwrap();
        assert!(bound.coverage < observed.coverage && bound.accuracy > 0.95 && bound.coverage > 0.85, "{bound:?}");
        assert_eq!(curve.answerable(0.97, Criterion::LowerBound(0.95)).unwrap().map(|a| a.accuracy > 0.97), Some(true));
    }
}
