//! `bantam cost`: what a workload costs here and elsewhere, and what was spent and saved.

mod compare;
mod figures;
mod report;

use std::time::Duration;

use bantam_ledger::Timestamp;
use bantam_ledger::cost::report::CostRow;
use bantam_ledger::query::Filter;
use clap::{Args, Subcommand};

use crate::cli::Globals;
use crate::load::ledger::{LedgerPlace, wait};

/// Arguments of `bantam cost`.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    #[command(subcommand)]
    command: CostCommand,
}

#[derive(Debug, Subcommand)]
enum CostCommand {
    /// Set hosted models, GPU machines and CPU machines side by side for a workload
    Compare(Box<compare::CompareArgs>),
    /// Say what the recorded requests cost, and what routing saved
    Report(report::ReportArgs),
}

pub(crate) fn run(args: &CostArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        CostCommand::Compare(args) => compare::run(args, globals),
        CostCommand::Report(args) => report::run(args, globals),
    }
}

/// Gives every request of a ledger to `visit`, or those of the last days.
fn recorded(
    ledger: &LedgerPlace,
    days: Option<u32>,
    globals: &Globals,
    mut visit: impl FnMut(&CostRow) + Send,
) -> anyhow::Result<()> {
    let from = days.map(|days| Timestamp::now().minus(Duration::from_secs(u64::from(days) * 86_400)));
    wait(async {
        let reading = ledger.read(globals).await?;
        let filter = Filter { from, ..Filter::default() };
        Ok(reading.scan(&filter, |request| visit(&CostRow::from(&request))).await?)
    })
}
