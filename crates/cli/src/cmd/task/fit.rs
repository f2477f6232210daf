//! `bantam task fit`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bantam_tasks::fit::{self, FitReport, FittedFile, Labelled, Step};
use bantam_tasks::{Runner, Task};
use clap::Args;
use serde_json::json;

use super::DataArgs;
use crate::cli::Globals;
use crate::load::task::{ModelArgs, TaskModel, TaskRef};
use crate::{output, progress};

/// Arguments of `bantam task fit`.
#[derive(Debug, Args)]
pub(crate) struct FitArgs {
    #[command(flatten)]
    task: TaskRef,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Rows that a generating candidate answers to be compared.
const COMPARED_ROWS: usize = 500;
/// The cheapest candidate is chosen that is at most this far below the best.
const NEAR: f64 = 0.02;

pub(crate) fn run(args: &FitArgs, globals: &Globals) -> anyhow::Result<()> {
    let task = Arc::new(args.task.open()?);
    let rows = args.data.read(&task)?;
    let started = Instant::now();
    let fitted = if args.model.model.is_some() || task.candidates.is_empty() {
        fit_one(&task, &args.model.open(&task, globals)?, &rows, globals)?
    } else {
        choose(args, &task, &rows, globals)?
    };
    fitted.save(&task.fitted)?;
    let seconds = started.elapsed().as_secs_f64();
    let report = &fitted.report;
    if globals.json {
        return output::print_json(&json!({
            "task": task.name, "model": fitted.model, "path": task.fitted, "rows": report.rows, "held_out": report.held_out,
            "held_out_accuracy": report.accuracy, "seconds": seconds,
        }));
    }
    output::print(&format!(
        "fitted {} on {} rows in {seconds:.1} s: {:.1}% of {} rows that it had not seen are right\nwrote {}",
        fitted.model,
        report.rows,
        report.accuracy * 100.0,
        report.held_out,
        task.fitted.display()
    ))
}

/// Fits every candidate, one in memory at a time; gives the first, and so the cheapest, that is about as good as the best.
fn choose(args: &FitArgs, task: &Arc<Task>, rows: &[Labelled], globals: &Globals) -> anyhow::Result<FittedFile> {
    let mut all = Vec::new();
    for candidate in &task.candidates {
        let model = args.model.local(candidate, globals)?;
        let mut fitted = match &model {
            TaskModel::Encoder(_) => fit_one(task, &model, rows, globals)?,
            TaskModel::Generating(_) => {
                let step = rows.len().div_ceil(COMPARED_ROWS).max(1);
                fit_one(task, &model, &rows.iter().step_by(step).cloned().collect::<Vec<_>>(), globals)?
            }
        };
        let FitReport { held_out, accuracy, .. } = fitted.report;
        if !globals.quiet {
            eprintln!("{candidate}: {:.1}% of {held_out} rows that it had not seen are right", accuracy * 100.0);
        }
        fitted.candidate = Some(candidate.clone());
        all.push(fitted);
    }
    let best = all.iter().map(|fitted| fitted.report.accuracy).fold(0.0, f64::max);
    let chosen = all.into_iter().find(|fitted| fitted.report.accuracy >= best - NEAR);
    chosen.context("the task has no candidates")
}

fn fit_one(task: &Arc<Task>, model: &TaskModel, rows: &[Labelled], globals: &Globals) -> anyhow::Result<FittedFile> {
    let bar = progress::share(globals);
    let mut on_step = |step: Step| {
        bar.set_message(step.what);
        bar.set_position((step.share * 1000.0) as u64);
        ControlFlow::Continue(())
    };
    let fitted = match model {
        TaskModel::Encoder(encoder) => fit::fit_encoder(task, encoder, rows, &mut on_step).map(|fit| fit.file),
        TaskModel::Generating(model) => {
            Runner::generating(Arc::clone(task), &**model, None)?.calibrate(rows, &mut on_step)
        }
    };
    bar.finish_and_clear();
    Ok(fitted?)
}
