//! How the next token is drawn.
//!
//! Everything is a function of the row of logits, the tokens so far, the parameters and one random number. Sums over the
//! vocabulary come from `kernels`, which adds in one fixed order on every machine; equal logits are always ordered by
//! token id. The vocabulary is never sorted as a whole: what cannot be drawn is dropped first.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

use bantam_kernels::{Cpu, ops};

use crate::{
    grammar::TokenSet,
    request::{SubmitError, TokenLogprob},
    rng,
};

/// Most entries of `logit_bias`.
pub const MAX_LOGIT_BIAS: usize = 1024;

/// How the next token is drawn from the model's logits. The steps are applied in the order of the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// The tokens of a sequence as the penalties see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Everything in prompt and answer; kept only for a repetition penalty.
    seen: HashSet<u32>,
    /// Occurrences in the answer; kept only for a presence or frequency penalty.
    counts: HashMap<u32, u32>,
}

impl History {
    pub(crate) fn new(params: &SamplingParams, prompt: &[u32]) -> Self {
        let seen = if params.repetition_penalty == 1.0 { HashSet::new() } else { prompt.iter().copied().collect() };
        History { seen, counts: HashMap::new() }
    }

    /// Takes note of a token of the answer.
    pub(crate) fn push(&mut self, params: &SamplingParams, id: u32) {
        if params.repetition_penalty != 1.0 {
            self.seen.insert(id);
        }
        if params.presence_penalty != 0.0 || params.frequency_penalty != 0.0 {
            *self.counts.entry(id).or_default() += 1;
        }
    }

    fn adjust(&self, params: &SamplingParams, logits: &mut [f32]) {
        for &(id, bias) in &params.logit_bias {
            if let Some(l) = logits.get_mut(id as usize) {
                *l += bias;
            }
        }
        for &id in &self.seen {
            if let Some(l) = logits.get_mut(id as usize) {
                *l = if *l > 0.0 { *l / params.repetition_penalty } else { *l * params.repetition_penalty };
            }
        }
        for (&id, &count) in &self.counts {
            if let Some(l) = logits.get_mut(id as usize) {
                *l -= params.presence_penalty + params.frequency_penalty * count as f32;
            }
        }
    }
}

/// What a random number is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrawKey {
    pub(crate) seed: u64,
    pub(crate) choice_index: u32,
    /// Position of the token that is drawn, prompt included.
    pub(crate) position: usize,
}

/// Buffers of one vocabulary that draws take turns with.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    row: Vec<f32>,
}

impl Scratch {
    fn copy(&mut self, logits: &[f32]) -> &mut [f32] {
        self.row.clear();
        self.row.extend_from_slice(logits);
        &mut self.row
    }
}

/// Draws the next token from a row of logits, from those allowed if not all are; `None` if none has a finite logit.
pub(crate) fn draw(
    cpu: &Cpu,
    logits: &[f32],
    params: &SamplingParams,
    history: &History,
    key: DrawKey,
    allowed: Option<&TokenSet>,
    scratch: &mut Scratch,
) -> Option<u32> {
    let untouched =
        allowed.is_none() && params.logit_bias.is_empty() && history.seen.is_empty() && history.counts.is_empty();
    let greedy = params.temperature == 0.0 || params.top_k == 1;
    if untouched && greedy {
        return argmax(cpu, logits);
    }
    let row = scratch.copy(logits);
    history.adjust(params, row);
    if let Some(allowed) = allowed {
        allowed.mask(row);
    }
    let best = argmax(cpu, row)?;
    if greedy {
        return Some(best);
    }
    let max = row[best as usize];
    // Differences are taken before dividing: a tiny temperature then gives 0 for the best and minus infinity for the
    // rest instead of infinities all over.
    row.iter_mut().for_each(|l| *l = (*l - max) / params.temperature);
    let u = rng::uniform(key.seed, key.choice_index, key.position);

    let all_kept = params.top_p >= 1.0 && params.min_p <= 0.0;
    let drawn = if params.top_k > 0 && params.top_k < row.len() {
        let mut kept = top_n(row, params.top_k);
        let mut p: Vec<f32> = kept.iter().map(|c| c.1).collect();
        let n = p.len();
        ops::softmax(cpu, &mut p, n);
        kept.iter_mut().zip(p).for_each(|(c, p)| c.1 = p);
        cut_nucleus(&mut kept, params);
        pick(&kept, u)
    } else {
        let n = row.len();
        ops::softmax(cpu, row, n);
        if all_kept {
            pick_from_row(row, u)
        } else {
            let mut kept = nucleus(row, row[best as usize], params);
            cut_nucleus(&mut kept, params);
            pick(&kept, u)
        }
    };
    Some(drawn.unwrap_or(best))
}

fn argmax(cpu: &Cpu, row: &[f32]) -> Option<u32> {
    let best = ops::argmax(cpu, row)?;
    row[best].is_finite().then_some(best as u32)
}

/// The likelier first, ties by the lower id.
fn by_likelihood(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The `n` largest values with their ids, largest first, ties by the lower id; `n` is at least 1.
fn top_n(row: &[f32], n: usize) -> Vec<(u32, f32)> {
    let n = n.min(row.len());
    let capacity = n.saturating_mul(2).max(64);
    let mut kept: Vec<(u32, f32)> = Vec::with_capacity(capacity.min(row.len()));
    // Ids come in ascending order, so that whatever only equals the n-th best so far comes too late.
    let mut threshold = f32::NEG_INFINITY;
    let mut is_full = false;
    for (id, &value) in row.iter().enumerate() {
        if is_full && value <= threshold {
            continue;
        }
        kept.push((id as u32, value));
        if kept.len() >= capacity && n < kept.len() {
            kept.select_nth_unstable_by(n - 1, by_likelihood);
            kept.truncate(n);
            threshold = kept[n - 1].1;
            is_full = true;
        }
    }
    kept.sort_unstable_by(by_likelihood);
    kept.truncate(n);
    kept
}

/// Likeliest first, all tokens that [`cut_nucleus`] can keep and perhaps more; `best` is the largest probability.
fn nucleus(p: &[f32], best: f32, params: &SamplingParams) -> Vec<(u32, f32)> {
    // Tokens below (1 - top_p) / V have less than 1 - top_p together, so the nucleus is full without them. The factor
    // leaves room for rounding.
    let in_no_nucleus = (1.0 - params.top_p) / p.len() as f32 * 0.5;
    let least = in_no_nucleus.max(params.min_p * best);
    let mut kept: Vec<(u32, f32)> =
        p.iter().enumerate().filter(|&(_, &p)| p >= least && p > 0.0).map(|(id, &p)| (id as u32, p)).collect();
    // Usually a few hundred tokens make up the nucleus of many thousand candidates.
    let mut n = 256;
    while n < kept.len() {
        kept.select_nth_unstable_by(n - 1, by_likelihood);
        let mass: f64 = kept[..n].iter().map(|c| f64::from(c.1)).sum();
        if mass > f64::from(params.top_p) + 1e-4 {
            kept.truncate(n);
            break;
        }
        n *= 8;
    }
    kept.sort_unstable_by(by_likelihood);
    kept
}

/// Applies `top_p`, then `min_p`, to probabilities in descending order that sum to 1 (or miss only tokens that `top_p`
/// drops anyway).
fn cut_nucleus(kept: &mut Vec<(u32, f32)>, params: &SamplingParams) {
    if params.top_p < 1.0 {
        let mut mass = 0.0f64;
        let needed = kept.iter().position(|c| {
            mass += f64::from(c.1);
            mass >= f64::from(params.top_p)
        });
        kept.truncate(needed.map_or(kept.len(), |last| last + 1));
    }
    if let Some(&(_, best)) = kept.first() {
        kept.retain(|c| c.1 >= params.min_p * best);
    }
}

/// The token whose share of the sum contains `u`.
fn pick(kept: &[(u32, f32)], u: f64) -> Option<u32> {
    let total: f64 = kept.iter().map(|c| f64::from(c.1)).sum();
    let target = u * total;
    let mut mass = 0.0;
    let hit = kept.iter().find(|c| {
        mass += f64::from(c.1);
        mass > target
    });
    hit.or_else(|| kept.iter().rfind(|c| c.1 > 0.0)).map(|c| c.0)
}

/// [`pick`] over a whole row, in order of id: first the block, then the token in it.
fn pick_from_row(p: &[f32], u: f64) -> Option<u32> {
    const BLOCK: usize = 1024;
    let sums: Vec<f64> = p.chunks(BLOCK).map(sum).collect();
    let target = u * sums.iter().sum::<f64>();
    let last = |p: &[f32]| p.iter().rposition(|&p| p > 0.0);
    let mut mass = 0.0;
    let block = sums.iter().position(|&s| {
        let is_past = mass + s > target;
        mass += if is_past { 0.0 } else { s };
        is_past
    });
    // Rounding may leave the target past the end of the row or of the block: then it is the last token there.
    let Some(block) = block else { return last(p).map(|id| id as u32) };
    let first = block * BLOCK;
    let p = &p[first..p.len().min(first + BLOCK)];
    let hit = p.iter().position(|&p| {
        mass += f64::from(p);
        mass > target
    });
    hit.or_else(|| last(p)).map(|i| (first + i) as u32)
}

/// Sum in eight lanes, which the processor can add side by side.
fn sum(p: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for chunk in p.chunks(8) {
        chunk.iter().zip(&mut lanes).for_each(|(&p, lane)| *lane += f64::from(p));
    }
    lanes.iter().sum()
}

/// Log-probability of `id` under the raw distribution, among those allowed if not all are, and the `n_top` likeliest tokens.
pub(crate) fn logprob(
    cpu: &Cpu,
    logits: &[f32],
    id: u32,
    n_top: usize,
    allowed: Option<&TokenSet>,
    scratch: &mut Scratch,
) -> TokenLogprob {
    let row = scratch.copy(logits);
    if let Some(allowed) = allowed {
        allowed.mask(row);
    }
    let n = row.len();
    ops::log_softmax(cpu, row, n);
    let top = if n_top == 0 { Vec::new() } else { top_n(row, n_top) };
    TokenLogprob { logprob: row.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY), top }
}

/// Log-probability of `id`, and the likeliest token.
pub(crate) fn score(cpu: &Cpu, logits: &[f32], id: u32, scratch: &mut Scratch) -> (f32, u32) {
    let likeliest = argmax(cpu, logits).unwrap_or(id);
    (logprob(cpu, logits, id, 0, None, scratch).logprob, likeliest)
}

#[cfg(test)]
mod tests;
