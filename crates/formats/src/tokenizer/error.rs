//! Everything that can be wrong with a tokenizer's description or with a text given to it.

use crate::gguf::GgufError;

/// Why a tokenizer could not be built from its description, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum TokenizerError {
    #[error(transparent)]
    Gguf(#[from] GgufError),

    #[error("`tokenizer.ggml.model` is `{model}`; `gpt2` (byte-level BPE) and `llama` (SentencePiece) are supported")]
    UnknownModel { model: String },

    #[error("the pre-tokenizer `{pre}` named by `tokenizer.ggml.pre` is unknown; known are {}", known.join(", "))]
    UnknownPreTokenizer { pre: String, known: Vec<&'static str> },

    #[error("`tokenizer.ggml.tokens` is empty")]
    EmptyVocabulary,

    #[error("the vocabulary has {count} tokens, more than the limit of {max}")]
    TooManyTokens { count: usize, max: usize },

    #[error("`{field}` has {found} entries for {expected} tokens")]
    LengthMismatch { field: &'static str, found: usize, expected: usize },

    #[error("`tokenizer.ggml.token_type` of token {id} is {found}; 0 to 6 are known")]
    BadTokenType { id: u32, found: i64 },

    #[error("`tokenizer.ggml.scores` of token {id} is not a number")]
    NanScore { id: u32 },

    #[error("tokens {first} and {second} have the same text {text:?}")]
    DuplicateToken { first: u32, second: u32, text: String },

    #[error("merge {index} ({merge:?}) is not two tokens with a space between them")]
    MalformedMerge { index: usize, merge: String },

    #[error("merge {index} ({merge:?}) needs the token {token:?}, which is not in the vocabulary")]
    MergeOfUnknownToken { index: usize, merge: String, token: String },

    #[error(
        "the byte-level vocabulary has no token for byte {byte:#04x}, without which ordinary text cannot be encoded"
    )]
    MissingByteToken { byte: u8 },

    #[error("the vocabulary has neither all byte tokens (`<0x00>` to `<0xFF>`) nor an unknown token to fall back on")]
    NoFallback,

    #[error("`{field}` is {id}, but the vocabulary has {n_tokens} tokens")]
    SpecialIdOutOfRange { field: &'static str, id: u64, n_tokens: usize },

    #[error("`{field}` asks for a token that the vocabulary does not name (set `{id_field}`, or turn it off)")]
    MissingSpecialId { field: &'static str, id_field: &'static str },

    #[error("the added tokens cannot be searched for: {reason}")]
    AddedTokens { reason: String },

    #[error("the splitting rule {pattern:?} cannot be used: {reason}")]
    BadPattern { pattern: String, reason: String },

    #[error("tokenizer.json is not valid: {reason}")]
    BadJson { reason: String },

    #[error("tokenizer.json uses `{component}`, which is not supported here")]
    UnsupportedComponent { component: String },

    #[error("token id {id} in tokenizer.json is missing or used twice; ids must be 0 to {} without gaps", n_tokens.saturating_sub(1))]
    BadTokenIds { id: u32, n_tokens: usize },

    #[error("the text has {len} bytes; at most {max} can be encoded at once")]
    TextTooLong { len: usize, max: usize },
}
