use bantam_stats::StatsError;
use serde::Serialize;

/// What is predicted for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Exactly one label.
    Single,
    /// Any number of labels.
    Multi,
    /// The values of named fields; the "labels" of a row are the fields that have a value.
    Fields,
}

/// Where confidences come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfidenceKind {
    /// As the model gave them.
    Raw,
    /// Fitted on rows other than these, so that they may be read as probabilities.
    Calibrated,
}

/// A prediction for one row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prediction {
    /// The labels, in any order; for [`Kind::Fields`] the fields that were given a value.
    pub labels: Vec<usize>,
    /// For [`Kind::Fields`]: those of `labels` whose value is not the true one, though the field has a value in truth.
    pub wrong_values: Vec<usize>,
    /// How likely it is to be right, between 0 and 1.
    pub confidence: Option<f64>,
}

/// A row beside the truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The number by which the row is found in the data file. No two rows share one.
    pub row: usize,
    /// The true labels, in any order; for [`Kind::Fields`] the fields that have a value in truth.
    pub truth: Vec<usize>,
    /// `None` if nothing usable came back: a failure, a refusal.
    pub predicted: Option<Prediction>,
    /// Seconds.
    pub latency: Option<f64>,
}

/// What is to be summed up.
#[derive(Debug, Clone, Copy)]
pub struct Judgements<'a> {
    /// What is predicted.
    pub kind: Kind,
    /// The names of the labels, or of the fields.
    pub labels: &'a [String],
    /// For [`Kind::Single`]: the label that means none of the others.
    pub out_of_scope: Option<usize>,
    /// Where the confidences come from.
    pub confidence: ConfidenceKind,
    /// The confidence from which on the task would answer.
    pub threshold: Option<f64>,
    /// Accuracies, from 0 to 1, at which to say what share of rows can be answered, besides 0.9, 0.95 and 0.99.
    pub targets: &'a [f64],
    /// The rows.
    pub rows: &'a [Judged],
    /// How long all rows took together, in seconds.
    pub wall_seconds: Option<f64>,
}

/// Judgements that cannot be summed up. Rows are named by their own number.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QualityError {
    /// There is nothing to sum up.
    #[error("rows: there are none; give at least one judged row")]
    NoRows,
    /// Two rows have the same number.
    #[error("row {row}: there are two rows of this number; number every row differently")]
    SameRow {
        /// The number.
        row: usize,
    },
    /// A label that does not exist.
    #[error("row {row}: {name} has label {label}, but there are {labels} labels, from 0")]
    Label {
        /// The row.
        row: usize,
        /// `truth` or `predicted`.
        name: &'static str,
        /// The label.
        label: usize,
        /// How many there are.
        labels: usize,
    },
    /// A label that stands twice.
    #[error("row {row}: {name} has label {label} twice; give each label once")]
    Repeated {
        /// The row.
        row: usize,
        /// `truth` or `predicted`.
        name: &'static str,
        /// The label.
        label: usize,
    },
    /// A row that needs one label has another number of them.
    #[error("row {row}: {name} has {found} labels, but this kind has exactly one per row")]
    NotOne {
        /// The row.
        row: usize,
        /// `truth` or `predicted`.
        name: &'static str,
        /// How many labels it has.
        found: usize,
    },
    /// A wrong value of a field that has none.
    #[error(
        "row {row}: wrong_values has {field}, which is not a field that both the truth and the prediction give a value"
    )]
    WrongValue {
        /// The row.
        row: usize,
        /// The field.
        field: usize,
    },
    /// A number of a row outside its domain.
    #[error("row {row}: {name} is {value}, it must be {expected}")]
    Number {
        /// The row.
        row: usize,
        /// `confidence` or `latency`.
        name: &'static str,
        /// The number.
        value: f64,
        /// The domain, in words.
        expected: &'static str,
    },
    /// A setting outside its domain.
    #[error("{name}: {value} is not allowed, it must be {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The domain, in words.
        expected: &'static str,
    },
    /// The statistics refuse the numbers.
    #[error(transparent)]
    Stats(#[from] StatsError),
}

impl Judged {
    /// Whether the prediction is right in every part.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.predicted.as_ref().is_some_and(|predicted| {
            predicted.wrong_values.is_empty()
                && predicted.labels.len() == self.truth.len()
                && predicted.labels.iter().all(|label| self.truth.contains(label))
        })
    }
}

impl Judgements<'_> {
    pub(super) fn check(&self) -> Result<(), QualityError> {
        if self.rows.is_empty() {
            return Err(QualityError::NoRows);
        }
        let share = |name, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(QualityError::Setting { name, value, expected: "between 0 and 1" }),
        };
        self.threshold.map_or(Ok(()), |value| share("threshold", value))?;
        self.targets.iter().try_for_each(|&value| share("targets", value))?;
        if let Some(value) = self.wall_seconds.filter(|seconds| !(seconds.is_finite() && *seconds > 0.0)) {
            return Err(QualityError::Setting { name: "wall_seconds", value, expected: "finite and above 0" });
        }
        if let Some(label) = self.out_of_scope.filter(|&label| self.kind != Kind::Single || label >= self.labels.len())
        {
            let expected = "one of the labels, and given only where there is one label per row";
            return Err(QualityError::Setting { name: "out_of_scope", value: label as f64, expected });
        }
        let mut numbers: Vec<usize> = self.rows.iter().map(|row| row.row).collect();
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(QualityError::SameRow { row: pair[0] });
        }
        // The last row and side that each label was seen on.
        let mut seen = vec![0; self.labels.len()];
        for (i, row) in self.rows.iter().enumerate() {
            self.check_labels(row.row, "truth", &row.truth, (&mut seen, 2 * i + 1))?;
            if let Some(predicted) = &row.predicted {
                self.check_labels(row.row, "predicted", &predicted.labels, (&mut seen, 2 * i + 2))?;
            }
            self.check_values(row)?;
        }
        Ok(())
    }

    fn check_labels(
        &self,
        row: usize,
        name: &'static str,
        labels: &[usize],
        (seen, stamp): (&mut [usize], usize),
    ) -> Result<(), QualityError> {
        for &label in labels {
            match seen.get_mut(label) {
                None => return Err(QualityError::Label { row, name, label, labels: self.labels.len() }),
                Some(last) if *last == stamp => return Err(QualityError::Repeated { row, name, label }),
                Some(last) => *last = stamp,
            }
        }
        if self.kind == Kind::Single && labels.len() != 1 {
            return Err(QualityError::NotOne { row, name, found: labels.len() });
        }
        Ok(())
    }

    fn check_values(&self, row: &Judged) -> Result<(), QualityError> {
        let number = |name, value: f64, expected| Err(QualityError::Number { row: row.row, name, value, expected });
        if let Some(latency) = row.latency.filter(|latency| !(latency.is_finite() && *latency >= 0.0)) {
            return number("latency", latency, "finite and at least 0");
        }
        let Some(predicted) = &row.predicted else { return Ok(()) };
        if let Some(confidence) = predicted.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
            return number("confidence", confidence, "between 0 and 1");
        }
        let is_wrong_value =
            |field| self.kind == Kind::Fields && row.truth.contains(field) && predicted.labels.contains(field);
        match predicted.wrong_values.iter().find(|field| !is_wrong_value(field)) {
            Some(&field) => Err(QualityError::WrongValue { row: row.row, field }),
            None => Ok(()),
        }
    }
}
