//! The files a model comes in: GGUF, safetensors, tokenizers and chat templates.
//!
//! Everything read here was made by somebody else, so every parser checks each count, length and offset against
//! the bytes that are really there before using it, and answers a typed error that names the field. Nothing in this
//! crate computes with weights; it hands out byte slices and says what is in them.

pub mod gguf;
mod mmap;
pub mod safetensors;
pub mod template;
pub mod tokenizer;

pub use gguf::{GgmlType, Gguf, GgufError, TensorInfo, Value};
pub use safetensors::{SafetensorsDir, SafetensorsError};
pub use template::{ChatInput, ChatTemplate, TemplateError, TemplateLimits, TemplateTokens};
pub use tokenizer::{DecodeOptions, Detokenizer, EncodeOptions, Tokenizer, TokenizerError};
