//! `bantam pii anonymize`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bantam_pii::{Anonymiser, Operator, OperatorSpec, Pseudonyms};
use clap::Args;
use serde_json::json;

use super::{DetectArgs, TextArgs};
use crate::cli::Globals;
use crate::output;

/// Arguments of `bantam pii anonymize`.
#[derive(Debug, Args)]
#[command(
    after_help = "Operators: replace (by <TYPE>), mask, hash, pseudonymise, redact, keep. For example --operator pseudonymise --for URL=keep --map map.json"
)]
pub(crate) struct AnonymizeArgs {
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    detect: DetectArgs,
    /// What becomes of findings
    #[arg(long, value_name = "OPERATOR", default_value = "replace")]
    operator: String,
    /// What becomes of one type; may be given again
    #[arg(long = "for", value_name = "TYPE=OPERATOR")]
    by_type: Vec<String>,
    /// File with the key of hashes, 16 bytes at least
    #[arg(long, value_name = "FILE")]
    salt_file: Option<PathBuf>,
    /// Where to write what pseudonyms stand for, the originals: only you may read the file
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
}

pub(crate) fn run(args: &AnonymizeArgs, globals: &Globals) -> anyhow::Result<()> {
    let mut anonymiser = Anonymiser::all(operator(args, &args.operator).context("--operator")?);
    for pair in &args.by_type {
        let Some((entity, name)) = pair.split_once('=') else {
            bail!("--for: '{pair}' is not of the form TYPE=OPERATOR");
        };
        anonymiser = anonymiser.with(entity, operator(args, name).with_context(|| format!("--for {pair}"))?);
    }
    let text = args.text.read()?;
    let mut pseudonyms = Pseudonyms::new();
    let done = anonymiser.apply(&text, &args.detect.detect(&text)?, &mut pseudonyms)?;
    if let Some(path) = &args.map {
        write_private(path, &(serde_json::to_string_pretty(&pseudonyms)? + "\n"))?;
    }
    if !globals.json {
        return args.text.write(&done.text);
    }
    let items: Vec<_> =
        done.items.iter().map(|item| json!({ "entity_type": item.entity, "operator": item.operator })).collect();
    output::print_json(&json!({ "text": done.text, "items": items }))
}

/// The originals are for their owner only, before the first of them is in the file.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs_err::OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    fs_err::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    // A file that was there before has its own mode.
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(file.write_all(text.as_bytes())?)
}

fn operator(args: &AnonymizeArgs, name: &str) -> anyhow::Result<Operator> {
    let mut spec = OperatorSpec { kind: name.to_owned(), ..OperatorSpec::default() };
    if name == "hash" {
        let Some(path) = &args.salt_file else {
            bail!("hash needs --salt-file: without a key hashes can be undone by trying")
        };
        spec.salt = Some(fs_err::read_to_string(path)?.trim_end().to_owned());
    }
    Ok(Operator::try_from(spec)?)
}
