//! `bantam completions`: tab completion for the common shells.

use std::io;

use clap::{Args, CommandFactory};

use crate::cli::Cli;

/// Arguments of `bantam completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete in
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    clap_complete::generate(args.shell, &mut Cli::command(), "bantam", &mut io::stdout());
    Ok(())
}
