//! `bantam task eval`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use bantam_evals::judge::{Judge, Ran, confidence_kind};
use bantam_evals::quality::{Judgements, Quality};
use bantam_evals::report::Evaluation;
use bantam_tasks::Otherwise;
use clap::Args;

use super::DataArgs;
use crate::cli::Globals;
use crate::load::task::{ModelArgs, TaskRef};
use crate::report::{self, Ran as RanOn};
use crate::{output, progress};

/// Rows that are answered between two looks at the bar.
const BATCH: usize = 64;

/// Arguments of `bantam task eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "Rows without an answer count as wrong. Answers below the task's confidence are judged too: the report says what the threshold does. A path that is answered in part is judged as far as it goes; of fields, all must be right. Latencies are those of rows asked 64 at a time; `bantam pilot` measures them one by one."
)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    task: TaskRef,
    #[command(flatten)]
    data: DataArgs,
    /// Judge only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Write a report with pictures: one file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: &EvalArgs, globals: &Globals) -> anyhow::Result<()> {
    let mut task = args.task.open()?;
    // A refused answer is none; here it is to be seen what it would have been.
    task.accept.otherwise = Otherwise::Review;
    let task = Arc::new(task);
    let mut rows = args.data.read_lines(&task)?;
    let in_file = rows.len();
    rows.truncate(args.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX));
    ensure!(!rows.is_empty(), "{}: has no rows", args.data.data.display());
    let runner = args.model.open(&task, globals)?.bind(Arc::clone(&task))?;
    let bar = progress::rows(globals, rows.len() as u64);
    let started = Instant::now();
    let mut outcomes = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH) {
        let inputs: Vec<Vec<String>> = batch.iter().map(|(_, row)| row.input.clone()).collect();
        outcomes.extend(runner.run(&inputs));
        bar.set_position(outcomes.len() as u64);
        bar.set_message(format!("{:.0} rows/s", outcomes.len() as f64 / started.elapsed().as_secs_f64()));
    }
    let wall_seconds = Some(started.elapsed().as_secs_f64());
    bar.finish_and_clear();
    let judge = Judge::new(&task);
    let judged: Vec<_> = rows
        .iter()
        .zip(&outcomes)
        .map(|((line, row), outcome)| judge.row(Ran { row: *line as usize, truth: &row.answer, outcome }))
        .collect();
    let confidence = confidence_kind(outcomes.iter().flatten());
    let threshold = (task.accept.confidence > 0.0).then_some(task.accept.confidence);
    let judgements = Judgements { threshold, wall_seconds, ..judge.judgements(&judged, confidence) };
    let ran = RanOn {
        task: &task.name,
        task_digest: Some(&task.hash),
        model: Some(format!("{} ({})", runner.model(), runner.fingerprint())),
        data: &args.data.data,
        rows: in_file,
    };
    let evaluation = Evaluation { about: report::about(&ran)?, quality: Quality::new(&judgements)? };
    if let Some(path) = &args.html {
        fs_err::write(path, evaluation.html()?)?;
    }
    if globals.json {
        return output::print_json(&evaluation);
    }
    output::print(&format!("{}\n\n{}", evaluation.verdict(), report::text(&evaluation.table())))?;
    told(args.html.as_deref(), globals);
    Ok(())
}

fn told(html: Option<&Path>, globals: &Globals) {
    if let (Some(path), false) = (html, globals.quiet) {
        eprintln!("\nwrote {}", path.display());
    }
}
