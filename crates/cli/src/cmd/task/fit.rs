//! `bantam task fit`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use bantam_tasks::Runner;
use bantam_tasks::fit::{self, FittedFile, Step};
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

pub(crate) fn run(args: &FitArgs, globals: &Globals) -> anyhow::Result<()> {
    let task = Arc::new(args.task.open()?);
    let rows = args.data.read(&task)?;
    let model = args.model.open(&task, globals)?;
    let started = Instant::now();
    let bar = progress::share(globals);
    let mut on_step = |step: Step| {
        bar.set_message(step.what);
        bar.set_position((step.share * 1000.0) as u64);
        ControlFlow::Continue(())
    };
    let fitted: FittedFile = match &model {
        TaskModel::Encoder(encoder) => fit::fit_encoder(&task, encoder, &rows, &mut on_step)?.file,
        TaskModel::Generating(model) => {
            Runner::generating(Arc::clone(&task), &**model, None)?.calibrate(&rows, &mut on_step)?
        }
    };
    bar.finish_and_clear();
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
