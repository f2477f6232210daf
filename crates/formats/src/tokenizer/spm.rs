//! SentencePiece BPE: the characters of a text merge into the token of highest score, and what is no token in the end
//! is spelled in byte tokens `<0x00>` to `<0xFF>`. Spaces are written as U+2581 and belong to the word after them.
//! Nothing else is normalised, as in every decoder model that uses it.

use std::cmp::Reverse;

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
    /// User-defined runs of spaces, the longest first, with the number of spaces. They come before all merging.
    runs: Vec<(usize, u32)>,
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
        let mut runs = Vec::new();
        let mut longest = 0;
        let mut before_space = HashSet::new();
        for (id, text, ty) in vocab.iter() {
            if text.is_empty() || matches!(ty, TokenType::Control | TokenType::Unknown | TokenType::Byte) {
                continue;
            }
            pieces.insert(text, id, vocab.texts());
            if let Some(n) = run_of_spaces(text, ty).filter(|_| matches!(ranking, Ranking::Scores(_))) {
                runs.push((n, id));
            }
            longest = longest.max(text.len() as u32);
            let pairs = text.chars().zip(text.chars().skip(1));
            before_space.extend(pairs.filter(|&(_, next)| next == SPACE).map(|(c, _)| c));
        }
        runs.sort_unstable_by_key(|&(n, id)| (Reverse(n), id));
        Ok(SentencePiece { pieces, runs, ranking, byte_ids, unk, longest, before_space })
    }

    /// Encodes `text`, in which spaces are written as [`SPACE`] already.
    pub(super) fn encode(&self, text: &str, vocab: &Vocab, ids: &mut Vec<u32>, merger: &mut Merger) {
        let mut chunk = 0;
        let mut at = 0;
        let mut last = None;
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            if c == SPACE {
                let starts_run = last != Some(SPACE);
                let taken = if starts_run { self.take_runs(text.get(at..).unwrap_or_default()) } else { Vec::new() };
                let breaks = !taken.is_empty() || last.is_some_and(|last| !self.before_space.contains(&last));
                if breaks {
                    self.encode_chunk(text.get(chunk..at).unwrap_or_default(), vocab, ids, merger);
                    chunk = at;
                }
                if !taken.is_empty() {
                    ids.extend(taken.iter().map(|&(_, id)| id));
                    at += taken.iter().map(|(n, _)| n * SPACE.len_utf8()).sum::<usize>();
                    chunk = at;
                    last = Some(SPACE);
                    continue;
                }
            }
            last = Some(c);
            at += c.len_utf8();
        }
        self.encode_chunk(text.get(chunk..).unwrap_or_default(), vocab, ids, merger);
    }

    /// The user-defined runs that the spaces at the beginning of `text` are.
    fn take_runs(&self, text: &str) -> Vec<(usize, u32)> {
        let mut taken = Vec::new();
        let Some(&(shortest, _)) = self.runs.last() else { return taken };
        let mut left = text.chars().take_while(|&c| c == SPACE).count();
        while left >= shortest {
            let Some(&run) = self.runs.get(self.runs.partition_point(|(n, _)| *n > left)) else { break };
            taken.push(run);
            left -= run.0;
        }
        taken
    }

    fn encode_chunk(&self, text: &str, vocab: &Vocab, ids: &mut Vec<u32>, merger: &mut Merger) {
        merger.clear();
        let piece = |start: u32, len: u32| {
            let bytes = text.get(start as usize..(start + len) as usize)?;
            self.pieces.get(bytes, vocab.texts())
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

/// The number of spaces when a token is a user-defined run of two or more. Files write them as U+2581 or as spaces.
pub(super) fn run_of_spaces(text: &str, ty: TokenType) -> Option<usize> {
    let n = text.chars().count();
    (ty == TokenType::UserDefined && n > 1 && text.chars().all(|c| c == SPACE || c == ' ')).then_some(n)
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
