//! `bantam pii restore`.

use std::path::PathBuf;

use anyhow::Context;
use bantam_pii::{Place, Pseudonyms, Restorer};
use clap::Args;
use serde_json::json;

use super::TextArgs;
use crate::cli::Globals;
use crate::output;

/// Arguments of `bantam pii restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    text: TextArgs,
    /// The map that `anonymize --map` wrote
    #[arg(long, value_name = "FILE")]
    map: PathBuf,
    /// The text is JSON: originals are escaped where they come
    #[arg(long)]
    in_json: bool,
}

pub(crate) fn run(args: &RestoreArgs, globals: &Globals) -> anyhow::Result<()> {
    let map: Pseudonyms = serde_json::from_str(&fs_err::read_to_string(&args.map)?)
        .with_context(|| format!("{}: is no map of pseudonyms", args.map.display()))?;
    let place = if args.in_json { Place::Json } else { Place::Text };
    let restored = Restorer::whole(&map, place, &args.text.read()?);
    if globals.json { output::print_json(&json!({ "text": restored })) } else { args.text.write(&restored) }
}
