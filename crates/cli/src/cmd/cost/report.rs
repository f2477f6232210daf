//! `bantam cost report`.

use bantam_ledger::cost::report::{Group, GroupBy, Report, Reporter};
use clap::{Args, ValueEnum};

use super::figures::{dollars, whole};
use super::recorded;
use crate::cli::Globals;
use crate::load::ledger::LedgerPlace;
use crate::output;

/// Arguments of `bantam cost report`.
#[derive(Debug, Args)]
#[command(
    after_help = "SAVED compares what requests cost with what they would have cost without routing; those whose price without routing is\n\
    not known are counted, but not compared. The share is exact for what was recorded. Its interval (95%, bootstrap over hours, or\n\
    over requests where there are few hours) says how far it would move with other traffic like this."
)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    ledger: LedgerPlace,
    /// What requests are put together by
    #[arg(long, value_enum, default_value = "day", value_name = "WHAT")]
    by: By,
    /// Only those of the last N days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// Day, UTC
    Day,
    /// Route that took the request
    Route,
    /// Model that answered
    Model,
    /// Key it came with
    Key,
}

pub(crate) fn run(args: &ReportArgs, globals: &Globals) -> anyhow::Result<()> {
    let by = match args.by {
        By::Day => GroupBy::Day,
        By::Route => GroupBy::Route,
        By::Model => GroupBy::Model,
        By::Key => GroupBy::Key,
    };
    let mut reporter = Reporter::new(by);
    recorded(&args.ledger, args.days, globals, |row| reporter.add(row))?;
    let report = reporter.report()?;
    if globals.json { output::print_json(&report) } else { output::print(&told(&report)) }
}

fn told(report: &Report) -> String {
    if report.total.requests == 0 {
        return "no requests are recorded".to_owned();
    }
    let what = match report.by {
        GroupBy::Day => "DAY",
        GroupBy::Route => "ROUTE",
        GroupBy::Model => "MODEL",
        GroupBy::Key => "KEY",
    };
    let headers = [what, "REQUESTS", "TOKENS IN", "OUT", "COST", "COMPARED", "WITHOUT ROUTING", "SAVED", "SHARE [95%]"];
    let rows = report.groups.iter().chain([&report.total]).map(cells).collect();
    output::table(&headers, &headers[1..], rows)
}

fn cells(group: &Group) -> Vec<String> {
    let count = |n: u64| whole(n as f64);
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    let share = group.saving.map_or_else(
        || "–".to_owned(),
        |saving| {
            let interval = saving.interval.map(|(low, high)| format!(" [{}, {}]", percent(low), percent(high)));
            format!("{}%{}", percent(saving.share), interval.unwrap_or_default())
        },
    );
    vec![
        group.name.clone(),
        count(group.requests),
        count(group.tokens.input),
        count(group.tokens.output),
        dollars(group.cost.dollars()),
        count(group.compared),
        dollars(group.counterfactual.dollars()),
        dollars(group.saved.dollars()),
        share,
    ]
}
