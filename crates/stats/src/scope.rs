//! Telling rows that belong to no class from the others.

use crate::calibration::fit_logistic;
use crate::error::{StatsError, check_len, check_min};

/// What a head noticed of a row, each larger for rows like those of training.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Signals {
    /// The largest probability of a class.
    pub confidence: f64,
    /// The negative free energy of the logits (Liu et al. 2020): the logarithm of the sum of their exponentials.
    pub energy: f64,
    /// The mean cosine similarity of the five nearest training rows.
    pub similarity: f64,
}

/// Says of a row whether it belongs to any class: a weighted sum of its signals against a threshold.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScopeDetector {
    /// Of the logarithm of the confidence.
    pub confidence: f64,
    /// Of the energy.
    pub energy: f64,
    /// Of the similarity.
    pub similarity: f64,
    /// Rows whose sum is below this are out of scope.
    pub threshold: f64,
}

/// Rows to fit a [`ScopeDetector`] on; none of them may have been trained on.
#[derive(Debug, Clone, Copy)]
pub struct ScopeExamples<'a> {
    /// Of rows of the classes.
    pub inside: &'a [Signals],
    /// Whether each of those was classified rightly.
    pub correct: &'a [bool],
    /// Of rows of no class; there need not be any.
    pub outside: &'a [Signals],
}

/// From so many rows of no class on, they decide what each signal counts.
const MIN_OUTSIDE: usize = 20;
/// What signals count without such rows. Energy moves with confidence and is left to those who have examples.
const UNTAUGHT: [f64; 3] = [1.0, 0.0, 5.0];

impl ScopeDetector {
    /// Fits the weights by logistic regression if there are at least 20 rows of no class, and takes fixed ones otherwise;
    /// then sets the highest threshold that turns away right answers for at most `max_loss` of the rows inside.
    ///
    /// # Errors
    /// Without rows inside, if `correct` is not one per such row, if a signal is not finite, and if `max_loss` is not from 0
    /// up to 1.
    pub fn fit(examples: ScopeExamples<'_>, max_loss: f64) -> Result<Self, StatsError> {
        let ScopeExamples { inside, correct, outside } = examples;
        check_min("inside", inside.len(), 1)?;
        check_len("correct", correct.len(), inside.len())?;
        if !(0.0..1.0).contains(&max_loss) {
            return Err(StatsError::Range { name: "max_loss", value: max_loss, expected: "from 0 up to 1" });
        }
        let rows: Vec<[f64; 3]> = inside.iter().chain(outside).map(values).collect();
        if let Some(row) = rows.iter().position(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(StatsError::NotFinite { name: "signals", row });
        }
        let [confidence, energy, similarity] =
            if outside.len() >= MIN_OUTSIDE { weigh(&rows, inside.len())? } else { UNTAUGHT };
        let mut detector = Self { confidence, energy, similarity, threshold: f64::NEG_INFINITY };
        let right = inside.iter().zip(correct).filter(|(_, correct)| **correct);
        let mut sums: Vec<f64> = right.map(|(signals, _)| detector.score(signals)).collect();
        sums.sort_by(f64::total_cmp);
        let lost = (max_loss * inside.len() as f64) as usize;
        // A row at the threshold is kept.
        detector.threshold = sums.get(lost).or(sums.last()).copied().unwrap_or(f64::MIN);
        Ok(detector)
    }

    /// The weighted sum: the larger, the more like the classes.
    #[must_use]
    pub fn score(&self, signals: &Signals) -> f64 {
        let [confidence, energy, similarity] = values(signals);
        self.confidence * confidence + self.energy * energy + self.similarity * similarity
    }

    /// Whether the row belongs to a class.
    #[must_use]
    pub fn accepts(&self, signals: &Signals) -> bool {
        self.score(signals) >= self.threshold
    }
}

fn values(signals: &Signals) -> [f64; 3] {
    [libm::log(signals.confidence.max(1e-12)), signals.energy, signals.similarity]
}

/// Logistic regression of inside against outside on standardised signals. A weight that came out negative would reward a
/// row for being strange, and counts as none.
fn weigh(rows: &[[f64; 3]], n_inside: usize) -> Result<[f64; 3], StatsError> {
    let n = rows.len() as f64;
    let (mut means, mut spreads) = ([0.0; 3], [0.0; 3]);
    for i in 0..3 {
        means[i] = rows.iter().map(|row| row[i]).sum::<f64>() / n;
        spreads[i] = (rows.iter().map(|row| (row[i] - means[i]).powi(2)).sum::<f64>() / n).sqrt().max(1e-12);
    }
    let standard = |row: &[f64; 3]| {
        let at = |i: usize| (row[i] - means[i]) / spreads[i];
        [at(0), at(1), at(2), 1.0]
    };
    let features: Vec<[f64; 4]> = rows.iter().map(standard).collect();
    let positive: Vec<bool> = (0..rows.len()).map(|row| row < n_inside).collect();
    let weights = fit_logistic(&features, &positive)?;
    Ok([0, 1, 2].map(|i| weights[i].max(0.0) / spreads[i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::roc_auc;
    use crate::rng::Rng;

    fn rows(rng: &mut Rng, n: usize, [confidence, energy, similarity]: [f64; 3]) -> Vec<Signals> {
        let mut noise = || rng.below(1_000) as f64 / 1_000.0 - 0.5;
        let mut one = |_| Signals {
            confidence: (confidence + 0.4 * noise()).clamp(0.0, 1.0),
            energy: energy + noise(),
            similarity: similarity + 0.4 * noise(),
        };
        (0..n).map(&mut one).collect()
    }

    #[test]
    fn examples_teach_which_signal_tells() {
        let mut rng = Rng::new(9);
        let inside = rows(&mut rng, 500, [0.8, 3.0, 0.8]);
        // Only energy tells.
        let outside = rows(&mut rng, 200, [0.8, 2.0, 0.8]);
        let correct = vec![true; 500];
        let examples = ScopeExamples { inside: &inside, correct: &correct, outside: &outside };
        let taught = ScopeDetector::fit(examples, 0.02).unwrap();
        let untaught = ScopeDetector::fit(ScopeExamples { outside: &outside[..5], ..examples }, 0.02).unwrap();
        let area = |detector: &ScopeDetector| {
            let scores: Vec<f64> = inside.iter().chain(&outside).map(|signals| detector.score(signals)).collect();
            roc_auc(&scores, &(0..700).map(|i| i < 500).collect::<Vec<_>>()).unwrap()
        };
        assert!(area(&taught) > 0.99 && area(&untaught) < 0.6, "{} {}", area(&taught), area(&untaught));
        assert_eq!(inside.iter().filter(|signals| !taught.accepts(signals)).count(), 10);
    }

    #[test]
    fn wrong_answers_may_be_turned_away_for_free() {
        let mut rng = Rng::new(10);
        let inside = rows(&mut rng, 100, [0.5, 1.0, 0.5]);
        let strangest = ScopeDetector { confidence: 1.0, energy: 0.0, similarity: 5.0, threshold: 0.0 };
        let mut order: Vec<usize> = (0..100).collect();
        order.sort_by(|&a, &b| strangest.score(&inside[a]).total_cmp(&strangest.score(&inside[b])));
        let correct: Vec<bool> = (0..100).map(|row| !order[..30].contains(&row)).collect();
        let fit = ScopeDetector::fit(ScopeExamples { inside: &inside, correct: &correct, outside: &[] }, 0.0).unwrap();
        assert_eq!(inside.iter().filter(|signals| fit.accepts(signals)).count(), 70);
        let bad = ScopeExamples { inside: &inside, correct: &correct[1..], outside: &[] };
        assert!(ScopeDetector::fit(bad, 0.0).is_err());
        assert!(ScopeDetector::fit(ScopeExamples { correct: &correct, ..bad }, 1.0).is_err());
    }
}
