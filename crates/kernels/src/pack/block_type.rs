//! The element and block formats that weights come in, with their sizes in a file.

use std::fmt;

use super::PackError;

/// How a model file stores a row of weights. The names are GGML's.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// 32 weights: f16 scale, 4 bits each, offset 8.
    Q4_0,
    /// 32 weights: f16 scale, f16 minimum, 4 bits each.
    Q4_1,
    /// 32 weights: f16 scale, 5 bits each, offset 16.
    Q5_0,
    /// 32 weights: f16 scale, 8 bits each, signed.
    Q8_0,
    /// 256 weights: f16 scales of 6-bit scales and minima per 32, 4 bits each.
    Q4_K,
    /// 256 weights: f16 scales of 6-bit scales and minima per 32, 5 bits each.
    Q5_K,
    /// 256 weights: f16 scale of 8-bit scales per 16, 6 bits each, offset 32.
    Q6_K,
}

impl BlockType {
    /// Every type.
    pub const ALL: [BlockType; 10] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::BF16,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q8_0,
        BlockType::Q4_K,
        BlockType::Q5_K,
        BlockType::Q6_K,
    ];

    /// Whether the type is a plain float, so that [`crate::matmul`] reads float activations and not quantised ones.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, BlockType::F32 | BlockType::F16 | BlockType::BF16)
    }

    /// Weights per block; 1 for floats.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => 1,
            BlockType::Q4_0 | BlockType::Q4_1 | BlockType::Q5_0 | BlockType::Q8_0 => 32,
            BlockType::Q4_K | BlockType::Q5_K | BlockType::Q6_K => 256,
        }
    }

    /// Bytes per block in a file.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockType::F32 => 4,
            BlockType::F16 | BlockType::BF16 => 2,
            BlockType::Q4_0 => 18,
            BlockType::Q4_1 => 20,
            BlockType::Q5_0 => 22,
            BlockType::Q8_0 => 34,
            BlockType::Q4_K => 144,
            BlockType::Q5_K => 176,
            BlockType::Q6_K => 210,
        }
    }

    /// Bytes of a row of `k` weights in a file.
    ///
    /// # Errors
    /// [`PackError::RowNotBlocks`] if `k` is not a multiple of [`Self::block_len`], [`PackError::TooLarge`] if the
    /// size is beyond this machine's addresses.
    pub fn row_bytes(self, k: usize) -> Result<usize, PackError> {
        if !k.is_multiple_of(self.block_len()) {
            return Err(PackError::RowNotBlocks { ty: self, k, block_len: self.block_len() });
        }
        (k / self.block_len()).checked_mul(self.block_bytes()).ok_or(PackError::TooLarge { ty: self, n_rows: 1, k })
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
