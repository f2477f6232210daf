//! `POST /v1/embeddings`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Prompt;

/// A request for vectors. Numbers are unchecked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingRequest {
    /// Name of the encoder; required, but checked by the server so that its error can name what it serves.
    #[serde(default)]
    pub model: Option<String>,
    /// The texts, or their token ids.
    pub input: Prompt,
    /// `float` or `base64`.
    #[serde(default)]
    pub encoding_format: Option<String>,
    /// How many elements of each vector to keep.
    #[serde(default)]
    pub dimensions: Option<i64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingResponse {
    /// Always `list`.
    pub object: Cow<'static, str>,
    /// One entry per text, in their order.
    pub data: Vec<EmbeddingObject>,
    /// The encoder that answered.
    pub model: String,
    /// Tokens read.
    pub usage: EmbeddingUsage,
}

/// A text's vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingObject {
    /// Always `embedding`.
    pub object: Cow<'static, str>,
    /// Which text it is of.
    pub index: usize,
    /// The vector.
    pub embedding: EmbeddingVector,
}

/// A vector as `encoding_format` asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// As numbers.
    Float(Vec<f32>),
    /// As the base64 of little-endian f32.
    Base64(String),
}

/// Token counts; nothing is generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingUsage {
    /// Tokens of all texts, the special ones included.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}
