use crate::error::{StatsError, check_classes, check_len};
use crate::rows::Rows;
use crate::special::{bisect, log_sum_exp};

/// Temperature scaling (Guo et al. 2017): logits are divided by one number, so the order of classes stays.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Temperature(f64);

/// Outside this range of 1/T the probabilities are those of a coin or of certainty.
const INVERSE_RANGE: (f64, f64) = (1e-3, 1e3);

impl Temperature {
    /// A given temperature.
    ///
    /// # Errors
    /// Unless it is between 0.001 and 1000.
    pub fn new(value: f64) -> Result<Self, StatsError> {
        if (INVERSE_RANGE.0..=INVERSE_RANGE.1).contains(&value) {
            Ok(Self(value))
        } else {
            Err(StatsError::Range { name: "temperature", value, expected: "between 0.001 and 1000" })
        }
    }

    /// The temperature with the least log loss. `logits` are held-out log-probabilities, or logits, `[rows][classes]`.
    ///
    /// # Errors
    /// If the labels are not one per row and below the number of classes.
    pub fn fit(logits: Rows<'_, f64>, labels: &[usize]) -> Result<Self, StatsError> {
        check_len("labels", labels.len(), logits.len())?;
        check_classes("labels", labels, logits.width())?;
        // The loss is convex in 1/T; its slope is the sum of E[logit] - logit of the true class.
        let mut scaled = vec![0.0; logits.width()];
        let mut slope = |inverse: f64| -> f64 {
            let mut sum = 0.0;
            for (row, &label) in logits.iter().zip(labels) {
                scaled.iter_mut().zip(row).for_each(|(scaled, logit)| *scaled = logit * inverse);
                let total = log_sum_exp(&scaled);
                let mean: f64 = scaled.iter().zip(row).map(|(s, logit)| libm::exp(s - total) * logit).sum();
                sum += mean - row[label];
            }
            sum
        };
        let (low, high) = (libm::log(INVERSE_RANGE.0), libm::log(INVERSE_RANGE.1));
        let inverse = libm::exp(bisect(low, high, |ln| slope(libm::exp(ln)) < 0.0));
        Self::new((1.0 / inverse).clamp(INVERSE_RANGE.0, INVERSE_RANGE.1))
    }

    /// The temperature itself.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    /// Turns one row of logits or log-probabilities into log-probabilities.
    pub fn apply(self, logits: &mut [f64]) {
        logits.iter_mut().for_each(|logit| *logit /= self.0);
        let total = log_sum_exp(logits);
        logits.iter_mut().for_each(|logit| *logit -= total);
    }
}

impl TryFrom<f64> for Temperature {
    type Error = StatsError;
    fn try_from(value: f64) -> Result<Self, StatsError> {
        Self::new(value)
    }
}

impl From<Temperature> for f64 {
    fn from(temperature: Temperature) -> Self {
        temperature.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose labels follow softmax(logits / 2.5) in proportion.
    #[test]
    fn finds_the_temperature_that_made_the_labels() {
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for i in 0..40 {
            let row = [f64::from(i) * 0.2, 1.0, -f64::from(i % 7)];
            let mut log_probs = row;
            Temperature(2.5).apply(&mut log_probs);
            for (class, p) in log_probs.iter().enumerate() {
                for _ in 0..(libm::exp(*p) * 1_000.0).round() as usize {
                    logits.extend(row);
                    labels.push(class);
                }
            }
        }
        let found = Temperature::fit(Rows::new("logits", &logits, 3).unwrap(), &labels).unwrap();
        assert!((found.value() - 2.5).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn rows_that_separate_give_the_edge_of_the_range_and_probabilities_add_up() {
        let logits = [1.0, 0.0, 0.0, 1.0];
        let found = Temperature::fit(Rows::new("logits", &logits, 2).unwrap(), &[0, 1]).unwrap();
        assert!(found.value() < 0.1);
        let mut row = [700.0, -700.0, 3.0];
        Temperature(0.5).apply(&mut row);
        assert!((row.iter().map(|p| libm::exp(*p)).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(Temperature::new(0.0).is_err() && serde_json::from_str::<Temperature>("-1.0").is_err());
    }
}
