//! The product of activations with packed weights.
//!
//! Every output is one sum with one order of additions (see [`quantized`] and [`float`]), so the result does not depend
//! on how many tokens go together, on the tiling, on the threads or on the instruction set.

use std::ops::Range;

use crate::cpu::{Cpu, SendPtr};
use crate::isa::{Isa, LANES};
use crate::pack::{BlockType, PackedMatrix, with_format};
use crate::quantize::QuantizedRows;

mod float;
mod quantized;

/// Multiplications that make an item of parallel work worth handing out (some 10 microseconds).
const MIN_ITEM: usize = 256 * 1024;

/// Activations of `n_tokens` tokens, in the forms that the kernels read. A caller that knows the weights needs to fill
/// in only one of them: floats for weights that are plain floats ([`BlockType::is_float`]), `q8` for all others.
#[derive(Clone, Copy, Debug)]
pub struct MatInput<'a> {
    /// `[n_tokens][k]`.
    pub f32: &'a [f32],
    /// The same, quantised.
    pub q8: &'a QuantizedRows,
    /// Tokens.
    pub n_tokens: usize,
    /// Activations per token.
    pub k: usize,
}

/// `y[t][n] = sum over k of x[t][k] * w[n][k]`, with `y` as `[n_tokens][n_rows]`.
///
/// # Panics
/// If a length does not match: `x.k` and the weights' k, `y` and `n_tokens * n_rows`, or the form of `x` that these
/// weights need and its shape.
pub fn matmul(cpu: &Cpu, w: &PackedMatrix, x: &MatInput, y: &mut [f32]) {
    let MatInput { n_tokens, k, .. } = *x;
    assert_eq!(k, w.k(), "activations and weights have the same k");
    assert_eq!(Some(y.len()), n_tokens.checked_mul(w.n_rows()), "y is [n_tokens][n_rows]");
    if w.block_type().is_float() {
        assert_eq!(Some(x.f32.len()), n_tokens.checked_mul(k), "x.f32 is [n_tokens][k]");
    } else {
        assert_eq!((x.q8.n_tokens(), x.q8.k()), (n_tokens, k), "x.q8 is [n_tokens][k]");
    }
    if n_tokens == 0 {
        return;
    }
    let out = Output { y: SendPtr(y.as_mut_ptr()), n_rows: w.n_rows() };
    let n_units = w.n_units();
    // Items large enough to be worth it, but enough of them that threads finish together.
    // An even number, for units are computed in pairs.
    let per_item = (MIN_ITEM / (LANES * k).saturating_mul(n_tokens)).clamp(1, n_units.div_ceil(2 * cpu.n_threads()));
    let per_item = per_item.next_multiple_of(2);
    cpu.for_each_range(n_units, per_item, |units| {
        // SAFETY: `y` is borrowed mutably for the whole call and has `n_tokens` rows; each unit is in one item only.
        let part = unsafe { out.part(units) };
        with_format!(w.block_type(), F => quantized::units::<F>(cpu.isa(), w, x.q8, &part), _ => match w.block_type() {
            BlockType::F16 => float::units::<float::F16>(cpu.isa(), w, x, &part),
            BlockType::BF16 => float::units::<float::Bf16>(cpu.isa(), w, x, &part),
            _ => float::units::<float::F32>(cpu.isa(), w, x, &part),
        });
    });
}

/// The output matrix, shared by items that write different columns.
struct Output {
    y: SendPtr<f32>,
    n_rows: usize,
}

impl Output {
    /// # Safety
    /// As long as the part lives, the rows that will be written exist and nothing else touches these units' columns.
    unsafe fn part(&self, units: Range<usize>) -> Part<'_> {
        Part { out: self, units }
    }
}

/// The columns of the output that belong to some units.
struct Part<'a> {
    out: &'a Output,
    units: Range<usize>,
}

impl Part<'_> {
    /// Writes a unit's results for one token.
    ///
    /// # Safety
    /// The output has row `token`, and `unit` is one of the part's.
    #[inline(always)]
    unsafe fn store<S: Isa>(&self, s: S, token: usize, unit: usize, v: S::F) {
        let first = unit * LANES;
        let n = LANES.min(self.out.n_rows - first);
        // SAFETY: the row exists and `n` columns from `first` on are within it; `Output::part` says that they are ours.
        let out = unsafe { std::slice::from_raw_parts_mut(self.out.y.get().add(token * self.out.n_rows + first), n) };
        if n == LANES {
            s.store(v, out);
        } else {
            s.store_partial(v, out);
        }
    }
}
