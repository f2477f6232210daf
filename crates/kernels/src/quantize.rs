//! Activations quantised to 8 bits, by the accumulation contract.
//!
//! Per token and group of 32: `amax` is the largest magnitude, `scale = amax / 127` in f32, and
//! `q = round(x / scale)`, a correctly rounded f32 division, ties to even, clamped to -127..=127. An `amax` of zero or
//! below the smallest normal number gives zeros with scale 0. A NaN or an infinity flags the token; its group then has
//! scale NaN, so that nothing computed from it passes for a result.

use crate::cpu::{Cpu, SendPtr};
use crate::isa::{Isa, LANES, dispatch};
use crate::pack::format::GROUP;

/// Below this many activations the team is not worth waking.
const MIN_ITEM: usize = 16 * 1024;

/// 32 quantised activations of one token, with all that a product needs of them side by side.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct ActGroup {
    /// Four to a word, signed bytes, the first one lowest.
    pub(crate) q: [i32; 8],
    /// Sums of the first and the last 16, negated.
    pub(crate) neg_sums: [i32; 2],
    /// The sum of all 32, negated.
    pub(crate) neg_sum: i32,
    /// What one step stands for.
    pub(crate) scale: f32,
    /// `f32(sum of all 32) * scale`, which multiplies the minimum of the weights.
    pub(crate) sum_scaled: f32,
}

impl ActGroup {
    const ZERO: ActGroup = ActGroup { q: [0; 8], neg_sums: [0; 2], neg_sum: 0, scale: 0.0, sum_scaled: 0.0 };
    const NON_FINITE: ActGroup = ActGroup { scale: f32::NAN, sum_scaled: f32::NAN, ..ActGroup::ZERO };
}

/// Quantised activations of some tokens; a buffer to be reused.
#[derive(Clone, Debug, Default)]
pub struct QuantizedRows {
    n_tokens: usize,
    k: usize,
    groups: Vec<ActGroup>,
    non_finite: Vec<bool>,
}

impl QuantizedRows {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Quantises `x[n_tokens][k]`, replacing what was there. If `k` is not a multiple of 32 the last group of a token is
    /// filled up with zeros.
    ///
    /// # Panics
    /// If `x` does not hold `n_tokens * k` elements.
    pub fn quantize(&mut self, cpu: &Cpu, x: &[f32], n_tokens: usize, k: usize) {
        assert_eq!(Some(x.len()), n_tokens.checked_mul(k), "one element per token and k");
        let rows = self.rows_mut(n_tokens, k);
        cpu.for_each_range(n_tokens, MIN_ITEM.div_ceil(k.max(1)), |tokens| {
            for t in tokens {
                // SAFETY: each token is visited once.
                unsafe { rows.quantize(cpu, t, &x[t * k..(t + 1) * k]) };
            }
        });
    }

    /// Lets `make(t, row)` write each token's row of `x[n_tokens][k]` and quantises it while it is in the cache.
    ///
    /// # Panics
    /// If `x` does not hold `n_tokens * k` elements.
    pub fn make_and_quantize(
        &mut self,
        cpu: &Cpu,
        x: &mut [f32],
        (n_tokens, k): (usize, usize),
        make: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        assert_eq!(Some(x.len()), n_tokens.checked_mul(k), "one element per token and k");
        let rows = self.rows_mut(n_tokens, k);
        let per_item = MIN_ITEM.div_ceil(k.max(1));
        cpu.for_each_chunk_mut(x, per_item * k, |item, x| {
            for (i, x) in x.chunks_exact_mut(k.max(1)).enumerate() {
                let t = item * per_item + i;
                make(t, x);
                // SAFETY: each token is in one chunk.
                unsafe { rows.quantize(cpu, t, x) };
            }
        });
    }

    /// Makes room for `n_tokens` rows, which several threads then write.
    fn rows_mut(&mut self, n_tokens: usize, k: usize) -> RowsMut {
        (self.n_tokens, self.k) = (n_tokens, k);
        let n_groups = k.div_ceil(GROUP);
        self.groups.resize(n_tokens * n_groups, ActGroup::ZERO);
        self.non_finite.clear();
        self.non_finite.resize(n_tokens, false);
        RowsMut {
            n_tokens,
            n_groups,
            groups: SendPtr(self.groups.as_mut_ptr()),
            non_finite: SendPtr(self.non_finite.as_mut_ptr()),
        }
    }

    /// Tokens quantised.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Activations per token.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Whether a token had a NaN or an infinity.
    ///
    /// # Panics
    /// If there is no such token.
    #[must_use]
    pub fn non_finite(&self, token: usize) -> bool {
        self.non_finite[token]
    }

    /// The groups of a token, k ascending.
    #[inline]
    pub(crate) fn row(&self, token: usize) -> &[ActGroup] {
        let n_groups = self.k.div_ceil(GROUP);
        &self.groups[token * n_groups..][..n_groups]
    }
}

/// The rows of a [`QuantizedRows`] that is borrowed mutably meanwhile.
struct RowsMut {
    n_tokens: usize,
    n_groups: usize,
    groups: SendPtr<ActGroup>,
    non_finite: SendPtr<bool>,
}

impl RowsMut {
    /// # Safety
    /// The rows that this was made of exist, and no other thread has this token.
    unsafe fn quantize(&self, cpu: &Cpu, token: usize, x: &[f32]) {
        assert!(token < self.n_tokens);
        // SAFETY: both vectors hold the token's part (checked), and the caller says that it is ours.
        let (groups, non_finite) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.groups.get().add(token * self.n_groups), self.n_groups),
                &mut *self.non_finite.get().add(token),
            )
        };
        *non_finite = quantize_row(cpu.isa(), x, groups);
    }
}

dispatch! {
    /// Quantises one token; true if it is not finite.
    fn quantize_row(x: &[f32], groups: &mut [ActGroup]) -> bool = quantize_row_kernel;
}

#[inline(always)]
fn quantize_row_kernel<S: Isa>(s: S, x: &[f32], groups: &mut [ActGroup]) -> bool {
    let mut non_finite = false;
    for (i, group) in groups.iter_mut().enumerate() {
        let x = &x[i * GROUP..x.len().min((i + 1) * GROUP)];
        let (low, high) = if x.len() == GROUP {
            (s.load(x), s.load(&x[LANES..]))
        } else {
            (s.load_partial(x), s.load_partial(&x[x.len().min(LANES)..]))
        };
        let infinity = s.splat(f32::INFINITY);
        let finite = s.mask_bits(s.lt(s.abs(low), infinity)) & s.mask_bits(s.lt(s.abs(high), infinity));
        let amax = s.reduce_max(s.max(s.abs(low), s.abs(high)));
        *group = if finite != u16::MAX {
            non_finite = true;
            ActGroup::NON_FINITE
        } else if amax < f32::MIN_POSITIVE {
            ActGroup::ZERO
        } else {
            let scale = amax / 127.0;
            let (low, high) = (quants(s, low, scale), quants(s, high, scale));
            let sums = s.sums_i(low, high);
            let sum = sums[0] + sums[1];
            ActGroup {
                q: s.pack_i8(low, high),
                neg_sums: [-sums[0], -sums[1]],
                neg_sum: -sum,
                scale,
                sum_scaled: sum as f32 * scale,
            }
        };
    }
    non_finite
}

/// The integers nearest to `x / scale`, ties to even, within -127..=127.
#[inline(always)]
pub(crate) fn quants<S: Isa>(s: S, x: S::F, scale: f32) -> S::I {
    let q = s.div(x, s.splat(scale));
    s.to_i32(s.min(s.max(q, s.splat(-127.0)), s.splat(127.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuConfig, IsaLevel};

    fn quantized(level: IsaLevel, x: &[f32], n_tokens: usize) -> QuantizedRows {
        let cpu = Cpu::new(CpuConfig { n_threads: 2, isa: Some(level) }).unwrap();
        let mut rows = QuantizedRows::new();
        rows.quantize(&cpu, x, n_tokens, x.len() / n_tokens);
        rows
    }

    fn bytes(group: &ActGroup) -> Vec<i8> {
        group.q.iter().flat_map(|word| word.to_le_bytes()).map(|b| b as i8).collect()
    }

    /// The contract, one number at a time.
    fn reference(x: &[f32]) -> (Vec<i8>, f32) {
        let amax = x.iter().fold(0f32, |m, x| m.max(x.abs()));
        if amax < f32::MIN_POSITIVE {
            return (vec![0; 32], 0.0);
        }
        let scale = amax / 127.0;
        let q = x.iter().map(|x| (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8);
        (q.chain(std::iter::repeat(0)).take(32).collect(), scale)
    }

    fn check(level: IsaLevel, x: &[f32]) {
        let rows = quantized(level, x, 1);
        assert!(!rows.non_finite(0));
        for (group, x) in rows.row(0).iter().zip(x.chunks(GROUP)) {
            let (q, scale) = reference(x);
            assert_eq!(bytes(group), q, "{level} {x:?}");
            assert_eq!(group.scale.to_bits(), scale.to_bits());
            let sum = |q: &[i8]| q.iter().map(|&q| i32::from(q)).sum::<i32>();
            assert_eq!(group.neg_sums, [-sum(&q[..16]), -sum(&q[16..])]);
            assert_eq!(group.neg_sum, -sum(&q));
            assert_eq!(group.sum_scaled.to_bits(), (sum(&q) as f32 * scale).to_bits());
        }
    }

    fn levels() -> impl Iterator<Item = IsaLevel> {
        IsaLevel::ALL.into_iter().filter(|level| level.is_available())
    }

    proptest::proptest! {
        #[test]
        fn follows_the_contract(x in proptest::collection::vec(proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO, 1..100)) {
            for level in levels() {
                check(level, &x);
            }
        }

        #[test]
        fn follows_the_contract_in_one_range(x in proptest::collection::vec(-5.0f32..5.0, 1..200)) {
            for level in levels() {
                check(level, &x);
            }
        }
    }

    #[test]
    fn ties_round_to_even_and_extremes_reach_127() {
        let mut x = vec![0.0; 32];
        (x[0], x[1], x[2], x[3], x[4]) = (127.0, 0.5, 1.5, 2.5, -127.0);
        for level in levels() {
            let rows = quantized(level, &x, 1);
            assert_eq!(bytes(&rows.row(0)[0])[..5], [127, 0, 2, 2, -127]);
            assert_eq!(rows.row(0)[0].scale, 1.0);
            check(level, &[f32::MAX, -f32::MAX, 1.0]);
            check(level, &[f32::MIN_POSITIVE, -f32::MIN_POSITIVE]);
        }
    }

    #[test]
    fn zero_and_subnormal_groups_vanish() {
        for level in levels() {
            for x in [0.0, -0.0, 1.0e-40, -1.1e-38] {
                let rows = quantized(level, &[x; 40], 1);
                for group in rows.row(0) {
                    assert_eq!((group.q, group.scale, group.sum_scaled), ([0; 8], 0.0, 0.0));
                }
            }
        }
    }

    #[test]
    fn non_finite_tokens_are_flagged_alone() {
        for level in levels() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 15, 16, 31, 33, 69] {
                    let mut x = vec![1.0; 3 * 70];
                    x[70 + at] = bad;
                    let mut rows = quantized(level, &x, 3);
                    assert_eq!([0, 1, 2].map(|t| rows.non_finite(t)), [false, true, false], "{level} {bad} at {at}");
                    assert!(rows.row(1)[at / 32].scale.is_nan());
                    // A reused buffer forgets.
                    let cpu = Cpu::new(CpuConfig { n_threads: 1, isa: Some(level) }).unwrap();
                    rows.quantize(&cpu, &[1.0; 64], 2, 32);
                    assert!(!rows.non_finite(0) && !rows.non_finite(1));
                    assert_eq!((rows.n_tokens(), rows.k()), (2, 32));
                }
            }
        }
    }
}
