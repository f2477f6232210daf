//! L-BFGS (Nocedal and Wright 2006, algorithm 7.5) with the bisection line search of Lewis and Overton (2013) for the weak
//! Wolfe conditions.

use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Pairs of steps and gradient changes that stand for the curvature.
const MEMORY: usize = 8;
const SUFFICIENT_DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
const LINE_SEARCH_STEPS: usize = 30;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) iterations: usize,
    /// Stops when an iteration lowers the value by less than this part of it.
    pub(crate) relative_decrease: f64,
}

/// Something to be minimised: writes the gradient at `x` and gives the value.
pub(crate) type Objective<'a> = dyn FnMut(&[f32], &mut [f32]) -> f64 + 'a;

struct Pair {
    step: Vec<f32>,
    change: Vec<f32>,
    /// 1 / (step . change)
    inverse: f64,
}

/// Moves `x` to a minimum. `each` hears of every iteration and may end the work, which gives `Break`.
pub(crate) fn minimise(
    x: &mut [f32],
    objective: &mut Objective<'_>,
    stop: Stop,
    each: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let n = x.len();
    let (mut gradient, mut next_gradient, mut next) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let mut value = objective(x, &mut gradient);
    let mut pairs: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for iteration in 0..stop.iterations {
        each(iteration)?;
        let mut direction = descent(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            pairs.clear();
            direction = descent(&gradient, &pairs);
            slope = dot(&direction, &gradient);
        }
        let (mut t, mut low, mut high) = (1.0_f64, 0.0, f64::INFINITY);
        let mut found = None;
        for _ in 0..LINE_SEARCH_STEPS {
            for ((next, x), d) in next.iter_mut().zip(&*x).zip(&direction) {
                *next = (f64::from(*x) + t * f64::from(*d)) as f32;
            }
            let at = objective(&next, &mut next_gradient);
            // NaN is not less.
            if at <= value + SUFFICIENT_DECREASE * t * slope {
                found = Some(at);
                if dot(&direction, &next_gradient) >= CURVATURE * slope {
                    break;
                }
                low = t;
            } else {
                (found, high) = (None, t);
            }
            t = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * t };
        }
        // No step goes down: x is a minimum as far as the arithmetic can tell.
        let Some(at) = found else { break };
        let step: Vec<f32> = next.iter().zip(&*x).map(|(next, x)| next - x).collect();
        let change: Vec<f32> = next_gradient.iter().zip(&gradient).map(|(next, g)| next - g).collect();
        let along = dot(&step, &change);
        if along > 1e-12 * dot(&change, &change) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step, change, inverse: 1.0 / along });
        }
        x.copy_from_slice(&next);
        std::mem::swap(&mut gradient, &mut next_gradient);
        let gain = value - at;
        value = at;
        if gain <= stop.relative_decrease * value.abs() {
            break;
        }
    }
    ControlFlow::Continue(())
}

/// The two-loop recursion; of length 1 while nothing is known of the curvature.
fn descent(gradient: &[f32], pairs: &VecDeque<Pair>) -> Vec<f32> {
    let mut direction: Vec<f32> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let factor = pair.inverse * dot(&pair.step, &direction);
        add_scaled(&mut direction, -factor, &pair.change);
        factors.push(factor);
    }
    let scale = match pairs.back() {
        Some(last) => 1.0 / (last.inverse * dot(&last.change, &last.change)),
        None => 1.0 / dot(gradient, gradient).sqrt().max(f64::MIN_POSITIVE),
    };
    direction.iter_mut().for_each(|d| *d = (f64::from(*d) * scale) as f32);
    for (pair, factor) in pairs.iter().zip(factors.iter().rev()) {
        let correction = factor - pair.inverse * dot(&pair.change, &direction);
        add_scaled(&mut direction, correction, &pair.step);
    }
    direction
}

fn add_scaled(y: &mut [f32], factor: f64, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = (f64::from(*y) + factor * f64::from(*x)) as f32);
}

/// In f64, with eight sums side by side so that the compiler can use vectors.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    for (a, b) in a.zip(b) {
        for i in 0..8 {
            sums[i] += f64::from(a[i]) * f64::from(b[i]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Stop = Stop { iterations: 500, relative_decrease: 0.0 };

    #[test]
    fn finds_the_end_of_the_banana_valley() {
        let mut rosenbrock = |x: &[f32], g: &mut [f32]| -> f64 {
            let (a, b) = (f64::from(x[0]), f64::from(x[1]));
            g[0] = (-2.0 * (1.0 - a) - 400.0 * a * (b - a * a)) as f32;
            g[1] = (200.0 * (b - a * a)) as f32;
            (1.0 - a).powi(2) + 100.0 * (b - a * a).powi(2)
        };
        let mut x = [-1.2, 1.0];
        assert!(minimise(&mut x, &mut rosenbrock, STOP, &mut |_| ControlFlow::Continue(())).is_continue());
        assert!((x[0] - 1.0).abs() < 1e-3 && (x[1] - 1.0).abs() < 1e-3, "{x:?}");
    }

    #[test]
    fn stops_when_told_and_at_a_minimum() {
        let mut calls = 0;
        let mut bowl = |x: &[f32], g: &mut [f32]| -> f64 {
            calls += 1;
            g.iter_mut().zip(x).zip(1..).for_each(|((g, x), i)| *g = x * i as f32);
            x.iter().zip(1..).map(|(x, i)| 0.5 * f64::from(*x) * f64::from(*x) * f64::from(i)).sum()
        };
        let mut x = [3.0; 20];
        let end = |i| if i == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert!(minimise(&mut x, &mut bowl, STOP, &mut { end }).is_break());
        assert!(minimise(&mut x, &mut bowl, STOP, &mut |_| ControlFlow::Continue(())).is_continue());
        assert!(x.iter().all(|x| x.abs() < 1e-3), "{x:?}");
        assert!(calls < 500, "{calls}");
    }
}
