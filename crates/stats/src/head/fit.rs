use std::ops::ControlFlow;

use super::design::{Design, Sparse};
use super::linear::{ClassLoss, Linear, Problem};
use super::neighbours::Neighbours;
use super::pool::PoolWeights;
use super::targets::{Labels, Targets};
use super::text::TextFeatures;
use super::{ClassWeights, Head, Inputs, Link, Prediction, scores, unit_rows};
use crate::error::{StatsError, check_len};
use crate::split;

/// Names the split, so that a caller's own splits by hash do not coincide with it.
const SALT: &str = "bantam head v1";
/// Folds, and the most rows that one may have.
const FOLDS: usize = 5;
const MAX_HELD_OUT: usize = 5_000;
/// The most rows that are trained on to choose by; of more, those with the lowest keys.
const MAX_CHOICE: usize = 20_000;
/// Below this every fold is held out once; from here on one is enough to choose by.
const CROSS_FIT_BELOW: usize = 2_000;
/// With fewer held-out rows than this nothing is chosen by them.
const MIN_HELD_OUT: usize = 10;

/// Rows with their labels.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// What is seen of each row.
    pub inputs: Inputs<'a>,
    /// What it is.
    pub labels: Labels<'a>,
    /// How many classes there are; labels count from 0.
    pub classes: usize,
}

/// How to train. The defaults suit from 20 to 100,000 rows.
#[derive(Debug, Clone)]
pub struct FitConfig {
    /// How much rows of rare classes count.
    pub class_weights: ClassWeights,
    /// Inverse penalties (C of other libraries) to choose from on held-out rows, weak ones last.
    pub strengths: Vec<f64>,
    /// Threads to use; the result does not depend on them.
    pub threads: usize,
}

impl Default for FitConfig {
    fn default() -> Self {
        Self { class_weights: ClassWeights::Equal, strengths: vec![4.0, 16.0, 64.0], threads: 1 }
    }
}

/// How far a fit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FitProgress {
    /// Regressions that are done.
    pub done: usize,
    /// Regressions in all.
    pub total: usize,
    /// Iterations of the one that runs, 100 at most.
    pub iteration: usize,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FitError {
    /// The training rows cannot be used.
    #[error(transparent)]
    Input(#[from] StatsError),
    /// The progress callback ended it.
    #[error("training was cancelled")]
    Cancelled,
}

/// A row that a head did not see, and what the head said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// Which of the training rows.
    pub row: usize,
    /// By a head trained without the row's fold.
    pub prediction: Prediction,
}

/// A head and what is known of it.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Trained on all rows.
    pub head: Head,
    /// The rows to calibrate and to choose thresholds on, by ascending row. They were predicted by heads that saw fewer
    /// rows (four fifths, and 20,000 at most), so they are a little worse than the head.
    pub held_out: Vec<HeldOut>,
    /// The inverse penalty chosen for the embedding and, if there are texts, for them.
    pub strengths: Vec<f64>,
    /// The weights of the embedding, the text if there is one, and the neighbours.
    pub weights: Vec<f64>,
}

/// Trains a head. Rows are held out by a hash of their text (of their embedding, if there are no texts), so equal texts
/// stay together; penalties and pool weights are chosen on them by log loss, and everything is trained again on all rows.
/// `progress` hears of every iteration and may end the work.
///
/// # Errors
/// [`FitError`]: labels that are missing or out of range, too few classes, a strength that is not positive; or cancelled.
pub fn fit(
    training: &Training<'_>,
    config: &FitConfig,
    progress: &mut dyn FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<Fit, FitError> {
    let Training { inputs, labels, classes } = *training;
    let targets = Targets::new(labels, classes, inputs.embeddings.len())?;
    if !inputs.texts.is_empty() {
        check_len("texts", inputs.texts.len(), targets.len())?;
    }
    if let Some(&value) = config.strengths.iter().find(|strength| !(1e-9..=1e9).contains(*strength)) {
        return Err(StatsError::Range { name: "strengths", value, expected: "between 1e-9 and 1e9" }.into());
    }
    crate::error::check_min("strengths", config.strengths.len(), 1)?;
    let embeddings = unit_rows(inputs.embeddings);
    let width = inputs.embeddings.width();
    let mut strengths = config.strengths.clone();
    strengths.sort_by(f64::total_cmp);
    let rows = TrainingRows { embeddings: &embeddings, width, texts: inputs.texts, targets: &targets };
    let mut fitter = Fitter { rows, config, strengths, keys: rows.keys(), done: 0, total: 0, progress };
    match fitter.run() {
        ControlFlow::Continue(fit) => Ok(fit),
        ControlFlow::Break(()) => Err(FitError::Cancelled),
    }
}

#[derive(Clone, Copy)]
struct TrainingRows<'a> {
    /// `[rows][width]`, of length 1.
    embeddings: &'a [f32],
    width: usize,
    texts: &'a [&'a str],
    targets: &'a Targets,
}

impl TrainingRows<'_> {
    /// A hash per row.
    fn keys(&self) -> Vec<u64> {
        let of_embedding = |row: &[f32]| {
            let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
            split::hash_bytes(&bytes, SALT)
        };
        match self.texts {
            [] => self.embeddings.chunks_exact(self.width).map(of_embedding).collect(),
            texts => texts.iter().map(|text| split::hash(text, SALT)).collect(),
        }
    }
}

struct Fitter<'a> {
    rows: TrainingRows<'a>,
    config: &'a FitConfig,
    /// Ascending: each start is the end of the one before, which had the stronger penalty.
    strengths: Vec<f64>,
    keys: Vec<u64>,
    done: usize,
    total: usize,
    progress: &'a mut dyn FnMut(FitProgress) -> ControlFlow<()>,
}

/// What the folds' models say of the rows that they did not see.
#[derive(Default)]
struct OutOfFold {
    rows: Vec<usize>,
    /// For each linear part and each strength, logits `[rows][classes]`.
    logits: Vec<Vec<Vec<f64>>>,
    votes: Vec<super::Vote>,
    /// Whether the row can be judged by: its class occurs in the other folds.
    fair: Vec<bool>,
}

/// One set of rows, ready to train the linear parts on.
struct Prepared {
    embeddings: Vec<f32>,
    text: Option<(TextFeatures, Sparse)>,
    targets: Targets,
    neighbours: Neighbours,
}

impl Fitter<'_> {
    fn run(&mut self) -> ControlFlow<(), Fit> {
        let n = self.rows.targets.len();
        let parts = if self.rows.texts.is_empty() { 1 } else { 2 };
        let folds = FOLDS.max(n.div_ceil(MAX_HELD_OUT));
        let used = if n < CROSS_FIT_BELOW { FOLDS } else { 1 };
        self.total = parts * (used * self.strengths.len() + 1);
        let of_row: Vec<usize> = self.keys.iter().map(|key| split::scale(*key, folds)).collect();
        let mut seen = OutOfFold { logits: vec![vec![Vec::new(); self.strengths.len()]; parts], ..Default::default() };
        for fold in 0..used {
            self.hold_out(fold, &of_row, &mut seen)?;
        }
        let (chosen, pool) = choose(&seen, self.rows.targets, self.strengths.len());
        let all: Vec<usize> = (0..n).collect();
        let prepared = self.prepare(&all);
        let mut linears = Vec::new();
        let designs = prepared.designs(self.rows.width);
        for (design, choice) in designs.iter().zip(&chosen) {
            let start = Linear::zeros(design.width(), prepared.targets.classes);
            linears.push(self.train(design, &prepared.targets, &start, self.strengths[*choice])?);
        }
        let strengths = chosen.iter().map(|choice| self.strengths[*choice]).collect();
        let mut linears = linears.into_iter();
        let head = Head {
            classes: self.rows.targets.classes,
            link: self.rows.targets.link,
            width: self.rows.width,
            embedding: linears.next().unwrap_or_else(|| Linear::zeros(self.rows.width, self.rows.targets.classes)),
            text: prepared.text.map(|(features, _)| features).zip(linears.next()),
            neighbours: prepared.neighbours,
            pool,
        };
        let weights = head.pool.0.clone();
        let logits = seen.logits.into_iter().zip(&chosen).map(|(mut part, choice)| part.swap_remove(*choice)).collect();
        let predictions = head.pool.pool(head.link, logits, seen.votes);
        let mut held_out: Vec<HeldOut> =
            seen.rows.into_iter().zip(predictions).map(|(row, prediction)| HeldOut { row, prediction }).collect();
        held_out.sort_by_key(|held_out| held_out.row);
        ControlFlow::Continue(Fit { head, held_out, strengths, weights })
    }

    /// Trains on the other folds with every strength and adds what comes out for `fold`.
    fn hold_out(&mut self, fold: usize, of_row: &[usize], seen: &mut OutOfFold) -> ControlFlow<()> {
        let (held, kept): (Vec<usize>, Vec<usize>) = (0..of_row.len()).partition(|&row| of_row[row] == fold);
        let kept = lowest(kept, &self.keys, MAX_CHOICE);
        let n_parts = seen.logits.len();
        if held.is_empty() || kept.is_empty() {
            self.done += n_parts * self.strengths.len();
            return ControlFlow::Continue(());
        }
        let threads = self.config.threads;
        let prepared = self.prepare(&kept);
        let embeddings = self.embeddings(&held);
        let mut texts = Sparse::new(prepared.text.as_ref().map_or(0, |(features, _)| features.width()));
        if let Some((features, _)) = &prepared.text {
            held.iter().for_each(|&row| texts.push(features.of(self.rows.texts[row])));
        }
        let tests = [Design::Dense { values: &embeddings, width: self.rows.width }, Design::Sparse(&texts)];
        for (part, (design, test)) in prepared.designs(self.rows.width).iter().zip(&tests).enumerate() {
            let mut linear = Linear::zeros(design.width(), prepared.targets.classes);
            for choice in 0..self.strengths.len() {
                linear = self.train(design, &prepared.targets, &linear, self.strengths[choice])?;
                seen.logits[part][choice].extend(linear.logits(test, prepared.targets.classes, threads));
            }
        }
        seen.votes.extend(prepared.neighbours.votes(threads, &embeddings));
        let counts = prepared.targets.counts();
        let targets = self.rows.targets;
        let fair = |row: &usize| {
            targets.link == Link::Sigmoid || targets.of(*row).iter().all(|label| counts[*label as usize] > 0)
        };
        seen.fair.extend(held.iter().map(fair));
        seen.rows.extend(held);
        ControlFlow::Continue(())
    }

    fn embeddings(&self, rows: &[usize]) -> Vec<f32> {
        let width = self.rows.width;
        rows.iter().flat_map(|&row| &self.rows.embeddings[row * width..][..width]).copied().collect()
    }

    fn prepare(&self, rows: &[usize]) -> Prepared {
        let embeddings = self.embeddings(rows);
        let targets = self.rows.targets.select(rows);
        let texts: Vec<&str> = rows.iter().filter_map(|&row| self.rows.texts.get(row).copied()).collect();
        let text = (!texts.is_empty()).then(|| TextFeatures::fit(&texts));
        let keys: Vec<u64> = rows.iter().map(|&row| self.keys[row]).collect();
        let neighbours = Neighbours::new(&embeddings, self.rows.width, &targets, &keys);
        Prepared { embeddings, text, targets, neighbours }
    }

    fn train(
        &mut self,
        design: &Design<'_>,
        targets: &Targets,
        start: &Linear,
        strength: f64,
    ) -> ControlFlow<(), Linear> {
        let loss = ClassLoss::new(targets, self.config.class_weights);
        let problem = Problem { design, loss: &loss, threads: self.config.threads };
        let (done, total) = (self.done, self.total);
        let each = &mut |iteration| (self.progress)(FitProgress { done, total, iteration });
        let linear = problem.train(start, strength, each)?;
        self.done += 1;
        ControlFlow::Continue(linear)
    }
}

/// The `most` rows with the lowest keys, in their order.
pub(crate) fn lowest(mut rows: Vec<usize>, keys: &[u64], most: usize) -> Vec<usize> {
    if rows.len() > most {
        rows.sort_by_key(|&row| (keys[row], row));
        rows.truncate(most);
        rows.sort_unstable();
    }
    rows
}

impl Prepared {
    fn designs(&self, width: usize) -> Vec<Design<'_>> {
        let dense = Design::Dense { values: &self.embeddings, width };
        std::iter::once(dense).chain(self.text.iter().map(|(_, rows)| Design::Sparse(rows))).collect()
    }
}

/// Which strength each linear part gets (by log loss after the best scaling), and the weights of the pool.
fn choose(seen: &OutOfFold, targets: &Targets, n_strengths: usize) -> (Vec<usize>, PoolWeights) {
    let (parts, classes) = (seen.logits.len(), targets.classes);
    let fair: Vec<usize> = (0..seen.rows.len()).filter(|&i| seen.fair[i]).collect();
    if fair.len() < MIN_HELD_OUT {
        return (vec![n_strengths / 2; parts], PoolWeights::prior(parts + 1));
    }
    let targets = targets.select(&fair.iter().map(|&i| seen.rows[i]).collect::<Vec<_>>());
    let (mut chosen, mut scored) = (Vec::new(), Vec::new());
    for part in &seen.logits {
        let mut best = (f64::INFINITY, 0, Vec::new());
        for (choice, logits) in part.iter().enumerate() {
            let mut of_fair = Vec::with_capacity(fair.len() * classes);
            for &i in &fair {
                let first = of_fair.len();
                of_fair.extend_from_slice(&logits[i * classes..][..classes]);
                scores(targets.link, &mut of_fair[first..]);
            }
            let loss = PoolWeights::fit(&[&of_fair], &targets).loss(&[&of_fair], &targets);
            if best.2.is_empty() || loss < best.0 {
                best = (loss, choice, of_fair);
            }
        }
        chosen.push(best.1);
        scored.push(best.2);
    }
    scored.push(fair.iter().flat_map(|&i| &seen.votes[i].scores).copied().collect());
    let views: Vec<&[f64]> = scored.iter().map(Vec::as_slice).collect();
    (chosen, PoolWeights::fit(&views, &targets))
}
