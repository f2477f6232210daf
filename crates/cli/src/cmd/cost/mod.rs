//! `bantam cost`: what a workload costs here and elsewhere, and what was spent and saved.

mod compare;

use clap::{Args, Subcommand};

use crate::cli::Globals;

/// Arguments of `bantam cost`.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    #[command(subcommand)]
    command: CostCommand,
}

#[derive(Debug, Subcommand)]
enum CostCommand {
    /// Set hosted models, GPU machines and CPU machines side by side for a workload
    Compare(compare::CompareArgs),
}

pub(crate) fn run(args: &CostArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        CostCommand::Compare(args) => compare::run(args, globals),
    }
}
