//! What the packed layouts of all quantised formats share.
//!
//! A unit is 16 rows, one vector lane each. It holds first the quants of all groups of 32 k, then the scales of all
//! blocks. Quants of a group fill `64 * BITS` bytes:
//!
//! - A *chunk* is 64 bytes: 4 consecutive k of each of the 16 rows, row after row. Chunk c of a group has k 4c..4c+4.
//! - Up to 6 bits, four vectors hold the low 4 bits: vector v has chunk v in its low nibbles and chunk v+4 in its high
//!   nibbles. With 5 bits one more vector follows whose bit c is bit 4 of chunk c; with 6 bits two more, where bits
//!   2i and 2i+1 of vector p are bits 4 and 5 of chunk 4p+i.
//! - 8 bits: the eight chunks.
//!
//! Scales of a block are the bytes that the file has, item by item, each item transposed: 16 rows next to each other.

use crate::isa::{Isa, LANES};

/// k per group: what one activation scale covers.
pub(crate) const GROUP: usize = 32;
/// The largest block length.
pub(crate) const MAX_BLOCK: usize = 256;
/// The most bytes of scales that a row's block has (Q6_K).
const MAX_ROW_SCALES: usize = 18;

/// The scales of one group for 16 rows: `weight = d[sub] * (q - ZERO) + m`.
#[derive(Clone, Copy)]
pub(crate) struct Scale<F> {
    /// Per sub-block; the second one is used only where a format has two.
    pub(crate) d: [F; 2],
    /// The minimum; used only where a format has one.
    pub(crate) m: F,
}

/// A quantised block format.
pub(crate) trait Format: 'static {
    /// k per block.
    const BLOCK: usize;
    /// Bytes of a block in the file.
    const BLOCK_BYTES: usize;
    /// Bits per quant: 4, 5, 6 or 8.
    const BITS: u32;
    /// log2 of the offset that is subtracted from quants; `None` where they start at zero.
    const ZERO_BITS: Option<u32>;
    /// Scales per group: 1, or 2 when sub-blocks have 16 k.
    const SUBS: usize;
    /// Whether a group has a minimum.
    const HAS_MIN: bool;
    /// Sizes in bytes of the items that a row's scales consist of, in packed order.
    const SCALES: &'static [usize];

    /// Splits a block of the file into its quants (unsigned, k ascending) and its scales (in packed order).
    fn split(block: &[u8], quants: &mut [u8], scales: &mut [u8]);

    /// Decodes a block's packed scales of 16 rows into those of its groups.
    fn scales<S: Isa>(s: S, packed: &[u8], groups: &mut [Scale<S::F>]);
}

/// Bytes of a group's quants of 16 rows.
pub(crate) const fn group_bytes<F: Format>() -> usize {
    64 * F::BITS as usize
}

/// Bytes of a block's scales of 16 rows.
pub(crate) const fn scale_bytes<F: Format>() -> usize {
    LANES * row_scale_bytes::<F>()
}

/// Bytes of a block's scales of one row.
const fn row_scale_bytes<F: Format>() -> usize {
    F::BLOCK_BYTES - F::BLOCK * F::BITS as usize / 8
}

/// Writes `row`, in the file's format, as lane `lane` of a unit that is zero there.
pub(super) fn pack_lane<F: Format>(row: &[u8], lane: usize, unit: &mut [u8]) {
    let n_blocks = row.len() / F::BLOCK_BYTES;
    let (quants, scales) = unit.split_at_mut(n_blocks * (F::BLOCK / GROUP) * group_bytes::<F>());
    let mut groups = quants.chunks_exact_mut(group_bytes::<F>());
    let mut q = [0u8; MAX_BLOCK];
    let mut row_scales = [0u8; MAX_ROW_SCALES];
    let row_scales = &mut row_scales[..row_scale_bytes::<F>()];
    for (block, scales) in row.chunks_exact(F::BLOCK_BYTES).zip(scales.chunks_exact_mut(scale_bytes::<F>())) {
        F::split(block, &mut q[..F::BLOCK], row_scales);
        for (q, group) in q[..F::BLOCK].as_chunks::<GROUP>().0.iter().zip(&mut groups) {
            pack_quants::<F>(q, lane, group);
        }
        let mut at = 0;
        for &size in F::SCALES {
            let to = LANES * at + lane * size;
            scales[to..to + size].copy_from_slice(&row_scales[at..at + size]);
            at += size;
        }
    }
}

fn pack_quants<F: Format>(q: &[u8; GROUP], lane: usize, group: &mut [u8]) {
    for (i, byte) in (4 * lane..4 * lane + 4).enumerate() {
        if F::BITS == 8 {
            for c in 0..8 {
                group[64 * c + byte] = q[4 * c + i];
            }
            continue;
        }
        for v in 0..4 {
            group[64 * v + byte] = (q[4 * v + i] & 15) | (q[4 * (v + 4) + i] & 15) << 4;
        }
        for c in 0..8 {
            let high = q[4 * c + i] >> 4;
            match F::BITS {
                5 => group[256 + byte] |= high << c,
                6 => group[256 + 64 * (c / 4) + byte] |= high << (2 * (c % 4)),
                _ => {}
            }
        }
    }
}

/// The quants of one row of a group.
pub(super) fn lane_quants<F: Format>(group: &[u8], lane: usize) -> [u8; GROUP] {
    let mut q = [0; GROUP];
    for (k, q) in q.iter_mut().enumerate() {
        let (c, byte) = (k / 4, 4 * lane + k % 4);
        *q = match F::BITS {
            8 => group[64 * c + byte],
            _ => (group[64 * (c % 4) + byte] >> (4 * (c / 4))) & 15,
        };
        *q |= match F::BITS {
            5 => ((group[256 + byte] >> c) & 1) << 4,
            6 => ((group[256 + 64 * (c / 4) + byte] >> (2 * (c % 4))) & 3) << 4,
            _ => 0,
        };
    }
    q
}

/// The eight chunks of a group as unsigned bytes.
#[inline(always)]
pub(crate) fn unpack<S: Isa, F: Format>(s: S, group: &[u8]) -> [S::I; 8] {
    let group = &group[..group_bytes::<F>()];
    let mut w = [s.splat_i(0); 8];
    if F::BITS == 8 {
        for c in 0..8 {
            w[c] = s.load_bytes(&group[64 * c..]);
        }
        return w;
    }
    let low = s.splat_i(0x0f0f_0f0f);
    for v in 0..4 {
        let x = s.load_bytes(&group[64 * v..]);
        w[v] = s.and_i(x, low);
        w[v + 4] = s.and_i(s.shr_16(x, 4), low);
    }
    // Shifts are of 16 bits; what they carry from one byte into the other misses the mask.
    if F::BITS == 5 {
        let high = s.splat_i(0x1010_1010);
        let plane = s.load_bytes(&group[256..]);
        for c in 0..8 {
            let x = if c < 4 { s.shl_16(plane, 4 - c as u32) } else { s.shr_16(plane, c as u32 - 4) };
            w[c] = s.or_i(w[c], s.and_i(x, high));
        }
    }
    if F::BITS == 6 {
        let high = s.splat_i(0x3030_3030);
        for p in 0..2 {
            let plane = s.load_bytes(&group[256 + 64 * p..]);
            let shifted = [s.shl_16(plane, 4), s.shl_16(plane, 2), plane, s.shr_16(plane, 2)];
            for i in 0..4 {
                let c = 4 * p + i;
                w[c] = s.or_i(w[c], s.and_i(shifted[i], high));
            }
        }
    }
    w
}
