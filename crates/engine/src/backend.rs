//! What the scheduler needs of a model.
//!
//! The scheduler decides which tokens of which sequences go through the model next and on which pages; it knows
//! nothing of layers or weights. The seam is narrow so that its rules can be tested against a toy whose "logits" are a
//! hash of what the pages hold: a page that is shared, freed or overwritten wrongly changes the toy's answer at once.

use std::sync::Arc;

use bantam_kernels::Cpu;
use bantam_models::{ForwardError, NonFinite, RopeSet, SeqChunk};

use crate::grammar::Vocabulary;

/// Turns a growing sequence of token ids into text.
pub trait TextDecoder: Send + Sync {
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
    /// What its tokens stand for, as grammars see them.
    fn vocabulary(&self) -> Arc<dyn Vocabulary>;
    /// The threads that compute, also used to draw tokens for many sequences at once.
    fn cpu(&self) -> &Cpu;
    /// Computes one step; answers one entry per chunk, the rows wanted (`[n_wanted][vocab_size]`).
    ///
    /// # Errors
    /// [`ForwardError`] when nothing was computed; a chunk's own entry when only that sequence is affected, whose newly
    /// written pages are then worthless.
    fn forward(&mut self, chunks: &[SeqChunk<'_>]) -> Result<Vec<Result<&[f32], NonFinite>>, ForwardError>;
    /// Forgets working state after a panic inside [`Backend::forward`].
    fn reset(&mut self);
}
