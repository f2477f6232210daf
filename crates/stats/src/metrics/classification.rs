use crate::error::{StatsError, check_classes, check_len, check_min};

/// What a yes-or-no prediction got right and wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BinaryCounts {
    /// Predicted and so.
    pub true_positives: u64,
    /// Predicted and not so.
    pub false_positives: u64,
    /// Not predicted, though so.
    pub false_negatives: u64,
    /// Not predicted and not so.
    pub true_negatives: u64,
}

impl BinaryCounts {
    /// Counts predictions against the truth.
    ///
    /// # Errors
    /// If the two differ in length.
    pub fn from_labels(truth: &[bool], predicted: &[bool]) -> Result<Self, StatsError> {
        check_len("predicted", predicted.len(), truth.len())?;
        let mut counts = Self::default();
        for pair in truth.iter().zip(predicted) {
            match pair {
                (true, true) => counts.true_positives += 1,
                (false, true) => counts.false_positives += 1,
                (true, false) => counts.false_negatives += 1,
                (false, false) => counts.true_negatives += 1,
            }
        }
        Ok(counts)
    }

    /// The share of predicted ones that are so; 0 if nothing was predicted.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// The share of those that are so that was predicted; 0 if there are none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.true_positives, self.support())
    }

    /// The harmonic mean of precision and recall; 0 if there is nothing to find and nothing was predicted.
    #[must_use]
    pub fn f1(&self) -> f64 {
        let wrong = self.false_positives + self.false_negatives;
        share(2 * self.true_positives, 2 * self.true_positives + wrong)
    }

    /// How many are so.
    #[must_use]
    pub fn support(&self) -> u64 {
        self.true_positives + self.false_negatives
    }
}

/// The counts of several labels together, as micro-averages want them.
impl std::iter::Sum for BinaryCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            true_positives: a.true_positives + b.true_positives,
            false_positives: a.false_positives + b.false_positives,
            false_negatives: a.false_negatives + b.false_negatives,
            true_negatives: a.true_negatives + b.true_negatives,
        })
    }
}

/// The mean F1 of the labels that occur or were predicted; 0 if none did.
#[must_use]
pub fn macro_f1(labels: &[BinaryCounts]) -> f64 {
    let seen = labels.iter().filter(|label| label.support() + label.false_positives > 0);
    let (sum, n) = seen.fold((0.0, 0_u64), |(sum, n), label| (sum + label.f1(), n + 1));
    if n == 0 { 0.0 } else { sum / n as f64 }
}

/// How often each class was predicted as each.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfusionMatrix {
    classes: usize,
    /// `[truth][predicted]`
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// Counts predicted classes against the true ones.
    ///
    /// # Errors
    /// Without rows, if the two differ in length, and if a class is not below `classes`.
    pub fn from_labels(truth: &[usize], predicted: &[usize], classes: usize) -> Result<Self, StatsError> {
        check_min("truth", truth.len(), 1)?;
        check_len("predicted", predicted.len(), truth.len())?;
        check_classes("truth", truth, classes)?;
        check_classes("predicted", predicted, classes)?;
        let mut counts = vec![0; classes * classes];
        truth.iter().zip(predicted).for_each(|(truth, predicted)| counts[truth * classes + predicted] += 1);
        Ok(Self { classes, counts })
    }

    /// How many classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many rows of class `truth` were predicted as `predicted`; 0 if there is no such class.
    #[must_use]
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        if truth < self.classes && predicted < self.classes { self.counts[truth * self.classes + predicted] } else { 0 }
    }

    /// How many rows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share of rows on the diagonal. With one label per row this is also micro-averaged precision, recall and F1.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        share((0..self.classes).map(|class| self.count(class, class)).sum(), self.total())
    }

    /// One class against all others.
    #[must_use]
    pub fn class(&self, class: usize) -> BinaryCounts {
        let true_positives = self.count(class, class);
        let support: u64 = (0..self.classes).map(|other| self.count(class, other)).sum();
        let predicted: u64 = (0..self.classes).map(|other| self.count(other, class)).sum();
        BinaryCounts {
            true_positives,
            false_positives: predicted - true_positives,
            false_negatives: support - true_positives,
            true_negatives: self.total() + true_positives - support - predicted,
        }
    }

    /// [`macro_f1`] over the classes.
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        macro_f1(&(0..self.classes).map(|class| self.class(class)).collect::<Vec<_>>())
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_classes_by_hand() {
        let truth = [0, 0, 0, 1, 1, 2, 2, 2, 2, 2];
        let predicted = [0, 0, 1, 1, 2, 2, 2, 2, 0, 2];
        let matrix = ConfusionMatrix::from_labels(&truth, &predicted, 4).unwrap();
        assert_eq!((matrix.count(0, 1), matrix.count(2, 0), matrix.total()), (1, 1, 10));
        assert!((matrix.accuracy() - 0.7).abs() < 1e-15);
        let two = matrix.class(2);
        assert_eq!((two.precision(), two.recall(), two.f1(), two.support()), (0.8, 0.8, 0.8, 5));
        assert_eq!(two.true_negatives, 4);
        // Class 3 never occurs and is left out: (2/3 + 1/2 + 4/5) / 3
        assert!((matrix.macro_f1() - (2.0 / 3.0 + 0.5 + 0.8) / 3.0).abs() < 1e-15);
        let micro: BinaryCounts = (0..4).map(|class| matrix.class(class)).sum();
        assert!((micro.f1() - matrix.accuracy()).abs() < 1e-15);
    }

    #[test]
    fn bad_labels_are_refused() {
        assert!(ConfusionMatrix::from_labels(&[0, 1], &[0], 2).is_err());
        assert!(ConfusionMatrix::from_labels(&[0, 2], &[0, 0], 2).is_err());
        assert!(ConfusionMatrix::from_labels(&[], &[], 2).is_err());
        assert_eq!(BinaryCounts::from_labels(&[false], &[false]).unwrap().f1(), 0.0);
    }
}
