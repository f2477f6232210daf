//! `bantam cost compare`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bantam_evals::svg::{CostCurve, monthly_cost};
use bantam_ledger::Timestamp;
use bantam_ledger::cost::compare::{BreakEven, Comparison, Question, Row, compare};
use bantam_ledger::cost::offers::{self, Kind};
use bantam_ledger::cost::scenario::{MIN_HOURS, Plan, Recording, Scenario, Seen, Workload};
use bantam_ledger::prices::PriceList;
use clap::Args;
use serde::Serialize;

use super::figures::{dollars, whole};
use super::recorded;
use crate::cli::Globals;
use crate::load::file;
use crate::load::ledger::LedgerPlace;
use crate::output;

/// Longest file of prices, offers or a workload.
const MAX_BYTES: u64 = 64 << 20;

/// Arguments of `bantam cost compare`.
#[derive(Debug, Args)]
#[command(
    after_help = "Machines come whole, so their cost is a staircase; hosted models are paid by the token. BREAK-EVEN is the number of\n\
    requests a day from which the candidate (*) is no dearer than the row, and PAYBACK how long it takes until it has earned what\n\
    setting it up costs. All prices are dated, all assumptions are printed. Whether a model is good enough is not asked here:\n\
    `bantam pilot` measures that.\n\n\
    A workload file has [workload] with requests_per_day, input_tokens, output_tokens, and optionally cached_share, peak_factor,\n\
    latency_s, escalated_share; and [plan] with peak_utilisation, batch_utilisation, spare_machines, setup_hours, upkeep_hours,\n\
    work_hour_dollars, tuning_dollars. Flags win over it."
)]
pub(crate) struct CompareArgs {
    /// The workload and the plan, as TOML
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Take the workload from the requests of the last N days in the ledger that did not fail, at their rate from the first to the last
    #[arg(long, value_name = "DAYS", conflicts_with = "workload", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    recorded: Option<u32>,
    #[command(flatten)]
    ledger: LedgerPlace,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    plan: PlanArgs,
    /// The hosted model that is paid today [default: the first large one]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// What is asked about [default: the cheapest machine that can do the work]
    #[arg(long, value_name = "NAME")]
    candidate: Option<String>,
    /// By how many percent each assumption is moved to see what matters most
    #[arg(long, value_name = "PERCENT", default_value_t = 25.0)]
    change: f64,
    /// Prices of models in the format of LiteLLM's model_prices_and_context_window.json, over the built-in ones
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// What to compare, instead of the built-in list of models and machines
    #[arg(long, value_name = "FILE")]
    offers: Option<PathBuf>,
    /// Draw the monthly cost by volume into an SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The workload by flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workload")]
struct WorkArgs {
    /// Requests a day
    #[arg(long, value_name = "N")]
    requests: Option<f64>,
    /// Tokens of a prompt, on average
    #[arg(long, value_name = "N")]
    input: Option<f64>,
    /// Tokens of an answer, on average
    #[arg(long, value_name = "N")]
    output: Option<f64>,
    /// Share of the prompts' tokens that repeat the beginning of earlier ones, from 0 to 1
    #[arg(long, value_name = "SHARE")]
    cached: Option<f64>,
    /// How many times the average the busiest hour is [default: 4]
    #[arg(long, value_name = "FACTOR")]
    peak: Option<f64>,
    /// Seconds after which an answer must be complete; without it, a day later will do
    #[arg(long, value_name = "SECONDS")]
    latency: Option<f64>,
    /// Share of the requests that small models pass on to the baseline, from 0 to 1
    #[arg(long, value_name = "SHARE")]
    escalated: Option<f64>,
}

/// The plan by flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Plan")]
struct PlanArgs {
    /// Machines beyond those that are needed [default: 0]
    #[arg(long, value_name = "N")]
    spare: Option<u32>,
    /// Hours of work to set up machines of one's own [default: 16]
    #[arg(long, value_name = "HOURS")]
    setup: Option<f64>,
    /// Hours of work that they take each month [default: 2]
    #[arg(long, value_name = "HOURS")]
    upkeep: Option<f64>,
    /// Dollars of an hour of work [default: 80]
    #[arg(long, value_name = "DOLLARS")]
    work_hour: Option<f64>,
    /// What fine-tuning costs once, in dollars [default: 0]
    #[arg(long, value_name = "DOLLARS")]
    tuning: Option<f64>,
}

impl CompareArgs {
    fn scenario(&self, globals: &Globals) -> anyhow::Result<(Scenario, Option<Seen>)> {
        let w = &self.work;
        let mut seen = None;
        let planned = |workload| Scenario { workload, plan: Plan::default() };
        let mut scenario = match (&self.workload, self.recorded, w.requests.zip(w.input).zip(w.output)) {
            (Some(path), ..) => Scenario::parse(&read(path)?, &path.display().to_string())?,
            (None, Some(days), _) => {
                let (workload, of) = self.recorded_work(days, globals)?;
                seen = Some(of);
                planned(workload)
            }
            (None, None, Some(((requests, input), output))) => planned(Workload::new(requests, input, output)),
            _ => bail!("say what the work is: --requests, --input and --output, --workload FILE, or --recorded DAYS"),
        };
        let (work, plan) = (&mut scenario.workload, &mut scenario.plan);
        for (field, flag) in [
            (&mut work.requests_per_day, w.requests),
            (&mut work.input_tokens, w.input),
            (&mut work.output_tokens, w.output),
            (&mut work.cached_share, w.cached),
            (&mut work.peak_factor, w.peak),
            (&mut work.escalated_share, w.escalated),
            (&mut plan.setup_hours, self.plan.setup),
            (&mut plan.upkeep_hours, self.plan.upkeep),
            (&mut plan.work_hour_dollars, self.plan.work_hour),
            (&mut plan.tuning_dollars, self.plan.tuning),
        ] {
            *field = flag.unwrap_or(*field);
        }
        work.latency_s = w.latency.or(work.latency_s);
        plan.spare_machines = self.plan.spare.unwrap_or(plan.spare_machines);
        Ok((scenario, seen))
    }
}

impl CompareArgs {
    fn recorded_work(&self, days: u32, globals: &Globals) -> anyhow::Result<(Workload, Seen)> {
        let mut recording = Recording::default();
        recorded(&self.ledger, Some(days), globals, |row| recording.add(row))?;
        let seen = recording.seen();
        let workload = recording.workload().with_context(|| {
            format!(
                "{}: too little for a workload, which takes requests with tokens over {MIN_HOURS} hours at least; or say --requests, --input and --output",
                counted(&seen)
            )
        })?;
        Ok((workload, seen))
    }
}

/// `59 requests within 0.1 hours (40 failed ones are left out)`.
fn counted(seen: &Seen) -> String {
    let failed = match seen.failed {
        0 => String::new(),
        failed => format!(" ({} failed ones are left out)", whole(failed as f64)),
    };
    format!("{} requests within {} hours{failed}", whole(seen.requests as f64), hours(seen.hours()))
}

fn hours(hours: f64) -> String {
    if hours < 100.0 { format!("{hours:.1}") } else { whole(hours) }
}

/// What a workload of the ledger stands on.
fn origin(seen: &Seen) -> String {
    let time = |micros: i64| Timestamp(micros).to_string();
    let between = seen.between.map(|(first, last)| format!(", from {} to {}", time(first), time(last)));
    let short =
        if seen.hours() < 24.0 { " That is less than a day: what the rest of a day brings is not in it." } else { "" };
    format!("The workload is that of {} on record{}.{short}", counted(seen), between.unwrap_or_default())
}

/// What a program is told: the comparison, and where the workload is from.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    comparison: &'a Comparison,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Seen>,
}

pub(crate) fn run(args: &CompareArgs, globals: &Globals) -> anyhow::Result<()> {
    let (scenario, recorded) = args.scenario(globals)?;
    let mut list = PriceList::builtin()?;
    if let Some(path) = &args.prices {
        list = list.overlay(PriceList::parse(&read(path)?).with_context(|| path.display().to_string())?);
    }
    let offers = match &args.offers {
        Some(path) => offers::parse(&read(path)?, &path.display().to_string(), &list)?,
        None => offers::builtin(&list)?,
    };
    let question = Question {
        scenario: &scenario,
        offers: &offers,
        baseline: args.baseline.as_deref(),
        candidate: args.candidate.as_deref(),
        change: args.change / 100.0,
    };
    let comparison = compare(question)?;
    if let Some(path) = &args.svg {
        let curves = comparison.staircases();
        let curves: Vec<_> = curves.iter().map(|c| CostCurve { name: &c.name, corners: &c.corners }).collect();
        fs_err::write(path, monthly_cost(&curves, scenario.workload.requests_per_day))?;
    }
    if globals.json {
        return output::print_json(&Told { comparison: &comparison, recorded });
    }
    output::print(&told(&comparison, recorded.as_ref()))?;
    if let (Some(path), false) = (&args.svg, globals.quiet) {
        eprintln!("\nwrote {}", path.display());
    }
    Ok(())
}

/// A file's text, if it is not absurdly long.
fn read(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(file::read(path, MAX_BYTES)?).with_context(|| format!("{}: is no text", path.display()))
}

/// Table, sensitivity and assumptions.
fn told(comparison: &Comparison, recorded: Option<&Seen>) -> String {
    let headers = ["WHAT", "KIND", "MACHINES", "$/MONTH", "$/1,000 REQUESTS", "BREAK-EVEN", "PAYBACK"];
    let right = &headers[2..];
    let rows = comparison.rows.iter().map(|row| cells(row, comparison)).collect();
    let mut text = output::table(&headers, right, rows);
    let unfit = comparison.rows.iter().filter_map(|row| Some((row, row.unfit.as_ref()?)));
    for (row, why) in unfit {
        text += &format!("\n{} cannot do it: {why}", row.name);
    }
    let w = &comparison.scenario.workload;
    text += &format!(
        "\n\n* the candidate, against {}, for {} requests a day of {} + {} tokens; once {}.",
        comparison.baseline,
        whole(w.requests_per_day),
        whole(w.input_tokens),
        whole(w.output_tokens),
        dollars(comparison.one_off_dollars),
    );
    if let Some(seen) = recorded {
        text += &format!("\n{}", origin(seen));
    }
    text += &format!("\n\n{}", sensitivity(comparison));
    text += "\n\nWhat this takes for granted:";
    for assumption in &comparison.assumptions {
        text += &format!("\n- {}: {}", assumption.about, assumption.what);
    }
    text
}

fn cells(row: &Row, comparison: &Comparison) -> Vec<String> {
    let star = if row.name == comparison.candidate { " *" } else { "" };
    let kind = match row.kind {
        Kind::HostedLlm => "hosted LLM",
        Kind::HostedSlm => "hosted SLM",
        Kind::Gpu => "GPU",
        Kind::Cpu => "CPU",
    };
    let of = |read: &dyn Fn(&bantam_ledger::cost::compare::Monthly) -> Option<String>| {
        row.monthly.as_ref().and_then(read).unwrap_or_else(|| "–".to_owned())
    };
    let break_even = match row.break_even {
        BreakEven::Itself | BreakEven::Unfit => "–".to_owned(),
        BreakEven::Always => "always".to_owned(),
        BreakEven::Never => "never".to_owned(),
        BreakEven::From { requests_per_day, steady } => match steady {
            Some(steady) if steady > requests_per_day * 1.01 => {
                format!("{}, steady from {}", whole(requests_per_day), whole(steady))
            }
            Some(_) => whole(requests_per_day),
            None => format!("{}, at times", whole(requests_per_day)),
        },
    };
    let payback = match (row.payback_months, row.break_even) {
        (_, BreakEven::Itself | BreakEven::Unfit) => "–".to_owned(),
        (Some(months), _) if months <= 600.0 => format!("{months:.1} months"),
        _ => "never".to_owned(),
    };
    vec![
        format!("{}{star}", row.name),
        kind.to_owned(),
        of(&|monthly| monthly.machines.map(|machines| machines.to_string())),
        of(&|monthly| Some(dollars(monthly.dollars))),
        of(&|monthly| Some(format!("{:.4}", monthly.per_thousand_requests))),
        break_even,
        payback,
    ]
}

/// A tornado in text: what moves the saving, and how far.
fn sensitivity(comparison: &Comparison) -> String {
    let found = &comparison.sensitivity;
    let percent = found.change * 100.0;
    let rows =
        found.swings.iter().take(10).map(|swing| {
            vec![swing.assumption.to_owned(), figure(swing.value), dollars(swing.low), dollars(swing.high)]
        });
    let (less, more) = (format!("{percent:.0}% LESS"), format!("{percent:.0}% MORE"));
    let headers = ["ASSUMPTION", "VALUE", &less, &more];
    let table = output::table(&headers, &headers[1..], rows.collect());
    let saving = dollars(found.saving);
    format!("Saved a month against {}: {saving}. With one assumption moved at a time:\n{table}", comparison.baseline)
}

/// A value without needless decimals.
fn figure(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { whole(value) } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_no_needless_decimals() {
        assert_eq!([0.7, 4.0, 495.3].map(figure), ["0.700", "4", "495"]);
    }
}
