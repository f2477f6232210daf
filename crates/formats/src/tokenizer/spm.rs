//! SentencePiece BPE: the characters of a text merge into the token of highest score, and what is no token in the end
//! is spelled in byte tokens `<0x00>` to `<0xFF>`. Spaces are written as U+2581 and belong to the word after them.
//! Nothing else is normalised, as in every decoder model that uses it.

use std::borrow::Cow;

use hashbrown::{HashMap, HashSet};

use super::error::TokenizerError;
use super::merge::{Merge, Merger, NONE};
use super::parts::TokenType;
use super::vocab::{TextIndex, Vocab, check_len};

/// How a space is written inside tokens: U+2581.
pub(super) const SPACE: char = '\u{2581}';

/// A SentencePiece encoder over a [`Vocab`].
#[derive(Debug)]
pub(super) struct SentencePiece {
    /// The tokens that text can merge into.
    pieces: TextIndex,
    /// User-defined runs of spaces that the file writes as spaces, as they look in escaped text. Most are found before
    /// anything merges; what is left are runs in which U+2581 stood in the text itself.
    space_runs: HashMap<String, u32>,
    ranking: Ranking,
    byte_ids: Box<[Option<u32>; 256]>,
    unk: Option<u32>,
    /// Bytes of the longest piece.
    longest: u32,
    /// Characters that stand before a space inside some piece. After any other, a space begins a new chunk that
    /// nothing merges into, so that the whole of a long text need not be held as one word.
    before_space: HashSet<char>,
}

/// What decides which merge comes first.
#[derive(Debug)]
pub(super) enum Ranking {
    /// The place of every token when sorted by score, best first, equal scores sharing one; any two neighbours whose
    /// text together is a piece may merge.
    Scores(Vec<u32>),
    /// The list of merges that HF derives from the scores.
    Merges(HashMap<(u32, u32), Merge>),
}

impl Ranking {
    /// The ranking by score.
    pub(super) fn by_score(scores: &[f32], n_tokens: usize) -> Result<Ranking, TokenizerError> {
        check_len("tokenizer.ggml.scores", scores.len(), n_tokens)?;
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(TokenizerError::NanScore { id: id as u32 });
        }
        let mut order: Vec<u32> = (0..n_tokens as u32).collect();
        let score = |id: u32| scores[id as usize] + 0.0;
        order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)));
        let mut ranks = vec![0; n_tokens];
        let mut rank = 0;
        for (place, &id) in order.iter().enumerate() {
            if place > 0 && score(order[place - 1]) != score(id) {
                rank = place as u32;
            }
            ranks[id as usize] = rank;
        }
        Ok(Ranking::Scores(ranks))
    }
}

impl SentencePiece {
    pub(super) fn new(vocab: &Vocab, ranking: Ranking, unk: Option<u32>) -> Result<SentencePiece, TokenizerError> {
        let byte_ids = byte_ids(vocab);
        if unk.is_none() && byte_ids.contains(&None) {
            return Err(TokenizerError::NoFallback);
        }
        let mut pieces = TextIndex::with_capacity(vocab.len());
        let mut space_runs = HashMap::new();
        let mut longest = 0;
        let mut before_space = HashSet::new();
        for (id, text, ty) in vocab.iter() {
            if text.is_empty() || matches!(ty, TokenType::Control | TokenType::Unknown | TokenType::Byte) {
                continue;
            }
            pieces.insert(text, id, vocab.texts());
            let spaced = if text.contains(' ') { Cow::Owned(text.replace(' ', "▁")) } else { Cow::Borrowed(text) };
            longest = longest.max(spaced.len() as u32);
            let pairs = spaced.chars().zip(spaced.chars().skip(1));
            before_space.extend(pairs.filter(|&(_, next)| next == SPACE).map(|(c, _)| c));
            if let Cow::Owned(spaced) = spaced {
                space_runs.insert(spaced, id);
            }
        }
        Ok(SentencePiece { pieces, space_runs, ranking, byte_ids, unk, longest, before_space })
    }

    /// Encodes `text`, in which spaces are written as [`SPACE`] already.
    pub(super) fn encode(&self, text: &str, vocab: &Vocab, ids: &mut Vec<u32>, merger: &mut Merger) {
        let mut chunk = 0;
        let mut last = None;
        for (at, c) in text.char_indices() {
            if c == SPACE && last.is_some_and(|last| !self.before_space.contains(&last)) {
                self.encode_chunk(text.get(chunk..at).unwrap_or_default(), vocab, ids, merger);
                chunk = at;
            }
            last = Some(c);
        }
        self.encode_chunk(text.get(chunk..).unwrap_or_default(), vocab, ids, merger);
    }

    fn encode_chunk(&self, text: &str, vocab: &Vocab, ids: &mut Vec<u32>, merger: &mut Merger) {
        merger.clear();
        let piece = |start: u32, len: u32| {
            let bytes = text.get(start as usize..(start + len) as usize)?;
            self.pieces.get(bytes, vocab.texts()).or_else(|| {
                let run = !self.space_runs.is_empty() && bytes.starts_with(SPACE);
                if run { self.space_runs.get(bytes).copied() } else { None }
            })
        };
        for c in text.chars() {
            let id = self.pieces.get(c.encode_utf8(&mut [0; 4]), vocab.texts());
            merger.push(id.unwrap_or(NONE), c.len_utf8() as u32);
        }
        match &self.ranking {
            Ranking::Scores(ranks) => merger.run(|left, right| {
                let len = left.len + right.len;
                if len > self.longest {
                    return None;
                }
                let id = piece(left.start, len)?;
                Some(Merge { rank: ranks[id as usize], id })
            }),
            Ranking::Merges(merges) => merger.run(|left, right| merges.get(&(left.id, right.id)).copied()),
        }
        for symbol in merger.symbols() {
            if symbol.id != NONE {
                ids.push(symbol.id);
                continue;
            }
            let bytes = text.as_bytes().get(symbol.start as usize..(symbol.start + symbol.len) as usize);
            let spelled = ids.len();
            ids.extend(bytes.unwrap_or_default().iter().map_while(|&byte| self.byte_ids[usize::from(byte)]));
            if ids.len() - spelled < symbol.len as usize {
                ids.truncate(spelled);
                // One unknown token stands for a whole run of unknown characters.
                ids.extend(self.unk.filter(|unk| ids.last() != Some(unk)));
            }
        }
    }
}

/// The byte that a token such as `<0x0A>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let two_digits = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if two_digits { u8::from_str_radix(digits, 16).ok() } else { None }
}

fn byte_ids(vocab: &Vocab) -> Box<[Option<u32>; 256]> {
    let mut ids = Box::new([None; 256]);
    for byte in 0..=255_u8 {
        ids[usize::from(byte)] = vocab.id_of(&format!("<0x{byte:02X}>"));
    }
    ids
}
