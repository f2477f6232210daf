//! `bantam audit`: whether the ledger is what was written, and whether answers can be shown again.

mod export;
mod replay;
mod verify;

use clap::{Args, Subcommand};

use crate::cli::Globals;

pub(crate) use replay::Different;
pub(crate) use verify::NotSound;

/// Arguments of `bantam audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Verify the chain of entries, its signatures, and all that is stored with it
    Verify(verify::VerifyArgs),
    /// Compute answers of local models again, and compare them with what was answered
    Replay(replay::ReplayArgs),
    /// Write the chain as lines of JSON, which can be verified without the ledger
    Export(export::ExportArgs),
}

pub(crate) fn run(args: &AuditArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        AuditCommand::Verify(args) => verify::run(args, globals),
        AuditCommand::Replay(args) => replay::run(args, globals),
        AuditCommand::Export(args) => export::run(args, globals),
    }
}
