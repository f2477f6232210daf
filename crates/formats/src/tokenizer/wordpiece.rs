//! WordPiece, as BERT and its descendants use it: text is cleaned, folded and split at spaces and punctuation, and each
//! word becomes the longest tokens that spell it, from its start on.
//!
//! The steps are those of HF's `BertNormalizer`, `BertPreTokenizer` and `WordPiece`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};
use unicode_normalization::UnicodeNormalization;

use super::error::TokenizerError;
use super::vocab::Vocab;

/// What BERT's own vocabularies put before a token that continues a word.
pub(super) const CONTINUES: &str = "##";
/// Characters of the longest word that is looked up, where the file does not say.
pub(super) const MAX_WORD_CHARS: usize = 100;

/// What a token adds to a text: words are set apart by spaces. Where there were none (before a full stop, say), nothing
/// tells.
pub(super) fn bytes_of(text: &str) -> Cow<'_, [u8]> {
    match text.strip_prefix(CONTINUES) {
        Some(rest) => Cow::Borrowed(rest.as_bytes()),
        None => Cow::Owned([b" ", text.as_bytes()].concat()),
    }
}

/// How a text is folded before it is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folding {
    /// Control characters are dropped, and every white space becomes a space.
    pub(super) clean: bool,
    /// A CJK ideograph is a word of its own.
    pub(super) split_cjk: bool,
    /// Letters lose their accents.
    pub(super) strip_accents: bool,
    /// Capitals become small.
    pub(super) lowercase: bool,
}

/// A WordPiece encoder over a [`Vocab`].
#[derive(Debug)]
pub(super) struct WordPiece {
    unk: u32,
    folding: Folding,
    /// Characters of the longest word that is looked up; a longer one is unknown.
    max_word_chars: usize,
    /// Bytes of the longest token, the mark of continuation left out.
    max_token_bytes: usize,
}

impl WordPiece {
    pub(super) fn new(
        vocab: &Vocab,
        unk: Option<u32>,
        folding: Folding,
        max_word_chars: usize,
    ) -> Result<WordPiece, TokenizerError> {
        let unk = unk.ok_or(TokenizerError::NoFallback)?;
        let lengths = vocab.iter().map(|(_, text, _)| text.strip_prefix(CONTINUES).unwrap_or(text).len());
        Ok(WordPiece { unk, folding, max_word_chars, max_token_bytes: lengths.max().unwrap_or(0) })
    }

    /// Appends the ids of a text without added tokens.
    pub(super) fn encode(&self, text: &str, vocab: &Vocab, ids: &mut Vec<u32>) {
        let folded = self.fold(text);
        // The token that is looked up, its mark of continuation included.
        let mut candidate = String::new();
        for part in folded.split(char::is_whitespace) {
            let mut rest = part;
            while let Some(first) = rest.chars().next() {
                let end = if is_punctuation(first) {
                    first.len_utf8()
                } else {
                    rest.find(is_punctuation).unwrap_or(rest.len())
                };
                let (word, after) = rest.split_at(end);
                self.word(word, vocab, &mut candidate, ids);
                rest = after;
            }
        }
    }

    /// A word as the longest tokens from its start on, or as the unknown token if one of them is missing.
    fn word(&self, word: &str, vocab: &Vocab, candidate: &mut String, ids: &mut Vec<u32>) {
        let before = ids.len();
        // Most words are short enough for their bytes to say so.
        if word.len() > self.max_word_chars && word.chars().count() > self.max_word_chars {
            ids.push(self.unk);
            return;
        }
        let mut rest = word;
        while !rest.is_empty() {
            let mark = if rest.len() == word.len() { "" } else { CONTINUES };
            candidate.clear();
            candidate.push_str(mark);
            candidate.push_str(&rest[..floor_char_boundary(rest, self.max_token_bytes)]);
            let found = loop {
                if candidate.len() == mark.len() {
                    break None;
                }
                if let Some(id) = vocab.id_of(candidate) {
                    break Some(id);
                }
                candidate.pop();
            };
            let Some(id) = found else {
                ids.truncate(before);
                ids.push(self.unk);
                return;
            };
            ids.push(id);
            rest = &rest[candidate.len() - mark.len()..];
        }
    }

    fn fold(&self, text: &str) -> String {
        let Folding { clean, split_cjk, strip_accents, lowercase } = self.folding;
        let mut folded = String::with_capacity(text.len());
        let cleaned = text.chars().filter_map(|c| match c {
            _ if !clean => Some(c),
            '\t' | '\n' | '\r' => Some(' '),
            '\0' | char::REPLACEMENT_CHARACTER => None,
            _ if is_other(c) => None,
            _ if c.is_whitespace() => Some(' '),
            _ => Some(c),
        });
        let spaced = cleaned.flat_map(|c| {
            let around = (split_cjk && is_cjk(c)).then_some(' ');
            around.into_iter().chain([c]).chain(around)
        });
        let lower = |c: char, folded: &mut String| match lowercase {
            true if c.is_ascii() => folded.push(c.to_ascii_lowercase()),
            true => folded.extend(c.to_lowercase()),
            false => folded.push(c),
        };
        if strip_accents && !text.is_ascii() {
            spaced.nfd().filter(|&c| !is_nonspacing_mark(c)).for_each(|c| lower(c, &mut folded));
        } else {
            spaced.for_each(|c| lower(c, &mut folded));
        }
        folded
    }
}

/// The largest `at` up to `index` at which a character begins.
fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut at = index.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

fn is_punctuation(c: char) -> bool {
    static CLASS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{P}"));
    if c.is_ascii() { c.is_ascii_punctuation() } else { CLASS.contains(c) }
}

/// Control, format and private use; what is not assigned yet is let pass.
fn is_other(c: char) -> bool {
    static CLASS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"[\p{Cc}\p{Cf}\p{Co}]"));
    if c.is_ascii() { c.is_ascii_control() } else { CLASS.contains(c) }
}

fn is_nonspacing_mark(c: char) -> bool {
    static CLASS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{Mn}"));
    !c.is_ascii() && CLASS.contains(c)
}

/// A set of characters, as ascending ranges.
struct Ranges(Vec<(char, char)>);

impl Ranges {
    /// The characters of a class of regular expressions; none if there is no such class.
    fn of(class: &str) -> Ranges {
        let ranges = regex_syntax::parse(class).ok().and_then(|hir| match hir.into_kind() {
            HirKind::Class(Class::Unicode(class)) => Some(class.iter().map(|r| (r.start(), r.end())).collect()),
            _ => None,
        });
        Ranges(ranges.unwrap_or_default())
    }

    fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|&(start, _)| start <= c);
        after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|&(_, end)| c <= end)
    }
}
