//! Tokens back to text, one at a time. A token may hold part of a character, so bytes wait until they are a character
//! or cannot become one.

use std::sync::Arc;

use super::{DecodeOptions, Tokenizer};

/// Turns a stream of token ids into text. What [`push`](Detokenizer::push) and [`finish`](Detokenizer::finish) answer
/// together is what [`Tokenizer::decode`] answers for all ids at once, and each answer is whole characters.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    options: DecodeOptions,
    /// The beginning of a character.
    pending: Vec<u8>,
    /// A space that comes first is still to be dropped.
    at_start: bool,
}

impl Detokenizer {
    /// A detokenizer at the start of a text, or of its continuation, as `options` say.
    pub fn new(tokenizer: Arc<Tokenizer>, options: DecodeOptions) -> Detokenizer {
        let at_start = tokenizer.drops_first_space(options);
        Detokenizer { tokenizer, options, pending: Vec::new(), at_start }
    }

    /// The characters that the next token completes; empty while a character is incomplete. Bytes that cannot become a
    /// character are answered as U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        let mut bytes = self.tokenizer.shown_bytes(id, self.options);
        if self.at_start && !bytes.is_empty() {
            self.at_start = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let complete = self.pending.len() - incomplete_tail(&self.pending);
        let text = String::from_utf8_lossy(self.pending.get(..complete).unwrap_or_default()).into_owned();
        self.pending.drain(..complete);
        text
    }

    /// What is left at the end: U+FFFD when the last character stayed incomplete, otherwise nothing.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }

    /// True while the bytes of an incomplete character wait for more.
    pub fn is_mid_character(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// Number of bytes at the end that could still become a character.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(_) => return 0,
            Err(error) => match error.error_len() {
                None => return rest.len() - error.valid_up_to(),
                Some(bad) => rest = rest.get(error.valid_up_to() + bad..).unwrap_or_default(),
            },
        }
    }
}
