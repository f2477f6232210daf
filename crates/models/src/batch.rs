//! What one forward pass is asked to do.

use crate::spec::RopeSet;

/// Consecutive tokens of one sequence: a piece of its prompt, or the token it generated last and perhaps a draft of the
/// next ones.
#[derive(Debug, Clone, Copy)]
pub struct SeqChunk<'a> {
    /// Token ids, at least one.
    pub tokens: &'a [u32],
    /// Position of the first token; keys and values of all positions before it are in `pages` already.
    pub first_pos: usize,
    /// Page table of the sequence, covering `first_pos + tokens.len()` positions at least. A page that this chunk
    /// writes to must belong to this sequence alone.
    pub pages: &'a [u32],
    /// Fixed for the life of the sequence, from [`crate::ArchSpec::rope_set`].
    pub rope: RopeSet,
    /// Which positions need logits.
    pub logits: LogitsWanted,
}

/// Which positions of a chunk need logits. The output holds `vocab_size` floats for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogitsWanted {
    /// None: a piece of a prompt that is not its last.
    None,
    /// The last position: the next token is to be sampled.
    #[default]
    Last,
    /// Every position, to score given tokens or verify a draft.
    All,
}

impl LogitsWanted {
    /// The rows wanted out of `n_tokens`, as a range.
    #[must_use]
    pub fn rows(self, n_tokens: usize) -> std::ops::Range<usize> {
        match self {
            LogitsWanted::None => n_tokens..n_tokens,
            LogitsWanted::Last => n_tokens.saturating_sub(1)..n_tokens,
            LogitsWanted::All => 0..n_tokens,
        }
    }
}
