//! Softmax over rows, and the largest element.

use super::{for_each_rows, load_chunk, store_chunk};
use crate::Cpu;
use crate::isa::{Isa, IsaLevel, LANES, dispatch};
use crate::math::{self, exp_lanes};

/// Each row of `x`, `[rows][row_len]`, becomes `e^x / sum(e^x)`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn softmax(cpu: &Cpu, x: &mut [f32], row_len: usize) {
    each_row(cpu, x, row_len, softmax_row);
}

/// Each row of `x`, `[rows][row_len]`, becomes `x - ln(sum(e^x))`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn log_softmax(cpu: &Cpu, x: &mut [f32], row_len: usize) {
    each_row(cpu, x, row_len, log_softmax_row);
}

fn each_row(cpu: &Cpu, x: &mut [f32], row_len: usize, row_op: fn(IsaLevel, &mut [f32])) {
    for_each_rows(cpu, x, row_len, |_, rows| {
        for row in rows.chunks_exact_mut(row_len) {
            row_op(cpu.isa(), row);
        }
    });
}

/// The index of the largest element, the lowest one of equals. NaNs are passed over; `None` when nothing is left.
#[must_use]
pub fn argmax(cpu: &Cpu, x: &[f32]) -> Option<usize> {
    argmax_row(cpu.isa(), x)
}

dispatch! {
    fn softmax_row(x: &mut [f32]) = softmax_kernel;
}
dispatch! {
    fn log_softmax_row(x: &mut [f32]) = log_softmax_kernel;
}
dispatch! {
    fn argmax_row(x: &[f32]) -> Option<usize> = argmax_kernel;
}

#[inline(always)]
fn softmax_kernel<S: Isa>(s: S, x: &mut [f32]) {
    let max = s.splat(max_kernel(s, x));
    let mut partial = s.zero();
    for x in x.chunks_mut(LANES) {
        let p = exp_lanes(s, s.sub(load_chunk(s, x, f32::NEG_INFINITY), max));
        partial = s.add(partial, p);
        store_chunk(s, p, x);
    }
    let sum = s.splat(s.reduce_sum(partial));
    for x in x.chunks_mut(LANES) {
        store_chunk(s, s.div(load_chunk(s, x, 0.0), sum), x);
    }
}

#[inline(always)]
fn log_softmax_kernel<S: Isa>(s: S, x: &mut [f32]) {
    let max = s.splat(max_kernel(s, x));
    let mut partial = s.zero();
    for x in x.chunks(LANES) {
        partial = s.add(partial, exp_lanes(s, s.sub(load_chunk(s, x, f32::NEG_INFINITY), max)));
    }
    let log_sum = s.splat(math::ln(s.reduce_sum(partial)));
    for x in x.chunks_mut(LANES) {
        store_chunk(s, s.sub(s.sub(load_chunk(s, x, 0.0), max), log_sum), x);
    }
}

/// The largest element, NaNs passed over; minus infinity when there is none.
#[inline(always)]
fn max_kernel<S: Isa>(s: S, x: &[f32]) -> f32 {
    let chunks = x.chunks_exact(LANES);
    let mut max = load_chunk(s, chunks.remainder(), f32::NEG_INFINITY);
    // With a NaN on the left the right side stays.
    max = s.max(max, s.splat(f32::NEG_INFINITY));
    for x in chunks {
        max = s.max(s.load(x), max);
    }
    s.reduce_max(max)
}

#[inline(always)]
fn argmax_kernel<S: Isa>(s: S, x: &[f32]) -> Option<usize> {
    let max = s.splat(max_kernel(s, x));
    for (i, x) in x.chunks(LANES).enumerate() {
        let equal = s.mask_bits(s.eq(load_chunk(s, x, f32::NAN), max));
        if equal != 0 {
            return Some(i * LANES + equal.trailing_zeros() as usize);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{assert_near, every_cpu, values};

    #[test]
    fn softmax_follows_its_formula_on_every_level() {
        for n in [1, 3, 16, 40, 9001] {
            let x: Vec<f32> = values(1, n * 5).iter().map(|x| x * 8.0 + 100.0).collect();
            let sum = |row: &[f32]| row.iter().map(|&x| (f64::from(x) - 100.0).exp()).sum::<f64>();
            let exact = x.chunks(n).flat_map(|row| {
                let sum = sum(row);
                row.iter().map(move |&x| (f64::from(x) - 100.0).exp() / sum)
            });
            let exact_log = x.chunks(n).flat_map(|row| {
                let log_sum = sum(row).ln();
                row.iter().map(move |&x| f64::from(x) - 100.0 - log_sum)
            });
            let (mut first, mut first_log) = (x.clone(), x.clone());
            softmax(&every_cpu()[0], &mut first, n);
            log_softmax(&every_cpu()[0], &mut first_log, n);
            assert_near(&first, exact, 1e-5);
            assert_near(&first_log, exact_log, 4e-6);
            for cpu in every_cpu() {
                let (mut out, mut out_log) = (x.clone(), x.clone());
                softmax(&cpu, &mut out, n);
                log_softmax(&cpu, &mut out_log, n);
                assert_eq!((out, out_log), (first.clone(), first_log.clone()), "{n} on {cpu:?}");
            }
        }
    }

    #[test]
    fn minus_infinity_has_no_share() {
        let mut x = [1.0, f32::NEG_INFINITY, 1.0];
        softmax(&every_cpu()[0], &mut x, 3);
        assert_eq!(x, [0.5, 0.0, 0.5]);
    }

    #[test]
    fn argmax_takes_the_lowest_of_equals() {
        for cpu in every_cpu() {
            assert_eq!(argmax(&cpu, &[]), None);
            assert_eq!(argmax(&cpu, &[f32::NAN; 20]), None);
            assert_eq!(argmax(&cpu, &[f32::NEG_INFINITY; 20]), Some(0));
            assert_eq!(argmax(&cpu, &[-0.0, 0.0]), Some(0));
            for n in [1, 15, 16, 17, 100] {
                for at in 0..n {
                    let mut x = vec![-3.0; n];
                    x[at] = 2.0;
                    x[n - 1] = 2.0;
                    x[0] = if at == 0 { 2.0 } else { f32::NAN };
                    assert_eq!(argmax(&cpu, &x), Some(at));
                }
            }
        }
    }
}
