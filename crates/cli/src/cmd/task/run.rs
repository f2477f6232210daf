//! `bantam task run`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{bail, ensure};
use bantam_hub::human_duration;
use bantam_tasks::batch::{self, Batch, Outcome, Progress, Start};
use bantam_tasks::table::Table;
use bantam_tasks::{Runner, TaskResult, Verdict};
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::load::task::{ModelArgs, TaskRef};
use crate::{interrupt, output, progress};

/// Arguments of `bantam task run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    task: TaskRef,
    /// The texts to answer; of a task with several input columns, one text per column
    #[arg(conflicts_with_all = ["input", "output"])]
    texts: Vec<String>,
    /// Table to answer: .csv with a header, .tsv, or .jsonl
    #[arg(long, short, value_name = "FILE", requires = "output")]
    input: Option<PathBuf>,
    /// Where the answers go: .csv with the table's columns and the answer's, or .jsonl
    #[arg(long, short, value_name = "FILE", requires = "input")]
    output: Option<PathBuf>,
    /// Begin again and write over what is there, instead of going on with a run that was stopped
    #[arg(long, requires = "output")]
    restart: bool,
    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: &RunArgs, globals: &Globals) -> anyhow::Result<()> {
    let task = Arc::new(args.task.open()?);
    if let (Some(input), Some(output)) = (&args.input, &args.output) {
        let table = Table::open(input)?;
        task.input.iter().try_for_each(|column| table.expect(column))?;
        let runner = args.model.open(&task, globals)?.bind(task)?;
        let start = if args.restart { Start::Restart } else { Start::Resume };
        return batch(&Batch { runner: &runner, table: &table, output: output.clone(), start }, globals);
    }
    ensure!(!args.texts.is_empty(), "give the texts to answer, or a table with --input and --output");
    let width = task.input.len();
    if width > 1 && args.texts.len() != width {
        bail!("the task has the input columns {}; give one text for each", task.input.join(", "));
    }
    let runner = args.model.open(&task, globals)?.bind(task)?;
    let rows: Vec<Vec<String>> = args.texts.chunks(width).map(<[String]>::to_vec).collect();
    answer(&runner, &rows, globals)
}

/// Answers some texts and prints what comes out.
pub(crate) fn answer(runner: &Runner, rows: &[Vec<String>], globals: &Globals) -> anyhow::Result<()> {
    let mut failed = None;
    for (row, outcome) in rows.iter().zip(runner.run(rows)) {
        if rows.len() > 1 && !globals.json {
            output::print(&format!("{}:", row.join(" | ")))?;
        }
        match outcome {
            Ok(result) if globals.json => output::print_json(&result)?,
            Ok(result) => output::print(&line(&result))?,
            Err(error) if globals.json => {
                output::print_json(&json!({"error": {"code": error.code(), "message": error.to_string()}}))?;
                failed = Some(error);
            }
            Err(error) => {
                output::print(&format!("no answer: {error}"))?;
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// A result on one line.
fn line(result: &TaskResult) -> String {
    let mut line = match &result.value {
        serde_json::Value::String(label) => label.clone(),
        other => other.to_string(),
    };
    if let Some(confidence) = result.confidence {
        let how = if result.calibrated { "" } else { ", not calibrated" };
        line += &format!("  ({:.0}%{how})", confidence * 100.0);
    }
    if result.out_of_scope {
        line += "  out of scope";
    }
    let verdict = match result.verdict {
        Verdict::Accept => "  -> accept",
        Verdict::Review => "  -> review",
        Verdict::Escalate => "  -> escalate",
        Verdict::Refuse => "  -> refused",
    };
    line += verdict;
    for failed in &result.failed_checks {
        line += &format!("\n  {}: {}", failed.check, failed.why);
    }
    line
}

fn batch(batch: &Batch<'_>, globals: &Globals) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let _guard = interrupt::catch(move || flag.store(true, Ordering::Relaxed))?;
    let bar = progress::rows(globals, batch.table.n_rows());
    let is_log = bar.is_hidden() && !globals.quiet;
    let mut told = Instant::now();
    let outcome = batch::run(batch, &mut |Progress { done, total, rate }| {
        if is_log && told.elapsed() >= progress::LOG_INTERVAL {
            eprintln!("{done} of {total} rows, {rate:.0} rows/s");
            told = Instant::now();
        }
        bar.set_position(done);
        bar.set_message(format!("{rate:.0} rows/s"));
        bar.set_length(total);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let outcome = outcome?;
    report(batch, &outcome, globals)?;
    if !outcome.is_complete {
        std::process::exit(interrupt::EXIT_CODE);
    }
    Ok(())
}

fn report(batch: &Batch<'_>, outcome: &Outcome, globals: &Globals) -> anyhow::Result<()> {
    let Outcome { summary, is_complete, resumed_at, rejects } = outcome;
    if globals.json {
        return output::print_json(&json!({
            "task": batch.runner.task().name, "task_hash": batch.runner.task().hash, "model": batch.runner.model(),
            "output": batch.output, "rejects_file": rejects, "complete": is_complete, "resumed_at": resumed_at,
            "total_rows": batch.table.n_rows(), "summary": summary,
        }));
    }
    let answered: u64 = summary.verdicts.values().sum();
    let counts = |map: &std::collections::BTreeMap<String, u64>| {
        map.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("{answered} of {} rows answered", batch.table.n_rows());
    if answered > 0 {
        text += &format!(": {}", counts(&summary.verdicts));
    }
    if let Some(path) = rejects {
        text += &format!("\nwithout an answer: {} (see {})", counts(&summary.rejects), path.display());
    }
    if summary.seconds > 0.0 {
        let rate = summary.rows as f64 / summary.seconds;
        let time = human_duration(std::time::Duration::from_secs_f64(summary.seconds));
        text += &format!("\n{time}, {rate:.1} rows/s, {} prompt tokens", summary.prompt_tokens);
    }
    if *resumed_at > 0 {
        text += &format!("\nwent on after row {resumed_at}, where the last run had stopped");
    }
    if !is_complete {
        text += &format!("\nstopped after row {}; the same command goes on from there", summary.rows);
    }
    output::print(&text)
}
