//! Classification heads over embeddings of texts, and the texts themselves.
//!
//! A head pools three views of a row: a logistic regression on its embedding, one on hashed words and runs of characters,
//! and a vote of the nearest training rows. Each is weak where another is strong (rare words, few rows, odd regions), and
//! their log-probabilities are added with weights fitted on held-out rows, which also calibrates the sum.

mod blob;
mod design;
mod fit;
mod linear;
mod neighbours;
pub mod pair;
mod pool;
mod targets;
mod text;

pub use blob::BlobError;
pub use fit::{Fit, FitConfig, FitError, FitProgress, HeldOut, Training, fit};
pub use targets::Labels;

use crate::error::{StatsError, check_len};
use crate::rows::Rows;
use crate::scope::Signals;
use crate::special::{log_sum_exp, softplus};
use design::Design;
use linear::Linear;
use neighbours::{Neighbours, Vote};
use pool::PoolWeights;
use text::TextFeatures;

/// How the classes of a row relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Link {
    /// One of them: their probabilities add up to 1.
    Softmax,
    /// Each on its own.
    Sigmoid,
}

/// How much rows of rare and frequent classes count in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClassWeights {
    /// Every row the same.
    #[default]
    Equal,
    /// Every class the same in all.
    Balanced,
}

/// Rows to train on or to classify.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// One embedding per row, of any length; it is scaled to length 1.
    pub embeddings: Rows<'a, f32>,
    /// The same rows as texts, or none at all: then the head looks at embeddings alone.
    pub texts: &'a [&'a str],
}

/// A trained head.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    classes: usize,
    link: Link,
    /// Numbers per embedding.
    width: usize,
    embedding: Linear,
    text: Option<(TextFeatures, Linear)>,
    neighbours: Neighbours,
    pool: PoolWeights,
}

/// What a head says of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// One per class. They add up to 1 if rows have one class each.
    pub probabilities: Vec<f64>,
    /// What tells rows of no class at all from the others.
    pub signals: Signals,
}

impl Prediction {
    /// The most probable class; the first of several.
    #[must_use]
    pub fn class(&self) -> usize {
        let probabilities = self.probabilities.iter().enumerate();
        probabilities.fold((0, f64::NEG_INFINITY), |best, (i, &p)| if p > best.1 { (i, p) } else { best }).0
    }

    /// The largest probability.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        self.probabilities.iter().fold(0.0, |max, p| max.max(*p))
    }
}

impl Head {
    /// How many classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Numbers per embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether rows must come with their texts.
    #[must_use]
    pub fn needs_texts(&self) -> bool {
        self.text.is_some()
    }

    /// One prediction per row, the same whatever other rows there are and on however many `threads`.
    ///
    /// # Errors
    /// If the embeddings have another width than in training, or texts are missing.
    pub fn predict(&self, inputs: Inputs<'_>, threads: usize) -> Result<Vec<Prediction>, StatsError> {
        if inputs.embeddings.width() != self.width {
            let (found, expected) = (inputs.embeddings.width(), self.width);
            return Err(StatsError::Length { name: "embedding", found, expected });
        }
        let embeddings = unit_rows(inputs.embeddings);
        let dense = Design::Dense { values: &embeddings, width: self.width };
        let mut parts = vec![self.embedding.logits(&dense, self.classes, threads)];
        if let Some((features, linear)) = &self.text {
            check_len("texts", inputs.texts.len(), inputs.embeddings.len())?;
            let mut rows = design::Sparse::new(features.width());
            inputs.texts.iter().for_each(|text| rows.push(features.of(text)));
            parts.push(linear.logits(&Design::Sparse(&rows), self.classes, threads));
        }
        let votes = self.neighbours.votes(threads, &embeddings);
        Ok(self.pool.pool(self.link, parts, votes))
    }
}

/// Copies the rows and scales each to length 1; zeros stay.
fn unit_rows(rows: Rows<'_, f32>) -> Vec<f32> {
    let mut values = rows.values().to_vec();
    for row in values.chunks_exact_mut(rows.width()) {
        let length = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    }
    values
}

/// Turns a row of logits into the scores that are pooled (log-probabilities of one class in all, logits of each on its own)
/// and gives their free energy.
fn scores(link: Link, logits: &mut [f64]) -> f64 {
    match link {
        Link::Softmax => {
            let energy = log_sum_exp(logits);
            logits.iter_mut().for_each(|logit| *logit -= energy);
            energy
        }
        Link::Sigmoid => logits.iter().map(|logit| softplus(*logit)).sum(),
    }
}
