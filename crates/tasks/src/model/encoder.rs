//! An encoder and a head that was fitted on examples: the fastest way to classify.

use std::sync::Arc;
use std::time::Instant;

use bantam_engine::{Embedder, TooLong};
use bantam_stats::head::{Head, Inputs};
use bantam_stats::{Rows, StatsError};

use super::{Answerer, Raw, RawValue, Usage};
use crate::error::RowError;
use crate::fit::Scope;

/// An encoder that runs.
#[derive(Debug, Clone)]
pub struct EncoderModel {
    /// What it is called.
    pub id: String,
    /// Names exactly what computes the vectors.
    pub fingerprint: String,
    /// What runs it.
    pub embedder: Embedder,
    /// Threads that a head may use.
    pub threads: usize,
}

/// Vectors of texts, one after another, and their tokens.
pub(crate) struct Embedded {
    pub(crate) values: Vec<f32>,
    pub(crate) tokens: Vec<usize>,
}

impl EncoderModel {
    pub(crate) fn embed(&self, texts: &[String]) -> Result<Embedded, RowError> {
        let fault = |why: String| RowError::Model { why, retry: false };
        let tokens = texts.iter().map(|text| self.embedder.tokens(text, TooLong::Cut)).collect::<Result<Vec<_>, _>>();
        let tokens = tokens.map_err(|error| fault(error.to_string()))?;
        let counts = tokens.iter().map(Vec::len).collect();
        let handle = loop {
            match self.embedder.embed(tokens.clone()) {
                Err(bantam_engine::SubmitError::QueueFull { .. }) => std::thread::sleep(super::local::QUEUE_PAUSE),
                other => break other.map_err(|error| fault(error.to_string()))?,
            }
        };
        let embeddings = handle.blocking_wait().map_err(|error| fault(error.to_string()))?;
        Ok(Embedded { values: embeddings.values, tokens: counts })
    }
}

/// An encoder with a head.
pub(crate) struct Fitted {
    pub(crate) encoder: EncoderModel,
    pub(crate) head: Arc<Head>,
    /// What tells texts of no label, where the task has an answer for them.
    pub(crate) scope: Option<Scope>,
    /// Whether labels are each on their own.
    pub(crate) each: bool,
}

impl Answerer for Fitted {
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>> {
        if inputs.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let failed = |error: RowError| inputs.iter().map(|_| Err(error.clone())).collect();
        let embedded = match self.encoder.embed(inputs) {
            Ok(embedded) => embedded,
            Err(error) => return failed(error),
        };
        let texts: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let predicted = self.predict(&embedded.values, &texts);
        let predictions = match predicted {
            Ok(predictions) => predictions,
            Err(error) => return failed(RowError::Model { why: error.to_string(), retry: false }),
        };
        let latency = started.elapsed();
        let rows = predictions.into_iter().zip(&embedded.tokens);
        let raw = |(prediction, &tokens): (bantam_stats::head::Prediction, &usize)| {
            let usage = Usage { prompt_tokens: tokens, ..Usage::default() };
            let outside = self.scope.as_ref().and_then(|scope| scope.outside(&prediction.signals));
            let value = match outside {
                Some(confidence) => RawValue::OutOfScope(confidence),
                None if self.each => {
                    RawValue::EachLabel(prediction.probabilities.iter().map(|&p| (p >= 0.5, Some(p))).collect())
                }
                None => {
                    let mut labels: Vec<(usize, f64)> = prediction.probabilities.iter().copied().enumerate().collect();
                    labels.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    RawValue::Labels(labels.into_iter().map(|(label, p)| (label, Some(p))).collect())
                }
            };
            Ok(Raw { value, latency, usage, has_special_tokens: false })
        };
        rows.map(raw).collect()
    }
}

impl Fitted {
    fn predict(&self, values: &[f32], texts: &[&str]) -> Result<Vec<bantam_stats::head::Prediction>, StatsError> {
        let embeddings = Rows::new("embeddings", values, self.head.width())?;
        self.head.predict(Inputs { embeddings, texts }, self.encoder.threads)
    }
}
