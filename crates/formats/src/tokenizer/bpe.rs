//! Byte-level BPE (GPT-2): text is split into words, and the bytes of a word merge pair by pair in the order in which
//! training found the pairs. A byte without a token (some vocabularies lack control characters and bytes that UTF-8
//! never has) is dropped, as HF drops it.

use std::borrow::Cow;

use hashbrown::HashMap;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::byte_level;
use super::error::TokenizerError;
use super::merge::{Merge, Merger};
use super::parts::TokenType;
use super::pretokenizer::PreTokenizer;
use super::vocab::Vocab;
use crate::gguf::StringArray;

/// A byte-level BPE encoder over a [`Vocab`].
#[derive(Debug)]
pub(super) struct Bpe {
    byte_ids: Box<[Option<u32>; 256]>,
    merges: HashMap<(u32, u32), Merge>,
    /// Tokens that a whole word is looked up in first, by their bytes.
    whole_words: Option<HashMap<Box<[u8]>, u32>>,
    pre: PreTokenizer,
    nfc: bool,
}

/// What [`Bpe::new`] needs beside the vocabulary.
pub(super) struct BpeRules {
    pub(super) merges: StringArray,
    pub(super) pre: PreTokenizer,
    pub(super) nfc: bool,
    pub(super) whole_words: bool,
}

impl Bpe {
    pub(super) fn new(vocab: &Vocab, rules: BpeRules) -> Result<Bpe, TokenizerError> {
        let mut byte_ids = Box::new([None; 256]);
        for byte in 0..=255_u8 {
            byte_ids[usize::from(byte)] = vocab.id_of(byte_level::char_of(byte).encode_utf8(&mut [0; 4]));
            let ordinary = matches!(byte, b'\n' | b' '..=b'~');
            if ordinary && byte_ids[usize::from(byte)].is_none() {
                return Err(TokenizerError::MissingByteToken { byte });
            }
        }
        let whole_words = rules.whole_words.then(|| {
            vocab
                .iter()
                .filter(|(_, text, ty)| !text.is_empty() && is_text(*ty))
                .filter_map(|(id, text, _)| Some((byte_level::bytes_of(text)?.into_boxed_slice(), id)))
                .collect()
        });
        Ok(Bpe { byte_ids, merges: merge_table(vocab, &rules.merges)?, whole_words, pre: rules.pre, nfc: rules.nfc })
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>, merger: &mut Merger) {
        let text = if self.nfc { nfc(text) } else { Cow::Borrowed(text) };
        self.pre.split(&text, &mut |word| self.encode_word(word.as_bytes(), ids, merger));
    }

    fn encode_word(&self, word: &[u8], ids: &mut Vec<u32>, merger: &mut Merger) {
        if let Some(&id) = self.whole_words.as_ref().and_then(|words| words.get(word)) {
            ids.push(id);
            return;
        }
        merger.clear();
        for id in word.iter().filter_map(|&byte| self.byte_ids[usize::from(byte)]) {
            merger.push(id, 1);
        }
        merger.run(|left, right| self.merges.get(&(left.id, right.id)).copied());
        ids.extend(merger.symbols().map(|symbol| symbol.id));
    }
}

/// The pairs that merge, by the ids of their halves. The first of two equal merges counts.
pub(super) fn merge_table(vocab: &Vocab, merges: &StringArray) -> Result<HashMap<(u32, u32), Merge>, TokenizerError> {
    let mut table = HashMap::with_capacity(merges.len());
    let mut whole = String::new();
    for (index, merge) in merges.iter().enumerate() {
        let malformed = || TokenizerError::MalformedMerge { index, merge: merge.to_owned() };
        // A token may itself begin with a space, but not be one.
        let (left, right) = merge
            .char_indices()
            .find(|&(at, c)| at > 0 && c == ' ')
            .and_then(|(at, _)| Some((merge.get(..at)?, merge.get(at + 1..)?)))
            .filter(|(_, right)| !right.is_empty())
            .ok_or_else(malformed)?;
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        let id_of = |token: &str| {
            vocab.id_of(token).ok_or_else(|| TokenizerError::MergeOfUnknownToken {
                index,
                merge: merge.to_owned(),
                token: token.to_owned(),
            })
        };
        let pair = (id_of(left)?, id_of(right)?);
        let id = id_of(&whole)?;
        table.entry(pair).or_insert(Merge { rank: index as u32, id });
    }
    Ok(table)
}

fn is_text(ty: TokenType) -> bool {
    matches!(ty, TokenType::Normal | TokenType::Undefined)
}

fn nfc(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(text.nfc().collect()),
    }
}
