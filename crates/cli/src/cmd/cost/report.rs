//! `bantam cost report`.

use bantam_ledger::cost::report::{Group, GroupBy, Report, Reporter};
use bantam_types::NanoDollars;
use clap::{Args, ValueEnum};

use super::figures::{dollars, whole};
use super::recorded;
use crate::cli::Globals;
use crate::load::ledger::LedgerPlace;
use crate::output;

/// Arguments of `bantam cost report`.
#[derive(Debug, Args)]
#[command(
    after_help = "COST is of all REQUESTS of a row. What they would have cost WITHOUT ROUTING is known of those COMPARED only: THEIR COST is what these did \
    cost, and SAVED the difference of the two. Requests answered by a model that has no price are counted as unpriced: what they cost is in no column.\n\n\
    The share is exact for what was recorded. Its interval (95%, bootstrap over hours, or over requests where there are few hours) says how far it \
    would move with other traffic like this.\n\n\
    Requests to `auto` stand under the route and the model that took them; --by asked shows them under what they asked for."
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
    /// Model or route that was asked for, such as auto
    Asked,
    /// Route that took the request, which is not auto
    Route,
    /// Model that answered
    Model,
    /// Key it came with
    Key,
}

pub(crate) fn run(args: &ReportArgs, globals: &Globals) -> anyhow::Result<()> {
    let by = match args.by {
        By::Day => GroupBy::Day,
        By::Asked => GroupBy::Asked,
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
        GroupBy::Asked => "ASKED FOR",
        GroupBy::Route => "ROUTE",
        GroupBy::Model => "MODEL",
        GroupBy::Key => "KEY",
    };
    let headers = [
        what,
        "REQUESTS",
        "TOKENS IN",
        "OUT",
        "COST",
        "COMPARED",
        "THEIR COST",
        "WITHOUT ROUTING",
        "SAVED",
        "SHARE [95%]",
    ];
    let rows = report.groups.iter().chain([&report.total]).map(cells).collect();
    let mut text = output::table(&headers, &headers[1..], rows);
    if report.total.unpriced > 0 {
        text += "\n\nunpriced: answered by a model without a price; give it one under [[prices.models]] in bantam.toml";
    }
    text
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
    let compared = |amount: NanoDollars| match group.compared {
        0 => "–".to_owned(),
        _ => dollars(amount.dollars()),
    };
    vec![
        group.name.clone(),
        count(group.requests),
        count(group.tokens.input),
        count(group.tokens.output),
        cost(group),
        count(group.compared),
        compared(group.compared_cost),
        compared(group.counterfactual),
        compared(group.saved),
        share,
    ]
}

/// What is known of the cost, and of how many requests it is not.
fn cost(group: &Group) -> String {
    let known = dollars(group.cost.dollars());
    match (group.unpriced, group.cost.0) {
        (0, _) => known,
        (unpriced, 0) => format!("{} unpriced", whole(unpriced as f64)),
        (unpriced, _) => format!("{known} + {} unpriced", whole(unpriced as f64)),
    }
}
