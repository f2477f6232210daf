//! Weights repacked at load, so that one vector lane is one output row.
//!
//! The unit is 16 output rows x k. Sums then need no horizontal step, and every instruction set adds in the same
//! order. Bits per weight stay those of the file. See [`format`] for the layout of quantised types; plain floats are
//! `[k][16]` of the stored type.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cpu::Cpu;
use crate::isa::{LANES, Scalar};

mod block_type;
pub(crate) mod blocks32;
mod buffer;
pub(crate) mod format;
pub(crate) mod k_quants;

pub use block_type::BlockType;
pub use blocks32::quantize_q8_0;
use buffer::{Arena, Buffer};
use format::{Format, GROUP, Scale, group_bytes, lane_quants, pack_lane, scale_bytes};

/// Why weights could not be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A row does not consist of whole blocks.
    #[error("{ty} rows of {k} weights: the row length must be a multiple of {block_len}")]
    RowNotBlocks {
        /// The format.
        ty: BlockType,
        /// Weights per row.
        k: usize,
        /// Weights per block.
        block_len: usize,
    },
    /// The matrix has no rows or no columns.
    #[error("a matrix of {n_rows} x {k} weights is empty")]
    Empty {
        /// Output rows.
        n_rows: usize,
        /// Weights per row.
        k: usize,
    },
    /// The size does not fit this machine's addresses.
    #[error("a {ty} matrix of {n_rows} x {k} weights is larger than this machine can address")]
    TooLarge {
        /// The format.
        ty: BlockType,
        /// Output rows.
        n_rows: usize,
        /// Weights per row.
        k: usize,
    },
    /// A row's bytes are not as many as its weights need.
    #[error("row {row} has {found} bytes, {expected} expected")]
    RowLength {
        /// The row.
        row: usize,
        /// The bytes it has.
        found: usize,
        /// The bytes that `k` weights need.
        expected: usize,
    },
    /// The system has no memory left for the packed matrix.
    #[error("no memory for {bytes} bytes of weights: use a smaller model or a smaller quantisation")]
    OutOfMemory {
        /// What was needed.
        bytes: usize,
    },
}

/// Runs an expression with `$f` standing for the [`Format`] of a quantised type; floats take the other arm.
macro_rules! with_format {
    ($ty:expr, $f:ident => $quantized:expr, _ => $float:expr) => {
        match $ty {
            $crate::pack::BlockType::Q4_0 => {
                type $f = $crate::pack::blocks32::Q4_0;
                $quantized
            }
            $crate::pack::BlockType::Q4_1 => {
                type $f = $crate::pack::blocks32::Q4_1;
                $quantized
            }
            $crate::pack::BlockType::Q5_0 => {
                type $f = $crate::pack::blocks32::Q5_0;
                $quantized
            }
            $crate::pack::BlockType::Q8_0 => {
                type $f = $crate::pack::blocks32::Q8_0;
                $quantized
            }
            $crate::pack::BlockType::Q4_K => {
                type $f = $crate::pack::k_quants::Q4K;
                $quantized
            }
            $crate::pack::BlockType::Q5_K => {
                type $f = $crate::pack::k_quants::Q5K;
                $quantized
            }
            $crate::pack::BlockType::Q6_K => {
                type $f = $crate::pack::k_quants::Q6K;
                $quantized
            }
            $crate::pack::BlockType::F32 | $crate::pack::BlockType::F16 | $crate::pack::BlockType::BF16 => $float,
        }
    };
}
pub(crate) use with_format;

/// A weight matrix of `n_rows` outputs x `k` inputs in the layout that the kernels read.
pub struct PackedMatrix {
    ty: BlockType,
    n_rows: usize,
    k: usize,
    unit_bytes: usize,
    buffer: Buffer,
}

impl fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedMatrix({} {} x {})", self.ty, self.n_rows, self.k)
    }
}

/// Packs matrices next to each other in memory.
#[derive(Debug)]
pub struct Packer<'a> {
    cpu: &'a Cpu,
    arena: Arena,
}

impl<'a> Packer<'a> {
    /// For matrices of `n_bytes` in all: memory is taken in pieces of that size, or of a matrix that is larger. More can be
    /// packed than announced.
    #[must_use]
    pub fn new(cpu: &'a Cpu, n_bytes: usize) -> Self {
        Packer { cpu, arena: Arena::new(n_bytes) }
    }

    /// Packs `n_rows` rows of `k` weights. `row(i)` gives row i's bytes in the file's format, so that the caller can
    /// permute, slice or join tensors; it is called from several threads. The last unit is filled up with zero rows.
    ///
    /// # Errors
    /// See [`PackError`]; nothing is allocated before the sizes are checked.
    pub fn pack<'d>(
        &self,
        ty: BlockType,
        n_rows: usize,
        k: usize,
        row: impl Fn(usize) -> &'d [u8] + Sync,
    ) -> Result<PackedMatrix, PackError> {
        if n_rows == 0 || k == 0 {
            return Err(PackError::Empty { n_rows, k });
        }
        let row_bytes = ty.row_bytes(k)?;
        let too_large = PackError::TooLarge { ty, n_rows, k };
        let n_units = n_rows.div_ceil(LANES);
        // A packed row is as long as the file's; units begin on a cache line.
        let unit_bytes = row_bytes.checked_mul(LANES).and_then(|n| n.checked_next_multiple_of(buffer::ALIGN));
        let unit_bytes = unit_bytes.ok_or_else(|| too_large.clone())?;
        let bytes = unit_bytes.checked_mul(n_units).filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or(too_large)?;
        let mut buffer = self.arena.take(bytes).ok_or(PackError::OutOfMemory { bytes })?;

        let bad_row = AtomicUsize::new(usize::MAX);
        self.cpu.for_each_chunk_mut(buffer.bytes_mut(), unit_bytes, |u, unit| {
            for r in u * LANES..n_rows.min((u + 1) * LANES) {
                let bytes = row(r);
                if bytes.len() == row_bytes {
                    with_format!(ty, F => pack_lane::<F>(bytes, r % LANES, unit), _ => {
                        pack_float_lane(ty.block_bytes(), bytes, r % LANES, unit);
                    });
                } else {
                    bad_row.fetch_min(r, Ordering::Relaxed);
                }
            }
        });
        match bad_row.into_inner() {
            usize::MAX => Ok(PackedMatrix { ty, n_rows, k, unit_bytes, buffer }),
            row_index => {
                let found = row(row_index).len();
                Err(PackError::RowLength { row: row_index, found, expected: row_bytes })
            }
        }
    }
}

impl PackedMatrix {
    /// Output rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Weights per row.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// The format of the weights.
    #[must_use]
    pub fn block_type(&self) -> BlockType {
        self.ty
    }

    /// Bytes in memory.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.buffer.bytes().len()
    }

    pub(crate) fn n_units(&self) -> usize {
        self.n_rows.div_ceil(LANES)
    }

    /// Rows `16 * u..16 * (u + 1)`.
    #[inline]
    pub(crate) fn unit(&self, u: usize) -> &[u8] {
        &self.buffer.bytes()[u * self.unit_bytes..][..self.unit_bytes]
    }

    /// Writes row `row` as floats, as in an embedding lookup: `d * (q - offset)`, then `+ m`, each step rounded to f32.
    ///
    /// # Panics
    /// If there is no such row, or `out` does not hold `k` elements.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n_rows, "row {row} of {}", self.n_rows);
        assert_eq!(out.len(), self.k, "one element per weight");
        let (unit, lane) = (self.unit(row / LANES), row % LANES);
        with_format!(self.ty, F => dequantize_lane::<F>(unit, lane, out), _ => {
            for (k, x) in out.iter_mut().enumerate() {
                *x = float_at(self.ty, unit, LANES * k + lane);
            }
        });
    }
}

fn pack_float_lane(size: usize, row: &[u8], lane: usize, unit: &mut [u8]) {
    for (weight, lanes) in row.chunks_exact(size).zip(unit.chunks_exact_mut(LANES * size)) {
        lanes[lane * size..(lane + 1) * size].copy_from_slice(weight);
    }
}

/// Element `i` of packed floats.
fn float_at(ty: BlockType, unit: &[u8], i: usize) -> f32 {
    let half = |i: usize| [unit[2 * i], unit[2 * i + 1]];
    match ty {
        BlockType::F16 => half::f16::from_le_bytes(half(i)).to_f32(),
        BlockType::BF16 => half::bf16::from_le_bytes(half(i)).to_f32(),
        _ => f32::from_le_bytes([unit[4 * i], unit[4 * i + 1], unit[4 * i + 2], unit[4 * i + 3]]),
    }
}

fn dequantize_lane<F: Format>(unit: &[u8], lane: usize, out: &mut [f32]) {
    let (quants, scales) = unit.split_at(out.len() / GROUP * group_bytes::<F>());
    let mut groups = quants.chunks_exact(group_bytes::<F>());
    let zero = F::ZERO_BITS.map_or(0, |bits| 1 << bits);
    let mut scale = [Scale { d: [[0.0; LANES]; 2], m: [0.0; LANES] }; format::MAX_BLOCK / GROUP];
    for (block, packed) in out.chunks_exact_mut(F::BLOCK).zip(scales.chunks_exact(scale_bytes::<F>())) {
        F::scales(Scalar, packed, &mut scale);
        for (g, (out, group)) in block.chunks_exact_mut(GROUP).zip(&mut groups).enumerate() {
            let q = lane_quants::<F>(group, lane);
            for (k, x) in out.iter_mut().enumerate() {
                let d = scale[g].d[k * F::SUBS / GROUP][lane];
                *x = d * (i32::from(q[k]) - zero) as f32;
                if F::HAS_MIN {
                    *x += scale[g].m[lane];
                }
            }
        }
    }
}
