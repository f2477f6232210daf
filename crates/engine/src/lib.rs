//! Scheduler, continuous batching, paged prefix cache, sampling and constrained decoding; sentence vectors.
//!
//! An [`Engine`] is a handle to one thread that owns one model. Any number of callers queue requests; the thread runs
//! all of them together, a few rows of each per step, and answers each through its own channel. What comes out for a
//! request depends on nothing but the request: not on what else is in the batch, on how its prompt was cut into chunks,
//! on whether its prefix was cached, or on whether it had to give up its pages and was computed again.

mod backend;
mod draft;
mod embedder;
mod engine;
mod grammar;
mod labels;
mod local;
mod pages;
mod request;
mod rng;
mod sampling;
mod scheduler;
mod sequence;
mod stats;
mod stop;

pub use backend::{Backend, TextDecoder};
pub use bantam_kernels::attention::{KvType, PAGE_TOKENS};
pub use embedder::{EmbedHandle, Embedder, EmbedderConfig, EmbedderParts, EmbedderStats, Embeddings, TooLong};
pub use engine::{Engine, EngineConfig, EngineError, Generation, JumpForward, KvBudget, ScoreHandle, Speculation};
pub use grammar::{
    Grammar, GrammarError, GrammarFault, GrammarMatcher, GrammarSource, MAX_CHOICES, MAX_GRAMMAR_BYTES,
    MAX_REGEX_BYTES, MAX_SCHEMA_BYTES, MaskTimes, Next, TokenSet, Vocabulary,
};
pub use labels::{Explore, LabelHandle, LabelRequest, LabelScores, LabelTrie, MAX_LABELS};
pub use local::EngineParts;
pub use request::{
    Completion, ContinuationScore, Event, FinishReason, GenerateError, GenerateRequest, LogprobsOf, MAX_CONTINUATIONS,
    MAX_LOGPROBS, MAX_SALT_BYTES, MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_STOP_TOKENS, ModelLimits, ScoreRequest, Scores,
    SubmitError, Timings, TokenLogprob, Usage,
};
pub use sampling::{MAX_LOGIT_BIAS, SamplingParams};
pub use stats::EngineStats;
