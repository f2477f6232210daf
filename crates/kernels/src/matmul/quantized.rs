//! Quantised weights times quantised activations.
//!
//! The order of the contract, per output and ascending group of 32 k ([`step`]): for each sub-block,
//! `acc = fma(f32(dot), d * scale, acc)` with the exact integer dot product, offset removed; then, where the format has
//! a minimum, `acc = fma(m, sum_scaled, acc)`. Few tokens unpack weights in registers ([`few`]); many unpack a panel of
//! 256 k once for all of them ([`many`]).

use std::mem::MaybeUninit;
use std::ops::Range;

use super::Part;
use crate::isa::{Isa, dispatch};
use crate::pack::PackedMatrix;
use crate::pack::format::{Format, GROUP, MAX_BLOCK, Scale, group_bytes, scale_bytes, unpack};
use crate::quantize::{ActGroup, QuantizedRows};

/// Groups per panel, in whole blocks; the unpacked quants of a unit are 4 KiB.
const PANEL: usize = MAX_BLOCK / GROUP;
/// Bytes that quants and scales are asked for ahead of their use: what memory delivers in the time that it takes to
/// answer. The hardware's own prefetching stops at every page.
const AHEAD: usize = 4096;
const LINE: usize = 64;
/// Tokens that share an unpacked panel; their activations stay in the second-level cache over the units of an item.
const BATCH: usize = 128;

dispatch! {
    /// Computes the part's units for all tokens.
    pub(super) fn units[F: Format][F](w: &PackedMatrix, x: &QuantizedRows, y: &Part<'_>) = units_kernel;
}

#[inline(always)]
fn units_kernel<S: Isa, F: Format>(s: S, w: &PackedMatrix, x: &QuantizedRows, y: &Part<'_>) {
    let n_tokens = x.n_tokens();
    if n_tokens > S::FEW {
        if S::WIDE {
            many_batches::<S, F, 2>(s, w, x, y);
        } else if S::TILED {
            many_batches::<S, F, 1>(s, w, x, y);
        }
        return;
    }
    let mut scale = [no_scale(s); PANEL];
    for u in y.units.clone() {
        let mut t = 0;
        while t < n_tokens {
            t += match n_tokens - t {
                8.. if S::WIDE => few::<S, F, 8>(s, w, u, x, t, &mut scale, y),
                4.. if S::TILED => few::<S, F, 4>(s, w, u, x, t, &mut scale, y),
                2.. if S::TILED => few::<S, F, 2>(s, w, u, x, t, &mut scale, y),
                _ => few::<S, F, 1>(s, w, u, x, t, &mut scale, y),
            };
        }
    }
}

/// All units of the part, `U` at a time, for batches of tokens.
#[inline(always)]
fn many_batches<S: Isa, F: Format, const U: usize>(s: S, w: &PackedMatrix, x: &QuantizedRows, y: &Part<'_>) {
    let n_tokens = x.n_tokens();
    let mut scratch = Scratch {
        weights: [[MaybeUninit::uninit(); PANEL]; U],
        scale: [[no_scale(s); PANEL]; U],
        sums: [MaybeUninit::uninit(); BATCH],
    };
    let mut first = 0;
    while first < n_tokens {
        let tokens = first..n_tokens.min(first + BATCH);
        let mut unit = y.units.start;
        while unit < y.units.end {
            // A last odd unit is computed beside itself.
            let mut units = [[unit; U]; 2];
            for u in 0..U {
                units[0][u] = (unit + u).min(y.units.end - 1);
                units[1][u] = (unit + U + u).min(w.n_units() - 1);
            }
            many::<S, F, U>(s, w, units, x, tokens.clone(), &mut scratch);
            for t in tokens.clone() {
                for u in 0..U.min(y.units.end - unit) {
                    // SAFETY: `many` wrote the sums of these tokens; the token is one of `x`, the unit one of the part's.
                    unsafe { y.store(s, t, unit + u, scratch.sums[t - first].assume_init()[u]) };
                }
            }
            unit += U;
        }
        first = tokens.end;
    }
}

/// What `U` units and a batch of tokens work on; all of it stays in the first-level cache. Clearing 24 KiB of it for every
/// item would show in small batches.
struct Scratch<S: Isa, const U: usize> {
    /// Up to `PANEL` groups, unpacked.
    weights: [[MaybeUninit<[S::I; 8]>; PANEL]; U],
    scale: [[Scale<S::F>; PANEL]; U],
    /// Per token.
    sums: [MaybeUninit<[S::F; U]>; BATCH],
}

/// One group of 32 k for `U` units and `T` tokens.
#[inline(always)]
fn step<S: Isa, F: Format, const U: usize, const T: usize>(
    s: S,
    w: [&[S::I; 8]; U],
    scale: [&Scale<S::F>; U],
    x: [&ActGroup; T],
    acc: &mut [[S::F; U]; T],
) {
    match (F::SUBS, F::BITS) {
        (2, _) => {
            sub_block::<S, F, 6, 4, U, T>(s, 0, w, scale, x, acc);
            sub_block::<S, F, 6, 4, U, T>(s, 1, w, scale, x, acc);
        }
        (_, 4) => sub_block::<S, F, 4, 8, U, T>(s, 0, w, scale, x, acc),
        (_, 5) => sub_block::<S, F, 5, 8, U, T>(s, 0, w, scale, x, acc),
        (_, 6) => sub_block::<S, F, 6, 8, U, T>(s, 0, w, scale, x, acc),
        _ => sub_block::<S, F, 8, 8, U, T>(s, 0, w, scale, x, acc),
    }
}

/// The `sub`-th `CHUNKS` chunks of a group, which have a scale of their own.
#[inline(always)]
fn sub_block<S: Isa, F: Format, const BITS: u32, const CHUNKS: usize, const U: usize, const T: usize>(
    s: S,
    sub: usize,
    w: [&[S::I; 8]; U],
    scale: [&Scale<S::F>; U],
    x: [&ActGroup; T],
    acc: &mut [[S::F; U]; T],
) {
    let mut chunks = [&w[0].as_chunks::<CHUNKS>().0[sub]; U];
    for u in 1..U {
        chunks[u] = &w[u].as_chunks::<CHUNKS>().0[sub];
    }
    let mut q = [&x[0].q.as_chunks::<CHUNKS>().0[sub]; T];
    // The offset that weights are stored with is taken off first: -offset times the sum of the activations.
    let mut init = [s.splat_i(0); T];
    for t in 0..T {
        q[t] = &x[t].q.as_chunks::<CHUNKS>().0[sub];
        if let Some(bits) = F::ZERO_BITS {
            let neg_sum = if CHUNKS == 8 { x[t].neg_sum } else { x[t].neg_sums[sub] };
            init[t] = s.shl_i(s.splat_i(neg_sum), bits);
        }
    }
    let dot = s.dot::<BITS, CHUNKS, U, T>(chunks, q, init);
    for t in 0..T {
        let (x_scale, sum_scaled) = (s.splat(x[t].scale), s.splat(x[t].sum_scaled));
        for u in 0..U {
            acc[t][u] = s.fma(s.to_f32(dot[u][t]), s.mul(scale[u].d[sub], x_scale), acc[t][u]);
            if F::HAS_MIN {
                acc[t][u] = s.fma(scale[u].m, sum_scaled, acc[t][u]);
            }
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

/// A unit for the `T` tokens from `first` on; `scale` is for use within. Gives `T`.
#[inline(always)]
fn few<S: Isa, F: Format, const T: usize>(
    s: S,
    w: &PackedMatrix,
    unit: usize,
    x: &QuantizedRows,
    first: usize,
    scale: &mut [Scale<S::F>; PANEL],
    y: &Part<'_>,
) -> usize {
    let n_groups = w.k() / GROUP;
    let (quants, scales) = w.unit(unit).split_at(n_groups * group_bytes::<F>());
    let rows = rows::<T>(x, first);
    let mut acc = [[s.zero(); 1]; T];
    for block in 0..w.k() / F::BLOCK {
        let packed = &scales[block * scale_bytes::<F>()..][..scale_bytes::<F>()];
        for line in 0..scale_bytes::<F>().div_ceil(LINE) {
            s.prefetch(packed, AHEAD / 4 + line * LINE);
        }
        F::scales(s, packed, scale);
        for i in 0..F::BLOCK / GROUP {
            let g = block * (F::BLOCK / GROUP) + i;
            let group = &quants[g * group_bytes::<F>()..];
            for line in 0..group_bytes::<F>() / LINE {
                s.prefetch(group, AHEAD + line * LINE);
            }
            let weights = unpack::<S, F>(s, group);
            step::<S, F, 1, T>(s, [&weights], [&scale[i]], groups_at(&rows, g), &mut acc);
        }
    }
    for t in 0..T {
        // SAFETY: the token is one of `x`, the unit one of the part's.
        unsafe { y.store(s, first + t, unit, acc[t][0]) };
    }
    T
}

/// Units of one matrix for up to `BATCH` tokens. `next` are the units that come after them.
#[inline(always)]
fn many<S: Isa, F: Format, const U: usize>(
    s: S,
    w: &PackedMatrix,
    [units, next]: [[usize; U]; 2],
    x: &QuantizedRows,
    tokens: Range<usize>,
    scratch: &mut Scratch<S, U>,
) {
    let n_groups = w.k() / GROUP;
    let per_block = F::BLOCK / GROUP;
    scratch.sums[..tokens.len()].fill(MaybeUninit::new([s.zero(); U]));
    let n_tiles = tokens.len().div_ceil(S::TILE_TOKENS);
    let mut first = 0;
    while first < n_groups {
        let panel = first..n_groups.min(first + PANEL);
        for u in 0..U {
            let (quants, scales) = packed_panel::<F>(w, units[u], panel.clone());
            for b in 0..panel.len() / per_block {
                F::scales(s, &scales[b * scale_bytes::<F>()..], &mut scratch.scale[u][b * per_block..]);
            }
            for i in 0..panel.len() {
                scratch.weights[u][i].write(unpack::<S, F>(s, &quants[i * group_bytes::<F>()..]));
            }
        }
        let (next_units, next_panel) = if panel.end < n_groups {
            (units, panel.end..n_groups.min(panel.end + PANEL))
        } else {
            (next, 0..PANEL.min(n_groups))
        };
        let n_lines = PANEL * group_bytes::<F>() / LINE;
        let mut t = tokens.start;
        for tile_index in 0..n_tiles {
            for u in 0..U {
                let (quants, scales) = packed_panel::<F>(w, next_units[u], next_panel.clone());
                for line in tile_index * n_lines / n_tiles..(tile_index + 1) * n_lines / n_tiles {
                    s.prefetch(quants, line * LINE);
                    if line * LINE < scales.len() {
                        s.prefetch(scales, line * LINE);
                    }
                }
            }
            // Tiles of about the same size.
            let at = t - tokens.start;
            t += match (tokens.end - t).div_ceil(n_tiles - tile_index) {
                6.. if S::WIDE => tile::<S, F, U, 6>(s, panel.clone(), x, t, at, scratch),
                5 if S::WIDE => tile::<S, F, U, 5>(s, panel.clone(), x, t, at, scratch),
                4.. => tile::<S, F, U, 4>(s, panel.clone(), x, t, at, scratch),
                3 => tile::<S, F, U, 3>(s, panel.clone(), x, t, at, scratch),
                2 => tile::<S, F, U, 2>(s, panel.clone(), x, t, at, scratch),
                _ => tile::<S, F, U, 1>(s, panel.clone(), x, t, at, scratch),
            };
        }
        first = panel.end;
    }
}

/// The quants and the scales of some groups of a unit, whole blocks.
#[inline(always)]
fn packed_panel<F: Format>(w: &PackedMatrix, unit: usize, groups: Range<usize>) -> (&[u8], &[u8]) {
    let (quants, scales) = w.unit(unit).split_at(w.k() / GROUP * group_bytes::<F>());
    let blocks = groups.start / (F::BLOCK / GROUP)..groups.end / (F::BLOCK / GROUP);
    (
        &quants[groups.start * group_bytes::<F>()..groups.end * group_bytes::<F>()],
        &scales[blocks.start * scale_bytes::<F>()..blocks.end * scale_bytes::<F>()],
    )
}

/// The unpacked groups `panel` for the `T` tokens from `first` on, whose sums begin at `at`. Gives `T`.
#[inline(always)]
fn tile<S: Isa, F: Format, const U: usize, const T: usize>(
    s: S,
    panel: Range<usize>,
    x: &QuantizedRows,
    first: usize,
    at: usize,
    scratch: &mut Scratch<S, U>,
) -> usize {
    let mut rows = rows::<T>(x, first);
    for t in 0..T {
        rows[t] = &rows[t][panel.clone()];
    }
    let mut sums = [[s.zero(); U]; T];
    for t in 0..T {
        // SAFETY: `many` wrote the sums of all its tokens.
        sums[t] = unsafe { scratch.sums[at + t].assume_init() };
    }
    for g in 0..panel.len() {
        // SAFETY: `many` wrote the weights of the panel's groups.
        let mut weights = [unsafe { scratch.weights[0][g].assume_init_ref() }; U];
        let mut scale = [&scratch.scale[0][g]; U];
        for u in 1..U {
            // SAFETY: as above.
            weights[u] = unsafe { scratch.weights[u][g].assume_init_ref() };
            scale[u] = &scratch.scale[u][g];
        }
        step::<S, F, U, T>(s, weights, scale, groups_at(&rows, g), &mut sums);
    }
    for t in 0..T {
        scratch.sums[at + t].write(sums[t]);
    }
    T
}
