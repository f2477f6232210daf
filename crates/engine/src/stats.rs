//! Counters that the engine thread keeps and anyone may read.

use std::time::Duration;

use crate::grammar::MaskTimes;

/// A snapshot of what the engine is doing and has done since it started. Totals only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Sequences in the batch now.
    pub running: usize,
    /// Requests that wait for a place in the batch, preempted sequences included.
    pub waiting: usize,
    /// Most requests that may wait; the next one is refused.
    pub queue_limit: usize,
    /// KV pages in the pool.
    pub kv_pages_total: usize,
    /// KV pages that running sequences hold, and pinned ones.
    pub kv_pages_used: usize,
    /// KV pages of pinned prompts.
    pub kv_pages_pinned: usize,
    /// KV pages that nobody holds but that the prefix cache remembers; they are given away when needed.
    pub kv_pages_cached: usize,
    /// Model steps run.
    pub steps: u64,
    /// Rows (tokens) that went through the model.
    pub computed_tokens: u64,
    /// Those of them that belong to prompts.
    pub prefill_rows: u64,
    /// Time of steps spent on prompts: where a step has both, it is shared out by rows.
    pub prefill_busy: Duration,
    /// Time of steps spent on answers.
    pub decode_busy: Duration,
    /// Prompt tokens of requests taken up.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens drawn.
    pub generated_tokens: u64,
    /// Tokens drafted and verified, in rows of their own among the computed ones.
    pub drafted_tokens: u64,
    /// Drafted tokens that were drawn, and so took no step of their own.
    pub accepted_tokens: u64,
    /// Tokens of answers that a grammar forced, and that were taken without a row of logits.
    pub forced_tokens: u64,
    /// How long it took to find out what grammars allow.
    pub masks: MaskTimes,
    /// Continuation tokens scored.
    pub scored_tokens: u64,
    /// Requests finished.
    pub finished_requests: u64,
    /// Requests given up by their client.
    pub cancelled_requests: u64,
    /// Requests that ended with an error.
    pub failed_requests: u64,
    /// Requests refused because the queue was full.
    pub refused_requests: u64,
    /// Times a sequence lost its pages to an older one and was computed again.
    pub preemptions: u64,
    /// Sum over finished generations of the time from submission to taking up.
    pub queue_time: Duration,
    /// Sum over finished generations of the time from submission to the first token.
    pub time_to_first_token: Duration,
    /// Sum over finished generations of the time from the first to the last token.
    pub decode_time: Duration,
}
