//! The small operations between matrix products: norms, activations, sums, softmax.
//!
//! Sums go through one vector of 16 partial sums (element `i` belongs to lane `i % 16`) and one fixed tree, whatever
//! the instruction set. A row is always computed by one thread, so no result depends on the thread count.

mod elementwise;
mod norm;
mod softmax;

pub(crate) use elementwise::soft_cap_lanes;
pub use elementwise::{
    add_assign, add_bias, gelu_erf, gelu_erf_mul, gelu_tanh, gelu_tanh_mul, scale, silu, silu_mul, soft_cap,
};
pub use norm::{LayerNorm, add_rms_norm, layer_norm, layer_norm_in_place, rms_norm, rms_norm_in_place};
pub use softmax::{argmax, log_softmax, softmax};

use crate::Cpu;
use crate::isa::{Isa, LANES};

/// Elements per work item: fewer are not worth waking another thread for.
const ITEM_ELEMENTS: usize = 1 << 13;

/// Runs `f(first_row, rows)` over groups of whole rows of `x`, `[rows][row_len]`.
fn for_each_rows(cpu: &Cpu, x: &mut [f32], row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if x.is_empty() {
        return;
    }
    assert!(row_len > 0 && x.len().is_multiple_of(row_len), "{} values are not rows of {row_len}", x.len());
    let rows_per_item = (ITEM_ELEMENTS / row_len).max(1);
    cpu.for_each_chunk_mut(x, rows_per_item * row_len, |item, rows| f(item * rows_per_item, rows));
}

/// A chunk of at most 16 elements, followed by `pad`. Whole chunks, which are nearly all, take the fast way.
#[inline(always)]
pub(crate) fn load_chunk<S: Isa>(s: S, x: &[f32], pad: f32) -> S::F {
    if x.len() >= LANES {
        return s.load(x);
    }
    let mut lanes = [pad; LANES];
    let n = x.len().min(LANES);
    lanes[..n].copy_from_slice(&x[..n]);
    s.load(&lanes)
}

/// Writes a chunk of at most 16 elements.
#[inline(always)]
fn store_chunk<S: Isa>(s: S, v: S::F, out: &mut [f32]) {
    if out.len() >= LANES { s.store(v, out) } else { s.store_partial(v, out) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::CpuConfig;
    use crate::isa::IsaLevel;

    /// Every instruction set of this machine, with one and with three threads; scalar with one thread first.
    pub(crate) fn every_cpu() -> Vec<Cpu> {
        let levels = IsaLevel::ALL.into_iter().filter(|level| level.is_available());
        levels
            .flat_map(|isa| [1, 3].map(|n_threads| Cpu::new(CpuConfig { n_threads, isa: Some(isa) }).unwrap()))
            .collect()
    }

    /// Reproducible values, mostly within +-2.
    pub(crate) fn values(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..n).map(|_| 1.5 * (uniform() + uniform() + uniform())).collect()
    }

    /// Compares with the exact values, relative to 1 or to their size.
    pub(crate) fn assert_near(x: &[f32], exact: impl Iterator<Item = f64>, tolerance: f64) {
        let mut n = 0;
        for (i, (&x, exact)) in x.iter().zip(exact).enumerate() {
            assert!((f64::from(x) - exact).abs() <= tolerance * exact.abs().max(1.0), "at {i}: {x} {exact}");
            n += 1;
        }
        assert_eq!(n, x.len());
    }
}
