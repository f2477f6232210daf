//! The fields chat and completions share.
//!
//! Ranges that the OpenAI API defines are checked here; those that follow from the engine (stop strings, token ids,
//! penalties) are the engine's to check, and come back naming their field as well.

use bantam_engine::{GenerateRequest, SamplingParams};
use bantam_types::openai::{Common, OneOrMany};
use serde_json::{Map, Number, Value};

use super::Delivery;
use super::structured::{Wanted, structured_outputs};
use crate::error::ApiError;

/// Shared fields, checked.
pub(super) struct Shared {
    pub(super) n: usize,
    pub(super) options: GenerateRequest,
    pub(super) delivery: Delivery,
    /// What `structured_outputs` asks for.
    pub(super) structured: Option<Wanted>,
}

pub(super) fn shared(common: Common) -> Result<Shared, ApiError> {
    let defaults = SamplingParams::default();
    let in_range = |param, value: Option<f64>, low: f64, high: f64, default: f32| match value {
        None => Ok(default),
        Some(v) if (low..=high).contains(&v) => Ok(v as f32),
        Some(v) => Err(ApiError::field(param, format!("must be between {low} and {high}, is {v}"))),
    };
    if common.top_p == Some(0.0) {
        return Err(ApiError::field(
            "top_p",
            "must be above 0 and at most 1; for the likeliest token set 'temperature' to 0",
        ));
    }
    let sampling = SamplingParams {
        temperature: in_range("temperature", common.temperature, 0.0, 2.0, defaults.temperature)?,
        top_p: in_range("top_p", common.top_p, 0.0, 1.0, defaults.top_p)?.max(f32::MIN_POSITIVE),
        min_p: in_range("min_p", common.min_p, 0.0, 1.0, defaults.min_p)?,
        top_k: top_k(common.top_k)?,
        repetition_penalty: common.repetition_penalty.map_or(defaults.repetition_penalty, |v| v as f32),
        presence_penalty: common.presence_penalty.map_or(defaults.presence_penalty, |v| v as f32),
        frequency_penalty: common.frequency_penalty.map_or(defaults.frequency_penalty, |v| v as f32),
        logit_bias: logit_bias(common.logit_bias)?,
        seed: common.seed.map(seed).transpose()?,
    };
    let stop_tokens = common.stop_token_ids.unwrap_or_default();
    let options = GenerateRequest {
        max_tokens: common.max_tokens.map(|n| max_tokens("max_tokens", n)).transpose()?,
        sampling,
        stop: common.stop.map(OneOrMany::into_vec).unwrap_or_default(),
        stop_tokens: token_ids(&stop_tokens, |i| format!("stop_token_ids[{i}]"))?,
        ignore_eos: common.ignore_eos.unwrap_or_default(),
        ..GenerateRequest::new(Vec::new())
    };
    let n = common.n.unwrap_or(1);
    let n = usize::try_from(n).ok().filter(|&n| n > 0);
    let n = n.ok_or_else(|| ApiError::field("n", "must be at least 1"))?;
    let delivery = if common.stream.unwrap_or_default() {
        let include_usage = common.stream_options.and_then(|o| o.include_usage).unwrap_or_default();
        Delivery::Stream { include_usage }
    } else {
        Delivery::Whole
    };
    let structured = structured_outputs(common.structured_outputs)?;
    Ok(Shared { n, options, delivery, structured })
}

/// Checks the number of answers.
pub(super) fn choices(prompts: usize, n: usize, most: usize) -> Result<(), ApiError> {
    if prompts.saturating_mul(n) <= most {
        return Ok(());
    }
    Err(ApiError::field(
        "n",
        format!("{prompts} prompts times n = {n} are more than the {most} answers of one request"),
    ))
}

pub(super) fn max_tokens(param: &'static str, n: i64) -> Result<usize, ApiError> {
    usize::try_from(n)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| ApiError::field(param, format!("must be at least 1, is {n}")))
}

/// How many alternatives per token.
pub(super) fn alternatives(param: &'static str, n: i64, most: i64) -> Result<usize, ApiError> {
    usize::try_from(n)
        .ok()
        .filter(|_| n <= most)
        .ok_or_else(|| ApiError::field(param, format!("must be between 0 and {most}, is {n}")))
}

/// Token ids as the engine takes them; whether they are in the vocabulary is its to check.
pub(crate) fn token_ids(ids: &[i64], path: impl Fn(usize) -> String) -> Result<Vec<u32>, ApiError> {
    let convert = |(i, &id): (usize, &i64)| {
        u32::try_from(id).map_err(|_| ApiError::field(path(i), format!("{id} is no token id")))
    };
    ids.iter().enumerate().map(convert).collect()
}

fn top_k(value: Option<i64>) -> Result<usize, ApiError> {
    match value {
        None | Some(-1) => Ok(0),
        Some(k) => usize::try_from(k).map_err(|_| {
            ApiError::field("top_k", format!("must be at least 1, or 0 or -1 to keep all tokens, is {k}"))
        }),
    }
}

fn seed(value: Number) -> Result<u64, ApiError> {
    let negative = || value.as_i64().map(i64::cast_unsigned);
    value
        .as_u64()
        .or_else(negative)
        .ok_or_else(|| ApiError::field("seed", format!("must be an integer of at most 64 bits, is {value}")))
}

fn logit_bias(biases: Option<Map<String, Value>>) -> Result<Vec<(u32, f32)>, ApiError> {
    let convert = |(id, bias): (String, Value)| {
        let fault = |why: &str| ApiError::field(format!("logit_bias.{id}"), why);
        let token = id.parse().map_err(|_| fault("the keys must be token ids, written as decimal numbers"))?;
        let bias = bias.as_f64().ok_or_else(|| fault("a bias must be a number between -100 and 100"))?;
        Ok((token, bias as f32))
    };
    biases.unwrap_or_default().into_iter().map(convert).collect()
}
