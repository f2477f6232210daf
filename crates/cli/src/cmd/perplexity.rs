//! `bantam perplexity`: how well a model predicts a text.

use std::io;
use std::path::PathBuf;

use anyhow::Context;
use bantam_evals::{PerplexityConfig, perplexity};
use bantam_formats::EncodeOptions;
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::load::{EngineArgs, Loaded};
use crate::{output, progress};

/// Arguments of `bantam perplexity`.
#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    /// Catalogue name, path of a .gguf file, or hf:org/repo/file.gguf
    model: String,
    /// The text, UTF-8; - reads standard input
    file: PathBuf,
    /// Tokens per window and stride; the first half of a window is context, the rest is scored
    #[arg(long, value_name = "N", default_value_t = 512)]
    window: usize,
    /// With --json, also the text's tokens and, per scored position, the most likely token and the text's log-probability
    #[arg(long, requires = "json")]
    positions: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(crate) fn run(args: &PerplexityArgs, globals: &Globals) -> anyhow::Result<()> {
    let text = match args.file.to_str() {
        Some("-") => io::read_to_string(io::stdin()).context("cannot read standard input")?,
        _ => fs_err::read_to_string(&args.file)?,
    };
    let loaded = Loaded::open(&args.model, &args.engine, globals)?;
    let ids = loaded.tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false })?;
    let bos = loaded.tokenizer.bos().filter(|_| loaded.tokenizer.add_bos());
    let config = PerplexityConfig { window: args.window, bos };

    let bar = progress::windows(globals);
    let result = perplexity(&loaded.engine, &ids, &config, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let result = result?;

    let bos_rule = if bos.is_some() { "BOS replaces the first token of each window" } else { "no BOS" };
    if globals.json {
        let mut value = serde_json::to_value(&result).context("cannot write the result as JSON")?;
        if let Some(map) = value.as_object_mut() {
            map.insert("model".into(), json!(loaded.id));
            map.insert("file".into(), json!(args.file));
            map.insert("text_tokens".into(), json!(ids.len()));
            map.insert("window".into(), json!(args.window));
            map.insert("bos".into(), json!(bos_rule));
            if args.positions {
                map.insert("tokens".into(), json!(ids));
                map.insert("top1".into(), json!(result.top1));
                map.insert("logprobs".into(), json!(result.logprobs));
            }
        }
        output::print_json(&value)
    } else {
        output::print(&format!("perplexity {:.4} +/- {:.4}", result.perplexity, result.standard_error))?;
        output::print(&format!(
            "{} of {} tokens scored in {} windows of {} (stride {}, first half context; {bos_rule})",
            result.scored_tokens,
            ids.len(),
            result.windows,
            args.window,
            args.window
        ))
    }
}
