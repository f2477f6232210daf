//! What models in this process do.

use bantam_engine::EngineStats;

use super::text::{Family, Kind, Text};
use crate::model::Running;

/// A figure that an engine keeps.
struct Figure {
    family: Family,
    value: fn(&EngineStats) -> u64,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&EngineStats) -> u64) -> Figure {
    Figure { family: Family { name, kind: Kind::Counter, help }, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&EngineStats) -> u64) -> Figure {
    Figure { family: Family { name, kind: Kind::Gauge, help }, value }
}

const FIGURES: [Figure; 21] = [
    counter("bantam_prompt_tokens_total", "Prompt tokens of requests taken up", |s| s.prompt_tokens),
    counter("bantam_cached_prompt_tokens_total", "Prompt tokens found in the prefix cache", |s| s.cached_tokens),
    counter("bantam_generated_tokens_total", "Tokens generated", |s| s.generated_tokens),
    counter("bantam_drafted_tokens_total", "Tokens drafted and verified", |s| s.drafted_tokens),
    counter("bantam_accepted_tokens_total", "Drafted tokens that were generated", |s| s.accepted_tokens),
    counter("bantam_forced_tokens_total", "Generated tokens that a grammar left no choice about", |s| s.forced_tokens),
    counter("bantam_grammar_masks_total", "Times it was computed what a grammar allows", |s| s.masks.count),
    counter("bantam_grammar_mask_microseconds_total", "Time that took", |s| {
        u64::try_from(s.masks.total.as_micros()).unwrap_or(u64::MAX)
    }),
    counter("bantam_engine_steps_total", "Model steps run", |s| s.steps),
    counter("bantam_engine_computed_tokens_total", "Tokens that went through the model", |s| s.computed_tokens),
    counter("bantam_engine_cancelled_requests_total", "Requests given up by their client", |s| s.cancelled_requests),
    counter("bantam_engine_failed_requests_total", "Requests that ended with an error", |s| s.failed_requests),
    counter("bantam_engine_refused_requests_total", "Requests refused because the queue was full", |s| {
        s.refused_requests
    }),
    counter("bantam_engine_preemptions_total", "Times a sequence lost its pages to an older one", |s| s.preemptions),
    gauge("bantam_engine_running", "Sequences in the batch", |s| s.running as u64),
    gauge("bantam_engine_waiting", "Requests waiting for a place", |s| s.waiting as u64),
    gauge("bantam_engine_queue_limit", "Most requests that may wait", |s| s.queue_limit as u64),
    gauge("bantam_kv_pages_total", "KV pages in the pool", |s| s.kv_pages_total as u64),
    gauge("bantam_kv_pages_used", "KV pages held by running sequences and pins", |s| s.kv_pages_used as u64),
    gauge("bantam_kv_pages_pinned", "KV pages of pinned prompts", |s| s.kv_pages_pinned as u64),
    gauge("bantam_kv_pages_cached", "KV pages only the prefix cache remembers", |s| s.kv_pages_cached as u64),
];

const TEXTS: Family = Family { name: "bantam_embedded_texts_total", kind: Kind::Counter, help: "Texts embedded" };
const TOKENS: Family =
    Family { name: "bantam_embedded_tokens_total", kind: Kind::Counter, help: "Tokens of embedded texts" };
const REFUSED: Family = Family {
    name: "bantam_embedder_refused_requests_total",
    kind: Kind::Counter,
    help: "Requests for vectors refused because the queue was full",
};
const WAITING: Family =
    Family { name: "bantam_embedder_waiting", kind: Kind::Gauge, help: "Texts waiting for their vectors" };

pub(super) fn write(text: &mut Text, running: &Running) {
    let models: Vec<_> = running.models.iter().map(|m| ([("model", &*m.id)], m.engine.stats())).collect();
    for figure in &FIGURES {
        text.family(figure.family, models.iter().map(|(label, stats)| (*label, (figure.value)(stats))));
    }
    let encoders: Vec<_> = running.encoders.iter().map(|e| ([("model", &*e.id)], e.embedder.stats())).collect();
    text.family(TEXTS, encoders.iter().map(|(label, stats)| (*label, stats.texts)));
    text.family(TOKENS, encoders.iter().map(|(label, stats)| (*label, stats.tokens)));
    text.family(REFUSED, encoders.iter().map(|(label, stats)| (*label, stats.refused_requests)));
    text.family(WAITING, encoders.iter().map(|(label, stats)| (*label, stats.waiting)));
}
