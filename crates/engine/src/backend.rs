//! What the scheduler needs of a model.
//!
//! The scheduler decides which tokens of which sequences go through the model next and on which pages; it knows
//! nothing of layers or weights. The seam is narrow so that its rules can be tested against a toy whose "logits" are a
//! hash of what the pages hold: a page that is shared, freed or overwritten wrongly changes the toy's answer at once.

/// Tokens per KV page.
pub const PAGE_TOKENS: usize = 16;

/// Which set of RoPE frequencies a sequence uses; fixed when it is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopeSet {
    /// For sequences within the original context.
    Short,
    /// For longer ones.
    Long,
}

/// Which rows of logits a chunk wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsWanted {
    /// No row.
    None,
    /// The last token's row.
    Last,
    /// One row per token.
    All,
}

/// Consecutive tokens of one sequence that go through the model in one step.
#[derive(Debug, Clone, Copy)]
pub struct SeqChunk<'a> {
    /// Token ids.
    pub tokens: &'a [u32],
    /// Position of the first of them in the sequence.
    pub first_pos: usize,
    /// The sequence's pages; cover `first_pos + tokens.len()` positions.
    pub pages: &'a [u32],
    /// The sequence's frequency set.
    pub rope: RopeSet,
    /// Rows wanted.
    pub logits: LogitsWanted,
}

/// A hidden state of this chunk was NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hidden state became NaN or infinite")]
pub struct NonFinite;

/// The step as a whole failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StepError(pub String);

/// Turns a growing sequence of token ids into text.
pub trait TextDecoder: Send {
    /// Text that became complete with this token; never part of a character.
    fn push(&mut self, id: u32) -> String;
    /// What is left: U+FFFD for bytes that never became a character.
    fn finish(&mut self) -> String;
}

/// A model with its KV pages, as the scheduler sees it.
pub trait Backend: Send {
    /// Number of token ids, and length of a row of logits.
    fn vocab_size(&self) -> usize;
    /// Longest sequence the model can compute.
    fn context_length(&self) -> usize;
    /// Number of KV pages, with ids `0..n_pages`.
    fn n_pages(&self) -> usize;
    /// End-of-generation token ids.
    fn eog(&self) -> &[u32];
    /// Frequency set for a sequence that may grow to `total_len` tokens.
    fn rope_set(&self, total_len: usize) -> RopeSet;
    /// A decoder for what follows `prompt`.
    fn text_decoder(&self, prompt: &[u32]) -> Box<dyn TextDecoder>;
    /// Computes one step; answers one entry per chunk, the rows wanted (`[n_wanted][vocab_size]`).
    ///
    /// # Errors
    /// [`StepError`] when nothing was computed; a chunk's own entry when only that sequence is affected.
    fn forward(&mut self, chunks: &[SeqChunk<'_>]) -> Result<Vec<Result<&[f32], NonFinite>>, StepError>;
    /// Forgets working state after a panic inside [`Backend::forward`].
    fn reset(&mut self);
}
