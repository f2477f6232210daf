//! `bantam config check`.

use std::path::PathBuf;

use bantam_gateway::ConfigFile;
use clap::Args;

use crate::cli::Globals;
use crate::output;

/// Arguments of `bantam config check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration
    #[arg(default_value = "bantam.toml")]
    file: PathBuf,
}

pub(crate) fn run(args: &CheckArgs, globals: &Globals) -> anyhow::Result<()> {
    let probed = ConfigFile::read(&args.file)?.probe()?;
    if globals.json {
        return output::print_json(&probed);
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    output::print(&format!("models here:      {}", list(&probed.models)))?;
    output::print(&format!("hosts contacted:  {}", list(&probed.hosts)))?;
    output::print(&format!("clients may ask:  {}", list(&probed.routes)))?;
    for note in &probed.notes {
        output::print(&format!("note: {note}"))?;
    }
    output::print(&format!("{} can be used", args.file.display()))
}
