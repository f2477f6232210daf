//! What can go wrong: reading a model (`ModelError`), running it (`ForwardError`), and the one fault that belongs to
//! a single sequence of a batch (`NonFinite`).

use bantam_formats::{GgufError, SafetensorsError};
use bantam_kernels::rope::RopeError;
use bantam_kernels::{BlockType, PackError};

/// A model file or directory cannot be used. Names the key or tensor and what was expected of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file describes an architecture that is not in the family table.
    #[error("architecture \"{found}\" is not supported; supported: {supported}")]
    UnsupportedArchitecture {
        /// What the file says.
        found: String,
        /// The known names, comma separated.
        supported: String,
    },
    /// A required key is absent.
    #[error("the model's metadata has no \"{key}\"")]
    MissingKey {
        /// Its name in the file.
        key: String,
    },
    /// A key has a value that no model of this kind can have, or that is not supported.
    #[error("\"{key}\" is {value}: {why}")]
    InvalidValue {
        /// Its name in the file.
        key: String,
        /// The value found.
        value: String,
        /// What it must be.
        why: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("tensor \"{name}\" is missing")]
    MissingTensor {
        /// Its name in the file.
        name: String,
    },
    /// The file holds a tensor that the architecture has no place for; running without it would give wrong answers.
    #[error("tensor \"{name}\" has no place in a {family} model")]
    UnexpectedTensor {
        /// Its name in the file.
        name: String,
        /// The family of the model.
        family: String,
    },
    /// A tensor's shape disagrees with the metadata. Shapes are given outermost dimension first: `[rows, columns]`.
    #[error("tensor \"{name}\" has shape {found:?} where the metadata asks for {expected:?}")]
    TensorShape {
        /// Its name in the file.
        name: String,
        /// Shape that follows from the metadata.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a format that the engine has no kernel for.
    #[error("tensor \"{name}\" is stored as {found}, which is not supported; supported: {supported}")]
    TensorType {
        /// Its name in the file.
        name: String,
        /// Its type in the file.
        found: String,
        /// The known types, comma separated.
        supported: String,
    },
    /// A tensor's data is not as long as its shape and type say.
    #[error("tensor \"{name}\" has {found} bytes of data, which its shape does not fit")]
    TensorSize {
        /// Its name in the file.
        name: String,
        /// Bytes in the file.
        found: usize,
    },
    /// A tensor's rows cannot be packed.
    #[error("tensor \"{name}\" cannot be packed")]
    Pack {
        /// Its name in the file.
        name: String,
        /// Why not.
        source: PackError,
    },
    /// The rotary embedding that the metadata describes cannot be built.
    #[error("the rotary embedding cannot be built")]
    Rope(#[from] RopeError),
    /// The GGUF file or one of its keys.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The directory of safetensors or one of its files.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A normalisation weight, bias or factor list holds NaN or infinity.
    #[error("tensor \"{name}\" holds a number that is not finite")]
    TensorNotFinite {
        /// Its name in the file.
        name: String,
    },
}

impl ModelError {
    pub(crate) fn unsupported_tensor_type(name: &str, found: &str) -> Self {
        let supported = BlockType::ALL.iter().map(BlockType::to_string).collect::<Vec<_>>().join(", ");
        Self::TensorType { name: name.to_owned(), found: found.to_owned(), supported }
    }
}

/// A batch was refused before any work was done, or memory for it could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// A chunk has no tokens.
    #[error("chunk {chunk} has no tokens")]
    EmptyChunk {
        /// Index into the batch.
        chunk: usize,
    },
    /// A token id is not in the vocabulary.
    #[error("chunk {chunk}: token {token} is not in the vocabulary of {vocab_size}")]
    Token {
        /// Index into the batch.
        chunk: usize,
        /// The id.
        token: u32,
        /// Ids below this are valid.
        vocab_size: usize,
    },
    /// A chunk ends past the model's context.
    #[error("chunk {chunk} ends at position {end}, past the context of {context_length}")]
    ContextLength {
        /// Index into the batch.
        chunk: usize,
        /// One past its last position.
        end: usize,
        /// The model's limit.
        context_length: usize,
    },
    /// A page table is too short for its chunk.
    #[error("chunk {chunk} needs {needed} pages and has {found}")]
    TooFewPages {
        /// Index into the batch.
        chunk: usize,
        /// Pages that cover its last position.
        needed: usize,
        /// Pages given.
        found: usize,
    },
    /// A page id is outside the pool.
    #[error("chunk {chunk}: page {page} is outside the pool of {n_pages}")]
    Page {
        /// Index into the batch.
        chunk: usize,
        /// The id.
        page: u32,
        /// Ids below this are valid.
        n_pages: usize,
    },
    /// The long set of a model that has only one.
    #[error("chunk {chunk} asks for the long rope set, which this model does not have")]
    RopeSet {
        /// Index into the batch.
        chunk: usize,
    },
    /// The KV pool was made for another model.
    #[error("the KV pool was made for a model of another shape")]
    KvShape,
    /// Memory ran out; nothing was computed.
    #[error("out of memory for {what}: {bytes} bytes")]
    OutOfMemory {
        /// What it was for.
        what: &'static str,
        /// How much was asked for.
        bytes: usize,
    },
}

/// One sequence's hidden state or logits became NaN or infinite. Others in the batch are unharmed; the pages this
/// sequence wrote must not be shared or kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model produced a number that is not finite at position {position}")]
pub struct NonFinite {
    /// First position at which it was seen.
    pub position: usize,
}

/// An encoder cannot embed a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// A text has no tokens.
    #[error("text {text} has no tokens")]
    Empty {
        /// Index into the batch.
        text: usize,
    },
    /// A text is longer than the model can take.
    #[error("text {text} has {found} tokens; the model takes at most {max}")]
    TooLong {
        /// Index into the batch.
        text: usize,
        /// Its tokens.
        found: usize,
        /// Most tokens.
        max: usize,
    },
    /// A token is not in the vocabulary.
    #[error("text {text}: token {token} is outside the vocabulary of {vocab_size}")]
    Token {
        /// Index into the batch.
        text: usize,
        /// The id.
        token: u32,
        /// Ids below this are valid.
        vocab_size: usize,
    },
    /// The vector of a text became NaN or infinite.
    #[error("text {text}: the model produced a non-finite value")]
    NonFinite {
        /// Index into the batch.
        text: usize,
    },
    /// There is no memory for the batch.
    #[error(transparent)]
    Memory(#[from] bantam_kernels::attention::KvError),
}
