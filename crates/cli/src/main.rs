//! The `bantam` command.

// Doc comments of arguments are help texts, not Markdown.
#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links)]

mod cli;
mod cmd;
mod exit;
mod interrupt;
mod load;
mod output;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(args) => cmd::run::run(args, &cli.globals),
        Command::Serve(args) => cmd::serve::run(args, &cli.globals),
        Command::Pull(args) => cmd::pull::run(args, &cli.globals),
        Command::List(args) => cmd::list::run(args, &cli.globals),
        Command::Show(args) => cmd::show::run(args, &cli.globals),
        Command::Rm(args) => cmd::rm::run(args, &cli.globals),
        Command::Route(args) => cmd::route::run(args, &cli.globals),
        Command::Embed(args) => cmd::embed::run(args, &cli.globals),
        Command::Classify(args) => cmd::classify::run(args, &cli.globals),
        Command::Task(args) => cmd::task::run(args, &cli.globals),
        Command::Pilot(args) => cmd::pilot::run(args, &cli.globals),
        Command::Pii(args) => cmd::pii::run(args, &cli.globals),
        Command::Tokenize(args) => cmd::tokenize::run(args, &cli.globals),
        Command::Perplexity(args) => cmd::perplexity::run(args, &cli.globals),
        Command::Bench(args) => cmd::bench::run(args, &cli.globals),
        Command::Mock(args) => cmd::mock::run(args, &cli.globals),
        Command::Config(args) => cmd::config::run(args, &cli.globals),
        Command::Cost(args) => cmd::cost::run(args, &cli.globals),
        Command::Key(args) => cmd::key::run(args, &cli.globals),
        Command::Ledger(args) => cmd::ledger::run(args, &cli.globals),
        Command::Audit(args) => cmd::audit::run(args, &cli.globals),
        Command::Demo(args) => cmd::demo::run(args, &cli.globals),
        Command::Completions(args) => cmd::completions::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<output::ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", exit::message(&error));
            ExitCode::from(exit::code(&error))
        }
    }
}
