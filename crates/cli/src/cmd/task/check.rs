//! `bantam task check`.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::show::{describe, to_json};
use crate::cli::Globals;
use crate::load::task::{ModelArgs, TaskRef};
use crate::output;

/// Arguments of `bantam task check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    task: TaskRef,
    /// Also load the model and bind it: its grammar engine, tokenizer and template may refuse what the file may say
    #[arg(long)]
    load: bool,
    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: &CheckArgs, globals: &Globals) -> anyhow::Result<()> {
    let task = args.task.open()?;
    let shown = to_json(&task);
    let line = format!("{} is good: {}; hash {}", task.name, describe(&task), &task.hash[..12]);
    if args.load {
        let model = args.model.open(&task, globals)?;
        model.bind(Arc::new(task)).context("the model cannot do this task")?;
    }
    if globals.json { output::print_json(&shown) } else { output::print(&line) }
}
