//! What reports say of a run, and their tables on a terminal.

use std::io;
use std::path::Path;
use std::thread;

use bantam_evals::report::{About, Align, DataFile, Table};

use crate::output;

/// What was run on what.
pub(crate) struct Ran<'a> {
    pub(crate) task: &'a str,
    pub(crate) task_digest: Option<&'a str>,
    pub(crate) model: Option<String>,
    /// The table's file.
    pub(crate) data: &'a Path,
    /// Its rows.
    pub(crate) rows: usize,
}

/// The run as its report tells it.
pub(crate) fn about(ran: &Ran<'_>) -> io::Result<About> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    Ok(About {
        task: ran.task.to_owned(),
        task_digest: ran.task_digest.map(str::to_owned),
        model: ran.model.clone(),
        data: DataFile::of(ran.data, ran.rows)?,
        date: chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
        command: format!("bantam {}", args.join(" ")),
        machine: Some(machine()),
        program: format!("bantam {}", env!("CARGO_PKG_VERSION")),
    })
}

/// The processor and how many of its cores this process may use.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cores = format!("{cores} {}", if cores == 1 { "core" } else { "cores" });
    name.map_or_else(|| cores.clone(), |(_, name)| format!("{}, {cores}", name.trim()))
}

/// A report's table for a terminal; the row that matters most has a star.
pub(crate) fn text(table: &Table) -> String {
    let headers: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let right = table.columns.iter().filter(|column| column.align == Align::Right).map(|column| column.name);
    let mut rows = table.rows.clone();
    if let Some(name) = table.strong.and_then(|strong| rows.get_mut(strong)).and_then(|row| row.first_mut()) {
        *name += " *";
    }
    output::table(&headers, &right.collect::<Vec<_>>(), rows)
}
