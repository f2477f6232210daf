//! `bantam task`: typed tasks from definition to answers.

mod check;
mod data;
mod eval;
mod fit;
mod list;
mod new;
mod run;
mod show;

use clap::{Args, Subcommand};

use crate::cli::Globals;

pub(crate) use data::DataArgs;
pub(crate) use run::answer;

/// Arguments of `bantam task`.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Write a task file to start from
    New(new::NewArgs),
    /// Check task files, and with --load what their models make of them
    Check(check::CheckArgs),
    /// Learn from labelled rows: a head for an encoder, the worth of a generating model's confidence
    Fit(fit::FitArgs),
    /// Measure the answers against a labelled table
    Eval(eval::EvalArgs),
    /// Answer texts, or a whole table
    Run(run::RunArgs),
    /// List the tasks of a directory
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
}

pub(crate) fn run(args: &TaskArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        TaskCommand::New(args) => new::run(args, globals),
        TaskCommand::Check(args) => check::run(args, globals),
        TaskCommand::Fit(args) => fit::run(args, globals),
        TaskCommand::Eval(args) => eval::run(args, globals),
        TaskCommand::Run(args) => run::run(args, globals),
        TaskCommand::List(args) => list::run(args, globals),
    }
}
