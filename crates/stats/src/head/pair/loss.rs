use super::Outcome;
use crate::head::linear::RowLoss;
use crate::special::softplus;

/// The log losses of both models' outcomes and, where there is a third column, half the squared error of the gain. What is
/// not known costs nothing.
pub(super) struct PairLoss<'a> {
    pub(super) outcomes: &'a [Outcome],
    pub(super) columns: usize,
}

impl RowLoss for PairLoss<'_> {
    fn columns(&self) -> usize {
        self.columns
    }

    fn residual(&self, row: usize, z: &mut [f32]) -> f64 {
        let outcome = self.outcomes[row];
        let mut sum = 0.0;
        for (z, score) in z.iter_mut().zip(outcome.scores()) {
            let logit = f64::from(*z);
            *z = score.map_or(0.0, |score| {
                sum += log_loss(logit, score);
                (crate::special::sigmoid(logit) - score) as f32
            });
        }
        if let Some(z) = z.get_mut(2) {
            let away = outcome.gain().map_or(0.0, |gain| f64::from(*z) - gain);
            sum += 0.5 * away * away;
            *z = away as f32;
        }
        sum
    }
}

/// Of a logit where the truth is `score`, from 0 to 1.
pub(super) fn log_loss(logit: f64, score: f64) -> f64 {
    softplus(logit) - score * logit
}
