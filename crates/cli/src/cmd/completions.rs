//! `bantam completions`: tab completion for the common shells.

use std::io::{self, Write};

use clap::{Args, CommandFactory};

use crate::cli::Cli;
use crate::output;

/// Arguments of `bantam completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete in
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bantam", &mut script);
    output::written(io::stdout().write_all(&script))
}
