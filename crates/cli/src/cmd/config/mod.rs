//! `bantam config`: the configuration file of a gateway.

mod import_litellm;

use clap::{Args, Subcommand};

use crate::cli::Globals;

/// Arguments of `bantam config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Write a LiteLLM proxy's config.yaml as a bantam.toml
    ImportLitellm(import_litellm::ImportArgs),
}

pub(crate) fn run(args: &ConfigArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        ConfigCommand::ImportLitellm(args) => import_litellm::run(args, globals),
    }
}
