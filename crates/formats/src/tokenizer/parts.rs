//! What a tokenizer is made from, as plain data: read from a GGUF file's metadata, or put together by hand.

use super::error::TokenizerError;
use crate::gguf::{Gguf, StringArray};

/// The description of a tokenizer, not checked yet; [`Tokenizer::new`](super::Tokenizer::new) checks it.
#[derive(Debug, Clone, Default)]
pub struct TokenizerParts {
    /// How text becomes tokens.
    pub model: ModelParts,
    /// The text of every token; its place is its id.
    pub tokens: StringArray,
    /// The kind of every token; empty when all are [`TokenType::Normal`].
    pub types: Vec<TokenType>,
    /// Tokens with a role.
    pub roles: RoleIds,
    /// Whether text begins with BOS; the family's habit when absent.
    pub add_bos: Option<bool>,
    /// Whether text ends with EOS; it does not when absent.
    pub add_eos: Option<bool>,
    /// White space that control tokens swallow.
    pub control_strip: ControlStrip,
}

/// How text becomes tokens.
#[derive(Debug, Clone)]
pub enum ModelParts {
    /// Byte-level BPE (`gpt2` in GGUF).
    ByteLevelBpe {
        /// The family's splitting rule by its GGUF name; `default` when absent.
        pre: Option<String>,
        /// Pairs that merge, as `left right`, those that merge first coming first.
        merges: StringArray,
    },
    /// SentencePiece BPE (`llama` in GGUF).
    SentencePiece {
        /// The score of every token; of the merges possible, the one into the token of highest score is made.
        scores: Vec<f32>,
        /// Whether a text is encoded as though it began with a space; it is when absent.
        add_space_prefix: Option<bool>,
    },
}

impl Default for ModelParts {
    fn default() -> ModelParts {
        ModelParts::ByteLevelBpe { pre: None, merges: StringArray::new() }
    }
}

/// The kind of a token, with the numbers of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TokenType {
    /// 0: not stated.
    Undefined,
    /// 1: ordinary text.
    #[default]
    Normal,
    /// 2: stands for text that cannot be encoded.
    Unknown,
    /// 3: directs the model, like BOS or `<|im_end|>`; text contains it only where special tokens are parsed.
    Control,
    /// 4: text that is always this one token.
    UserDefined,
    /// 5: a number that is not in use.
    Unused,
    /// 6: one byte, written `<0x0A>`.
    Byte,
}

impl TokenType {
    /// The kind with this number in a file.
    pub fn from_id(id: i64) -> Option<TokenType> {
        Some(match id {
            0 => TokenType::Undefined,
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => return None,
        })
    }
}

/// Tokens with a role, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct RoleIds {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
}

/// White space that control tokens swallow when special tokens are parsed. HF's tokenizer files state it for each
/// token; GGUF files do not, so it is known here for the families that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ControlStrip {
    /// None.
    #[default]
    Keep,
    /// What follows a control token (Phi-3), except after BOS, the unknown token and `<|endoftext|>`.
    After,
    /// What is around a control token (Phi-4).
    Around,
}

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";

impl TokenizerParts {
    /// Reads the description from a file's `tokenizer.ggml.*` metadata.
    ///
    /// # Errors
    /// [`TokenizerError`] when a key is missing, of the wrong type, or names something unknown.
    pub fn from_gguf(gguf: &Gguf) -> Result<TokenizerParts, TokenizerError> {
        let model_name: &str = gguf.required(MODEL)?;
        let pre: Option<&str> = gguf.optional(PRE)?;
        let tokens: &StringArray = gguf.required("tokenizer.ggml.tokens")?;
        let architecture: Option<&str> = gguf.optional("general.architecture")?;
        let model = match model_name {
            "gpt2" => ModelParts::ByteLevelBpe {
                pre: pre.map(str::to_owned),
                merges: gguf.required::<&StringArray>("tokenizer.ggml.merges")?.clone(),
            },
            "llama" => ModelParts::SentencePiece {
                scores: gguf.required::<&[f32]>("tokenizer.ggml.scores")?.to_vec(),
                add_space_prefix: gguf.optional("tokenizer.ggml.add_space_prefix")?,
            },
            other => return Err(TokenizerError::UnknownModel { model: other.to_owned() }),
        };
        let phi = matches!(architecture, Some("phi3" | "phimoe"));
        let control_strip = match model {
            ModelParts::SentencePiece { .. } if phi => ControlStrip::After,
            ModelParts::ByteLevelBpe { .. } if phi && tokens.iter().any(|token| token == "<|im_sep|>") => {
                ControlStrip::Around
            }
            _ => ControlStrip::Keep,
        };
        Ok(TokenizerParts {
            model,
            types: types(gguf)?,
            roles: RoleIds {
                bos: role(gguf, "tokenizer.ggml.bos_token_id", tokens)?,
                eos: role(gguf, "tokenizer.ggml.eos_token_id", tokens)?,
                eot: role(gguf, "tokenizer.ggml.eot_token_id", tokens)?,
                eom: role(gguf, "tokenizer.ggml.eom_token_id", tokens)?,
                unk: role(gguf, "tokenizer.ggml.unknown_token_id", tokens)?,
                pad: role(gguf, "tokenizer.ggml.padding_token_id", tokens)?,
            },
            tokens: tokens.clone(),
            add_bos: gguf.optional("tokenizer.ggml.add_bos_token")?,
            add_eos: gguf.optional("tokenizer.ggml.add_eos_token")?,
            control_strip,
        })
    }
}

fn types(gguf: &Gguf) -> Result<Vec<TokenType>, TokenizerError> {
    let numbers: Vec<i64> = gguf.optional("tokenizer.ggml.token_type")?.unwrap_or_default();
    let known = numbers
        .iter()
        .enumerate()
        .map(|(id, &found)| TokenType::from_id(found).ok_or(TokenizerError::BadTokenType { id: id as u32, found }));
    known.collect()
}

/// Writers put -1 (or its unsigned twin) where a role is not filled.
fn role(gguf: &Gguf, field: &'static str, tokens: &StringArray) -> Result<Option<u32>, TokenizerError> {
    let id: Option<i64> = gguf.optional(field)?;
    match id {
        None | Some(-1 | 0xffff_ffff) => Ok(None),
        Some(id) => match u32::try_from(id) {
            Ok(id) if (id as usize) < tokens.len() => Ok(Some(id)),
            _ => Err(TokenizerError::SpecialIdOutOfRange { field, id: id as u64, n_tokens: tokens.len() }),
        },
    }
}
