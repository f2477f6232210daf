use std::ops::ControlFlow;

use super::loss::{PairLoss, log_loss};
use super::{COLUMNS, Outcome, PairHead, PairPrediction, log_odds, pooled, votes};
use crate::error::{StatsError, check_len, check_min};
use crate::head::design::{Design, Sparse};
use crate::head::fit::lowest;
use crate::head::linear::{Linear, Problem};
use crate::head::neighbours::Index;
use crate::head::text::TextFeatures;
use crate::head::{FitError, FitProgress, Inputs, unit_rows};
use crate::optimize::{Stop, minimise};
use crate::special::sigmoid;
use crate::split;

/// Names the folds, so that a caller's own splits by hash do not coincide with them.
const SALT: &str = "bantam pair v1";
const FOLDS: usize = 5;
/// The most rows that a fold's regressions are trained on; of more, those with the lowest keys.
const MAX_CHOICE: usize = 20_000;
/// Rows that are kept for comparison, so that it takes well under a millisecond; of more, those with the lowest keys.
const MAX_KEPT: usize = 8_192;
/// From how many rows on the neighbours count: the nearest of few rows are not near.
const NEIGHBOURS_FROM: usize = 1_000;
/// Fewer teach nothing.
const MIN_ROWS: usize = 20;
/// Where the weights of the pool start, and stay near if there are few rows.
const PRIOR: f64 = 0.5;

/// Rows with their outcomes.
#[derive(Debug, Clone, Copy)]
pub struct PairTraining<'a> {
    /// What is seen of each row: embeddings and texts, both.
    pub inputs: Inputs<'a>,
    /// How the models did, one per row.
    pub outcomes: &'a [Outcome],
}

/// How to train.
#[derive(Debug, Clone)]
pub struct PairConfig {
    /// Inverse penalties (C of other libraries) to choose from on rows held out.
    pub strengths: Vec<f64>,
    /// Threads to use; the result does not depend on them.
    pub threads: usize,
}

impl Default for PairConfig {
    /// Strong penalties: what divides two models' outcomes is faint.
    fn default() -> Self {
        Self { strengths: vec![0.01, 0.03, 0.1, 0.3], threads: 1 }
    }
}

/// A head and what is known of it.
#[derive(Debug, Clone)]
pub struct PairFit {
    /// Trained on all rows.
    pub head: PairHead,
    /// What heads trained without a row's fold say of the row: one per row.
    pub held_out: Vec<PairPrediction>,
    /// The inverse penalties chosen for the embedding, the text and the gain.
    pub strengths: [f64; 3],
    /// What the views count: embedding, text, neighbours.
    pub weights: [f64; 3],
}

/// Trains a head. Five folds by a hash of the text are held out in turn; penalties and pool weights are chosen on them, and
/// everything is trained again on all rows. `progress` hears of every iteration and may end the work.
///
/// # Errors
/// [`FitError`]: too few rows, a model without any outcome, a score outside 0 to 1; or cancelled.
pub fn fit_pair(
    training: &PairTraining<'_>,
    config: &PairConfig,
    progress: &mut dyn FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<PairFit, FitError> {
    let PairTraining { inputs, outcomes } = *training;
    check_min("rows", outcomes.len(), MIN_ROWS)?;
    check_len("texts", inputs.texts.len(), outcomes.len())?;
    check_len("embeddings", inputs.embeddings.len(), outcomes.len())?;
    check_min("strengths", config.strengths.len(), 1)?;
    if let Some(&value) = config.strengths.iter().find(|strength| !(1e-9..=1e9).contains(*strength)) {
        return Err(StatsError::Range { name: "strengths", value, expected: "between 1e-9 and 1e9" }.into());
    }
    for score in outcomes.iter().flat_map(|outcome| outcome.scores()).flatten() {
        if !(0.0..=1.0).contains(&score) {
            return Err(StatsError::Range { name: "outcomes", value: score, expected: "between 0 and 1" }.into());
        }
    }
    for (name, model) in [("outcomes of the small model", 0), ("outcomes of the large model", 1)] {
        let known = outcomes.iter().filter(|outcome| outcome.scores()[model].is_some()).count();
        check_min(name, known, MIN_ROWS)?;
    }
    let mut strengths = config.strengths.clone();
    strengths.sort_by(f64::total_cmp);
    let embeddings = unit_rows(inputs.embeddings);
    let keys = inputs.texts.iter().map(|text| split::hash(text, SALT)).collect();
    let width = inputs.embeddings.width();
    let total = (FOLDS + 1) * 2 * strengths.len();
    let data = Data { embeddings, width, texts: inputs.texts, outcomes, keys };
    let mut fitter = Fitter { data, strengths, threads: config.threads, done: 0, total, progress };
    match fitter.run() {
        ControlFlow::Continue(fit) => Ok(fit),
        ControlFlow::Break(()) => Err(FitError::Cancelled),
    }
}

struct Data<'a> {
    /// `[rows][width]`, of length 1.
    embeddings: Vec<f32>,
    width: usize,
    texts: &'a [&'a str],
    outcomes: &'a [Outcome],
    keys: Vec<u64>,
}

impl Data<'_> {
    fn embeddings(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|&row| &self.embeddings[row * self.width..][..self.width]).copied().collect()
    }
}

struct Fitter<'a> {
    data: Data<'a>,
    /// Ascending: each start is the end of the one before, which had the stronger penalty.
    strengths: Vec<f64>,
    threads: usize,
    done: usize,
    total: usize,
    progress: &'a mut dyn FnMut(FitProgress) -> ControlFlow<()>,
}

/// What the models of some rows say at every strength: logits `[rows][columns]`.
struct Views {
    embedding: Vec<Vec<f64>>,
    text: Vec<Vec<f64>>,
    neighbours: Vec<[f64; 2]>,
}

/// What is trained on some rows, with every strength.
struct Trained {
    base: [f64; 2],
    embedding: Vec<Linear>,
    features: TextFeatures,
    text: Vec<Linear>,
    index: Index,
    kept: Vec<usize>,
    outcomes: Vec<Outcome>,
}

impl Fitter<'_> {
    fn run(&mut self) -> ControlFlow<(), PairFit> {
        let n = self.data.outcomes.len();
        let fold: Vec<usize> = self.data.keys.iter().map(|key| split::scale(*key, FOLDS)).collect();
        let all: Vec<usize> = (0..n).collect();
        let base = shares(self.data.outcomes);
        let levels = self.strengths.len();
        let mut views = Views {
            embedding: vec![vec![0.0; n * COLUMNS]; levels],
            text: vec![vec![0.0; n * 2]; levels],
            neighbours: vec![base; n],
        };
        for held in 0..FOLDS {
            let (rows, kept): (Vec<usize>, Vec<usize>) = all.iter().partition(|row| fold[**row] == held);
            if rows.is_empty() || kept.is_empty() {
                // Nothing to learn from: these rows stay at the overall shares.
                self.done += 2 * levels;
                continue;
            }
            let trained = self.train(lowest(kept, &self.data.keys, MAX_CHOICE))?;
            self.apply(&trained, &rows, &mut views);
        }
        let (strengths, weights) = choose(&views, self.data.outcomes, base);
        let [of_embedding, of_text, of_gain] = strengths;
        let held_out = (0..n).map(|row| views.pooled(row, base, strengths, &weights)).collect();
        let trained = self.train(all)?;
        let mut embedding = trained.embedding[of_embedding].clone();
        let columns = embedding.bias.len();
        let gain = &trained.embedding[of_gain];
        let both = embedding.weights.chunks_exact_mut(columns).zip(gain.weights.chunks_exact(columns));
        both.for_each(|(to, from)| to[2] = from[2]);
        embedding.bias[2] = gain.bias[2];
        let head = PairHead {
            width: self.data.width,
            base: trained.base,
            embedding,
            text: (trained.features, trained.text[of_text].clone()),
            index: trained.index,
            outcomes: trained.outcomes,
            kept: trained.kept.iter().map(|row| *row as u32).collect(),
            pool: weights,
        };
        ControlFlow::Continue(PairFit { head, held_out, strengths: strengths.map(|at| self.strengths[at]), weights })
    }

    fn train(&mut self, rows: Vec<usize>) -> ControlFlow<(), Trained> {
        let outcomes: Vec<Outcome> = rows.iter().map(|&row| self.data.outcomes[row]).collect();
        let texts: Vec<&str> = rows.iter().map(|&row| self.data.texts[row]).collect();
        let (features, sparse) = TextFeatures::fit(&texts);
        let values = self.data.embeddings(&rows);
        let dense = Design::Dense { values: &values, width: self.data.width };
        let embedding = self.regress(&dense, PairLoss { outcomes: &outcomes, columns: COLUMNS })?;
        let text = self.regress(&Design::Sparse(&sparse), PairLoss { outcomes: &outcomes, columns: 2 })?;
        let kept = lowest(rows, &self.data.keys, MAX_KEPT);
        let index = Index::new(&self.data.embeddings, self.data.width, &kept);
        let base = shares(&outcomes);
        let outcomes = kept.iter().map(|&row| self.data.outcomes[row]).collect();
        ControlFlow::Continue(Trained { base, embedding, features, text, index, kept, outcomes })
    }

    fn regress(&mut self, design: &Design<'_>, loss: PairLoss<'_>) -> ControlFlow<(), Vec<Linear>> {
        let problem = Problem { design, loss: &loss, threads: self.threads };
        let mut linear = Linear::zeros(design.width(), loss.columns);
        let mut all = Vec::with_capacity(self.strengths.len());
        for &strength in &self.strengths {
            let (done, total) = (self.done, self.total);
            let each = &mut |iteration| (self.progress)(FitProgress { done, total, iteration });
            linear = problem.train(&linear, strength, each)?;
            self.done += 1;
            all.push(linear.clone());
        }
        ControlFlow::Continue(all)
    }

    /// Writes what `trained` says of `rows` into `views`.
    fn apply(&self, trained: &Trained, rows: &[usize], views: &mut Views) {
        let values = self.data.embeddings(rows);
        let dense = Design::Dense { values: &values, width: self.data.width };
        let mut sparse = Sparse::new(trained.features.width());
        rows.iter().for_each(|&row| sparse.push(trained.features.of(self.data.texts[row])));
        let write = |linears: &[Linear], design: &Design<'_>, columns: usize, out: &mut [Vec<f64>]| {
            for (linear, out) in linears.iter().zip(out) {
                let logits = linear.logits(design, columns, self.threads);
                let to = |(&row, from): (&usize, &[f64])| out[row * columns..][..columns].copy_from_slice(from);
                rows.iter().zip(logits.chunks_exact(columns)).for_each(to);
            }
        };
        write(&trained.embedding, &dense, COLUMNS, &mut views.embedding);
        write(&trained.text, &Design::Sparse(&sparse), 2, &mut views.text);
        let votes = votes(&trained.index, &trained.outcomes, trained.base, &values, self.threads);
        rows.iter().zip(votes).for_each(|(&row, vote)| views.neighbours[row] = vote);
    }
}

impl Views {
    fn of(&self, row: usize, [embedding, text, _]: [usize; 3]) -> [[f64; 2]; 3] {
        let e = &self.embedding[embedding][row * COLUMNS..];
        let t = &self.text[text][row * 2..];
        [[e[0], e[1]], [t[0], t[1]], self.neighbours[row]]
    }

    fn pooled(&self, row: usize, base: [f64; 2], strengths: [usize; 3], weights: &[f64; 3]) -> PairPrediction {
        let gain = self.embedding[strengths[2]][row * COLUMNS + 2];
        pooled(base, weights, &self.of(row, strengths), gain)
    }
}

/// Log-odds of the overall shares, kept from certainty by one row more of each kind.
fn shares(outcomes: &[Outcome]) -> [f64; 2] {
    [0, 1].map(|model| {
        let known: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.scores()[model]).collect();
        log_odds((known.iter().sum::<f64>() + 1.0) / (known.len() as f64 + 2.0))
    })
}

/// Which strength the embedding, the text and the gain get, and what the views count, by the rows held out.
fn choose(views: &Views, outcomes: &[Outcome], base: [f64; 2]) -> ([usize; 3], [f64; 3]) {
    let of_logits = |logits: &[f64], outcome: &Outcome| -> Option<f64> {
        let pairs = logits.iter().zip(outcome.scores());
        Some(pairs.filter_map(|(logit, score)| Some(log_loss(*logit, score?))).sum())
    };
    let of_gain = |logits: &[f64], outcome: &Outcome| Some((logits[2] - outcome.gain()?).powi(2));
    let choose = |all: &[Vec<f64>], columns: usize, loss: &dyn Fn(&[f64], &Outcome) -> Option<f64>| {
        let losses = |logits: &Vec<f64>| -> Vec<f64> {
            let rows = logits.chunks_exact(columns).zip(outcomes);
            rows.filter_map(|(logits, outcome)| loss(logits, outcome)).collect()
        };
        strongest(&all.iter().map(losses).collect::<Vec<_>>())
    };
    let strengths = [
        choose(&views.embedding, COLUMNS, &of_logits),
        choose(&views.text, 2, &of_logits),
        choose(&views.embedding, COLUMNS, &of_gain),
    ];
    (strengths, weigh(views, strengths, outcomes, base))
}

/// The first place, so the strongest penalty, whose mean loss is within one standard error of the least (Breiman et al.
/// 1984): the difference of two models needs more shrinkage than each of them, and few rows do not show it.
fn strongest(losses: &[Vec<f64>]) -> usize {
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    let means: Vec<f64> = losses.iter().map(|losses| mean(losses)).collect();
    let best =
        means.iter().enumerate().fold((0, f64::INFINITY), |best, (i, m)| if *m < best.1 { (i, *m) } else { best });
    let near = |i: &usize| {
        let excess: Vec<f64> = losses[*i].iter().zip(&losses[best.0]).map(|(a, b)| a - b).collect();
        let centre = mean(&excess);
        let variance = excess.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / excess.len().max(1) as f64;
        centre <= (variance / excess.len().max(1) as f64).sqrt()
    };
    (0..best.0).find(near).unwrap_or(best.0)
}

/// The positive weights with the least log loss. Each row's loss counts once, and distance from [`PRIOR`] (in logarithms,
/// squared) half as much as one row's.
fn weigh(views: &Views, strengths: [usize; 3], outcomes: &[Outcome], base: [f64; 2]) -> [f64; 3] {
    let prior = libm::log(PRIOR);
    let counting = if outcomes.len() < NEIGHBOURS_FROM { 2 } else { 3 };
    let mut objective = |logs: &[f32], gradient: &mut [f32]| -> f64 {
        let weights: Vec<f64> = logs.iter().map(|log| libm::exp(f64::from(*log))).collect();
        let (mut loss, mut slopes) = (0.0, [0.0; 3]);
        for (row, outcome) in outcomes.iter().enumerate() {
            let of_row = views.of(row, strengths);
            for (m, score) in outcome.scores().into_iter().enumerate() {
                let Some(score) = score else { continue };
                let away = of_row.map(|view| view[m] - base[m]);
                let logit =
                    base[m] + away.iter().zip(&weights).take(counting).map(|(away, weight)| away * weight).sum::<f64>();
                loss += log_loss(logit, score);
                let residual = sigmoid(logit) - score;
                slopes.iter_mut().zip(away).for_each(|(slope, away)| *slope += residual * away);
            }
        }
        for i in 0..3 {
            let slope = if i < counting { slopes[i] } else { 0.0 };
            let away = f64::from(logs[i]) - prior;
            gradient[i] = (slope * weights[i] + away) as f32;
            loss += 0.5 * away * away;
        }
        loss
    };
    let mut logs = [prior as f32; 3];
    let stop = Stop { iterations: 50, relative_decrease: 1e-7 };
    let _never_stopped = minimise(&mut logs, &mut objective, stop, &mut |_| ControlFlow::Continue(()));
    // Far beyond what any rows ask for, so that no sum overflows.
    let mut weights = logs.map(|log| libm::exp(f64::from(log).clamp(-20.0, 5.0)));
    (counting..3).for_each(|view| weights[view] = 0.0);
    weights
}
