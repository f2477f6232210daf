//! `bantam pilot`: the first day with a labelled table.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bantam_evals::pilot::{Event, Pilot, PilotConfig, RULE, Report, Wanted};
use bantam_tasks::table::Table;
use clap::Args;

use crate::cli::Globals;
use crate::load::EngineArgs;
use crate::load::encoder::PrecisionArg;
use crate::load::pilot::{OfferArgs, offers, opener};
use crate::load::task::ModelArgs;
use crate::report::{self, Ran};
use crate::{interrupt, output, progress};

/// Longest file name that becomes a task's name, in characters.
const MAX_NAME: usize = 40;

/// Arguments of `bantam pilot`.
#[derive(Debug, Args)]
#[command(after_help = format!("{RULE}\n\n\
    The table is split by a hash of the texts: equal texts stay together, and the rows that judge are used for nothing else. \
    Written to --out: the task file of the choice, what was fitted for it, report.html and pilot.json. Ctrl-C stops the \
    candidate that runs and reports those that are done."))]
pub(crate) struct PilotArgs {
    /// Labelled table: .csv with a header, .tsv, or .jsonl
    #[arg(value_name = "FILE")]
    data: PathBuf,
    /// Name of the task: lower-case letters, digits and dashes [default: from the file's name]
    #[arg(long)]
    name: Option<String>,
    /// Where the task file and the reports go [default: pilot-NAME]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write over the task of an earlier pilot
    #[arg(long)]
    replace: bool,
    /// Share of the rows that judge
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    test_share: f64,
    /// Most rows that judge: of large tables a smaller share does
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_test: usize,
    /// Most rows that are used at all, chosen by hash
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    limit: usize,
    /// Most minutes that a candidate is asked; a slower one is judged on fewer rows
    #[arg(long, value_name = "MINUTES", default_value_t = 3.0)]
    minutes_per_candidate: f64,
    /// What an hour of this machine costs, in US$ [default: 0.05 per core, about what clouds charge]
    #[arg(long, value_name = "DOLLARS")]
    machine_cost_per_hour: Option<f64>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    offers: OfferArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Which column holds what; where it is not said, usual names are known, and otherwise what a column holds decides.
#[derive(Debug, Args)]
#[command(next_help_heading = "Columns")]
struct ColumnArgs {
    /// Column with the texts [default: text, message, body, ...; otherwise the longest texts]
    #[arg(long, value_name = "COLUMN")]
    text: Option<String>,
    /// Column with the right labels [default: label, category, intent, ...; otherwise the fewest different values]
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// Columns with the right values, for a task that fills in fields instead of choosing a label
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',', conflicts_with = "label")]
    fields: Vec<String>,
    /// Column with what the LLM used today answered [default: llm_answer, llm_label, ... if there is one]
    #[arg(long, value_name = "COLUMN")]
    llm_answer: Option<String>,
    /// Column with its latency in milliseconds [default: llm_latency_ms, if there is one]
    #[arg(long, value_name = "COLUMN")]
    llm_latency_ms: Option<String>,
    /// Column with its cost per row in US$ [default: llm_cost, if there is one]
    #[arg(long, value_name = "COLUMN")]
    llm_cost: Option<String>,
}

/// What a core costs for an hour, in US dollars.
const CORE_COST_PER_HOUR: f64 = 0.05;

pub(crate) fn run(args: &PilotArgs, globals: &Globals) -> anyhow::Result<()> {
    let columns = &args.columns;
    let wanted = Wanted {
        text: columns.text.clone(),
        label: columns.label.clone(),
        fields: columns.fields.clone(),
        llm_answer: columns.llm_answer.clone(),
        llm_latency_ms: columns.llm_latency_ms.clone(),
        llm_cost: columns.llm_cost.clone(),
    };
    let config = config(args)?;
    let (name, out) = (config.name.clone(), config.out.clone());
    let file = out.join(format!("{name}.toml"));
    ensure!(
        !file.exists() || args.replace,
        "{} is there already, perhaps with changes of yours; give another folder with --out, or write over it with --replace",
        file.display()
    );
    let table = Table::open(&args.data)?;
    let pilot = Pilot::new(&table, &wanted, config)?;
    if !globals.quiet {
        eprintln!("{}", pilot.overview());
        pilot.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
    let offers = offers(&args.offers, globals)?;
    // Rather now than after all candidates have run.
    fs_err::create_dir_all(&out)?;
    let stop = Arc::new(AtomicBool::new(false));
    let models = ModelArgs {
        model: None,
        server: None,
        api_key_env: None,
        precision: PrecisionArg::default(),
        engine: args.engine.clone(),
    };
    let bar = progress::candidates(globals);
    let mut open = opener(&models, globals);
    let mut on_event = |event: Event<'_>| {
        match event {
            Event::Begins { name } => bar.set_message(name.to_owned()),
            Event::At { what, done, total } => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_prefix(what.to_owned());
            }
            Event::Measured(candidate) if !globals.quiet => {
                let accuracy = candidate.quality.accuracy.value * 100.0;
                let rate = candidate.quality.rows_per_hour.unwrap_or_default();
                bar.suspend(|| eprintln!("{}: {accuracy:.1}% right, {rate:.0} rows an hour", candidate.name));
            }
            Event::Skipped { name, reason } if !globals.quiet => {
                bar.suspend(|| eprintln!("{name}: not measured: {reason}"));
            }
            Event::Measured(_) | Event::Skipped { .. } => {}
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let flag = Arc::clone(&stop);
    let guard = interrupt::catch(move || {
        // The second Ctrl-C does not wait for the row that runs.
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(interrupt::EXIT_CODE);
        }
    })?;
    let outcome = pilot.run(&offers, &mut open, &mut on_event);
    bar.finish_and_clear();
    drop(guard);
    if let (true, Err(error)) = (stop.load(Ordering::Relaxed), &outcome) {
        eprintln!("error: {error}");
        std::process::exit(interrupt::EXIT_CODE);
    }
    let ran = Ran {
        task: &name,
        task_digest: None,
        model: None,
        data: &args.data,
        rows: usize::try_from(table.n_rows()).unwrap_or(usize::MAX),
    };
    let found = pilot.report(outcome?, report::about(&ran)?)?;
    print(&found, &out, globals)?;
    ensure!(
        !found.comparison.contest.candidates.is_empty(),
        "no candidate could be measured; {} says why",
        out.display()
    );
    if !found.pilot.is_complete {
        std::process::exit(interrupt::EXIT_CODE);
    }
    Ok(())
}

fn config(args: &PilotArgs) -> anyhow::Result<PilotConfig> {
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.data));
    let minutes = args.minutes_per_candidate;
    let per_candidate = Duration::try_from_secs_f64(minutes * 60.0)
        .with_context(|| format!("--minutes-per-candidate: {minutes} is no time"))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(PilotConfig {
        out: args.out.clone().unwrap_or_else(|| PathBuf::from(format!("pilot-{name}"))),
        name,
        test_share: args.test_share,
        max_test: args.max_test,
        limit: args.limit,
        per_candidate,
        machine_cost_per_hour: args.machine_cost_per_hour.unwrap_or(CORE_COST_PER_HOUR * cores as f64),
    })
}

/// A task's name from a file's.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let words: Vec<String> =
        stem.chars().map(plain).collect::<String>().split('-').filter(|w| !w.is_empty()).map(str::to_owned).collect();
    let name: String = words.join("-").chars().take(MAX_NAME).collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "table".to_owned() } else { name.to_owned() }
}

fn print(found: &Report, out: &Path, globals: &Globals) -> anyhow::Result<()> {
    if globals.json {
        return output::print_json(found);
    }
    let comparison = &found.comparison;
    let contest = &comparison.contest;
    let mut text = format!("{}\n\n{}\n", comparison.verdict(), report::text(&comparison.table()));
    for candidate in contest.baseline.iter().chain(&contest.candidates) {
        candidate.notes.iter().for_each(|note| text += &format!("\n{}: {note}", candidate.name));
    }
    contest.skipped.iter().for_each(|skipped| text += &format!("\nnot measured: {}: {}", skipped.name, skipped.reason));
    contest.warnings.iter().for_each(|warning| text += &format!("\nwarning: {warning}"));
    contest.notes.iter().skip(1).for_each(|note| text += &format!("\n{note}"));
    text += &format!("\n\nwrote {} and pilot.json", out.join("report.html").display());
    if let Some(task) = &found.pilot.task_file {
        text += &format!(
            ", and the task of the choice. Next:\n  bantam task run {} --input NEW.csv --output ANSWERS.csv",
            task.display()
        );
    }
    output::print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_become_names_of_tasks() {
        for (path, name) in [
            ("tickets.csv", "tickets"),
            ("/x/My Tickets (2).final.csv", "my-tickets-2-final"),
            ("請求.csv", "table"),
            (&*format!("{}.csv", "ab-".repeat(40)), "ab-".repeat(14)[..MAX_NAME].trim_end_matches('-')),
        ] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
