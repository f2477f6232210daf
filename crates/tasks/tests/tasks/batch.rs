//! Whole tables: nothing done twice, nothing lost, whenever a run ends.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bantam_tasks::batch::{Batch, BatchError, Outcome, Progress, Start, run};
use bantam_tasks::model::RawValue;
use bantam_tasks::table::Table;
use bantam_tasks::{RowError, Runner, Task};
use tempfile::TempDir;

use crate::fake::{Fake, away, task};

const ROWS: usize = 700;

fn topic() -> Arc<Task> {
    task("name = 'topic'\nkind = 'classify'\n[classify]\nlabels = ['a', 'b']\n[accept]\nconfidence = 0.5\n")
}

/// Answers by what the text says: rejects some for each reason there is.
fn answer(text: &str) -> Result<RawValue, RowError> {
    let n: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    match n % 50 {
        7 => Err(RowError::Cut { tokens: 9 }),
        8 => Err(RowError::TooLong { tokens: 900, max: 512 }),
        9 => Err(RowError::Model { why: "it broke".into(), retry: false }),
        _ => Ok(RawValue::Labels(vec![(n % 2, Some((n % 10) as f64 / 10.0))])),
    }
}

/// A table with a row on every line, some of which cannot be used.
fn table(dir: &Path, name: &str) -> Table {
    let path = dir.join(name);
    let is_csv = name.ends_with(".csv");
    let line = |n: usize| match (n % 60, is_csv) {
        (20, true) => "one,two,three\n".to_owned(),
        (20, false) => "{]\n".to_owned(),
        (21, true) => "\"  \",x\n".to_owned(),
        (21, false) => "{\"id\": 5}\n".to_owned(),
        (_, true) => format!("\"row {n} says \"\"x, y\"\"\",{n}\n"),
        (_, false) => format!("{{\"text\": \"row {n}\", \"id\": {n}}}\n"),
    };
    let lines: String = (0..ROWS).map(line).collect();
    std::fs::write(&path, if is_csv { format!("text,id\n{lines}") } else { lines }).unwrap();
    Table::open(&path).unwrap()
}

/// Runs until the end, or until so many looks at the progress.
fn run_for(runner: &Runner, table: &Table, output: &Path, looks: usize) -> Result<Outcome, BatchError> {
    let mut seen = 0;
    let batch = Batch { runner, table, output: output.to_owned(), start: Start::Resume };
    run(&batch, &mut |Progress { .. }| {
        seen += 1;
        if seen > looks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

fn beside(output: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", output.display()))
}

#[test]
fn a_run_that_is_stopped_and_goes_on_writes_the_same_bytes() {
    for (input, name) in
        [("in.csv", "out.csv"), ("in.csv", "out.jsonl"), ("in.jsonl", "out.jsonl"), ("in.jsonl", "out.csv")]
    {
        let dir = TempDir::new().unwrap();
        let table = table(dir.path(), input);
        let fake = Fake::new(answer);
        let runner = fake.runner(&topic());
        let whole = dir.path().join(name);
        let outcome = run_for(&runner, &table, &whole, usize::MAX).unwrap();
        assert!(outcome.is_complete && outcome.summary.rows == ROWS as u64);
        let n_seen = std::mem::take(&mut *fake.seen.lock().unwrap()).len();
        for looks in [0, 1, 3] {
            let parts = dir.path().join(format!("parts-{looks}-{name}"));
            let mut runs = 0;
            loop {
                runs += 1;
                let outcome = run_for(&runner, &table, &parts, looks.max(usize::from(runs > 1))).unwrap();
                if outcome.is_complete {
                    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
                    assert_eq!(read(&parts), read(&whole), "{input} {name} {looks}");
                    let rejects = [&parts, &whole].map(|path| read(&beside(path, ".rejects.jsonl")));
                    assert_eq!(rejects[0], rejects[1]);
                    assert!(!beside(&parts, ".state.json").exists());
                    break;
                }
                assert!(beside(&parts, ".state.json").exists());
            }
            assert!(runs > 1);
            assert_eq!(std::mem::take(&mut *fake.seen.lock().unwrap()).len(), n_seen, "a row was answered twice");
        }
    }
}

#[test]
fn rejects_have_their_line_and_reason() {
    let dir = TempDir::new().unwrap();
    let table = table(dir.path(), "in.csv");
    let output = dir.path().join("out.csv");
    let outcome = run_for(&Fake::new(answer).runner(&topic()), &table, &output, usize::MAX).unwrap();
    let text = std::fs::read_to_string(outcome.rejects.unwrap()).unwrap();
    let rejects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = |code: &str| -> Vec<u64> {
        rejects.iter().filter(|r| r["code"] == code).map(|r| r["line"].as_u64().unwrap()).collect()
    };
    assert_eq!(found("cut")[..2], [9, 59]);
    assert_eq!(found("too_long")[0], 10);
    assert_eq!(found("model_failed")[0], 11);
    assert_eq!(found("bad_input")[..4], [22, 23, 82, 83]);
    let total: u64 = outcome.summary.rejects.values().sum();
    let answered: u64 = outcome.summary.verdicts.values().sum();
    assert_eq!((rejects.len() as u64, total + answered), (total, ROWS as u64));
    assert_eq!(Table::open(&output).unwrap().n_rows(), answered);
}

#[test]
fn what_was_written_after_the_last_note_is_cut_and_what_is_missing_is_told() {
    let dir = TempDir::new().unwrap();
    let table = table(dir.path(), "in.csv");
    let runner = Fake::new(answer).runner(&topic());
    let (whole, output) = (dir.path().join("whole.csv"), dir.path().join("out.csv"));
    run_for(&runner, &table, &whole, usize::MAX).unwrap();
    run_for(&runner, &table, &output, 2).unwrap();
    let append = |path: &Path, text: &str| {
        let old = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, old + text).unwrap();
    };
    append(&output, "\"half a row, with no");
    append(&beside(&output, ".rejects.jsonl"), "{\"line\":");
    run_for(&runner, &table, &output, usize::MAX).unwrap();
    assert_eq!(std::fs::read(&output).unwrap(), std::fs::read(&whole).unwrap());

    let output = dir.path().join("shorter.csv");
    run_for(&runner, &table, &output, 2).unwrap();
    std::fs::write(&output, "text").unwrap();
    let error = run_for(&runner, &table, &output, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("has 4 bytes and had") && error.contains("--restart"), "{error}");
    std::fs::write(beside(&output, ".state.json"), "{\"inp").unwrap();
    let error = run_for(&runner, &table, &output, usize::MAX).unwrap_err();
    assert!(matches!(error, BatchError::Damaged { .. }), "{error}");
}

#[test]
fn only_the_same_run_goes_on() {
    let dir = TempDir::new().unwrap();
    let output = dir.path().join("out.jsonl");
    let (fake, task_) = (Fake::new(answer), topic());
    let first = table(dir.path(), "in.csv");
    run_for(&fake.runner(&task_), &first, &output, 1).unwrap();
    let what = |runner: &Runner, table: &Table| match run_for(runner, table, &output, usize::MAX) {
        Err(BatchError::Changed { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let stricter =
        task("name = 'topic'\nkind = 'classify'\n[classify]\nlabels = ['a', 'b']\n[accept]\nconfidence = 0.6\n");
    assert_eq!(what(&fake.runner(&stricter), &first), "task");
    assert_eq!(what(&Fake { fingerprint: "fake-2", ..fake.clone() }.runner(&task_), &first), "model");
    let path = dir.path().join("in.csv");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "row 9,9\n").unwrap();
    let longer = Table::open(&path).unwrap();
    assert_eq!(what(&fake.runner(&task_), &longer), "input");
    // Restart writes over it, and what is whole is not written over by chance.
    let batch = Batch { runner: &fake.runner(&task_), table: &longer, output: output.clone(), start: Start::Restart };
    assert!(run(&batch, &mut |_| ControlFlow::Continue(())).unwrap().is_complete);
    let error = run_for(&fake.runner(&task_), &longer, &output, usize::MAX).unwrap_err();
    assert!(matches!(error, BatchError::Exists { .. }), "{error}");
}

#[test]
fn a_server_that_goes_away_costs_no_row() {
    let dir = TempDir::new().unwrap();
    let table = table(dir.path(), "in.csv");
    let (whole, output) = (dir.path().join("whole.csv"), dir.path().join("out.csv"));
    run_for(&Fake::new(answer).runner(&topic()), &table, &whole, usize::MAX).unwrap();
    let is_away = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&is_away);
    // It is gone from the middle of a chunk on, in which some rows cannot be used anyway.
    let flaky = Fake::new(move |text| {
        let n: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
        if n >= 300 && flag.load(Ordering::Relaxed) { Err(away()) } else { answer(text) }
    });
    let runner = flaky.runner(&topic());
    let error = run_for(&runner, &table, &output, usize::MAX).unwrap_err();
    assert!(matches!(&error, BatchError::Model { done: 300, .. }) && error.to_string().contains("is away"), "{error}");
    is_away.store(false, Ordering::Relaxed);
    assert!(run_for(&runner, &table, &output, usize::MAX).unwrap().is_complete);
    assert_eq!(std::fs::read(&output).unwrap(), std::fs::read(&whole).unwrap());
    let rejects = [&output, &whole].map(|path| std::fs::read(beside(path, ".rejects.jsonl")).unwrap());
    assert_eq!(rejects[0], rejects[1]);
}

#[test]
fn columns_of_the_table_keep_their_names() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.csv");
    std::fs::write(&path, "text,line\nrow 1,x\n").unwrap();
    let output = dir.path().join("out.csv");
    run_for(&Fake::new(answer).runner(&topic()), &Table::open(&path).unwrap(), &output, usize::MAX).unwrap();
    let columns = Table::open(&output).unwrap().columns().join(" ");
    assert_eq!(columns, "text line task_line task_value task_confidence task_verdict task_flags");
}
