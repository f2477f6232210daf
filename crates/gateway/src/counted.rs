//! Tokens to charge for answers from elsewhere, whose servers count them, or do not, or count wrongly.

use bantam_ledger::TokenCounts;
use bantam_providers::wire::Api;
use bantam_providers::wire::probe::{Said, Usage};

use crate::flow::Asked;

/// Of an answer that has ended. A server that counts nothing, or more tokens than its answer has bytes, is not believed: then what was said counts, as
/// far as the request allowed.
pub(crate) fn whole(asked: &Asked, usage: Option<Usage>, said: &Said) -> TokenCounts {
    let usage = usage.unwrap_or_default();
    let prompt = asked.prompt_bound();
    let input = if usage.prompt == 0 || usage.prompt > asked.bytes.len() as u64 + 4096 { prompt } else { usage.prompt };
    let visible = usage.completion.saturating_sub(usage.reasoning);
    let uncounted = usage.completion == 0 && asked.api != Api::Embeddings;
    let output = if uncounted || visible > said.bytes() { estimate(asked, said) } else { usage.completion };
    TokenCounts {
        input,
        cached: usage.cached.min(input),
        cache_written: usage.cache_written.min(input),
        output,
        reasoning: usage.reasoning.min(output),
    }
}

/// Of an answer that is under way, or broke off: a server has read the whole prompt when it begins to answer, and counts what it writes at its end.
pub(crate) fn so_far(asked: &Asked, usage: Option<Usage>, said: &Said) -> TokenCounts {
    let usage = usage.unwrap_or_default();
    whole(asked, Some(Usage { completion: usage.completion.max(estimate(asked, said)), ..usage }), said)
}

fn estimate(asked: &Asked, said: &Said) -> u64 {
    said.tokens().min(asked.output_bound().unwrap_or(u64::MAX))
}
