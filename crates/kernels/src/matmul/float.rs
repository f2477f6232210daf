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
            t += match x.n_tokens - t {
                8.. if S::WIDE => tile::<S, F, 8>(s, w, unit, x, t, y),
                4.. if S::TILED => tile::<S, F, 4>(s, w, unit, x, t, y),
                _ => tile::<S, F, 1>(s, w, unit, x, t, y),
            };
        }
    }
}

/// A unit for the `T` tokens from `first` on. Gives `T`.
#[inline(always)]
fn tile<S: Isa, F: FloatFormat, const T: usize>(
    s: S,
    w: &PackedMatrix,
    unit: usize,
    x: &MatInput<'_>,
    first: usize,
    y: &Part<'_>,
) -> usize {
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
    T
}
