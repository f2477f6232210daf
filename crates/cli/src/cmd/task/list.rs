//! `bantam task list`.

use std::path::PathBuf;

use bantam_tasks::Task;
use clap::Args;

use super::show::{describe, to_json};
use crate::cli::Globals;
use crate::load::task::TASK_DIR;
use crate::output;

/// Arguments of `bantam task list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Directory of task files
    #[arg(long, value_name = "DIR", env = "BANTAM_TASKS", default_value = TASK_DIR)]
    tasks: PathBuf,
}

pub(crate) fn run(args: &ListArgs, globals: &Globals) -> anyhow::Result<()> {
    let tasks = Task::open_dir(&args.tasks)?;
    if globals.json {
        return output::print_json(&tasks.iter().map(to_json).collect::<Vec<_>>());
    }
    if tasks.is_empty() {
        if !globals.quiet {
            eprintln!("{} has no tasks; `bantam task new NAME` writes one", args.tasks.display());
        }
        return Ok(());
    }
    let rows = tasks.iter().map(|task| {
        let model = task.model.clone().unwrap_or_else(|| "-".to_owned());
        let fitted = if task.fitted.is_file() { "yes" } else { "no" };
        vec![task.name.clone(), describe(task), model, fitted.to_owned(), task.hash[..12].to_owned()]
    });
    output::print(&output::table(&["NAME", "OUTPUT", "MODEL", "FITTED", "HASH"], &[], rows.collect()))
}
