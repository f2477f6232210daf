//! The command line: every flag and its help text, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cmd;

/// Run small language models on your own CPUs, behind the OpenAI API.
#[derive(Debug, Parser)]
#[command(name = "bantam", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global")]
pub(crate) struct Globals {
    /// Where models and state are kept [default: the platform's data directory]
    #[arg(long, global = true, env = "BANTAM_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Never touch the network; fail with what is missing instead
    #[arg(long, global = true, env = "BANTAM_OFFLINE", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub(crate) offline: bool,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress bars and no notes, only results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer one prompt, or chat
    Run(cmd::run::RunArgs),
    /// Serve models over the OpenAI API, with a chat page
    Serve(cmd::serve::ServeArgs),
    /// Get models and check them
    Pull(cmd::pull::PullArgs),
    /// List the models on this machine
    #[command(visible_alias = "ls")]
    List(cmd::list::ListArgs),
    /// Show what is known about a model: terms, sources, digest, contents
    Show(cmd::show::ShowArgs),
    /// Remove models from this machine
    Rm(cmd::rm::RmArgs),
    /// Say which of some labels fits a text
    Classify(cmd::classify::ClassifyArgs),
    /// Typed tasks: define, check, fit, measure, run
    Task(cmd::task::TaskArgs),
    /// Set everything that could answer a labelled table side by side, and write the task of the best choice
    Pilot(cmd::pilot::PilotArgs),
    /// Which of two models answers a request: train, measure, explain
    Route(cmd::route::RouteArgs),
    /// Personal data in texts: find it, replace it, put it back, measure
    Pii(cmd::pii::PiiArgs),
    /// Turn texts into vectors
    Embed(cmd::embed::EmbedArgs),
    /// Show the tokens of a text
    Tokenize(cmd::tokenize::TokenizeArgs),
    /// Measure how well a model predicts a text
    Perplexity(cmd::perplexity::PerplexityArgs),
    /// Measure how fast a model runs on this machine
    Bench(cmd::bench::BenchArgs),
    /// Stand in for an LLM server, for testing: no model, slow and faulty on command
    Mock(cmd::mock::MockArgs),
    /// The configuration file of a gateway
    Config(cmd::config::ConfigArgs),
    /// What a workload costs here and elsewhere
    Cost(cmd::cost::CostArgs),
    /// Keys that applications call a server with: their budgets, limits and models
    Key(cmd::key::KeyArgs),
    /// Look after the record of requests: what it holds, copies, retention, erasure
    Ledger(cmd::ledger::LedgerArgs),
    /// Verify that the record of requests is what was written, or export it
    Audit(cmd::audit::AuditArgs),
    /// See the gateway at work on real questions, without a key
    Demo(cmd::demo::DemoArgs),
    /// Print the completion script for a shell
    Completions(cmd::completions::CompletionsArgs),
}
