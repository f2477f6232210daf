//! `bantam route`: which of two models answers a request.

mod bench;
mod eval;
mod explain;
mod source;
mod train;
mod vectors;

use std::path::{Path, PathBuf};

use anyhow::Context;
use bantam_router::{MAX_FILE_BYTES, Router};
use clap::{Args, Subcommand};

use crate::cli::Globals;
use crate::load::file;

/// Arguments of `bantam route`.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    #[command(subcommand)]
    command: RouteCommand,
}

#[derive(Debug, Subcommand)]
enum RouteCommand {
    /// Learn from outcomes which prompts need the large model
    Train(train::TrainArgs),
    /// Measure a router, or a way of training one, beside what it must beat
    Eval(eval::EvalArgs),
    /// Say who would answer a prompt, and why
    Explain(explain::ExplainArgs),
    /// Measure how long a decision takes on one core
    Bench(bench::BenchArgs),
}

pub(crate) fn run(args: &RouteArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        RouteCommand::Train(args) => train::run(args, globals),
        RouteCommand::Eval(args) => eval::run(args, globals),
        RouteCommand::Explain(args) => explain::run(args, globals),
        RouteCommand::Bench(args) => bench::run(args, globals),
    }
}

/// A router from its file.
#[derive(Debug, Clone, Args)]
struct RouterFile {
    /// Router that `bantam route train` wrote
    #[arg(long, short, value_name = "FILE")]
    router: PathBuf,
}

impl RouterFile {
    fn open(&self) -> anyhow::Result<Router> {
        open(&self.router)
    }
}

fn open(path: &Path) -> anyhow::Result<Router> {
    Router::load(&file::read(path, MAX_FILE_BYTES)?).with_context(|| path.display().to_string())
}
