//! `bantam config import-litellm`.

use std::path::PathBuf;

use anyhow::Context;
use bantam_gateway::config::litellm::import_litellm;
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::load::file;
use crate::output;

/// Arguments of `bantam config import-litellm`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every key without an equal is noted with its reason, on standard error and at the top of the result. Secrets are not\n\
    copied: references to the environment stay references, and keys that stand in the file become some. Addresses that LiteLLM takes\n\
    from the environment (api_base: os.environ/X) are looked up now, for a bantam.toml has them in the open."
)]
pub(crate) struct ImportArgs {
    /// LiteLLM's config.yaml
    file: PathBuf,
    /// Write the result here instead of to standard output; the file must not exist
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &ImportArgs, globals: &Globals) -> anyhow::Result<()> {
    let text = fs_err::read_to_string(&args.file)?;
    let imported =
        import_litellm(&text, &|name| std::env::var(name).ok()).with_context(|| args.file.display().to_string())?;
    let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
    let comments: String = notes.iter().map(|note| format!("# - {note}\n")).collect();
    let head =
        if notes.is_empty() { String::new() } else { format!("# Not taken over, or to be looked at:\n{comments}\n") };
    let toml = format!("{head}{}", toml::to_string(&imported.config)?);
    if let Some(path) = &args.out {
        std::io::Write::write_all(&mut file::create_new(path)?, toml.as_bytes())?;
    }
    if globals.json {
        return output::print_json(&json!({ "config": imported.config, "notes": imported.notes }));
    }
    if !globals.quiet {
        notes.iter().for_each(|note| eprintln!("{note}"));
    }
    match &args.out {
        Some(path) if !globals.quiet => eprintln!("wrote {}", path.display()),
        Some(_) => {}
        None => output::print(toml.trim_end())?,
    }
    Ok(())
}
