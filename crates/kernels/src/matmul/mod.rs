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

/// Multiplications that make an item of parallel work worth handing out: microseconds on the fastest machines, where
/// the memory that an item prepares must not count.
const MIN_ITEM: usize = 2 << 20;

/// Items of a section that a thread should find at least, so that threads finish together.
const ITEMS_PER_THREAD: usize = 3;

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

/// Weights that activations are multiplied with, and where the results go.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[n_rows][k]`.
    pub w: &'a PackedMatrix,
    /// `[n_tokens][n_rows]`.
    pub y: &'a mut [f32],
    /// What becomes of what is in `y`.
    pub store: Store,
}

/// How results are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// `y = result`.
    Write,
    /// `y = y + result`.
    Add,
}

/// `y[t][n] = sum over k of x[t][k] * w[n][k]` for each of the products, which share the activations and one parallel
/// section.
///
/// # Panics
/// If a length does not match: `x.k` and the weights' k, `y` and `n_tokens * n_rows`, or the form of `x` that these
/// weights need and its shape.
pub fn matmul(cpu: &Cpu, x: &MatInput, products: &mut [Product<'_>]) {
    let MatInput { n_tokens, k, .. } = *x;
    for Product { w, y, .. } in &*products {
        assert_eq!(k, w.k(), "activations and weights have the same k");
        assert_eq!(Some(y.len()), n_tokens.checked_mul(w.n_rows()), "y is [n_tokens][n_rows]");
        if w.block_type().is_float() {
            assert_eq!(Some(x.f32.len()), n_tokens.checked_mul(k), "x.f32 is [n_tokens][k]");
        } else {
            assert_eq!((x.q8.n_tokens(), x.q8.k()), (n_tokens, k), "x.q8 is [n_tokens][k]");
        }
    }
    if n_tokens == 0 {
        return;
    }
    // Items large enough to be worth it, but enough of them that threads finish together. An even number of units, for
    // they are computed in pairs.
    let n_units: usize = products.iter().map(|product| product.w.n_units()).sum();
    let per_item = (MIN_ITEM / (LANES * k).saturating_mul(n_tokens))
        .clamp(1, n_units.div_ceil(ITEMS_PER_THREAD * cpu.n_threads()));
    let per_item = per_item.next_multiple_of(2);
    let outs: Vec<Output<'_>> = products.iter_mut().map(Output::new).collect();
    let n_items = outs.iter().map(|out| out.w.n_units().div_ceil(per_item)).sum();
    cpu.for_each(n_items, |mut item| {
        for out in &outs {
            let n_units = out.w.n_units();
            let n_items = n_units.div_ceil(per_item);
            if item < n_items {
                // SAFETY: `y` is borrowed mutably for the whole call and has `n_tokens` rows; each unit is in one item
                // only.
                let part = unsafe { out.part(item * per_item..n_units.min((item + 1) * per_item)) };
                return units(cpu, x, &part);
            }
            item -= n_items;
        }
    });
}

/// Computes the part's units for all tokens.
fn units(cpu: &Cpu, x: &MatInput, part: &Part<'_>) {
    let w = part.out.w;
    with_format!(w.block_type(), F => quantized::units::<F>(cpu.isa(), w, x.q8, part), _ => match w.block_type() {
        BlockType::F16 => float::units::<float::F16>(cpu.isa(), w, x, part),
        BlockType::BF16 => float::units::<float::Bf16>(cpu.isa(), w, x, part),
        _ => float::units::<float::F32>(cpu.isa(), w, x, part),
    });
}

/// An output matrix, shared by items that write different columns.
struct Output<'a> {
    w: &'a PackedMatrix,
    y: SendPtr<f32>,
    store: Store,
}

impl<'a> Output<'a> {
    fn new(product: &'a mut Product<'_>) -> Self {
        Output { w: product.w, y: SendPtr(product.y.as_mut_ptr()), store: product.store }
    }

    /// # Safety
    /// As long as the part lives, the rows that will be written exist and nothing else touches these units' columns.
    unsafe fn part(&self, units: Range<usize>) -> Part<'_> {
        Part { out: self, units }
    }
}

/// The columns of the output that belong to some units.
struct Part<'a> {
    out: &'a Output<'a>,
    units: Range<usize>,
}

impl Part<'_> {
    /// Writes a unit's results for one token.
    ///
    /// # Safety
    /// The output has row `token`, and `unit` is one of the part's.
    #[inline(always)]
    unsafe fn store<S: Isa>(&self, s: S, token: usize, unit: usize, mut v: S::F) {
        let n_rows = self.out.w.n_rows();
        let first = unit * LANES;
        let n = LANES.min(n_rows - first);
        // SAFETY: the row exists and `n` columns from `first` on are within it; `Output::part` says that they are ours.
        let out = unsafe { std::slice::from_raw_parts_mut(self.out.y.get().add(token * n_rows + first), n) };
        if self.out.store == Store::Add {
            v = s.add(if n == LANES { s.load(out) } else { s.load_partial(out) }, v);
        }
        if n == LANES {
            s.store(v, out);
        } else {
            s.store_partial(v, out);
        }
    }
}
