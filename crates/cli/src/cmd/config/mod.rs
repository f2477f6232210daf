//! `bantam config`: the configuration file of a gateway.

mod check;
mod import_litellm;
mod presets;

use clap::{Args, Subcommand};

use crate::cli::Globals;
use crate::output;

/// Arguments of `bantam config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration without starting anything
    Check(check::CheckArgs),
    /// Print a configuration with all its parts, explained
    Example,
    /// List the kinds of servers that providers can be
    Presets,
    /// Write a LiteLLM proxy's config.yaml as a bantam.toml
    ImportLitellm(import_litellm::ImportArgs),
}

pub(crate) fn run(args: &ConfigArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        ConfigCommand::Check(args) => check::run(args, globals),
        ConfigCommand::Example => output::print(bantam_gateway::config::EXAMPLE.trim_end()),
        ConfigCommand::Presets => presets::run(globals),
        ConfigCommand::ImportLitellm(args) => import_litellm::run(args, globals),
    }
}
