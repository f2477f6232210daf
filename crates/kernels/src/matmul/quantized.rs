//! Quantised weights times quantised activations.
//!
//! The order of the contract, per output and ascending group of 32 k ([`step`]): for each sub-block,
//! `acc = fma(f32(dot), d * scale, acc)` with the exact integer dot product, offset removed; then, where the format has
//! a minimum, `acc = fma(m, sum_scaled, acc)`. Few tokens unpack weights in registers ([`few`]); many unpack a panel of
//! 256 k once for all of them ([`many`]).

use std::ops::Range;

use super::Part;
use crate::isa::{Isa, dispatch};
use crate::pack::PackedMatrix;
use crate::pack::format::{Format, GROUP, MAX_BLOCK, Scale, group_bytes, scale_bytes, unpack};
use crate::quantize::{ActGroup, QuantizedRows};

/// Groups per panel, in whole blocks; the unpacked quants are 8 KiB.
const PANEL: usize = 2 * MAX_BLOCK / GROUP;
/// Tokens that share an unpacked panel; their activations stay in the second-level cache over the units of an item.
const BATCH: usize = 128;
/// Up to this many tokens, weights are unpacked in registers.
const FEW: usize = 4;

dispatch! {
    /// Computes the part's units for all tokens.
    pub(super) fn units[F: Format][F](w: &PackedMatrix, x: &QuantizedRows, y: &Part<'_>) = units_kernel;
}

#[inline(always)]
fn units_kernel<S: Isa, F: Format>(s: S, w: &PackedMatrix, x: &QuantizedRows, y: &Part<'_>) {
    let n_tokens = x.n_tokens();
    if !S::TILED || n_tokens <= FEW {
        for u in y.units.clone() {
            let mut t = 0;
            while t < n_tokens {
                t += match n_tokens - t {
                    4.. if S::TILED => few::<S, F, 4>(s, w, u, x, t, y),
                    2.. if S::TILED => few::<S, F, 2>(s, w, u, x, t, y),
                    _ => few::<S, F, 1>(s, w, u, x, t, y),
                };
            }
        }
    } else if S::TILED {
        many_batches::<S, F>(s, w, x, y);
    }
}

/// All units of the part, for batches of tokens.
#[inline(always)]
fn many_batches<S: Isa, F: Format>(s: S, w: &PackedMatrix, x: &QuantizedRows, y: &Part<'_>) {
    let n_tokens = x.n_tokens();
    let mut scratch =
        Scratch { weights: [[s.splat_i(0); 8]; PANEL], scale: [no_scale(s); PANEL], sums: [s.zero(); BATCH] };
    let mut first = 0;
    while first < n_tokens {
        let tokens = first..n_tokens.min(first + BATCH);
        for u in y.units.clone() {
            many::<S, F>(s, w.unit(u), w.k() / GROUP, x, tokens.clone(), &mut scratch);
            for t in tokens.clone() {
                // SAFETY: the token is one of `x`, the unit one of the part's.
                unsafe { y.store(s, t, u, scratch.sums[t - first]) };
            }
        }
        first = tokens.end;
    }
}

/// What a unit and a batch of tokens work on; all of it stays in the first-level cache.
struct Scratch<S: Isa> {
    /// Up to `PANEL` groups, unpacked.
    weights: [[S::I; 8]; PANEL],
    scale: [Scale<S::F>; PANEL],
    /// One per token.
    sums: [S::F; BATCH],
}

/// One group of 32 k for `T` tokens.
#[inline(always)]
fn step<S: Isa, F: Format, const T: usize>(
    s: S,
    w: &[S::I; 8],
    scale: &Scale<S::F>,
    x: [&ActGroup; T],
    acc: &mut [S::F; T],
) {
    let mut q = [&x[0].q; T];
    for t in 0..T {
        q[t] = &x[t].q;
    }
    if F::SUBS == 2 {
        finish::<S, F, 2, T>(s, s.dot::<6, 2, T>(w, q), scale, x, acc);
    } else {
        match F::BITS {
            4 => finish::<S, F, 1, T>(s, s.dot::<4, 1, T>(w, q), scale, x, acc),
            5 => finish::<S, F, 1, T>(s, s.dot::<5, 1, T>(w, q), scale, x, acc),
            6 => finish::<S, F, 1, T>(s, s.dot::<6, 1, T>(w, q), scale, x, acc),
            _ => finish::<S, F, 1, T>(s, s.dot::<8, 1, T>(w, q), scale, x, acc),
        }
    }
}

/// Adds a group's dot products to the sums.
#[inline(always)]
fn finish<S: Isa, F: Format, const SUBS: usize, const T: usize>(
    s: S,
    dot: [[S::I; SUBS]; T],
    scale: &Scale<S::F>,
    x: [&ActGroup; T],
    acc: &mut [S::F; T],
) {
    for t in 0..T {
        for sub in 0..SUBS {
            let mut dot = dot[t][sub];
            if let Some(bits) = F::ZERO_BITS {
                let sum = if SUBS == 1 { x[t].sums[0] + x[t].sums[1] } else { x[t].sums[sub] };
                dot = s.sub_i(dot, s.shl_i(s.splat_i(sum), bits));
            }
            acc[t] = s.fma(s.to_f32(dot), s.mul(scale.d[sub], s.splat(x[t].scale)), acc[t]);
        }
        if F::HAS_MIN {
            acc[t] = s.fma(scale.m, s.splat(x[t].sum_scaled), acc[t]);
        }
    }
}

#[inline(always)]
fn no_scale<S: Isa>(s: S) -> Scale<S::F> {
    Scale { d: [s.zero(); 2], m: s.zero() }
}

/// The rows of tokens `first..first + T`.
#[inline(always)]
fn rows<const T: usize>(x: &QuantizedRows, first: usize) -> [&[ActGroup]; T] {
    let mut rows = [x.row(first); T];
    for t in 1..T {
        rows[t] = x.row(first + t);
    }
    rows
}

/// Group `g` of each row.
#[inline(always)]
fn groups_at<'a, const T: usize>(rows: &[&'a [ActGroup]; T], g: usize) -> [&'a ActGroup; T] {
    let mut groups = [&rows[0][g]; T];
    for t in 1..T {
        groups[t] = &rows[t][g];
    }
    groups
}

/// A unit for the `T` tokens from `first` on. Gives `T`.
#[inline(always)]
fn few<S: Isa, F: Format, const T: usize>(
    s: S,
    w: &PackedMatrix,
    unit: usize,
    x: &QuantizedRows,
    first: usize,
    y: &Part<'_>,
) -> usize {
    let n_groups = w.k() / GROUP;
    let (quants, scales) = w.unit(unit).split_at(n_groups * group_bytes::<F>());
    let rows = rows::<T>(x, first);
    let mut scale = [no_scale(s); PANEL];
    let mut acc = [s.zero(); T];
    for block in 0..w.k() / F::BLOCK {
        F::scales(s, &scales[block * scale_bytes::<F>()..][..scale_bytes::<F>()], &mut scale);
        for i in 0..F::BLOCK / GROUP {
            let g = block * (F::BLOCK / GROUP) + i;
            let weights = unpack::<S, F>(s, &quants[g * group_bytes::<F>()..]);
            step::<S, F, T>(s, &weights, &scale[i], groups_at(&rows, g), &mut acc);
        }
    }
    for t in 0..T {
        // SAFETY: the token is one of `x`, the unit one of the part's.
        unsafe { y.store(s, first + t, unit, acc[t]) };
    }
    T
}

/// A unit of `n_groups` groups for up to `BATCH` tokens.
#[inline(always)]
fn many<S: Isa, F: Format>(
    s: S,
    unit: &[u8],
    n_groups: usize,
    x: &QuantizedRows,
    tokens: Range<usize>,
    scratch: &mut Scratch<S>,
) {
    let (quants, scales) = unit.split_at(n_groups * group_bytes::<F>());
    let per_block = F::BLOCK / GROUP;
    scratch.sums[..tokens.len()].fill(s.zero());
    let mut first = 0;
    while first < n_groups {
        let panel = first..n_groups.min(first + PANEL);
        for b in 0..panel.len() / per_block {
            let packed = &scales[(first / per_block + b) * scale_bytes::<F>()..];
            F::scales(s, packed, &mut scratch.scale[b * per_block..]);
        }
        for i in 0..panel.len() {
            scratch.weights[i] = unpack::<S, F>(s, &quants[(first + i) * group_bytes::<F>()..]);
        }
        let mut t = tokens.start;
        while t < tokens.end {
            let at = t - tokens.start;
            t += match tokens.end - t {
                8.. if S::WIDE => tile::<S, F, 8>(s, panel.clone(), x, t, at, scratch),
                4.. => tile::<S, F, 4>(s, panel.clone(), x, t, at, scratch),
                _ => tile::<S, F, 1>(s, panel.clone(), x, t, at, scratch),
            };
        }
        first = panel.end;
    }
}

/// The unpacked groups `panel` for the `T` tokens from `first` on, whose sums begin at `at`. Gives `T`.
#[inline(always)]
fn tile<S: Isa, F: Format, const T: usize>(
    s: S,
    panel: Range<usize>,
    x: &QuantizedRows,
    first: usize,
    at: usize,
    scratch: &mut Scratch<S>,
) -> usize {
    let mut rows = rows::<T>(x, first);
    for t in 0..T {
        rows[t] = &rows[t][panel.start..];
    }
    let mut sums = [s.zero(); T];
    sums.copy_from_slice(&scratch.sums[at..at + T]);
    for g in 0..panel.len() {
        step::<S, F, T>(s, &scratch.weights[g], &scratch.scale[g], groups_at(&rows, g), &mut sums);
    }
    scratch.sums[at..at + T].copy_from_slice(&sums);
    T
}
