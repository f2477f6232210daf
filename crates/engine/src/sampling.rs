//! How the next token is drawn.

use crate::request::SubmitError;

/// Most entries of `logit_bias`.
pub const MAX_LOGIT_BIAS: usize = 1024;

/// How the next token is drawn from the model's logits. The steps are applied in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Added to the logits of these tokens, within -100 to 100; several entries of one token add up.
    pub logit_bias: Vec<(u32, f32)>,
    /// Every token that occurs in prompt or answer has its logit divided (if positive) or multiplied (if negative) by
    /// this (Keskar et al. 2019, as HF transformers applies it); above 0, 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens that occur in the answer (as OpenAI defines it); -2 to 2, 0 is off.
    pub presence_penalty: f32,
    /// Subtracted once per occurrence in the answer (as OpenAI defines it); -2 to 2, 0 is off.
    pub frequency_penalty: f32,
    /// Logits are divided by it; 0 takes the most likely token (ties: the lower id).
    pub temperature: f32,
    /// Keeps only this many most likely tokens (ties: the lower id); 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens whose probability reaches this share of what `top_k` kept; 1 keeps
    /// all, and at least one token is always kept.
    pub top_p: f32,
    /// Keeps tokens at least this times as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Together with choice index and position the key of the random number; `None` lets the engine draw one, which
    /// it reports at the end.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    /// The model's own distribution: temperature 1, nothing cut, nothing penalised.
    fn default() -> Self {
        SamplingParams {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: None,
        }
    }
}

impl SamplingParams {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        SamplingParams { temperature: 0.0, ..Self::default() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`SubmitError::Invalid`] naming the field.
    pub fn validate(&self, vocab_size: usize) -> Result<(), SubmitError> {
        let invalid = |param, why: &str| Err(SubmitError::invalid(param, why));
        if self.logit_bias.len() > MAX_LOGIT_BIAS {
            return Err(SubmitError::invalid("logit_bias", format!("at most {MAX_LOGIT_BIAS} entries are allowed")));
        }
        for &(id, bias) in &self.logit_bias {
            if id as usize >= vocab_size {
                return Err(SubmitError::invalid(
                    "logit_bias",
                    format!("token id {id} is outside the vocabulary of {vocab_size} tokens"),
                ));
            }
            if !(-100.0..=100.0).contains(&bias) {
                return invalid("logit_bias", "a bias must be between -100 and 100");
            }
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return invalid("repetition_penalty", "must be a number above 0");
        }
        if !(-2.0..=2.0).contains(&self.presence_penalty) {
            return invalid("presence_penalty", "must be between -2 and 2");
        }
        if !(-2.0..=2.0).contains(&self.frequency_penalty) {
            return invalid("frequency_penalty", "must be between -2 and 2");
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return invalid("temperature", "must be a number of at least 0");
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return invalid("top_p", "must be between 0 and 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return invalid("min_p", "must be between 0 and 1");
        }
        Ok(())
    }
}
