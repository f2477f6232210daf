//! Everything that can be wrong with a GGUF file.

use std::path::PathBuf;

use super::types::GgmlType;

/// Why a GGUF file was refused, or why a metadata value could not be had. [`GgufError::hint`] says what to do about it
/// where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum GgufError {
    #[error("cannot read `{}`: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("not a GGUF file: it starts with {found:02x?}, not with \"GGUF\"")]
    BadMagic { found: Vec<u8> },

    #[error("GGUF version {version} is not supported; versions 2 and 3 are")]
    UnsupportedVersion { version: u32 },

    #[error("this GGUF file is big-endian; only little-endian files are supported")]
    BigEndian,

    #[error("the file is cut short: {what} needs {needed} bytes at offset {offset}, {available} are left")]
    Truncated { what: String, offset: u64, needed: u64, available: u64 },

    #[error("{what} is stated as {count}, but the {available} bytes left hold at most {max}")]
    CountTooLarge { what: String, count: u64, max: u64, available: u64 },

    #[error("{what} has {len} bytes, more than the limit of {max}")]
    TooLong { what: String, len: u64, max: u64 },

    #[error("{what} is not valid UTF-8 (at its byte {valid_up_to})")]
    InvalidUtf8 { what: String, valid_up_to: usize },

    #[error("metadata key `{key}` appears twice")]
    DuplicateKey { key: String },

    #[error("metadata key `{key}` has the unknown value type {id}")]
    UnknownValueType { key: String, id: u32 },

    #[error("metadata key `{key}` nests arrays more than {max} deep")]
    NestedTooDeep { key: String, max: usize },

    #[error("metadata key `{key}` has the boolean byte {found}, which is neither 0 nor 1")]
    BadBool { key: String, found: u8 },

    #[error("metadata key `general.alignment` is {found}; it must be a power of two of at most {max}")]
    BadAlignment { found: u64, max: u64 },

    #[error("this is one of {count} pieces of a split model (`split.count` = {count})")]
    Split { count: u64 },

    #[error("metadata key `{key}` is missing")]
    MissingKey { key: String },

    #[error("metadata key `{key}` should be {expected}, but is {found}")]
    WrongType { key: String, expected: &'static str, found: String },

    #[error("tensor name `{tensor}` appears twice")]
    DuplicateTensor { tensor: String },

    #[error("tensor `{tensor}` has {n_dims} dimensions, more than the limit of {max}")]
    TooManyDims { tensor: String, n_dims: u32, max: u32 },

    #[error("tensor `{tensor}` has shape {shape:?}, in which dimension {dim} is zero")]
    ZeroDim { tensor: String, shape: Vec<u64>, dim: usize },

    #[error("tensor `{tensor}` has shape {shape:?}, whose size overflows")]
    ShapeOverflow { tensor: String, shape: Vec<u64> },

    #[error("tensor `{tensor}` has the {} type id {id}{}",
        if GgmlType::withdrawn_name(*id).is_some() { "withdrawn" } else { "unknown" },
        GgmlType::withdrawn_name(*id).map(|name| format!(" ({name})")).unwrap_or_default())]
    UnknownTensorType { tensor: String, id: u32 },

    #[error("tensor `{tensor}` has rows of {row_len} elements, not a multiple of the {block_len} in a block of {ty}")]
    PartialBlock { tensor: String, row_len: u64, ty: GgmlType, block_len: u64 },

    #[error("tensor `{tensor}` starts at offset {offset}, which is not a multiple of the alignment {alignment}")]
    MisalignedTensor { tensor: String, offset: u64, alignment: u64 },

    #[error(
        "tensor `{tensor}` takes {n_bytes} bytes at offset {offset} of the data section, which has {available} bytes"
    )]
    TensorOutOfFile { tensor: String, offset: u64, n_bytes: u64, available: u64 },

    #[error("tensors `{first}` and `{second}` overlap at offset {offset} of the data section")]
    OverlappingTensors { first: String, second: String, offset: u64 },
}

impl GgufError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            GgufError::BadMagic { .. } => {
                "check that this is a .gguf file and not, for example, a web page saved under that name".into()
            }
            GgufError::UnsupportedVersion { version: 1 } => {
                "convert the model again with a current converter, which writes version 3".into()
            }
            GgufError::UnsupportedVersion { .. } => "update Bantam, or get the model as GGUF version 3".into(),
            GgufError::BigEndian => "get the little-endian file of this model".into(),
            GgufError::Truncated { .. } | GgufError::TensorOutOfFile { .. } | GgufError::CountTooLarge { .. } => {
                "the download may be incomplete: fetch the file again and compare its size and SHA-256".into()
            }
            GgufError::Split { .. } => {
                "join the pieces first, for example with `llama-gguf-split --merge FIRST-PIECE OUT.gguf`".into()
            }
            GgufError::UnknownTensorType { .. } => {
                let known: Vec<&str> = GgmlType::ALL.iter().map(|ty| ty.name()).collect();
                format!("get the model in another quantisation; the known ones are {}", known.join(", "))
            }
            _ => return None,
        })
    }
}
