//! What callers ask of the engine, what they get back, and every way a request can be refused.
//!
//! Requests are validated here, once, against the limits of the running model, before they take a place in the queue:
//! past [`GenerateRequest::validate`] the scheduler never meets a token id outside the vocabulary or a NaN parameter.

use std::time::Duration;

use crate::{grammar::Grammar, sampling::SamplingParams};

/// Most stop strings a request may carry.
pub const MAX_STOP_STRINGS: usize = 16;
/// Longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most stop token ids a request may carry.
pub const MAX_STOP_TOKENS: usize = 256;
/// Most alternatives per position that `logprobs` may ask for.
pub const MAX_LOGPROBS: usize = 20;
/// Longest cache salt, in bytes.
pub const MAX_SALT_BYTES: usize = 256;
/// Most continuations one [`ScoreRequest`] may carry.
pub const MAX_CONTINUATIONS: usize = 4096;

/// Asks for one continuation of a prompt.
///
/// Several choices of one prompt are several requests that differ in `choice_index`; the prompt is computed once,
/// because its pages are shared.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// Prompt token ids, special tokens (BOS) included; must leave room for at least one token in the context.
    pub prompt: Vec<u32>,
    /// Most tokens to generate, at least 1; `None` means up to the end of the context. A number that reaches past the
    /// end of the context is not an error: the answer then ends there with [`FinishReason::Length`].
    pub max_tokens: Option<usize>,
    /// How the next token is drawn.
    pub sampling: SamplingParams,
    /// Strings that end the answer (at most [`MAX_STOP_STRINGS`]); the text ends before the first of them.
    pub stop: Vec<String>,
    /// Token ids that end the answer, besides the model's own end-of-generation tokens.
    pub stop_tokens: Vec<u32>,
    /// Goes on past the model's end-of-generation tokens (benchmarks); `stop` and `stop_tokens` still hold. An
    /// answer with a grammar ends as ever.
    pub ignore_eos: bool,
    /// Reports the log-probability of each token and of this many most likely alternatives (0 to [`MAX_LOGPROBS`]).
    pub logprobs: Option<usize>,
    /// Among which tokens log-probabilities are taken.
    pub logprobs_of: LogprobsOf,
    /// Which of several choices of one prompt this is; part of the random number's key.
    pub choice_index: u32,
    /// Requests share cached prompt pages only with requests of the same salt.
    pub cache_salt: Option<String>,
    /// What the answer must follow. Tokens that it does not allow cannot be drawn, and the answer ends where it is
    /// complete; one that ends with [`FinishReason::Length`] is a beginning that may not be valid by itself.
    pub grammar: Option<Grammar>,
}

impl GenerateRequest {
    /// A request for `prompt` with every option at its default.
    pub fn new(prompt: Vec<u32>) -> Self {
        GenerateRequest {
            prompt,
            max_tokens: None,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            logprobs_of: LogprobsOf::default(),
            choice_index: 0,
            cache_salt: None,
            grammar: None,
        }
    }

    /// Checks every field against the model's limits.
    ///
    /// # Errors
    /// [`SubmitError::Invalid`] names the field; [`SubmitError::TooLong`] when the prompt leaves no room for a token.
    pub fn validate(&self, limits: &ModelLimits) -> Result<(), SubmitError> {
        check_prompt(&self.prompt, limits)?;
        if self.max_tokens == Some(0) {
            return Err(SubmitError::invalid("max_tokens", "must be at least 1"));
        }
        self.sampling.validate(limits.vocab_size)?;
        if self.stop.len() > MAX_STOP_STRINGS {
            return Err(SubmitError::invalid("stop", format!("at most {MAX_STOP_STRINGS} stop strings are allowed")));
        }
        for s in &self.stop {
            if s.is_empty() {
                return Err(SubmitError::invalid("stop", "a stop string must not be empty"));
            }
            if s.len() > MAX_STOP_BYTES {
                return Err(SubmitError::invalid(
                    "stop",
                    format!("a stop string must not be longer than {MAX_STOP_BYTES} bytes"),
                ));
            }
        }
        if self.stop_tokens.len() > MAX_STOP_TOKENS {
            return Err(SubmitError::invalid(
                "stop_tokens",
                format!("at most {MAX_STOP_TOKENS} stop tokens are allowed"),
            ));
        }
        check_ids("stop_tokens", &self.stop_tokens, limits.vocab_size)?;
        if self.logprobs.is_some_and(|n| n > MAX_LOGPROBS) {
            return Err(SubmitError::invalid("logprobs", format!("must be between 0 and {MAX_LOGPROBS}")));
        }
        check_salt(self.cache_salt.as_deref())
    }

    /// Number of tokens that may be generated: `max_tokens`, cut at the end of the context. The prompt must fit.
    pub(crate) fn token_limit(&self, limits: &ModelLimits) -> usize {
        let room = limits.context_length.saturating_sub(self.prompt.len());
        self.max_tokens.map_or(room, |n| n.min(room))
    }
}

/// Among which tokens the log-probabilities of an answer with a grammar are taken. Without one it makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogprobsOf {
    /// Among all tokens of the vocabulary: what the model would write by itself.
    #[default]
    Vocabulary,
    /// Among those that the grammar allowed: how sure the model is of what it could choose. A forced token is certain.
    Allowed,
}

/// Asks for the log-probabilities of given continuations of one prompt.
///
/// A perplexity run is one continuation of any length (it is computed in chunks of bounded memory); a multiple-choice
/// question is several short ones that share the prompt's pages.
#[derive(Debug, Clone)]
pub struct ScoreRequest {
    /// Prompt token ids; at least one, because the first continuation token needs something to follow.
    pub prompt: Vec<u32>,
    /// The continuations, each at least one token; prompt and continuation together must fit the context.
    pub continuations: Vec<Vec<u32>>,
    /// Requests share cached prompt pages only with requests of the same salt.
    pub cache_salt: Option<String>,
}

impl ScoreRequest {
    /// A request for `continuations` of `prompt` without a cache salt.
    pub fn new(prompt: Vec<u32>, continuations: Vec<Vec<u32>>) -> Self {
        ScoreRequest { prompt, continuations, cache_salt: None }
    }

    /// Checks every field against the model's limits.
    ///
    /// # Errors
    /// [`SubmitError::Invalid`] names the field; [`SubmitError::TooLong`] when prompt and continuation do not fit.
    pub fn validate(&self, limits: &ModelLimits) -> Result<(), SubmitError> {
        check_prompt(&self.prompt, limits)?;
        if self.continuations.is_empty() {
            return Err(SubmitError::invalid("continuations", "must hold at least one continuation"));
        }
        if self.continuations.len() > MAX_CONTINUATIONS {
            return Err(SubmitError::invalid(
                "continuations",
                format!("at most {MAX_CONTINUATIONS} continuations are allowed"),
            ));
        }
        for c in &self.continuations {
            if c.is_empty() {
                return Err(SubmitError::invalid("continuations", "a continuation must not be empty"));
            }
            // The last token of a continuation is only looked up in a row of logits, never fed to the model, yet it
            // has a position in the text and counts against the context like any other.
            let total = self.prompt.len().saturating_add(c.len());
            if total > limits.context_length {
                return Err(SubmitError::TooLong { prompt: total, max: limits.context_length });
            }
            check_ids("continuations", c, limits.vocab_size)?;
        }
        check_salt(self.cache_salt.as_deref())
    }
}

pub(crate) fn check_prompt(prompt: &[u32], limits: &ModelLimits) -> Result<(), SubmitError> {
    if prompt.is_empty() {
        return Err(SubmitError::invalid("prompt", "must hold at least one token"));
    }
    if prompt.len() >= limits.context_length {
        return Err(SubmitError::TooLong { prompt: prompt.len(), max: limits.context_length.saturating_sub(1) });
    }
    check_ids("prompt", prompt, limits.vocab_size)
}

pub(crate) fn check_ids(param: &'static str, ids: &[u32], vocab_size: usize) -> Result<(), SubmitError> {
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(id) => {
            Err(SubmitError::invalid(param, format!("token id {id} is outside the vocabulary of {vocab_size} tokens")))
        }
        None => Ok(()),
    }
}

pub(crate) fn check_salt(salt: Option<&str>) -> Result<(), SubmitError> {
    match salt {
        Some(s) if s.len() > MAX_SALT_BYTES => {
            Err(SubmitError::invalid("cache_salt", format!("must not be longer than {MAX_SALT_BYTES} bytes")))
        }
        _ => Ok(()),
    }
}

/// What a request is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelLimits {
    /// Number of token ids; valid ids are below it.
    pub vocab_size: usize,
    /// Most tokens a sequence may have, prompt and answer together: the smallest of the model's context, the
    /// configured one, and what the KV pool can hold.
    pub context_length: usize,
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Every place in the queue is taken; try again after about `retry_after`.
    #[error("the queue is full; try again in about {} s", retry_after.as_secs().max(1))]
    QueueFull {
        /// Estimated time until a place is free, from recent request durations.
        retry_after: Duration,
    },
    /// The prompt (for a score: prompt and continuation) does not fit.
    #[error("the input has {prompt} tokens but at most {max} fit the context")]
    TooLong {
        /// Tokens that were given.
        prompt: usize,
        /// Most tokens that could have been given.
        max: usize,
    },
    /// A field has a value that cannot be served.
    #[error("{param}: {why}")]
    Invalid {
        /// The field's name.
        param: &'static str,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// The engine is shutting down and takes no new requests.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl SubmitError {
    pub(crate) fn invalid(param: &'static str, why: impl Into<String>) -> Self {
        SubmitError::Invalid { param, why: why.into() }
    }
}

/// Why a request that was taken did not finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// The model's hidden state became NaN or infinite for this request.
    #[error("the model produced a non-finite value at token {position}; the request cannot be continued")]
    NonFinite {
        /// Index of the last token (prompt included) that was being computed.
        position: usize,
    },
    /// The grammar asks for more work than is allowed; a simpler one can be followed.
    #[error("the answer cannot go on after {tokens} tokens: {why}")]
    Grammar {
        /// Tokens of the answer until then.
        tokens: usize,
        /// What the grammar engine said.
        why: String,
    },
    /// The model refused the step or the engine failed inside it; the request may be sent again.
    #[error("the engine failed while computing this request: {why}")]
    EngineFailed {
        /// What happened.
        why: String,
    },
    /// The engine shut down before the request was finished.
    #[error("the engine shut down before the request was finished")]
    ShutDown,
}

/// One step of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A token was drawn. The answer's text is the concatenation of `text` over all tokens.
    Token {
        /// Its id.
        id: u32,
        /// Text that became certain with it: empty while a character is incomplete or a stop string may be starting,
        /// more than the token's own when such text is let go. Never contains any part of a matched stop string.
        text: String,
        /// Its log-probability, if the request asked for it.
        logprob: Option<TokenLogprob>,
        /// The token is an end-of-generation or stop token: it ends the answer and has no text of its own.
        end: bool,
    },
    /// The answer is complete; nothing follows.
    Done {
        /// Why it ended.
        finish: FinishReason,
        /// The stop string that ended it, if one did.
        matched_stop: Option<String>,
        /// Token counts.
        usage: Usage,
        /// Where the time went.
        timings: Timings,
        /// The seed that was used, drawn by the engine if the request had none: with it the answer can be replayed.
        seed: u64,
    },
    /// The request failed; nothing follows.
    Error(GenerateError),
}

/// Log-probability of a token under the model's raw distribution (before bias, penalties and temperature; before the grammar
/// too, unless [`LogprobsOf::Allowed`] was asked for).
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// Natural logarithm of the token's probability.
    pub logprob: f32,
    /// The most likely tokens with their log-probabilities, best first, ties by the lower id.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// An end-of-generation token, a stop token, a stop string, or a grammar that is complete.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// Token counts of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were found in the prefix cache and not computed again.
    pub cached_tokens: usize,
    /// Tokens drawn, the one that ended the answer included.
    pub completion_tokens: usize,
}

/// Where the time of one request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From submission until the scheduler took it up.
    pub queued: Duration,
    /// From then until the first token was drawn.
    pub prefill: Duration,
    /// From the first token until the last.
    pub decode: Duration,
}

impl Timings {
    /// From submission until the first token.
    pub fn time_to_first_token(&self) -> Duration {
        self.queued + self.prefill
    }

    /// From submission until the last token.
    pub fn total(&self) -> Duration {
        self.queued + self.prefill + self.decode
    }

    /// Tokens per second while decoding: the tokens after the first over the time they took; `None` below two tokens.
    pub fn decode_rate(&self, completion_tokens: usize) -> Option<f64> {
        let seconds = self.decode.as_secs_f64();
        (completion_tokens > 1 && seconds > 0.0).then(|| (completion_tokens - 1) as f64 / seconds)
    }
}

/// A whole answer, for callers that do not stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// All drawn token ids.
    pub tokens: Vec<u32>,
    /// The text, without stop strings.
    pub text: String,
    /// One entry per token if the request asked for log-probabilities, else empty.
    pub logprobs: Vec<TokenLogprob>,
    /// Why it ended.
    pub finish: FinishReason,
    /// The stop string that ended it, if one did.
    pub matched_stop: Option<String>,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// The seed that was used.
    pub seed: u64,
}

/// Log-probabilities of one continuation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContinuationScore {
    /// Natural logarithm of each token's probability given everything before it.
    pub logprobs: Vec<f32>,
    /// The most likely token at the position of each (ties: the lower id).
    pub argmax: Vec<u32>,
}

impl ContinuationScore {
    /// Log-probability of the whole continuation.
    pub fn sum(&self) -> f64 {
        self.logprobs.iter().map(|&l| f64::from(l)).sum()
    }
}

/// Answer to a [`ScoreRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// One entry per continuation, in the order of the request.
    pub continuations: Vec<ContinuationScore>,
    /// Tokens that were found in the prefix cache and not computed again, over all continuations.
    pub cached_tokens: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ModelLimits = ModelLimits { vocab_size: 100, context_length: 32 };

    fn param(r: &GenerateRequest) -> &'static str {
        match r.validate(&LIMITS) {
            Err(SubmitError::Invalid { param, .. }) => param,
            other => panic!("expected an invalid field, got {other:?}"),
        }
    }

    #[test]
    fn each_bad_field_is_named() {
        let good = GenerateRequest::new(vec![1, 2, 3]);
        assert_eq!(good.validate(&LIMITS), Ok(()));
        assert_eq!(param(&GenerateRequest::new(vec![])), "prompt");
        assert_eq!(param(&GenerateRequest::new(vec![100])), "prompt");
        assert_eq!(param(&GenerateRequest { max_tokens: Some(0), ..good.clone() }), "max_tokens");
        assert_eq!(param(&GenerateRequest { stop: vec![String::new()], ..good.clone() }), "stop");
        assert_eq!(param(&GenerateRequest { stop: vec!["x".into(); 17], ..good.clone() }), "stop");
        assert_eq!(param(&GenerateRequest { stop: vec!["x".repeat(1025)], ..good.clone() }), "stop");
        assert_eq!(param(&GenerateRequest { stop_tokens: vec![100], ..good.clone() }), "stop_tokens");
        assert_eq!(param(&GenerateRequest { logprobs: Some(21), ..good.clone() }), "logprobs");
        assert_eq!(param(&GenerateRequest { cache_salt: Some("s".repeat(257)), ..good }), "cache_salt");
    }

    #[test]
    fn a_prompt_must_leave_room_for_one_token() {
        assert_eq!(GenerateRequest::new(vec![1; 31]).validate(&LIMITS), Ok(()));
        assert_eq!(
            GenerateRequest::new(vec![1; 32]).validate(&LIMITS),
            Err(SubmitError::TooLong { prompt: 32, max: 31 })
        );
    }

    #[test]
    fn the_token_limit_ends_at_the_context() {
        let r = GenerateRequest::new(vec![1; 30]);
        assert_eq!(r.token_limit(&LIMITS), 2);
        assert_eq!(GenerateRequest { max_tokens: Some(usize::MAX), ..r.clone() }.token_limit(&LIMITS), 2);
        assert_eq!(GenerateRequest { max_tokens: Some(1), ..r }.token_limit(&LIMITS), 1);
    }

    #[test]
    fn score_requests_are_checked() {
        assert_eq!(ScoreRequest::new(vec![1], vec![vec![2; 31]]).validate(&LIMITS), Ok(()));
        assert_eq!(
            ScoreRequest::new(vec![1], vec![vec![2; 32]]).validate(&LIMITS),
            Err(SubmitError::TooLong { prompt: 33, max: 32 })
        );
        for bad in [vec![], vec![vec![]], vec![vec![100]]] {
            let r = ScoreRequest::new(vec![1], bad).validate(&LIMITS);
            assert!(matches!(r, Err(SubmitError::Invalid { param: "continuations", .. })), "{r:?}");
        }
    }
}
