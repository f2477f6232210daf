//! The small model answers first; what its answer shows of itself says whether to ask the large one as well.

use bantam_stats::calibration::fit_logistic;

use crate::error::RouteError;
use crate::model::Threshold;

/// Columns of the regression: four signals, the prompt's own odds, the check, and ones.
const COLUMNS: usize = 7;
/// The gain after a failed check: beyond any threshold.
const FAILED: f64 = 20.0;
/// Fewer answers teach nothing.
pub(crate) const MIN_ROWS: usize = 50;

/// The outcome of a check of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
}

/// What the small model's answer shows of itself. What is not known is left out and counts as the mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallAnswer {
    /// The mean log-probability of its tokens.
    pub mean_logprob: Option<f64>,
    /// The lowest log-probability of a token.
    pub min_logprob: Option<f64>,
    /// How many tokens it has.
    pub tokens: Option<u64>,
    /// Between the two likeliest labels, from 0 to 1.
    pub margin: Option<f64>,
    /// What a check of it said: a schema, a rule, a test.
    pub check: Option<Check>,
}

impl SmallAnswer {
    /// Whether anything is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }

    pub(crate) fn check_finite(&self) -> Result<(), &'static str> {
        let fields = [("mean_logprob", self.mean_logprob), ("min_logprob", self.min_logprob), ("margin", self.margin)];
        fields.into_iter().find(|(_, x)| x.is_some_and(|x| !x.is_finite())).map_or(Ok(()), |(name, _)| Err(name))
    }

    /// The signals, with the log-odds that the router gave the small model before.
    fn signals(&self, small: f64) -> [Option<f64>; COLUMNS - 1] {
        let p = small.clamp(1e-6, 1.0 - 1e-6);
        [
            self.mean_logprob,
            self.min_logprob,
            self.tokens.map(|tokens| libm::log1p(tokens as f64)),
            self.margin,
            Some(libm::log(p / (1.0 - p))),
            self.check.map(|check| f64::from(u8::from(check == Check::Failed))),
        ]
    }
}

/// How likely an answer of the small model is right, given the answer.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cascade {
    means: [f64; COLUMNS - 1],
    scales: [f64; COLUMNS - 1],
    weights: [f64; COLUMNS],
    /// Answers whose gain is more than this go to the large model.
    pub(crate) threshold: Threshold,
}

/// What to do with an answer of the small model.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Review {
    /// The probability that the answer is right.
    pub p_right: f64,
    /// What asking the large model gains on average; 20, beyond any threshold, if the check failed.
    pub gain: f64,
    /// The gain from which on the large model is asked.
    pub threshold: f64,
    /// Whether to ask it.
    pub escalate: bool,
}

impl Cascade {
    /// Fits the regression on answers that were judged: the answer, what the router said of the small model before (by a head
    /// that had not seen the row), and whether the answer was right. The threshold is the caller's to set.
    ///
    /// # Errors
    /// With fewer than 50 answers, or none that is right, or none that is wrong.
    pub(crate) fn fit(rows: &[(SmallAnswer, f64, bool)]) -> Result<Self, RouteError> {
        if rows.len() < MIN_ROWS {
            let problem = format!("{} answers with signals are too few, at least {MIN_ROWS} are needed", rows.len());
            return Err(RouteError::Config { field: "cascade", problem });
        }
        let signals: Vec<_> = rows.iter().map(|(answer, small, _)| answer.signals(*small)).collect();
        let (mut means, mut scales) = ([0.0; COLUMNS - 1], [0.0; COLUMNS - 1]);
        for i in 0..COLUMNS - 1 {
            let known: Vec<f64> = signals.iter().filter_map(|row| row[i]).collect();
            let n = known.len().max(1) as f64;
            means[i] = known.iter().sum::<f64>() / n;
            let deviation = (known.iter().map(|x| (x - means[i]).powi(2)).sum::<f64>() / n).sqrt();
            // A signal that never changes says nothing.
            scales[i] = if deviation > 1e-9 { 1.0 / deviation } else { 0.0 };
        }
        let columns: Vec<[f64; COLUMNS]> = signals.iter().map(|row| columns(row, &means, &scales)).collect();
        let right: Vec<bool> = rows.iter().map(|row| row.2).collect();
        let weights = fit_logistic(&columns, &right)?;
        Ok(Self { means, scales, weights, threshold: Threshold::Given { gain: -1.0 } })
    }

    /// The probability that an answer is right. `small` is what the router said of the small model before.
    #[must_use]
    pub fn p_right(&self, answer: &SmallAnswer, small: f64) -> f64 {
        let columns = columns(&answer.signals(small), &self.means, &self.scales);
        let z: f64 = columns.iter().zip(&self.weights).map(|(x, w)| x * w).sum();
        1.0 / (1.0 + libm::exp(-z))
    }

    /// Whether to keep the small model's answer. `small` and `large` are what the router said before.
    #[must_use]
    pub fn review(&self, answer: &SmallAnswer, small: f64, large: f64) -> Review {
        let p_right = self.p_right(answer, small);
        let gain = if answer.check == Some(Check::Failed) { FAILED } else { large - p_right };
        let threshold = self.threshold.gain();
        Review { p_right, gain, threshold, escalate: gain > threshold }
    }

    /// The threshold and what is promised of it.
    #[must_use]
    pub fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    pub(crate) fn is_valid(&self) -> bool {
        let numbers = self.means.iter().chain(&self.scales).chain(&self.weights);
        numbers.into_iter().all(|x| x.abs() <= 1e9) && self.threshold.is_valid()
    }
}

fn columns(
    signals: &[Option<f64>; COLUMNS - 1],
    means: &[f64; COLUMNS - 1],
    scales: &[f64; COLUMNS - 1],
) -> [f64; COLUMNS] {
    let mut row = [1.0; COLUMNS];
    for i in 0..COLUMNS - 1 {
        row[i] = signals[i].map_or(0.0, |x| ((x - means[i]) * scales[i]).clamp(-5.0, 5.0));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_stats::Rng;

    #[test]
    fn sure_answers_are_kept_and_failed_ones_never() {
        let mut rng = Rng::new(1);
        let rows: Vec<_> = (0..800)
            .map(|_| {
                let mean = -(rng.below(1_000) as f64) / 500.0;
                let answer = SmallAnswer { mean_logprob: Some(mean), tokens: Some(20), ..SmallAnswer::default() };
                (answer, 0.5, (rng.below(1_000) as f64) / 1_000.0 < 1.0 + mean / 2.0)
            })
            .collect();
        let cascade = Cascade::fit(&rows).unwrap();
        let of = |mean| SmallAnswer { mean_logprob: Some(mean), tokens: Some(20), ..SmallAnswer::default() };
        assert!((cascade.p_right(&of(-1.0), 0.5) - 0.5).abs() < 0.08);
        assert!(cascade.p_right(&of(-0.1), 0.5) > 0.85 && cascade.p_right(&of(-1.9), 0.5) < 0.15);
        let failed = SmallAnswer { check: Some(Check::Failed), ..of(-0.01) };
        let cascade = Cascade { threshold: Threshold::Given { gain: 0.2 }, ..cascade };
        assert!(!cascade.review(&of(-0.01), 0.5, 0.9).escalate && cascade.review(&failed, 0.5, 0.9).escalate);
        assert!(cascade.review(&of(-1.5), 0.5, 0.9).escalate);
        assert!(Cascade::fit(&rows[..20]).is_err());
    }
}
