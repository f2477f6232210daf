//! Normalisation of rows: RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) and LayerNorm (Ba et al. 2016,
//! arXiv:1607.06450).

use super::{for_each_rows, load_chunk, store_chunk};
use crate::Cpu;
use crate::isa::{Isa, LANES, dispatch};

/// The parameters of a LayerNorm.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// `[dim]`.
    pub weight: &'a [f32],
    /// `[dim]`, where the model has one.
    pub bias: Option<&'a [f32]>,
    /// Added to the variance.
    pub eps: f32,
}

/// `out = x / sqrt(mean(x^2) + eps) * weight` for each row of `x`, `[rows][weight.len()]`.
///
/// A per-head norm is the same with `tokens * heads` rows of `head_dim`.
///
/// # Panics
/// When `x` is not whole rows or `out` has another length.
pub fn rms_norm(cpu: &Cpu, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    copying(cpu, x, weight.len(), out, |row| rms_norm_row(cpu.isa(), row, weight, eps));
}

/// `x = x + rms_norm(y)`, row by row, for `x` and `y` of `[rows][weight.len()]`.
///
/// # Panics
/// When `x` is not whole rows or `y` has another length.
pub fn add_rms_norm(cpu: &Cpu, x: &mut [f32], y: &[f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), y.len(), "both sides must have the same length");
    let dim = weight.len();
    for_each_rows(cpu, x, dim, |first, rows| {
        for (x, y) in rows.chunks_exact_mut(dim).zip(y[first * dim..].chunks_exact(dim)) {
            add_rms_norm_row(cpu.isa(), x, y, weight, eps);
        }
    });
}

/// [`rms_norm`] with `out` in the place of `x`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn rms_norm_in_place(cpu: &Cpu, x: &mut [f32], weight: &[f32], eps: f32) {
    for_each_rows(cpu, x, weight.len(), |_, rows| {
        for row in rows.chunks_exact_mut(weight.len()) {
            rms_norm_row(cpu.isa(), row, weight, eps);
        }
    });
}

/// `out = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias` for each row of `x`, `[rows][dim]`, with the variance
/// over `dim`.
///
/// # Panics
/// When `x` is not whole rows, or `out` or the bias has another length.
pub fn layer_norm(cpu: &Cpu, x: &[f32], norm: LayerNorm<'_>, out: &mut [f32]) {
    assert!(norm.bias.is_none_or(|b| b.len() == norm.weight.len()), "bias and weight must have the same length");
    copying(cpu, x, norm.weight.len(), out, |row| layer_norm_row(cpu.isa(), row, norm));
}

/// [`layer_norm`] with `out` in the place of `x`.
///
/// # Panics
/// When `x` is not whole rows or the bias has another length.
pub fn layer_norm_in_place(cpu: &Cpu, x: &mut [f32], norm: LayerNorm<'_>) {
    assert!(norm.bias.is_none_or(|b| b.len() == norm.weight.len()), "bias and weight must have the same length");
    for_each_rows(cpu, x, norm.weight.len(), |_, rows| {
        for row in rows.chunks_exact_mut(norm.weight.len()) {
            layer_norm_row(cpu.isa(), row, norm);
        }
    });
}

/// Copies each row and works on the copy while it is in the cache.
fn copying(cpu: &Cpu, x: &[f32], dim: usize, out: &mut [f32], in_place: impl Fn(&mut [f32]) + Sync) {
    assert_eq!(x.len(), out.len(), "input and output must have the same length");
    for_each_rows(cpu, out, dim, |first, rows| {
        for (row, x) in rows.chunks_exact_mut(dim).zip(x[first * dim..].chunks_exact(dim)) {
            row.copy_from_slice(x);
            in_place(row);
        }
    });
}

dispatch! {
    fn rms_norm_row(x: &mut [f32], weight: &[f32], eps: f32) = rms_norm_kernel;
}
dispatch! {
    fn add_rms_norm_row(x: &mut [f32], y: &[f32], weight: &[f32], eps: f32) = add_rms_norm_kernel;
}
dispatch! {
    fn layer_norm_row(x: &mut [f32], norm: LayerNorm<'_>) = layer_norm_kernel;
}

#[inline(always)]
fn rms_norm_kernel<S: Isa>(s: S, x: &mut [f32], weight: &[f32], eps: f32) {
    let inverse = s.splat(1.0 / (sum_of_squares(s, x) / x.len() as f32 + eps).sqrt());
    let (whole, rest) = x.split_at_mut(x.len() / LANES * LANES);
    let (w_whole, w_rest) = weight.split_at(whole.len());
    for (x, w) in whole.chunks_exact_mut(LANES).zip(w_whole.chunks_exact(LANES)) {
        s.store(s.mul(s.mul(s.load(x), inverse), s.load(w)), x);
    }
    s.store_partial(s.mul(s.mul(s.load_partial(rest), inverse), s.load_partial(w_rest)), rest);
}

#[inline(always)]
fn add_rms_norm_kernel<S: Isa>(s: S, x: &mut [f32], y: &[f32], weight: &[f32], eps: f32) {
    let inverse = s.splat(1.0 / (sum_of_squares(s, y) / y.len() as f32 + eps).sqrt());
    for ((x, y), w) in x.chunks_mut(LANES).zip(y.chunks(LANES)).zip(weight.chunks(LANES)) {
        let normed = s.mul(s.mul(load_chunk(s, y, 0.0), inverse), load_chunk(s, w, 0.0));
        store_chunk(s, s.add(load_chunk(s, x, 0.0), normed), x);
    }
}

#[inline(always)]
fn layer_norm_kernel<S: Isa>(s: S, x: &mut [f32], norm: LayerNorm<'_>) {
    let dim = x.len() as f32;
    let mean = s.splat(sum(s, x) / dim);
    for x in x.chunks_mut(LANES) {
        store_chunk(s, s.sub(load_chunk(s, x, 0.0), mean), x);
    }
    let inverse = s.splat(1.0 / (sum_of_squares(s, x) / dim + norm.eps).sqrt());
    for (i, x) in x.chunks_mut(LANES).enumerate() {
        let at = i * LANES..i * LANES + x.len();
        let mut y = s.mul(s.mul(load_chunk(s, x, 0.0), inverse), load_chunk(s, &norm.weight[at.clone()], 0.0));
        if let Some(bias) = norm.bias {
            y = s.add(y, load_chunk(s, &bias[at], 0.0));
        }
        store_chunk(s, y, x);
    }
}

#[inline(always)]
fn sum<S: Isa>(s: S, x: &[f32]) -> f32 {
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    let mut partial = s.zero();
    for x in chunks {
        partial = s.add(partial, s.load(x));
    }
    s.reduce_sum(s.add(partial, s.load_partial(rest)))
}

#[inline(always)]
fn sum_of_squares<S: Isa>(s: S, x: &[f32]) -> f32 {
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    let mut partial = s.zero();
    for x in chunks {
        let x = s.load(x);
        partial = s.fma(x, x, partial);
    }
    let rest = s.load_partial(rest);
    s.reduce_sum(s.fma(rest, rest, partial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{assert_near, every_cpu, values};

    const DIMS: [usize; 6] = [1, 8, 16, 50, 576, 9000];

    fn mean(x: impl Iterator<Item = f64>, n: usize) -> f64 {
        x.sum::<f64>() / n as f64
    }

    #[test]
    fn rms_norm_follows_its_formula_on_every_level() {
        for dim in DIMS {
            let (x, weight, eps) = (values(1, dim * 7), values(2, dim), 1e-5);
            let exact = x.chunks(dim).flat_map(|row| {
                let square = mean(row.iter().map(|&x| f64::from(x).powi(2)), dim);
                let inverse = 1.0 / (square + f64::from(eps)).sqrt();
                row.iter().zip(&weight).map(move |(&x, &w)| f64::from(x) * inverse * f64::from(w))
            });
            let mut first = vec![0.0; x.len()];
            rms_norm(&every_cpu()[0], &x, &weight, eps, &mut first);
            assert_near(&first, exact, 1e-6);
            for cpu in every_cpu() {
                let mut out = x.clone();
                rms_norm_in_place(&cpu, &mut out, &weight, eps);
                assert_eq!(out, first, "dim {dim} on {cpu:?}");
            }
        }
    }

    #[test]
    fn layer_norm_follows_its_formula_on_every_level() {
        for dim in DIMS {
            let x: Vec<f32> = values(1, dim * 7).iter().map(|x| x + 0.3).collect();
            let (weight, shift) = (values(2, dim), values(3, dim));
            for bias in [None, Some(shift.as_slice())] {
                let norm = LayerNorm { weight: &weight, bias, eps: 1e-5 };
                let exact = x.chunks(dim).flat_map(|row| {
                    let centre = mean(row.iter().map(|&x| f64::from(x)), dim);
                    let variance = mean(row.iter().map(|&x| (f64::from(x) - centre).powi(2)), dim);
                    let inverse = 1.0 / (variance + f64::from(norm.eps)).sqrt();
                    row.iter().enumerate().map(move |(i, &x)| {
                        (f64::from(x) - centre) * inverse * f64::from(norm.weight[i])
                            + norm.bias.map_or(0.0, |b| f64::from(b[i]))
                    })
                });
                let mut first = vec![0.0; x.len()];
                layer_norm(&every_cpu()[0], &x, norm, &mut first);
                assert_near(&first, exact, 4e-6);
                for cpu in every_cpu() {
                    let mut out = vec![0.0; x.len()];
                    layer_norm(&cpu, &x, norm, &mut out);
                    assert_eq!(out, first, "dim {dim} on {cpu:?}");
                }
            }
        }
    }

    #[test]
    fn adding_a_norm_is_norming_and_adding() {
        for dim in [1, 16, 37, 64] {
            let (x, y, weight) = (values(1, 5 * dim), values(2, 5 * dim), values(3, dim));
            for cpu in every_cpu() {
                let (mut expected, mut normed) = (x.clone(), y.clone());
                rms_norm_in_place(&cpu, &mut normed, &weight, 1e-5);
                crate::ops::add_assign(&cpu, &mut expected, &normed);
                let mut sum = x.clone();
                add_rms_norm(&cpu, &mut sum, &y, &weight, 1e-5);
                assert_eq!(sum, expected);
            }
        }
    }
}
