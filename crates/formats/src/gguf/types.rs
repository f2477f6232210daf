//! The element types a GGUF tensor can have: id, name, and how many bytes hold how many elements.
//!
//! Source: the `ggml_type` enumeration of the GGUF specification and the block structures behind it. Sizes are needed
//! for every type, also for those Bantam cannot compute with, because a file is only trusted after the extent of each
//! of its tensors was checked.

use std::fmt;

macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $block_len:literal elements in $block_bytes:literal bytes;)*) => {
        /// Element type of a GGUF tensor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        #[allow(non_camel_case_types)]
        pub enum GgmlType {
            $(
                #[doc = concat!("Blocks of ", $block_len, " elements in ", $block_bytes, " bytes.")]
                $variant = $id,
            )*
        }

        impl GgmlType {
            /// Every type, in order of its id.
            pub const ALL: &[GgmlType] = &[$(GgmlType::$variant),*];

            /// The type with this id in a file, or `None` for an id that is unknown or was withdrawn.
            pub fn from_id(id: u32) -> Option<GgmlType> {
                match id {
                    $($id => Some(GgmlType::$variant),)*
                    _ => None,
                }
            }

            /// The name the format gives it, as in `Q4_K`.
            pub fn name(self) -> &'static str {
                match self {
                    $(GgmlType::$variant => stringify!($variant),)*
                }
            }

            /// Elements in one block; a row is a whole number of blocks.
            pub fn block_len(self) -> u64 {
                match self {
                    $(GgmlType::$variant => $block_len,)*
                }
            }

            /// Bytes of one block.
            pub fn block_bytes(self) -> u64 {
                match self {
                    $(GgmlType::$variant => $block_bytes,)*
                }
            }
        }
    };
}

ggml_types! {
    F32 = 0, 1 elements in 4 bytes;
    F16 = 1, 1 elements in 2 bytes;
    Q4_0 = 2, 32 elements in 18 bytes;
    Q4_1 = 3, 32 elements in 20 bytes;
    Q5_0 = 6, 32 elements in 22 bytes;
    Q5_1 = 7, 32 elements in 24 bytes;
    Q8_0 = 8, 32 elements in 34 bytes;
    Q8_1 = 9, 32 elements in 36 bytes;
    Q2_K = 10, 256 elements in 84 bytes;
    Q3_K = 11, 256 elements in 110 bytes;
    Q4_K = 12, 256 elements in 144 bytes;
    Q5_K = 13, 256 elements in 176 bytes;
    Q6_K = 14, 256 elements in 210 bytes;
    Q8_K = 15, 256 elements in 292 bytes;
    IQ2_XXS = 16, 256 elements in 66 bytes;
    IQ2_XS = 17, 256 elements in 74 bytes;
    IQ3_XXS = 18, 256 elements in 98 bytes;
    IQ1_S = 19, 256 elements in 50 bytes;
    IQ4_NL = 20, 32 elements in 18 bytes;
    IQ3_S = 21, 256 elements in 110 bytes;
    IQ2_S = 22, 256 elements in 82 bytes;
    IQ4_XS = 23, 256 elements in 136 bytes;
    I8 = 24, 1 elements in 1 bytes;
    I16 = 25, 1 elements in 2 bytes;
    I32 = 26, 1 elements in 4 bytes;
    I64 = 27, 1 elements in 8 bytes;
    F64 = 28, 1 elements in 8 bytes;
    IQ1_M = 29, 256 elements in 56 bytes;
    BF16 = 30, 1 elements in 2 bytes;
    TQ1_0 = 34, 256 elements in 54 bytes;
    TQ2_0 = 35, 256 elements in 66 bytes;
    MXFP4 = 39, 32 elements in 17 bytes;
    NVFP4 = 40, 64 elements in 36 bytes;
    Q1_0 = 41, 128 elements in 18 bytes;
    Q2_0 = 42, 64 elements in 18 bytes;
}

impl GgmlType {
    /// The id in a file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of a row of `n` elements, or `None` when `n` is not a whole number of blocks or the size overflows.
    pub fn row_bytes(self, n: u64) -> Option<u64> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The name of a type that existed once and was withdrawn from the format, for error messages.
    pub(crate) fn withdrawn_name(id: u32) -> Option<&'static str> {
        Some(match id {
            4 => "Q4_2",
            5 => "Q4_3",
            31 => "Q4_0_4_4",
            32 => "Q4_0_4_8",
            33 => "Q4_0_8_8",
            36 => "IQ4_NL_4_4",
            37 => "IQ4_NL_4_8",
            38 => "IQ4_NL_8_8",
            _ => return None,
        })
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
