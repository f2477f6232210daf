//! Heads over the tiny encoder that the models' tests have.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bantam_engine::{Embedder, EmbedderConfig, EmbedderParts};
use bantam_formats::Tokenizer;
use bantam_kernels::{Cpu, CpuConfig};
use bantam_models::{Encoder, Precision};
use bantam_tasks::fit::{FitReport, FittedFile, Labelled, Step, fit_encoder};
use bantam_tasks::model::EncoderModel;
use bantam_tasks::{Runner, Task, TaskError};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::{Fake, parse};

fn encoder() -> EncoderModel {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/bert");
    let cpu = Cpu::new(CpuConfig { n_threads: 1, isa: None }).unwrap();
    let tokenizer = Tokenizer::from_hf_json(&std::fs::read(dir.join("tokenizer.json")).unwrap()).unwrap();
    let encoder = Encoder::load(&cpu, &dir, Precision::Float, &mut |_| {}).unwrap();
    let parts = EmbedderParts { encoder: Arc::new(encoder), tokenizer: Arc::new(tokenizer), cpu };
    let embedder = Embedder::start(parts, EmbedderConfig::default()).unwrap();
    EncoderModel { id: "tiny-bert".into(), fingerprint: "tiny-bert-1".into(), embedder, threads: 1 }
}

const ONE: &str = "name = 't'\nkind = 'classify'\n[classify]\nlabels = ['card', 'greeting']\n";
const SCOPED: &str = "name = 't'\nkind = 'classify'\n[classify]\nnone = 'other'\nlabels = ['card', 'greeting']\n";
const MANY: &str = "name = 't'\nkind = 'classify'\n[classify]\nmode = 'many'\nlabels = ['card', 'greeting']\n";

fn rows(answer: impl Fn(usize) -> (String, Value)) -> Vec<Labelled> {
    let row = |n| {
        let (text, answer) = answer(n);
        Labelled { input: vec![text], answer }
    };
    (0..60).map(row).collect()
}

fn two(n: usize) -> (String, Value) {
    match n % 2 {
        0 => (format!("where is my card {n}"), json!("card")),
        _ => (format!("hello to you {n}"), json!("greeting")),
    }
}

fn fit(task: &Task, rows: &[Labelled]) -> Result<FittedFile, TaskError> {
    fit_encoder(task, &encoder(), rows, &mut |_| ControlFlow::Continue(())).map(|fit| fit.file)
}

/// A task in a directory of its own.
fn in_dir(text: &str) -> (TempDir, Task) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t.toml");
    std::fs::write(&path, text).unwrap();
    let task = Task::open(&path).unwrap();
    (dir, task)
}

#[test]
fn what_is_fitted_is_kept_and_answers_rows_alone_as_together() {
    for (text, answer) in [
        (ONE, two as fn(usize) -> (String, Value)),
        (SCOPED, |n| if n % 3 == 2 { (format!("zzz qqq {n}"), json!("other")) } else { two(n) }),
        (MANY, |n| (two(n).0, json!([two(n).1]))),
    ] {
        let (_dir, task) = in_dir(text);
        let rows = rows(answer);
        let fitted = fit(&task, &rows).unwrap();
        let FitReport { rows: n, held_out, accuracy } = fitted.report;
        assert!(n == 60 && (1..=60).contains(&held_out) && (0.0..=1.0).contains(&accuracy));
        assert!(FittedFile::open(&task).unwrap().is_none());
        fitted.save(&task.fitted).unwrap();
        let read = FittedFile::open(&task).unwrap().unwrap();
        assert_eq!(read, fitted);
        assert_eq!(fit(&task, &rows).unwrap(), fitted);

        let inputs: Vec<Vec<String>> = rows.iter().map(|row| row.input.clone()).collect();
        let runner = Runner::encoder(Arc::new(task), encoder(), &read).unwrap();
        let stable = |outcome: &Result<bantam_tasks::TaskResult, _>| {
            let mut result = outcome.as_ref().unwrap().clone();
            result.latency_ms = 0.0;
            result
        };
        let together: Vec<_> = runner.run(&inputs).iter().map(stable).collect();
        for (input, together) in inputs.iter().zip(&together) {
            assert_eq!(&stable(&runner.run(std::slice::from_ref(input))[0]), together);
            assert!(together.calibrated && together.confidence.is_none_or(|p| (0.0..=1.0).contains(&p)));
        }
        let right = rows.iter().zip(&together).filter(|(row, result)| row.answer == result.value).count();
        assert!(right >= 40, "{right} of 60");
    }
}

#[test]
fn rows_that_teach_nothing_are_refused_with_the_reason() {
    let one = parse(ONE).unwrap();
    let refused = |task: &Task, rows: &[Labelled]| fit(task, rows).unwrap_err().to_string();
    assert!(refused(&one, &rows(two)[..9]).contains("9 labelled rows, and 10"));
    assert!(refused(&one, &rows(|n| (format!("text {n}"), json!("card")))).contains("no row has the label 'greeting'"));
    assert!(refused(&one, &rows(|n| (format!("text {n}"), json!("cards")))).contains("row 1: 'cards' is none"));
    assert!(refused(&one, &rows(|n| (format!("text {n}"), json!(5)))).contains("row 1"));
    let many = parse(MANY).unwrap();
    assert!(refused(&many, &rows(two)).contains("no list"));
    let fields = parse("name = 't'\nkind = 'fields'\n[fields.schema]\ntype = 'object'\nproperties = {}\n").unwrap();
    assert!(refused(&fields, &rows(two)).contains("generating model"));
    let stop = &mut |_: Step| ControlFlow::Break(());
    assert!(fit_encoder(&one, &encoder(), &rows(two), stop).unwrap_err().to_string().contains("stopped"));
}

#[test]
fn what_was_fitted_for_another_task_or_model_or_is_damaged_is_refused() {
    let (dir, task) = in_dir(ONE);
    fit(&task, &rows(two)).unwrap().save(&task.fitted).unwrap();
    let good = std::fs::read_to_string(&task.fitted).unwrap();
    let fitted = FittedFile::open(&task).unwrap().unwrap();
    let task_ = Arc::new(task.clone());
    let other = EncoderModel { fingerprint: "tiny-bert-2".into(), ..encoder() };
    let error = Runner::encoder(Arc::clone(&task_), other, &fitted).unwrap_err().to_string();
    assert!(error.contains("tiny-bert-1 and not tiny-bert-2") && error.contains("task fit"), "{error}");
    // A generating model takes nothing from it.
    let fake = Fake { fingerprint: "tiny-bert-1", ..Fake::new(|_| Err(crate::fake::away())) };
    assert!(Runner::generating(Arc::clone(&task_), &fake, Some(&fitted)).is_ok());

    let changed = Task::parse(&ONE.replace("'card'", "'cards'"), Path::new("t.toml"), dir.path()).unwrap();
    assert!(FittedFile::open(&changed).unwrap_err().to_string().contains("before the task was changed"));
    let head = good.find("\"head\":\"").unwrap() + 8;
    for (text, why) in [
        (String::new(), "EOF"),
        (good[..good.len() / 2].to_owned(), "EOF"),
        (good.replace("\"version\":1", "\"version\":2"), "version 2"),
        (good.replace("\"version\":1", "\"version\":1,\"more\":1"), "more"),
        (format!("{}!{}", &good[..head], &good[head + 1..]), "head"),
        (format!("{}{}", &good[..head], &good[head + 400..]), "head"),
        (format!("{}\"}}", &good[..head]), "head"),
    ] {
        std::fs::write(&task.fitted, &text).unwrap();
        let read =
            FittedFile::open(&task).and_then(|file| Runner::encoder(Arc::clone(&task_), encoder(), &file.unwrap()));
        let error = read.unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("t.fit.json"), "{why}: {error}");
    }
}
