//! A pilot over models that answer by rule: what is chosen, written and told.

#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use bantam_evals::pilot::{Contender, Event, Offer, Pilot, PilotConfig, PilotError, Report, Server, Wanted};
use bantam_evals::report::About;
use bantam_tasks::model::{Answerer, LanguageModel, Raw, RawValue, Usage, Wanted as Asked};
use bantam_tasks::prompt::Conversation;
use bantam_tasks::table::Table;
use bantam_tasks::{Otherwise, RowError, Task, TaskError};

const LABELS: [&str; 3] = ["apple", "pear", "plum"];

/// How a model answers rows whose text has the number of the row.
#[derive(Clone, Copy)]
enum Manner {
    /// Wrong at every n-th row, and then not sure.
    WrongAt(usize),
    /// Right, in so many milliseconds.
    Slow(u64),
    /// Not at all.
    Away,
    /// A JSON object, right and without probabilities.
    Json,
}

struct Fake {
    manner: Manner,
    labels: Vec<String>,
}

impl LanguageModel for Fake {
    fn id(&self) -> &str {
        "fake"
    }

    fn fingerprint(&self) -> String {
        "fake-1".to_owned()
    }

    fn bind(&self, _: &Conversation, wanted: &Asked) -> Result<Box<dyn Answerer>, TaskError> {
        let labels = match wanted {
            Asked::Label { labels, .. } => labels.clone(),
            _ => Vec::new(),
        };
        Ok(Box::new(Fake { manner: self.manner, labels }))
    }
}

impl Answerer for Fake {
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>> {
        let one = |input: &String| {
            let number: usize = input.split(' ').nth(1).unwrap().parse().unwrap();
            let right = || self.labels.iter().position(|label| input.contains(label.as_str())).unwrap();
            let value = match self.manner {
                Manner::Away => return Err(RowError::Model { why: "the server is away".to_owned(), retry: true }),
                Manner::WrongAt(n) if number.is_multiple_of(n) => {
                    RawValue::Labels(vec![((right() + 1) % 3, Some(0.3 + number as f64 / 1e5))])
                }
                Manner::WrongAt(_) => RawValue::Labels(vec![(right(), Some(0.8 + number as f64 / 1e5))]),
                Manner::Slow(milliseconds) => {
                    std::thread::sleep(Duration::from_millis(milliseconds));
                    RawValue::Labels(vec![(right(), Some(0.9))])
                }
                Manner::Json => {
                    let name = input.rsplit(' ').next().unwrap();
                    RawValue::Json { text: format!("{{\"fruit\":\"{name}\"}}"), pieces: Vec::new() }
                }
            };
            Ok(Raw { value, latency: Duration::from_millis(1), usage: Usage::default(), has_special_tokens: false })
        };
        inputs.iter().map(one).collect()
    }
}

/// The LLM is wrong at every tenth row.
fn table(dir: &Path) -> Table {
    let row = |i: usize| {
        let (label, said) = (LABELS[i % 3], LABELS[(i + usize::from(i.is_multiple_of(10))) % 3]);
        format!("row {i} is of a {label},{label},,{said},900,0.001\n")
    };
    let rows: String = (0..900).map(row).collect();
    let path = dir.join("t.csv");
    std::fs::write(&path, format!("text,fruit,note,llm_answer,llm_latency_ms,llm_cost\n{rows}")).unwrap();
    Table::open(&path).unwrap()
}

fn config(dir: &Path) -> PilotConfig {
    PilotConfig {
        name: "fruit".to_owned(),
        out: dir.join("out"),
        test_share: 0.3,
        max_test: 1_000,
        limit: 10_000,
        per_candidate: Duration::from_secs(20),
        machine_cost_per_hour: 0.1,
    }
}

fn offer(model: &str) -> Offer {
    Offer { model: model.to_owned(), server: None }
}

fn open(offer: &Offer) -> Result<Contender, String> {
    let manner = match &*offer.model {
        "good" => Manner::WrongAt(20),
        "poor" => Manner::WrongAt(2),
        "slow" => Manner::Slow(20),
        "away" => Manner::Away,
        "json" => Manner::Json,
        _ => return Err("it is too large".to_owned()),
    };
    Ok(Contender::Generating(Box::new(Fake { manner, labels: Vec::new() })))
}

fn on(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run(pilot: &Pilot, offers: &[Offer]) -> Report {
    let outcome = pilot.run(offers, &mut open, &mut on).unwrap();
    pilot.report(outcome, About::default()).unwrap()
}

#[test]
fn the_good_model_is_chosen_calibrated_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let columns = Wanted { label: Some("fruit".to_owned()), ..Wanted::default() };
    let pilot = Pilot::new(&table(dir.path()), &columns, config(dir.path())).unwrap();
    let server = Server { url: "http://127.0.0.1:1/v1".to_owned(), api_key_env: None };
    let away = Offer { model: "away".to_owned(), server: Some(server) };
    let report = run(&pilot, &[offer("huge"), offer("poor"), offer("good"), away]);

    let contest = &report.comparison.contest;
    let winner = &contest.candidates[contest.winner.unwrap()];
    assert!(winner.name.starts_with("good"), "{}", winner.name);
    assert_eq!(contest.candidates.len(), 4);
    let skipped: Vec<_> = contest.skipped.iter().map(|it| (it.name.as_str(), it.reason.as_str())).collect();
    assert!(skipped.contains(&("huge", "it is too large")) && skipped.len() == 3, "{skipped:?}");
    assert!(skipped.contains(&("away, no examples", "the server is away")), "{skipped:?}");
    let baseline = contest.baseline.as_ref().unwrap();
    assert!((0.85..0.95).contains(&baseline.quality.accuracy.value));
    assert!((baseline.cost_per_million.unwrap() - 1_000.0).abs() < 1e-6);
    assert!((baseline.quality.latency.as_ref().unwrap().percentiles.p50 - 0.9).abs() < 1e-9);

    // Sure answers are right and unsure ones wrong, so the threshold parts them and nearly all can be promised.
    let acceptance = report.pilot.acceptance.unwrap();
    assert!(acceptance.promised_share.unwrap() > 0.9, "{acceptance:?}");
    let task = Task::open(&dir.path().join("out/fruit.toml")).unwrap();
    assert_eq!((task.model.as_deref(), task.accept.otherwise), (Some("good"), Otherwise::Escalate));
    assert_eq!(task.accept.confidence, acceptance.confidence);
    assert!(bantam_tasks::fit::FittedFile::open(&task).unwrap().is_some());
    // A second pilot may write over the first.
    assert!(Pilot::new(&table(dir.path()), &columns, config(dir.path())).is_ok());
}

#[test]
fn a_slow_model_is_judged_on_fewer_rows_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = PilotConfig { per_candidate: Duration::from_millis(300), ..config(dir.path()) };
    let pilot = Pilot::new(&table(dir.path()), &Wanted::default(), config).unwrap();
    let report = run(&pilot, &[offer("slow")]);
    let slow = &report.comparison.contest.candidates[0];
    assert!(slow.quality.rows < report.pilot.test_rows && slow.notes[0].contains("chosen by hash"), "{:?}", slow.notes);
    assert!(slow.quality.rows_per_hour.unwrap() < 3_600.0 * 51.0);
}

#[test]
fn stopping_keeps_what_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let pilot = Pilot::new(&table(dir.path()), &Wanted::default(), config(dir.path())).unwrap();
    let mut measured = 0;
    let mut stop_after_one = |event: Event<'_>| {
        measured += usize::from(matches!(event, Event::Measured(_)));
        if measured > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outcome = pilot.run(&[offer("good"), offer("poor")], &mut open, &mut stop_after_one).unwrap();
    let report = pilot.report(outcome, About::default()).unwrap();
    assert_eq!((report.comparison.contest.candidates.len(), report.pilot.is_complete), (1, false));
    assert!(dir.path().join("out/fruit.toml").is_file());
    let at_once = pilot.run(&[offer("good")], &mut open, &mut |_| ControlFlow::Break(()));
    assert!(matches!(at_once, Err(PilotError::Stopped)));
}

#[test]
fn fields_are_filled_by_models_that_write() {
    let dir = tempfile::tempdir().unwrap();
    let columns = Wanted { fields: vec!["fruit".to_owned(), "note".to_owned()], ..Wanted::default() };
    let pilot = Pilot::new(&table(dir.path()), &columns, config(dir.path())).unwrap();
    let report = run(&pilot, &[offer("json")]);
    let contest = &report.comparison.contest;
    assert_eq!(contest.candidates.len(), 2);
    let quality = &contest.candidates[0].quality;
    assert_eq!((quality.right, quality.labels.len()), (quality.rows, 2));
    // Without confidences there is no threshold to choose.
    assert!(report.pilot.acceptance.is_none());
    assert!(Task::open(&dir.path().join("out/fruit.toml")).unwrap().accept.confidence == 0.0);
}

#[test]
fn settings_that_cannot_work_name_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let refused =
        |config: PilotConfig| Pilot::new(&table(dir.path()), &Wanted::default(), config).unwrap_err().to_string();
    assert!(refused(PilotConfig { test_share: f64::NAN, ..config(dir.path()) }).contains("--test-share"));
    assert!(refused(PilotConfig { max_test: 0, ..config(dir.path()) }).contains("--max-test"));
    assert!(refused(PilotConfig { name: "No Name".into(), ..config(dir.path()) }).contains("lower-case"));
    assert!(refused(PilotConfig { machine_cost_per_hour: -1.0, ..config(dir.path()) }).contains("--machine-cost"));
}
