//! `bantam task new`.

use std::path::PathBuf;

use anyhow::bail;
use bantam_tasks::{FIELDS_TEMPLATE, TEMPLATE, Task};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::Globals;
use crate::load::task::TASK_DIR;
use crate::output;

/// Arguments of `bantam task new`.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Name: lower-case letters, digits and dashes
    name: String,
    /// What comes out of the task
    #[arg(long, value_enum, default_value = "classify")]
    kind: Kind,
    /// Directory of task files
    #[arg(long, value_name = "DIR", env = "BANTAM_TASKS", default_value = TASK_DIR)]
    tasks: PathBuf,
}

/// What comes out of a task.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// One of some labels, or several
    Classify,
    /// A JSON object of a schema
    Fields,
}

pub(crate) fn run(args: &NewArgs, globals: &Globals) -> anyhow::Result<()> {
    let path = args.tasks.join(format!("{}.toml", args.name));
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    let template = match args.kind {
        Kind::Classify => TEMPLATE.replacen("ticket-topic", &args.name, 1),
        Kind::Fields => FIELDS_TEMPLATE.replacen("order-request", &args.name, 1),
    };
    // A name that cannot be one is told before anything is written.
    Task::parse(&template, &path, &args.tasks)?;
    fs_err::create_dir_all(&args.tasks)?;
    fs_err::write(&path, template)?;
    if globals.json {
        return output::print_json(&json!({"task": args.name, "path": path}));
    }
    output::print(&format!("wrote {}; edit it, then: bantam task check {}", path.display(), args.name))
}
