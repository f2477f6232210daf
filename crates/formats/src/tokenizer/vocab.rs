//! The list of tokens: text, kind, and the way back from text to id.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use super::error::TokenizerError;
use super::parts::TokenType;
use crate::gguf::StringArray;

/// The most tokens a vocabulary may have. The largest in use have about 300,000.
const MAX_TOKENS: usize = 1 << 24;

/// A checked list of tokens.
#[derive(Debug)]
pub(super) struct Vocab {
    texts: StringArray,
    types: Vec<TokenType>,
    by_text: TextIndex,
}

/// Finds a token by its text, holding ids only.
#[derive(Debug, Default)]
pub(super) struct TextIndex {
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Vocab {
    /// Checks lengths and duplicates. A token without text is allowed (some files fill gaps so) and never found.
    pub(super) fn new(texts: StringArray, mut types: Vec<TokenType>) -> Result<Vocab, TokenizerError> {
        if texts.is_empty() {
            return Err(TokenizerError::EmptyVocabulary);
        }
        if texts.len() > MAX_TOKENS {
            return Err(TokenizerError::TooManyTokens { count: texts.len(), max: MAX_TOKENS });
        }
        if types.is_empty() {
            types = vec![TokenType::Normal; texts.len()];
        }
        check_len("tokenizer.ggml.token_type", types.len(), texts.len())?;
        let mut by_text = TextIndex::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            if text.is_empty() {
                continue;
            }
            if let Some(first) = by_text.insert(text, id as u32, &texts) {
                return Err(TokenizerError::DuplicateToken { first, second: id as u32, text: text.to_owned() });
            }
        }
        Ok(Vocab { texts, types, by_text })
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)
    }

    pub(super) fn texts(&self) -> &StringArray {
        &self.texts
    }

    pub(super) fn type_of(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    /// All tokens in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenType)> {
        self.texts.iter().zip(&self.types).enumerate().map(|(id, (text, &ty))| (id as u32, text, ty))
    }

    /// The token with this text, whatever its kind.
    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        self.by_text.get(text, &self.texts)
    }
}

impl TextIndex {
    pub(super) fn with_capacity(n: usize) -> TextIndex {
        TextIndex { ids: HashTable::with_capacity(n), hasher: DefaultHashBuilder::default() }
    }

    /// Adds a token; answers the one that has this text already.
    pub(super) fn insert(&mut self, text: &str, id: u32, texts: &StringArray) -> Option<u32> {
        if let Some(first) = self.get(text, texts) {
            return Some(first);
        }
        let hasher = &self.hasher;
        let rehash = |&id: &u32| hasher.hash_one(texts.get(id as usize).unwrap_or_default());
        self.ids.insert_unique(hasher.hash_one(text), id, rehash);
        None
    }

    pub(super) fn get(&self, text: &str, texts: &StringArray) -> Option<u32> {
        let same = |&id: &u32| texts.get(id as usize) == Some(text);
        self.ids.find(self.hasher.hash_one(text), same).copied()
    }
}

/// Refuses a list that is not one entry per token.
pub(super) fn check_len(field: &'static str, found: usize, expected: usize) -> Result<(), TokenizerError> {
    if found == expected { Ok(()) } else { Err(TokenizerError::LengthMismatch { field, found, expected }) }
}
