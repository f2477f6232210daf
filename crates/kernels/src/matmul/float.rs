//! Float weights times float activations: per output one fma per ascending k.

use super::{MatInput, Part};
use crate::isa::{Isa, LANES, dispatch};
use crate::pack::PackedMatrix;

/// A float type that weights are stored in.
pub(super) trait FloatFormat: 'static {
    /// Bytes per weight.
    const BYTES: usize;
    /// 16 weights.
    fn load<S: Isa>(s: S, bytes: &[u8]) -> S::F;
}

pub(super) struct F32;

impl FloatFormat for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn load<S: Isa>(s: S, bytes: &[u8]) -> S::F {
        s.cast_f(s.load_bytes(bytes))
    }
}

pub(super) struct F16;

impl FloatFormat for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Isa>(s: S, bytes: &[u8]) -> S::F {
        s.load_f16_le(bytes)
    }
}

pub(super) struct Bf16;

impl FloatFormat for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Isa>(s: S, bytes: &[u8]) -> S::F {
        s.load_bf16_le(bytes)
    }
}

dispatch! {
    /// Computes the part's units for all tokens.
    pub(super) fn units[F: FloatFormat][F](w: &PackedMatrix, x: &MatInput<'_>, y: &Part<'_>) = units_kernel;
}

#[inline(always)]
fn units_kernel<S: Isa, F: FloatFormat>(s: S, w: &PackedMatrix, x: &MatInput<'_>, y: &Part<'_>) {
    for unit in y.units.clone() {
        let mut t = 0;
        while t < x.n_tokens {
            match x.n_tokens - t {
                1 => tile::<S, F, 1>(s, w, unit, x, t, y),
                2 | 3 => tile::<S, F, 2>(s, w, unit, x, t, y),
                4..8 => tile::<S, F, 4>(s, w, unit, x, t, y),
                _ if S::TILE < 8 => tile::<S, F, 4>(s, w, unit, x, t, y),
                _ => tile::<S, F, 8>(s, w, unit, x, t, y),
            }
            t += match x.n_tokens - t {
                1 => 1,
                2 | 3 => 2,
                4..8 => 4,
                _ => S::TILE.min(8),
            };
        }
    }
}

/// A unit for the `T` tokens from `first` on.
#[inline(always)]
fn tile<S: Isa, F: FloatFormat, const T: usize>(
    s: S,
    w: &PackedMatrix,
    unit: usize,
    x: &MatInput<'_>,
    first: usize,
    y: &Part<'_>,
) {
    let k = w.k();
    let weights = &w.unit(unit)[..k * LANES * F::BYTES];
    let mut rows = [x.f32; T];
    for t in 0..T {
        rows[t] = &x.f32[(first + t) * k..][..k];
    }
    let mut acc = [s.zero(); T];
    for i in 0..k {
        let w = F::load(s, &weights[i * LANES * F::BYTES..]);
        for t in 0..T {
            acc[t] = s.fma(s.splat(rows[t][i]), w, acc[t]);
        }
    }
    for t in 0..T {
        // SAFETY: the token is one of `x`, the unit one of the part's.
        unsafe { y.store(s, first + t, unit, acc[t]) };
    }
}
