//! `bantam route bench`: how long a decision takes, from text to choice, on one core.

use std::time::Instant;

use bantam_engine::TooLong;
use bantam_router::prompt::Asked;
use bantam_router::{EncoderId, Router};
use bantam_stats::metrics::percentiles;
use clap::Args;
use serde_json::json;

use super::RouterFile;
use super::vectors::Local;
use crate::cli::Globals;
use crate::load::encoder::EncoderArgs;
use crate::output;

/// Words of about one token each.
const WORDS: [&str; 16] = [
    "what", "is", "the", "cost", "of", "three", "red", "boxes", "if", "each", "one", "takes", "two", "more", "hours",
    "today",
];

/// Arguments of `bantam route bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    router: RouterFile,
    /// Lengths of prompts, in tokens
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [64, 300])]
    tokens: Vec<usize>,
    /// Decisions per length
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..))]
    runs: u32,
    #[command(flatten)]
    encoder: EncoderArgs,
}

pub(crate) fn run(args: &BenchArgs, globals: &Globals) -> anyhow::Result<()> {
    let router = args.router.open()?;
    let local = Local::of(&router, &EncoderArgs { threads: 1, ..args.encoder.clone() }, globals)?;
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for &tokens in &args.tokens {
        let id = EncoderId { tokens: tokens.min(local.embedder().context_length()), ..router.encoder().clone() };
        let (of_all, of_decision) = measure(&local, &router, &id, tokens, args.runs as usize)?;
        let (all, decision) = (percentiles(&of_all)?, percentiles(&of_decision)?);
        let ms = |seconds: f64| format!("{:.2} ms", 1000.0 * seconds);
        rows.push(vec![tokens.to_string(), id.tokens.to_string(), ms(all.p50), ms(all.p99), ms(decision.p50)]);
        figures.push(json!({
            "tokens": tokens, "read": id.tokens, "p50_ms": 1000.0 * all.p50, "p99_ms": 1000.0 * all.p99,
            "decision_p50_ms": 1000.0 * decision.p50,
        }));
    }
    if globals.json {
        return output::print_json(&figures);
    }
    let headers = ["PROMPT TOKENS", "READ", "P50", "P99", "OF THAT THE HEAD (P50)"];
    output::print(&output::table(&headers, &headers, rows))
}

/// Seconds from text to choice, and of that from vector to choice.
fn measure(
    local: &Local,
    router: &Router,
    id: &EncoderId,
    tokens: usize,
    runs: usize,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let text = |run: usize| -> anyhow::Result<String> {
        // Grown until it has the length that is wanted, whatever the tokenizer makes of the words.
        let mut text = String::new();
        let mut word = run;
        while local.embedder().tokens(&text, TooLong::Refuse)?.len() < tokens {
            text.push_str(WORDS[word % WORDS.len()]);
            text.push(' ');
            word += 1 + run % 5;
        }
        Ok(text)
    };
    let (mut all, mut decisions) = (Vec::new(), Vec::new());
    // The first few warm the caches and do not count.
    let warm = 10;
    for run in 0..runs + warm {
        let text = text(run)?;
        let begun = Instant::now();
        let asked = Asked::prompt(&text);
        let vector = local.one(id, asked.what_to_embed(id.tokens))?;
        let embedded = Instant::now();
        std::hint::black_box(router.decide(&asked, &vector)?);
        if run >= warm {
            all.push(begun.elapsed().as_secs_f64());
            decisions.push(embedded.elapsed().as_secs_f64());
        }
    }
    Ok((all, decisions))
}
