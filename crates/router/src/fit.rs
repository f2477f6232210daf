//! From rows of outcomes to a router.

use std::ops::ControlFlow;

use bantam_stats::head::pair::{Outcome, PairConfig, PairFit, PairPrediction, PairTraining, fit_pair};
use bantam_stats::head::{FitError, FitProgress, Inputs};
use bantam_stats::risk::{Controlled, Refusal, RiskBound, controlled_threshold};
use bantam_stats::{Rows, split};

use crate::cascade::{Cascade, MIN_ROWS, SmallAnswer};
use crate::embed::{Embed, EncoderId};
use crate::error::RouteError;
use crate::model::{Router, Scaling, Threshold};
use crate::rows::{RIGHT, Row};

/// Names the split into rows that teach and rows that calibrate.
const SALT: &str = "bantam route calibration v1";
/// Texts that are embedded between two looks at the progress.
const BATCH: usize = 256;
/// Thresholds that are tested: the quantiles of what the training rows are expected to gain.
const THRESHOLDS: usize = 200;
/// Characters of a training prompt that the router keeps.
const EXCERPT: usize = 160;
/// With fewer held-out rows of both models nothing is promised.
const MIN_PAIRS: usize = 30;

/// What the training prompts leave in the router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Excerpts {
    /// Their first 160 characters, so that a decision can be explained with prompts that are like it.
    #[default]
    Keep,
    /// Nothing.
    Drop,
}

/// Where the threshold comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// The caller says.
    Given(f64),
    /// From rows that are held out of training.
    Promised {
        /// What must hold.
        bound: RiskBound,
        /// The share of rows to hold out.
        held_out: f64,
    },
}

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct FitConfig {
    /// The encoder, and how much of a prompt it reads.
    pub encoder: EncoderId,
    /// Where the threshold comes from.
    pub threshold: Wanted,
    /// What the prompts leave in the router.
    pub excerpts: Excerpts,
    /// Threads; the result does not depend on them.
    pub threads: usize,
}

/// Where a fit is, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// What is being done.
    pub what: &'static str,
    /// How much of that is done.
    pub share: f64,
}

/// A router and what is known of it.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The router.
    pub router: Router,
    /// Rows that taught.
    pub taught: usize,
    /// Rows held out for the threshold.
    pub held_out: usize,
    /// The inverse penalties chosen for the embedding, the text and the gain.
    pub strengths: [f64; 3],
    /// What the views count: embedding with structure, words, neighbours.
    pub weights: [f64; 3],
    /// What heads that had not seen the row expected the large model to gain: one per row that taught.
    pub gains: Vec<f64>,
    /// The same after the small model's answer, of rows that taught and have one; empty without a cascade.
    pub cascade_gains: Vec<f64>,
    /// Why the router has no cascade, though answers of the small model were there.
    pub no_cascade: Option<String>,
}

/// Vectors of rows: `[rows][dimensions]`.
///
/// # Errors
/// The encoder's, and [`FitError::Cancelled`] when `progress` says so.
pub fn embed<E: Embed>(
    embedder: &E,
    encoder: &EncoderId,
    rows: &[Row],
    progress: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Vec<f32>, RouteError> {
    let mut vectors = Vec::with_capacity(rows.len() * encoder.dimensions);
    for (i, batch) in rows.chunks(BATCH).enumerate() {
        let share = (i * BATCH) as f64 / rows.len().max(1) as f64;
        if progress(Step { what: "reading prompts", share }).is_break() {
            return Err(FitError::Cancelled.into());
        }
        let asked = |row: &Row| crate::prompt::Asked::prompt(&row.text).what_to_embed(encoder.tokens);
        let texts: Vec<String> = batch.iter().map(asked).collect();
        let found = embedder.embed(encoder, &texts).map_err(|error| RouteError::Embed(error.to_string()))?;
        if found.len() != texts.len() * encoder.dimensions {
            return Err(RouteError::Embed(format!("gave {} numbers for {} texts", found.len(), texts.len())));
        }
        vectors.extend(found);
    }
    Ok(vectors)
}

/// Trains a router. Where a promise is wanted, rows are held out by a hash of their prompt and decide the threshold alone.
///
/// `vectors` are those of [`embed`]. Rows on which only one model was tried teach what they can and promise nothing.
///
/// # Errors
/// [`RouteError::Refused`] with the rows that would be needed, when the data cannot support the promise; too few rows; or
/// cancelled by `progress`.
pub fn fit(
    rows: &[Row],
    vectors: &[f32],
    config: &FitConfig,
    progress: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Fitted, RouteError> {
    let dimensions = config.encoder.dimensions;
    if vectors.len() != rows.len() * dimensions {
        let problem = format!("{} numbers are not {} vectors of {dimensions}", vectors.len(), rows.len());
        return Err(RouteError::Config { field: "vectors", problem });
    }
    let share = match config.threshold {
        Wanted::Given(_) => 0.0,
        Wanted::Promised { held_out, .. } if held_out > 0.0 && held_out < 1.0 => held_out,
        Wanted::Promised { .. } => {
            let problem = "must be above 0 and below 1: a promise needs rows that did not teach".to_owned();
            return Err(RouteError::Config { field: "held_out", problem });
        }
    };
    let (held, taught): (Vec<usize>, Vec<usize>) =
        (0..rows.len()).partition(|&row| split::unit(&rows[row].text, SALT) < share);
    let scaling = Scaling::of(taught.iter().map(|&row| &rows[row].structure));
    let part = Part { rows, vectors, scaling: &scaling, dimensions };
    let found = part.fit(&taught, config, progress)?;
    let kept = found.head.kept();
    let excerpts = match config.excerpts {
        Excerpts::Drop => Vec::new(),
        Excerpts::Keep => kept.iter().map(|at| excerpt(&rows[taught[*at as usize]].text)).collect(),
    };
    let (cascade, no_cascade) = match cascade(rows, &taught, &found) {
        None => (None, None),
        Some(Ok(cascade)) => (Some(cascade), None),
        Some(Err(why)) => (None, Some(why.to_string())),
    };
    let (strengths, weights) = (found.strengths, found.weights);
    let mut router = Router {
        encoder: config.encoder.clone(),
        scaling: scaling.clone(),
        head: found.head,
        threshold: Threshold::Given { gain: -1.0 },
        cascade,
        excerpts,
    };
    let gains: Vec<f64> = found.held_out.iter().map(|p| p.gain).collect();
    let cascade_gains = cascade_gains(router.cascade.as_ref(), rows, &taught, &found.held_out);
    let mut no_cascade = no_cascade;
    match config.threshold {
        Wanted::Given(gain) => router = router.with_threshold(gain)?,
        Wanted::Promised { bound, .. } => {
            let predictions = part.predict(&router, &held, config.threads)?;
            let expected = Held { rows, held: &held, predictions: &predictions };
            router.threshold = expected.threshold(gains.clone(), bound)?;
            match router.cascade.take().map(|cascade| expected.cascade(cascade, cascade_gains.clone(), bound)) {
                Some(Ok(cascade)) => router.cascade = Some(cascade),
                Some(Err(why)) => no_cascade = Some(why.to_string()),
                None => {}
            }
        }
    }
    let (taught, held_out) = (taught.len(), held.len());
    Ok(Fitted { router, taught, held_out, strengths, weights, gains, cascade_gains, no_cascade })
}

fn cascade_gains(cascade: Option<&Cascade>, rows: &[Row], taught: &[usize], before: &[PairPrediction]) -> Vec<f64> {
    let gain = |(&row, p): (&usize, &PairPrediction)| Some(cascade?.review(&rows[row].answer?, p.small, p.large).gain);
    // What failed a check is no threshold.
    taught.iter().zip(before).filter_map(gain).filter(|gain| *gain <= 1.0).collect()
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// All rows, as a head sees them.
#[derive(Clone, Copy)]
struct Part<'a> {
    rows: &'a [Row],
    vectors: &'a [f32],
    scaling: &'a Scaling,
    dimensions: usize,
}

impl Part<'_> {
    fn features(&self, of: &[usize]) -> (Vec<f32>, Vec<&str>) {
        let of_row = |&row: &usize| {
            self.scaling.features(&self.vectors[row * self.dimensions..][..self.dimensions], &self.rows[row].structure)
        };
        (of.iter().flat_map(of_row).collect(), of.iter().map(|&row| &*self.rows[row].text).collect())
    }

    fn fit(
        &self,
        of: &[usize],
        config: &FitConfig,
        progress: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<PairFit, RouteError> {
        let (features, texts) = self.features(of);
        let width = self.dimensions + crate::prompt::FEATURES;
        let inputs = Inputs { embeddings: Rows::new("rows that teach", &features, width)?, texts: &texts };
        let outcomes: Vec<Outcome> = of.iter().map(|&row| self.rows[row].outcome).collect();
        let pair = PairConfig { threads: config.threads, ..PairConfig::default() };
        let mut told =
            |at: FitProgress| progress(Step { what: "training", share: at.done as f64 / at.total.max(1) as f64 });
        Ok(fit_pair(&PairTraining { inputs, outcomes: &outcomes }, &pair, &mut told)?)
    }

    fn predict(&self, router: &Router, of: &[usize], threads: usize) -> Result<Vec<PairPrediction>, RouteError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let (features, texts) = self.features(of);
        let inputs = Inputs { embeddings: Rows::new("rows", &features, router.head.width())?, texts: &texts };
        Ok(router.head.predict(inputs, threads)?)
    }
}

/// What a router says of many rows, the same as one by one.
///
/// # Errors
/// As [`Router::decide`].
pub fn predict_rows(
    router: &Router,
    rows: &[Row],
    vectors: &[f32],
    threads: usize,
) -> Result<Vec<PairPrediction>, RouteError> {
    let dimensions = router.encoder.dimensions;
    if vectors.len() != rows.len() * dimensions {
        let problem = format!("{} numbers are not {} vectors of {dimensions}", vectors.len(), rows.len());
        return Err(RouteError::Config { field: "vectors", problem });
    }
    let all: Vec<usize> = (0..rows.len()).collect();
    Part { rows, vectors, scaling: &router.scaling, dimensions }.predict(router, &all, threads)
}

/// The regression on the small model's answers, from rows that teach; `None` if none has signals.
fn cascade(rows: &[Row], taught: &[usize], found: &PairFit) -> Option<Result<Cascade, RouteError>> {
    let answers: Vec<(SmallAnswer, f64, bool)> = taught
        .iter()
        .zip(&found.held_out)
        .filter_map(|(&row, before)| Some((rows[row].answer?, before.small, rows[row].outcome.small? >= RIGHT)))
        .collect();
    (!answers.is_empty()).then(|| Cascade::fit(&answers))
}

/// Rows that did not teach, with what the router says of them.
#[derive(Clone, Copy)]
struct Held<'a> {
    rows: &'a [Row],
    held: &'a [usize],
    predictions: &'a [PairPrediction],
}

impl Held<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&Row, &PairPrediction)> {
        let all = self.held.iter().zip(self.predictions).map(|(&row, prediction)| (&self.rows[row], prediction));
        all.filter(|(row, _)| row.is_pair())
    }

    fn threshold(&self, sequence: Vec<f64>, bound: RiskBound) -> Result<Threshold, RouteError> {
        let (gains, losses): (Vec<f64>, Vec<bool>) = self.pairs().map(|(row, p)| (p.gain, row.is_loss())).unzip();
        promised((&gains, &losses), sequence, bound)
    }

    fn cascade(&self, mut cascade: Cascade, sequence: Vec<f64>, bound: RiskBound) -> Result<Cascade, RouteError> {
        let gain = |row: &Row, p: &PairPrediction| Some(cascade.review(&row.answer?, p.small, p.large).gain);
        let (gains, losses): (Vec<f64>, Vec<bool>) =
            self.pairs().filter_map(|(row, p)| Some((gain(row, p)?, row.is_loss()))).unzip();
        if gains.len() < MIN_ROWS {
            return Err(RouteError::TooFewPairs { found: gains.len(), min: MIN_ROWS });
        }
        cascade.threshold = promised((&gains, &losses), sequence, bound)?;
        Ok(cascade)
    }
}

/// The laxest threshold that holds a bound: `sequence` has gains of rows that taught, the other two are of rows that did not.
///
/// # Errors
/// [`RouteError::Refused`], and with fewer than 30 held-out rows of both models.
pub fn promised(
    (gains, losses): (&[f64], &[bool]),
    sequence: Vec<f64>,
    bound: RiskBound,
) -> Result<Threshold, RouteError> {
    if gains.len() < MIN_PAIRS {
        return Err(RouteError::TooFewPairs { found: gains.len(), min: MIN_PAIRS });
    }
    if sequence.is_empty() {
        let problem = "no row that taught gives a threshold to test".to_owned();
        return Err(RouteError::Config { field: "sequence", problem });
    }
    match hold(gains, losses, sequence, bound)? {
        Ok(held) => Ok(Threshold::Promised { bound, held }),
        Err(refusal) => Err(RouteError::Refused { bound: bound.bound, confidence: bound.confidence, refusal }),
    }
}

fn hold(
    gains: &[f64],
    losses: &[bool],
    mut sequence: Vec<f64>,
    bound: RiskBound,
) -> Result<Result<Controlled, Refusal>, RouteError> {
    sequence.sort_by(f64::total_cmp);
    let last = sequence.len().saturating_sub(1);
    let mut quantiles: Vec<f64> =
        (1..=THRESHOLDS).filter_map(|i| sequence.get(i * last / THRESHOLDS).copied()).collect();
    quantiles.dedup();
    Ok(controlled_threshold((gains, losses), &quantiles, bound)?)
}
