use std::ops::ControlFlow;

use super::targets::Targets;
use super::{Link, Prediction, Vote, scores};
use crate::optimize::{Stop, minimise};
use crate::scope::Signals;
use crate::special::{log_sum_exp, sigmoid, softplus};

/// What each part's scores count, the vote of the neighbours last.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PoolWeights(pub(crate) Vec<f64>);

/// Where the fit starts, and stays near if there are few rows: about what large sets give.
const PRIOR: f64 = 0.5;

impl PoolWeights {
    pub(crate) fn prior(parts: usize) -> Self {
        Self(vec![PRIOR; parts])
    }

    /// The positive weights with the least log loss. `parts` are scores, each `[rows][classes]`. Each row's loss counts
    /// once, and distance from [`PRIOR`] (in logarithms, squared) half as much as one row's.
    pub(crate) fn fit(parts: &[&[f64]], targets: &Targets) -> Self {
        let classes = targets.classes;
        let mut logs = vec![libm::log(PRIOR) as f32; parts.len()];
        let mut pooled = vec![0.0; classes];
        let mut objective = |logs: &[f32], gradient: &mut [f32]| -> f64 {
            let weights: Vec<f64> = logs.iter().map(|log| libm::exp(f64::from(*log))).collect();
            let (mut loss, mut slopes) = (0.0, vec![0.0; weights.len()]);
            for row in 0..targets.len() {
                let of = |part: usize| &parts[part][row * classes..][..classes];
                pooled.fill(0.0);
                for (part, weight) in weights.iter().enumerate() {
                    pooled.iter_mut().zip(of(part)).for_each(|(sum, score)| *sum += weight * score);
                }
                loss += residual(targets.link, &mut pooled, targets.of(row));
                for (part, slope) in slopes.iter_mut().enumerate() {
                    *slope += pooled.iter().zip(of(part)).map(|(r, score)| r * score).sum::<f64>();
                }
            }
            for i in 0..weights.len() {
                let away = f64::from(logs[i]) - libm::log(PRIOR);
                gradient[i] = (slopes[i] * weights[i] + away) as f32;
                loss += 0.5 * away * away;
            }
            loss
        };
        let stop = Stop { iterations: 50, relative_decrease: 1e-7 };
        let _never_stopped = minimise(&mut logs, &mut objective, stop, &mut |_| ControlFlow::Continue(()));
        // Far beyond what any rows ask for, so that no sum overflows.
        Self(logs.iter().map(|log| libm::exp(f64::from(*log).clamp(-20.0, 5.0))).collect())
    }

    /// Mean log loss of pooled scores.
    pub(crate) fn loss(&self, parts: &[&[f64]], targets: &Targets) -> f64 {
        let classes = targets.classes;
        let mut pooled = vec![0.0; classes];
        let mut loss = 0.0;
        for row in 0..targets.len() {
            pooled.fill(0.0);
            for (part, weight) in parts.iter().zip(&self.0) {
                let scores = &part[row * classes..][..classes];
                pooled.iter_mut().zip(scores).for_each(|(sum, score)| *sum += weight * score);
            }
            loss += residual(targets.link, &mut pooled, targets.of(row));
        }
        loss / targets.len().max(1) as f64
    }

    /// One prediction per row from the logits of the linear parts and the neighbours' votes.
    pub(crate) fn pool(&self, link: Link, parts: Vec<Vec<f64>>, votes: Vec<Vote>) -> Vec<Prediction> {
        let one = |(row, vote): (usize, Vote)| {
            let classes = vote.scores.len();
            let (mut pooled, mut energy) = (vec![0.0; classes], 0.0);
            let mut add = |weight: f64, scores: &[f64]| {
                pooled.iter_mut().zip(scores).for_each(|(sum, score)| *sum += weight * score);
            };
            for (part, weight) in parts.iter().zip(&self.0) {
                let mut of_row = part[row * classes..][..classes].to_vec();
                energy += weight * scores(link, &mut of_row);
                add(*weight, &of_row);
            }
            add(self.0.last().copied().unwrap_or(0.0), &vote.scores);
            match link {
                Link::Softmax => {
                    let total = log_sum_exp(&pooled);
                    pooled.iter_mut().for_each(|z| *z = libm::exp(*z - total));
                }
                Link::Sigmoid => pooled.iter_mut().for_each(|z| *z = sigmoid(*z)),
            }
            let confidence = pooled.iter().fold(0.0_f64, |max, p| max.max(*p));
            let signals = Signals { confidence, energy, similarity: vote.similarity };
            Prediction { probabilities: pooled, signals }
        };
        votes.into_iter().enumerate().map(one).collect()
    }
}

/// Replaces scores by probability minus truth; gives the loss.
fn residual(link: Link, z: &mut [f64], labels: &[u32]) -> f64 {
    let of_labels: f64 = labels.iter().map(|label| z[*label as usize]).sum();
    let loss = match link {
        Link::Softmax => {
            let total = log_sum_exp(z);
            z.iter_mut().for_each(|z| *z = libm::exp(*z - total));
            total
        }
        Link::Sigmoid => {
            let total = z.iter().map(|z| softplus(*z)).sum();
            z.iter_mut().for_each(|z| *z = sigmoid(*z));
            total
        }
    };
    labels.iter().for_each(|label| z[*label as usize] -= 1.0);
    loss - of_labels
}

#[cfg(test)]
mod tests {
    use super::super::targets::Labels;
    use super::*;
    use crate::rng::Rng;

    /// A part that knows and one that guesses: the first gets the weight; and no weights near do better.
    #[test]
    fn what_knows_more_counts_more() {
        let mut rng = Rng::new(4);
        let (rows, classes) = (600, 3);
        let labels: Vec<usize> = (0..rows).map(|_| rng.below(classes)).collect();
        let many: Vec<Vec<usize>> = labels.iter().map(|label| vec![*label]).collect();
        let mut part = |signal: f64| -> Vec<f64> {
            let mut scores = Vec::new();
            for label in &labels {
                let noise = |rng: &mut Rng| rng.below(1_000) as f64 / 250.0 - 2.0;
                scores.extend((0..classes).map(|c| noise(&mut rng) + if c == *label { signal } else { 0.0 }));
            }
            scores
        };
        let (good, bad) = (part(2.0), part(0.0));
        for labels in [Labels::One(&labels), Labels::Many(&many)] {
            let targets = Targets::new(labels, classes, rows).unwrap();
            let parts = [&good[..], &bad];
            let found = PoolWeights::fit(&parts, &targets);
            assert!(found.0[0] > 5.0 * found.0[1], "{found:?}");
            let best = found.loss(&parts, &targets);
            for factor in [0.8, 1.25] {
                let near = PoolWeights(vec![found.0[0] * factor, found.0[1]]);
                assert!(near.loss(&parts, &targets) > best);
            }
        }
    }
}
