//! `bantam tokenize`: what a model sees of a text.

use std::io::Read;

use anyhow::Context;
use bantam_formats::EncodeOptions;
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::{load, output};

/// Arguments of `bantam tokenize`.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// Catalogue name, path of a .gguf file, or hf:org/repo/file.gguf
    model: String,
    /// The text [default: standard input]
    text: Option<String>,
    /// Leave out the BOS or EOS that the model's tokenizer adds
    #[arg(long)]
    no_special: bool,
    /// Read texts like <|im_start|> as the special tokens they name
    #[arg(long)]
    parse_special: bool,
    /// Print only the ids
    #[arg(long, conflicts_with = "count")]
    ids: bool,
    /// Print only how many tokens there are
    #[arg(long)]
    count: bool,
}

pub(crate) fn run(args: &TokenizeArgs, globals: &Globals) -> anyhow::Result<()> {
    let text = match &args.text {
        Some(text) => text.clone(),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the text from standard input")?;
            text
        }
    };
    let tokenizer = load::tokenizer(&args.model, globals)?;
    let options = EncodeOptions { add_special: !args.no_special, parse_special: args.parse_special };
    let ids = tokenizer.encode(&text, options)?;
    let pieces = || ids.iter().map(|&id| tokenizer.token_str(id).unwrap_or_default());
    if globals.json {
        output::print_json(&json!({"count": ids.len(), "ids": ids, "pieces": pieces().collect::<Vec<_>>()}))
    } else if args.count {
        output::print(&ids.len().to_string())
    } else if args.ids {
        output::print(&ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
    } else {
        let lines = ids.iter().zip(pieces()).map(|(id, piece)| format!("{id:>8}  {piece:?}"));
        output::print(&lines.collect::<Vec<_>>().join("\n"))
    }
}
