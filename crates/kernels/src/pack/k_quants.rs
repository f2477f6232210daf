//! The K-quants: blocks of 256 weights whose sub-block scales are integers under f16 scales. Q4_K, Q5_K, Q6_K.
//!
//! `d * sc` and `dmin * m` are exact in f32: 11 bits times at most 8.

use super::format::{Format, Scale};
use crate::isa::{Isa, LANES};

/// Q4_K and Q5_K: f16 d, f16 dmin, then 8 scales and 8 minima of 6 bits in 12 bytes.
const SCALES_AND_MINIMA: &[usize] = &[2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

/// In each 64 weights, low nibbles are the first 32 and high nibbles the last 32.
fn split_nibbles(bytes: &[u8], quants: &mut [u8]) {
    for (bytes, quants) in bytes.chunks_exact(32).zip(quants.chunks_exact_mut(64)) {
        for (l, byte) in bytes.iter().enumerate() {
            quants[l] = byte & 15;
            quants[32 + l] = byte >> 4;
        }
    }
}

/// Bytes 0..4 hold in their low 6 bits the scales 0..4, bytes 4..8 the minima 0..4. Bytes 8..12 hold the low 4 bits
/// of the scales (low nibble) and minima (high nibble) 4..8, whose upper 2 bits top bytes 0..4 and 4..8.
#[inline(always)]
fn scales_and_minima<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
    let d = s.load_f16_le(packed);
    let neg_dmin = s.neg(s.load_f16_le(&packed[32..]));
    let items = &packed[64..];
    let (six, four) = (s.splat_i(63), s.splat_i(15));
    for j in 0..4 {
        let a = s.widen_u8(&items[LANES * j..]);
        let b = s.widen_u8(&items[LANES * (j + 4)..]);
        let c = s.widen_u8(&items[LANES * (j + 8)..]);
        let high_a = s.shl_i(s.shr_u(a, 6), 4);
        let high_b = s.shl_i(s.shr_u(b, 6), 4);
        groups[j].d[0] = s.mul(d, s.to_f32(s.and_i(a, six)));
        groups[j].m = s.mul(neg_dmin, s.to_f32(s.and_i(b, six)));
        groups[j + 4].d[0] = s.mul(d, s.to_f32(s.or_i(s.and_i(c, four), high_a)));
        groups[j + 4].m = s.mul(neg_dmin, s.to_f32(s.or_i(s.shr_u(c, 4), high_b)));
    }
}

pub(crate) struct Q4K;

impl Format for Q4K {
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = 144;
    const BITS: u32 = 4;
    const ZERO_BITS: Option<u32> = None;
    const SUBS: usize = 1;
    const HAS_MIN: bool = true;
    const SCALES: &'static [usize] = SCALES_AND_MINIMA;

    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..16]);
        split_nibbles(&block[16..], quants);
    }

    #[inline(always)]
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
        scales_and_minima(s, packed, groups);
    }
}

pub(crate) struct Q5K;

impl Format for Q5K {
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = 176;
    const BITS: u32 = 5;
    const ZERO_BITS: Option<u32> = None;
    const SUBS: usize = 1;
    const HAS_MIN: bool = true;
    const SCALES: &'static [usize] = SCALES_AND_MINIMA;

    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..16]);
        split_nibbles(&block[48..], quants);
        // Bit i of byte l tops weight l of the i-th 32.
        for (k, q) in quants.iter_mut().enumerate() {
            *q |= ((block[16 + k % 32] >> (k / 32)) & 1) << 4;
        }
    }

    #[inline(always)]
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
        scales_and_minima(s, packed, groups);
    }
}

pub(crate) struct Q6K;

impl Format for Q6K {
    const BLOCK: usize = 256;
    const BLOCK_BYTES: usize = 210;
    const BITS: u32 = 6;
    const ZERO_BITS: Option<u32> = Some(5);
    const SUBS: usize = 2;
    const HAS_MIN: bool = false;
    const SCALES: &'static [usize] = &[2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]) {
        scales[..2].copy_from_slice(&block[208..]);
        scales[2..].copy_from_slice(&block[192..208]);
        // Each half of 128: 64 bytes with low nibbles for its first 64 and high nibbles for its last 64 weights, and
        // 32 bytes whose bit pair i tops the i-th 32.
        for (half, quants) in quants.chunks_exact_mut(128).enumerate() {
            let (low, high) = (&block[64 * half..], &block[128 + 32 * half..]);
            for (k, q) in quants.iter_mut().enumerate() {
                let nibble = (low[k % 64] >> (4 * (k / 64))) & 15;
                *q = nibble | ((high[k % 32] >> (2 * (k / 32))) & 3) << 4;
            }
        }
    }

    #[inline(always)]
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
        let d = s.load_f16_le(packed);
        for g in 0..8 {
            for sub in 0..2 {
                let sc = s.widen_i8(&packed[32 + LANES * (2 * g + sub)..]);
                groups[g].d[sub] = s.mul(d, s.to_f32(sc));
            }
        }
    }
}
