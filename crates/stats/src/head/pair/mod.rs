//! How well each of two models would do on a row, from rows on which one or both were tried: the head of a router.
//!
//! Three views of a row each give both probabilities: a logistic regression on its embedding, one on hashed words and runs
//! of characters, and the outcomes of the nearest training rows. Their log-odds are added around the models' overall shares,
//! with weights fitted on rows held out. What the large model gains is estimated twice, as the difference of the
//! probabilities and by a regression of its own, and averaged: where rows are few, the difference of two models' outcomes
//! is learned better directly; where they are many, the probabilities know more.

mod blob;
mod fit;
mod loss;

pub use fit::{PairConfig, PairFit, PairTraining, fit_pair};

use super::design::{Design, Sparse};
use super::linear::Linear;
use super::neighbours::Index;
use super::text::TextFeatures;
use super::{Inputs, unit_rows};
use crate::error::{StatsError, check_len};
use crate::special::sigmoid;

/// Columns of the regressions on embeddings: the small model, the large one, and the gain.
const COLUMNS: usize = 3;
/// What the smoothing of the neighbours' outcomes counts, in rows at the overall share.
const PRIOR_ROWS: f64 = 4.0;

/// How good the models' answers to one row were, from 0 (wrong) to 1 (right); `None` for a model that was not asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Of the small model.
    pub small: Option<f32>,
    /// Of the large model.
    pub large: Option<f32>,
}

impl Outcome {
    /// The scores in order.
    fn scores(self) -> [Option<f64>; 2] {
        [self.small.map(f64::from), self.large.map(f64::from)]
    }

    /// What asking the large model gained, if both were asked.
    #[must_use]
    pub fn gain(self) -> Option<f64> {
        Some(f64::from(self.large?) - f64::from(self.small?))
    }
}

/// What is expected of the two models on one row.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct PairPrediction {
    /// The probability that the small model's answer is right, or its expected score.
    pub small: f64,
    /// The same of the large model.
    pub large: f64,
    /// What asking the large model gains on average, from -1 to 1: the mean of `large - small` and of the gain as it was
    /// learned directly.
    pub gain: f64,
}

/// A training row that is near another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Which of the rows that the head kept; [`PairHead::kept`] says which training row that is.
    pub at: usize,
    /// The cosine similarity.
    pub similarity: f64,
    /// How the models did on it.
    pub outcome: Outcome,
}

/// A fitted head.
#[derive(Debug, Clone, PartialEq)]
pub struct PairHead {
    width: usize,
    /// Log-odds of the models' overall shares.
    base: [f64; 2],
    embedding: Linear,
    text: (TextFeatures, Linear),
    index: Index,
    /// Of the rows in `index`.
    outcomes: Vec<Outcome>,
    /// Which training rows those are.
    kept: Vec<u32>,
    /// What the three views count: embedding, text, neighbours.
    pool: [f64; 3],
}

impl PairHead {
    /// Numbers per embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which of the training rows are kept for comparison, ascending.
    #[must_use]
    pub fn kept(&self) -> &[u32] {
        &self.kept
    }

    /// One prediction per row, the same whatever other rows there are and on however many `threads`.
    ///
    /// # Errors
    /// If the embeddings have another width than in training, or there is not one text per row.
    pub fn predict(&self, inputs: Inputs<'_>, threads: usize) -> Result<Vec<PairPrediction>, StatsError> {
        check_len("embedding", inputs.embeddings.width(), self.width)?;
        check_len("texts", inputs.texts.len(), inputs.embeddings.len())?;
        let embeddings = unit_rows(inputs.embeddings);
        let dense = Design::Dense { values: &embeddings, width: self.width };
        let of_embedding = self.embedding.logits(&dense, COLUMNS, threads);
        let mut rows = Sparse::new(self.text.0.width());
        inputs.texts.iter().for_each(|text| rows.push(self.text.0.of(text)));
        let of_text = self.text.1.logits(&Design::Sparse(&rows), 2, threads);
        let of_neighbours = votes(&self.index, &self.outcomes, self.base, &embeddings, threads);
        let one = |((embedding, text), vote): ((&[f64], &[f64]), &[f64; 2])| {
            let views = [[embedding[0], embedding[1]], [text[0], text[1]], *vote];
            self.pooled(&views, embedding[2])
        };
        Ok(of_embedding.chunks_exact(COLUMNS).zip(of_text.chunks_exact(2)).zip(&of_neighbours).map(one).collect())
    }

    /// The kept rows that are nearest to an embedding, nearest first, at most `most`.
    ///
    /// # Errors
    /// As [`PairHead::predict`].
    pub fn nearest(&self, embedding: &[f32], most: usize) -> Result<Vec<Nearest>, StatsError> {
        let rows = crate::rows::Rows::new("embedding", embedding, self.width)?;
        check_len("embedding", rows.len(), 1)?;
        let found = self.index.nearest(&unit_rows(rows), most).into_iter();
        Ok(found.map(|(similarity, at)| Nearest { at, similarity, outcome: self.outcomes[at] }).collect())
    }

    fn pooled(&self, views: &[[f64; 2]; 3], gain: f64) -> PairPrediction {
        pooled(self.base, &self.pool, views, gain)
    }
}

/// Adds log-odds around `base`; `gain` is the directly learned one.
fn pooled(base: [f64; 2], pool: &[f64; 3], views: &[[f64; 2]; 3], gain: f64) -> PairPrediction {
    let logit =
        |m: usize| base[m] + views.iter().zip(pool).map(|(view, weight)| weight * (view[m] - base[m])).sum::<f64>();
    let (small, large) = (sigmoid(logit(0)), sigmoid(logit(1)));
    PairPrediction { small, large, gain: 0.5 * (large - small + gain.clamp(-1.0, 1.0)) }
}

/// How many neighbours vote: enough that their mean says something, and no more than a third of the rows.
fn voters(rows: usize) -> usize {
    (rows / 3).clamp(1, 100)
}

/// For each row of `rows`, the log-odds of the nearest rows' mean outcomes.
fn votes(index: &Index, outcomes: &[Outcome], base: [f64; 2], rows: &[f32], threads: usize) -> Vec<[f64; 2]> {
    let prior = base.map(sigmoid);
    let vote = |row: &[f32]| -> [f64; 2] {
        let mut sums = [0.0; 2];
        let mut counts = [0.0; 2];
        for (_, at) in index.nearest(row, voters(outcomes.len())) {
            for (m, score) in outcomes[at].scores().into_iter().enumerate() {
                sums[m] += score.unwrap_or(0.0);
                counts[m] += f64::from(u8::from(score.is_some()));
            }
        }
        let log_odds = |m: usize| log_odds((sums[m] + PRIOR_ROWS * prior[m]) / (counts[m] + PRIOR_ROWS));
        [log_odds(0), log_odds(1)]
    };
    let mut all = vec![[0.0; 2]; rows.len() / index.width];
    let chunks = rows.chunks_exact(index.width).zip(&mut all).collect();
    crate::parallel::for_each(threads, chunks, |(row, out)| *out = vote(row));
    all
}

fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    libm::log(p) - libm::log1p(-p)
}
