//! The formats with blocks of 32 weights and f16 scales: Q4_0, Q4_1, Q5_0, Q8_0.

use super::format::{Format, Scale};
use crate::isa::Isa;

/// A row of floats as `Q8_0` blocks, by GGML's rule: a scale of `amax / 127`, rounded to f16, and the integers nearest to
/// the weights over the unrounded scale. Weights after the last whole block of 32 are left out.
#[must_use]
pub fn quantize_q8_0(row: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(row.len() / 32 * Q8_0::BLOCK_BYTES);
    for block in row.as_chunks::<32>().0 {
        let amax = block.iter().fold(0f32, |amax, x| amax.max(x.abs()));
        let scale = amax / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        bytes.extend(half::f16::from_f32(scale).to_le_bytes());
        bytes.extend(block.map(|x| (x * inverse).round() as i8 as u8));
    }
    bytes
}

/// Low nibbles are the first 16 weights, high nibbles the last 16.
fn split_nibbles(bytes: &[u8], quants: &mut [u8]) {
    for (l, byte) in bytes.iter().enumerate() {
        quants[l] = byte & 15;
        quants[16 + l] = byte >> 4;
    }
}

pub(crate) struct Q4_0;

impl Format for Q4_0 {
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 18;
    const BITS: u32 = 4;
    const ZERO_BITS: Option<u32> = Some(3);
    const SUBS: usize = 1;
    const HAS_MIN: bool = false;
    const SCALES: &'static [usize] = &[2];

    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..2]);
        split_nibbles(&block[2..], quants);
    }

    #[inline(always)]
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
        groups[0].d[0] = s.load_f16_le(packed);
    }
}

pub(crate) struct Q4_1;

impl Format for Q4_1 {
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 20;
    const BITS: u32 = 4;
    const ZERO_BITS: Option<u32> = None;
    const SUBS: usize = 1;
    const HAS_MIN: bool = true;
    const SCALES: &'static [usize] = &[2, 2];

    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..4]);
        split_nibbles(&block[4..], quants);
    }

    #[inline(always)]
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
        groups[0].d[0] = s.load_f16_le(packed);
        groups[0].m = s.load_f16_le(&packed[32..]);
    }
}

pub(crate) struct Q5_0;

impl Format for Q5_0 {
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 22;
    const BITS: u32 = 5;
    const ZERO_BITS: Option<u32> = Some(4);
    const SUBS: usize = 1;
    const HAS_MIN: bool = false;
    const SCALES: &'static [usize] = &[2];

    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..2]);
        split_nibbles(&block[6..], quants);
        for (k, q) in quants.iter_mut().enumerate() {
            *q |= ((block[2 + k / 8] >> (k % 8)) & 1) << 4;
        }
    }

    #[inline(always)]
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
        groups[0].d[0] = s.load_f16_le(packed);
    }
}

/// Quants are kept with an offset of 128, so that they are unsigned like all others.
pub(crate) struct Q8_0;

impl Format for Q8_0 {
    const BLOCK: usize = 32;
    const BLOCK_BYTES: usize = 34;
    const BITS: u32 = 8;
    const ZERO_BITS: Option<u32> = Some(7);
    const SUBS: usize = 1;
    const HAS_MIN: bool = false;
    const SCALES: &'static [usize] = &[2];

    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..2]);
        for (q, byte) in quants.iter_mut().zip(&block[2..]) {
            *q = byte ^ 0x80;
        }
    }

    #[inline(always)]
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]) {
        groups[0].d[0] = s.load_f16_le(packed);
    }
}
