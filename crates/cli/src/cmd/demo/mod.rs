//! `bantam demo`: real questions through the real gateway, without a key, and without a network once the model is there.

mod ask;
mod house;
mod show;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bantam_evals::routing::{Figures, Question, Routed, Side};
use bantam_hub::{ModelRef, Store, human_bytes};
use bantam_ledger::RequestEntry;
use bantam_stats::Rng;
use bantam_stats::conformal::{Guarantee, Promise, guaranteed_threshold};
use bantam_types::NanoDollars;
use clap::Args;
use serde_json::Value;

use crate::cli::Globals;
use crate::load::{EngineArgs, Loaded};
use crate::{interrupt, output, progress};

use ask::{Answer, Asker};
use house::{House, HouseConfig, LARGE};

/// Easy and hard questions of many kinds.
const OWN: &str = include_str!("questions.jsonl");

/// RouteLLM's outcomes on GSM8K, where they are at hand.
const GSM8K: &str = "routellm/gsm8k.jsonl";

/// Questions that are asked where nobody says how many.
const QUESTIONS: u32 = 200;

/// Arguments of `bantam demo`.
#[derive(Debug, Args)]
#[command(
    after_help = "Real questions go through the real gateway: a model on this machine answers first, and where it is not sure enough, the recorded \
    answer of a large hosted model does, served at its usual speed by a stand-in. How sure is enough is chosen on the first questions, so that answers kept here are right as often as promised. At the end stands \
    what was kept here, how much of it was right, and what it cost, beside other ways to answer.\n\nThe first time, the model on this machine is fetched (98 MB for the default one) and kept; from then on no network is needed."
)]
pub(crate) struct DemoArgs {
    /// JSON lines with a question, an answer (the large model's) and gold (a number, or one of choices) each [default: questions of
    /// our own, with as many of GSM8K where ../shared/data or BANTAM_DATA has routellm/gsm8k.jsonl]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The model on this machine
    #[arg(long, short, value_name = "NAME|PATH", default_value = "smollm2-135m-instruct")]
    model: String,
    /// Most questions, those to choose the confidence on included [default: 200, or all where there are fewer; our own are 164]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=100_000))]
    questions: Option<u32>,
    /// Share of the questions on which the confidence is chosen that the small model's answers need
    #[arg(long, value_name = "SHARE", default_value_t = 0.4, value_parser = share)]
    calibrate: f64,
    /// Most answers of the small model that may be wrong, of those that are kept
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, value_parser = share)]
    max_error: f64,
    /// How sure that must be
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    confidence: f64,
    /// How many times faster than in life the large model answers
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Clients that ask at one time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Port to listen on; 0 picks a free one
    #[arg(long, short, value_name = "P", default_value_t = 0)]
    port: u16,
    /// SQLite file that keeps the record of all requests [default: one that is deleted at the end]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Go on serving after the end, until Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Of what is drawn: the order of questions, delays
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    engine: EngineArgs,
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share.filter(|share| *share > 0.0 && *share < 1.0).ok_or_else(|| "must be a number between 0 and 1".into())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: Option<f64> = text.parse().ok();
    speed.filter(|x| (0.01..=1e6).contains(x)).ok_or_else(|| "must be a number from 0.01 to 1000000".into())
}

/// What is shown at the end.
struct Shown<'a> {
    figures: Figures,
    questions: &'a [Question],
    rows: &'a [Routed],
    promise: Promise,
    calibration: usize,
    guarantee: Option<Guarantee>,
    small: &'a str,
    /// What the ledger says was spent: to choose the confidence, on the stream, on what it is compared with.
    spent: [NanoDollars; 3],
    /// Requests on record.
    requests: usize,
}

pub(crate) fn run(args: &DemoArgs, globals: &Globals) -> anyhow::Result<()> {
    let questions = questions(args)?;
    if let Some(wanted) = args.questions.map(|n| n as usize).filter(|n| *n > questions.len() && !globals.quiet) {
        eprintln!("note: there are {} questions and not {wanted}; all of them are asked", questions.len());
    }
    let dir;
    let (ledger, passing) = match &args.ledger {
        Some(path) => (path.clone(), None),
        None => {
            dir = tempfile::tempdir().context("no folder for the ledger can be made")?;
            (dir.path().join("ledger.db"), Some(dir.path().to_owned()))
        }
    };
    let _guard = interrupt::catch(move || {
        // The process ends before the folder's owner could delete it.
        passing.iter().for_each(|dir| drop(fs_err::remove_dir_all(dir)));
        std::process::exit(interrupt::EXIT_CODE)
    })?;
    announce_fetch(&args.model, globals)?;
    let model = Loaded::open(&args.model, &args.engine, globals)?;
    let config = HouseConfig { port: args.port, ledger: &ledger, speed: args.speed, seed: args.seed };
    let house = House::start(model, &questions, &config)?;
    if !globals.quiet {
        let until = if args.stay { "until Ctrl-C" } else { "while this runs; --stay keeps it" };
        eprintln!("dashboard: {}/dashboard   ({until})", house.url);
    }
    let outcome = stream(args, &questions, &house, globals);
    if outcome.is_ok() && args.stay {
        let (stop, stopped) = std::sync::mpsc::channel();
        let _guard = interrupt::catch(move || {
            let _ = stop.send(());
        })?;
        if !globals.quiet {
            eprintln!("still serving {}; Ctrl-C stops", house.url);
        }
        let _ = stopped.recv();
    }
    house.stop()?;
    outcome
}

/// Says that the model is about to come over the network, where it is not on this machine.
fn announce_fetch(model: &str, globals: &Globals) -> anyhow::Result<()> {
    let reference = ModelRef::parse(model)?;
    let store = Store::open(globals.data_dir.as_deref())?;
    // What is damaged is told when it is opened.
    let is_here = !matches!(store.resolve(&reference), Ok(None));
    if let (false, Some(entry)) = (is_here || globals.offline || globals.quiet, store.entry(&reference)) {
        eprintln!(
            "{model} is not on this machine: fetching {}, this once; it is kept in {}",
            human_bytes(entry.size_estimate()),
            store.root().display()
        );
    }
    Ok(())
}

/// The questions in their order.
fn questions(args: &DemoArgs) -> anyhow::Result<Vec<Question>> {
    let read = |path: &Path| -> anyhow::Result<Vec<Question>> {
        Question::read(&fs_err::read_to_string(path)?).with_context(|| path.display().to_string())
    };
    let mut random = Rng::new(args.seed);
    let mut drawn = |mut questions: Vec<Question>, n: usize| {
        for i in (1..questions.len()).rev() {
            questions.swap(i, random.below(i + 1));
        }
        questions.truncate(n);
        questions
    };
    let wanted = args.questions.unwrap_or(QUESTIONS) as usize;
    let all = match &args.data {
        Some(path) => read(path)?,
        None => {
            let own = Question::read(OWN)?;
            let more = std::env::var_os("BANTAM_DATA").map(|dir| PathBuf::from(dir).join(GSM8K));
            let places = [more, Some(Path::new("../shared/data").join(GSM8K))];
            match places.into_iter().flatten().find(|path| path.is_file()) {
                Some(path) => {
                    let half = (wanted / 2).min(own.len());
                    let hard = drawn(read(&path)?, half);
                    drawn(own, half).into_iter().chain(hard).collect()
                }
                None => own,
            }
        }
    };
    let questions = drawn(all, wanted);
    ensure!(
        questions.len() >= 4,
        "there are {} questions; 4 are the least to choose and to measure on",
        questions.len()
    );
    Ok(questions)
}

/// Chooses the confidence, runs the stream, and asks who was not asked, for comparison.
fn stream(args: &DemoArgs, questions: &[Question], house: &House, globals: &Globals) -> anyhow::Result<()> {
    let asker = Asker::new(&house.url, args.clients.into())?;
    let first = ((questions.len() as f64 * args.calibrate).round() as usize).clamp(1, questions.len() - 1);
    let (calibration, rest) = questions.split_at(first);

    let by = |model| move |question| (model, question);
    let step = |text: String| {
        if !globals.quiet {
            eprintln!("{text}");
        }
    };
    step(format!("1 of 3: {first} questions to {}, to choose how sure it has to be", house.small()));
    let bar = progress::questions(globals, first as u64, "choosing the confidence");
    let tried = asker.ask(&calibration.iter().map(by("auto")).collect::<Vec<_>>(), &bar)?;
    bar.finish_and_clear();
    let entries = house.entries()?;
    let sure: Vec<f64> = tried.iter().map(|answer| sureness(&entries, answer)).collect::<anyhow::Result<_>>()?;
    let right: Vec<bool> = calibration.iter().zip(&tried).map(|(q, a)| q.is_right(&a.text)).collect();
    let promise = Promise { accuracy: 1.0 - args.max_error, confidence: args.confidence };
    let guarantee = guaranteed_threshold(&sure, &right, promise)?;
    house.trust(guarantee.map(|found| found.threshold))?;

    step(format!("2 of 3: {} other questions through the gateway", rest.len()));
    let bar = progress::questions(globals, rest.len() as u64, "answered");
    let answers = asker.ask(&rest.iter().map(by("auto")).collect::<Vec<_>>(), &bar)?;
    bar.finish_and_clear();
    let entries = house.entries()?;
    let is_local = |answer| Ok(entry(&entries, answer)?.provider.as_deref() == Some("local"));
    let kept: Vec<bool> = answers.iter().map(is_local).collect::<anyhow::Result<_>>()?;

    step("3 of 3: the same questions to whoever did not answer them, for comparison".to_owned());
    house.hurry();
    let others: Vec<_> =
        rest.iter().zip(&kept).map(|(q, kept)| (if *kept { LARGE } else { house.small() }, q)).collect();
    let bar = progress::questions(globals, rest.len() as u64, "asked again, for comparison");
    let compared = asker.ask(&others, &bar)?;
    bar.finish_and_clear();

    let entries = house.entries()?;
    let mut rows = Vec::new();
    for (((question, answer), other), kept) in rest.iter().zip(&answers).zip(&compared).zip(&kept) {
        let own = entry(&entries, answer)?;
        let last = own.attempts.last().context("an answered request has no attempt on record")?;
        let answered = Side { right: question.is_right(&answer.text), cost: last.cost };
        let other = Side { right: question.is_right(&other.text), cost: entry(&entries, other)?.cost };
        let (small, large) = if *kept { (answered, other) } else { (other, answered) };
        rows.push(Routed { kept: *kept, cost: own.cost, seconds: answer.seconds, small, large });
    }
    let sum = |answers: &[Answer]| -> anyhow::Result<NanoDollars> {
        answers.iter().map(|answer| Ok(entry(&entries, answer)?.cost)).sum()
    };
    let shown = Shown {
        figures: Figures::new(&rows)?,
        questions: rest,
        rows: &rows,
        promise,
        calibration: first,
        guarantee,
        small: house.small(),
        spent: [sum(&tried)?, sum(&answers)?, sum(&compared)?],
        requests: entries.len(),
    };
    step(String::new());
    if globals.json { output::print_json(&show::json(&shown)) } else { output::print(&show::text(&shown)) }
}

fn entry<'a>(entries: &'a HashMap<String, RequestEntry>, answer: &Answer) -> anyhow::Result<&'a RequestEntry> {
    entries.get(&answer.id).with_context(|| format!("request {} is not on record", answer.id))
}

/// How sure the gateway found the small model to be.
fn sureness(entries: &HashMap<String, RequestEntry>, answer: &Answer) -> anyhow::Result<f64> {
    // Without an answer of the small model there is no confidence in it.
    Ok(entry(entries, answer)?.decision.get("confidence").and_then(Value::as_f64).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_are_as_many_questions_of_our_own_as_the_help_says() {
        assert_eq!(Question::read(OWN).unwrap().len(), 164);
    }
}
