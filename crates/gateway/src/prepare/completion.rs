//! `/v1/completions`: checks the fields and tokenises.

use std::sync::Arc;

use bantam_formats::{DecodeOptions, EncodeOptions};
use bantam_types::openai::{CompletionFields, CompletionRequest, Prompt};

use super::sampling::{Shared, alternatives, choices, shared, token_ids};
use super::{Prepared, PromptTokens};
use crate::answer::CallStyle;
use crate::error::ApiError;
use crate::model::ServedModel;

/// What OpenAI generates when a completion request does not say.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Most alternatives per token of a completion.
const MAX_ALTERNATIVES: i64 = 5;

pub(crate) fn completion(
    model: Arc<ServedModel>,
    request: CompletionRequest,
    max_choices: usize,
) -> Result<Prepared, ApiError> {
    let Shared { n, mut options, delivery, structured } = shared(request.common)?;
    let CompletionFields { prompt, logprobs, echo, suffix, best_of } = request.own;
    options.max_tokens = options.max_tokens.or(Some(DEFAULT_MAX_TOKENS));
    options.logprobs = logprobs.map(|n| alternatives("logprobs", n, MAX_ALTERNATIVES)).transpose()?;
    let echo = echo.unwrap_or_default();
    if echo && options.logprobs.is_some() {
        return Err(ApiError::unsupported(
            "echo",
            "log probabilities of the prompt are not available here; leave out 'logprobs'",
        ));
    }
    if suffix.is_some_and(|s| !s.is_empty()) {
        return Err(ApiError::unsupported("suffix", "this server only continues text at its end"));
    }
    if best_of.is_some_and(|b| b != 1 && usize::try_from(b) != Ok(n)) {
        return Err(ApiError::unsupported("best_of", "this server returns all 'n' answers it generates"));
    }
    let count = match &prompt {
        Prompt::Text(_) | Prompt::Tokens(_) => 1,
        Prompt::Texts(list) => list.len(),
        Prompt::TokenLists(list) => list.len(),
    };
    if count == 0 {
        return Err(ApiError::field("prompt", "must not be an empty array"));
    }
    choices(count, n, max_choices)?;
    options.grammar = structured.map(|wanted| wanted.compile(&model)).transpose()?;
    let from_text = |text: String| {
        // As the model's own tokenizer would: with its beginning-of-text token, and special tokens by their names.
        let ids = model.tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: true })?;
        Ok(PromptTokens { ids, echo: echo.then_some(text) })
    };
    let from_ids = |ids: Vec<u32>| {
        let text = |ids: &[u32]| model.tokenizer.decode(ids, DecodeOptions { skip_special: true, continuation: false });
        PromptTokens { echo: echo.then(|| text(&ids)), ids }
    };
    let prompts = match prompt {
        Prompt::Text(text) => vec![from_text(text)?],
        Prompt::Texts(list) => list.into_iter().map(from_text).collect::<Result<_, ApiError>>()?,
        Prompt::Tokens(ids) => vec![from_ids(checked(&model, &ids, |i| format!("prompt[{i}]"))?)],
        Prompt::TokenLists(lists) => {
            let lists = lists.iter().enumerate();
            let check = |(j, ids): (usize, &Vec<i64>)| checked(&model, ids, |i| format!("prompt[{j}][{i}]"));
            lists.map(|list| check(list).map(&from_ids)).collect::<Result<_, ApiError>>()?
        }
    };
    let shows_logprobs = options.logprobs.is_some();
    Ok(Prepared { shows_logprobs, model, input: "prompt", prompts, n, options, delivery, calls: CallStyle::None })
}

/// Token ids are decoded for the echo before the engine sees them, so their range is checked here.
fn checked(model: &ServedModel, ids: &[i64], path: impl Fn(usize) -> String) -> Result<Vec<u32>, ApiError> {
    let ids = token_ids(ids, &path)?;
    let vocab_size = model.engine.limits().vocab_size;
    match ids.iter().position(|&id| id as usize >= vocab_size) {
        Some(i) => {
            Err(ApiError::field(path(i), format!("{} is outside the vocabulary of {vocab_size} tokens", ids[i])))
        }
        None => Ok(ids),
    }
}
