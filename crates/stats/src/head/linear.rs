//! Multinomial and one-vs-rest logistic regression with an L2 penalty.

use std::ops::ControlFlow;

use super::design::{Design, padded};
use super::targets::Targets;
use super::{ClassWeights, Link};
use crate::optimize::{Stop, minimise};

/// Enough for held-out loss to stop moving; the last digits of the optimum are worth nothing.
const STOP: Stop = Stop { iterations: 100, relative_decrease: 1e-4 };

/// Weights of one linear map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Linear {
    /// `[width][columns]`, columns being the classes with padding.
    pub(crate) weights: Vec<f32>,
    /// `[columns]`
    pub(crate) bias: Vec<f32>,
}

/// What is minimised: the weighted mean of the rows' losses + |weights|^2 / (2 strength rows); the bias is free.
pub(crate) struct Problem<'a, L> {
    pub(crate) design: &'a Design<'a>,
    pub(crate) loss: &'a L,
    pub(crate) threads: usize,
}

/// A loss that is a sum over rows.
pub(crate) trait RowLoss: Sync {
    /// Numbers that the linear map gives per row.
    fn columns(&self) -> usize;
    /// Replaces the numbers of `row` by the loss's slopes along them; gives the loss.
    fn residual(&self, row: usize, z: &mut [f32]) -> f64;
}

/// The log loss of classes.
pub(crate) struct ClassLoss<'a> {
    targets: &'a Targets,
    importance: Importance,
}

impl<'a> ClassLoss<'a> {
    pub(crate) fn new(targets: &'a Targets, class_weights: ClassWeights) -> Self {
        Self { targets, importance: Importance::new(targets, class_weights) }
    }
}

impl RowLoss for ClassLoss<'_> {
    fn columns(&self) -> usize {
        self.targets.classes
    }

    fn residual(&self, row: usize, z: &mut [f32]) -> f64 {
        match self.targets.link {
            Link::Softmax => softmax_residual(z, self.targets.of(row), &self.importance),
            Link::Sigmoid => sigmoid_residual(z, self.targets.of(row), &self.importance),
        }
    }
}

impl Linear {
    pub(crate) fn zeros(width: usize, classes: usize) -> Self {
        let columns = padded(classes);
        Self { weights: vec![0.0; width * columns], bias: vec![0.0; columns] }
    }

    /// `[rows][classes]`
    pub(crate) fn logits(&self, design: &Design<'_>, classes: usize, threads: usize) -> Vec<f64> {
        let columns = self.bias.len();
        let mut padded = vec![0.0; design.rows() * columns];
        design.multiply(threads, (&self.weights, &self.bias), &mut padded, |_, _| 0.0);
        padded.chunks_exact(columns).flat_map(|row| &row[..classes]).map(|z| f64::from(*z)).collect()
    }
}

/// How much each class counts, as a positive and as a negative example; means over the rows are 1.
struct Importance {
    positive: Vec<f32>,
    negative: Vec<f32>,
}

impl Importance {
    fn new(targets: &Targets, class_weights: ClassWeights) -> Self {
        let rows = targets.len() as f32;
        let weigh = |share: f32, count: f32| match class_weights {
            ClassWeights::Equal => 1.0,
            ClassWeights::Balanced => rows / (share * count.max(1.0)),
        };
        let counts = targets.counts();
        let parts = match targets.link {
            Link::Softmax => counts.iter().filter(|count| **count > 0).count() as f32,
            Link::Sigmoid => 2.0,
        };
        let positive = counts.iter().map(|&count| weigh(parts, count as f32)).collect();
        let negative = counts.iter().map(|&count| weigh(parts, rows - count as f32)).collect();
        Self { positive, negative }
    }
}

impl<L: RowLoss> Problem<'_, L> {
    /// Trains from `start`. `strength` is the inverse of the penalty, as C of other libraries.
    pub(crate) fn train(
        &self,
        start: &Linear,
        strength: f64,
        each: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<(), Linear> {
        let n_weights = start.weights.len();
        let mut x = [&start.weights[..], &start.bias].concat();
        let mut residuals = vec![0.0; self.design.rows() * start.bias.len()];
        let mut objective = |x: &[f32], gradient: &mut [f32]| {
            self.value_and_gradient((x, n_weights), strength, (&mut residuals, gradient))
        };
        minimise(&mut x, &mut objective, STOP, each)?;
        let bias = x.split_off(n_weights);
        ControlFlow::Continue(Linear { weights: x, bias })
    }

    fn value_and_gradient(
        &self,
        (x, n_weights): (&[f32], usize),
        strength: f64,
        (residuals, gradient): (&mut [f32], &mut [f32]),
    ) -> f64 {
        let (weights, bias) = x.split_at(n_weights);
        let (columns, rows) = (bias.len(), self.design.rows());
        let scale = 1.0 / rows as f32;
        let loss = self.design.multiply(self.threads, (weights, bias), residuals, |first, block| {
            let mut sum = 0.0;
            for (row, z) in (first..).zip(block.chunks_exact_mut(columns)) {
                let (z, padding) = z.split_at_mut(self.loss.columns());
                padding.fill(0.0);
                sum += self.loss.residual(row, z);
                z.iter_mut().for_each(|z| *z *= scale);
            }
            sum
        });
        let (for_weights, for_bias) = gradient.split_at_mut(n_weights);
        self.design.multiply_transposed(self.threads, residuals, columns, for_weights);
        for_bias.fill(0.0);
        residuals.chunks_exact(columns).for_each(|row| for_bias.iter_mut().zip(row).for_each(|(sum, r)| *sum += r));
        let penalty = 1.0 / (strength * rows as f64);
        for_weights.iter_mut().zip(weights).for_each(|(g, w)| *g += penalty as f32 * w);
        let squares: f64 = weights.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
        loss / rows as f64 + 0.5 * penalty * squares
    }
}

/// Replaces logits by probability minus truth, weighted; gives the loss.
fn softmax_residual(z: &mut [f32], labels: &[u32], importance: &Importance) -> f64 {
    let Some(&label) = labels.first() else { return 0.0 };
    let label = label as usize;
    let max = z.iter().fold(f32::NEG_INFINITY, |max, z| max.max(*z));
    let of_label = z[label];
    z.iter_mut().for_each(|z| *z = libm::expf(*z - max));
    let sum: f32 = z.iter().sum();
    let weight = importance.positive[label];
    let loss = f64::from(max) + libm::log(f64::from(sum)) - f64::from(of_label);
    z.iter_mut().for_each(|z| *z *= weight / sum);
    z[label] -= weight;
    f64::from(weight) * loss
}

fn sigmoid_residual(z: &mut [f32], labels: &[u32], importance: &Importance) -> f64 {
    let mut loss = 0.0;
    let mut labels = labels.iter().peekable();
    for (class, z) in z.iter_mut().enumerate() {
        let positive = labels.next_if(|label| **label as usize == class).is_some();
        // e^-|z| serves the loss and the probability.
        let small = libm::expf(-z.abs());
        let probability = if *z >= 0.0 { 1.0 } else { small } / (1.0 + small);
        let wrong_side = if positive { -*z } else { *z }.max(0.0);
        let weight = if positive { importance.positive[class] } else { importance.negative[class] };
        loss += f64::from(weight) * f64::from(wrong_side + libm::log1pf(small));
        *z = weight * (probability - f32::from(u8::from(positive)));
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::targets::Labels;
    use super::*;
    use crate::rng::Rng;

    fn gaussian(rng: &mut Rng) -> f32 {
        (0..12).map(|_| rng.below(10_000) as f32 / 10_000.0).sum::<f32>() - 6.0
    }

    /// Central differences along random directions, for both links and with unequal weights.
    #[test]
    fn gradient_is_that_of_the_value() {
        let mut rng = Rng::new(2);
        let (rows, width, classes) = (150, 9, 5);
        let x: Vec<f32> = (0..rows * width).map(|_| gaussian(&mut rng)).collect();
        let one: Vec<usize> = (0..rows).map(|_| rng.below(3) + rng.below(3)).collect();
        let many: Vec<Vec<usize>> = (0..rows).map(|_| (0..classes).filter(|_| rng.below(3) == 0).collect()).collect();
        let design = Design::Dense { values: &x, width };
        for labels in [Labels::One(&one), Labels::Many(&many)] {
            let targets = Targets::new(labels, classes, rows).unwrap();
            let loss = ClassLoss::new(&targets, ClassWeights::Balanced);
            let problem = Problem { design: &design, loss: &loss, threads: 1 };
            let n_weights = width * padded(classes);
            let mut residuals = vec![0.0; rows * padded(classes)];
            let mut at = |point: &[f32], gradient: &mut [f32]| {
                problem.value_and_gradient((point, n_weights), 0.5, (&mut residuals, gradient))
            };
            let mut point: Vec<f32> = (0..n_weights + padded(classes)).map(|_| 0.3 * gaussian(&mut rng)).collect();
            point.chunks_mut(padded(classes)).for_each(|row| row[classes..].fill(0.0));
            let (mut gradient, mut unused) = (vec![0.0; point.len()], vec![0.0; point.len()]);
            at(&point, &mut gradient);
            for _ in 0..10 {
                let mut direction: Vec<f32> = (0..point.len()).map(|_| gaussian(&mut rng)).collect();
                direction.chunks_mut(padded(classes)).for_each(|row| row[classes..].fill(0.0));
                let moved = |t: f32| -> Vec<f32> { point.iter().zip(&direction).map(|(x, d)| x + t * d).collect() };
                let h = 1.0 / 128.0;
                let difference = (at(&moved(h), &mut unused) - at(&moved(-h), &mut unused)) / f64::from(2.0 * h);
                let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
                assert!((difference - slope).abs() < 2e-3 * (1.0 + slope.abs()), "{difference} {slope}");
            }
        }
    }

    /// One feature that is 1 for a share of the rows: the fitted probabilities are the observed shares, and the same for
    /// balanced classes after weighing.
    #[test]
    fn weak_penalty_gives_observed_shares() {
        let x: Vec<f32> = (0..400).map(|i| f32::from(u8::from(i < 200))).collect();
        let labels: Vec<usize> = (0..400).map(|i| usize::from(i % 4 == 0 || i < 100)).collect();
        let targets = Targets::new(Labels::One(&labels), 2, 400).unwrap();
        let design = Design::Dense { values: &x, width: 1 };
        let odds = |class_weights| {
            let loss = ClassLoss::new(&targets, class_weights);
            let problem = Problem { design: &design, loss: &loss, threads: 2 };
            let ControlFlow::Continue(fit) =
                problem.train(&Linear::zeros(1, 2), 1e6, &mut |_| ControlFlow::Continue(()))
            else {
                panic!("nobody stopped it")
            };
            [fit.bias[1] - fit.bias[0], fit.bias[1] - fit.bias[0] + fit.weights[1] - fit.weights[0]]
        };
        // 50 of 200 and 125 of 200
        let [low, high] = odds(ClassWeights::Equal);
        assert!((low - (50.0_f32 / 150.0).ln()).abs() < 0.01 && (high - (125.0_f32 / 75.0).ln()).abs() < 0.01);
        let [low, high] = odds(ClassWeights::Balanced);
        let shift = (225.0_f32 / 175.0).ln();
        assert!((low - (50.0_f32 / 150.0).ln() - shift).abs() < 0.01);
        assert!((high - (125.0_f32 / 75.0).ln() - shift).abs() < 0.01);
    }
}
