//! Costs and imports by command: nothing here needs a model or a network.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::{Command, Output};

use bantam_ledger::{Begin, Estimate, Ledger, LedgerConfig, Outcome, Timestamp, TokenCounts};
use bantam_types::NanoDollars;
use serde_json::Value;

fn bantam(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bantam"));
    command.env_remove("BANTAM_LEDGER").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const WORK: [&str; 10] =
    ["cost", "compare", "--requests", "50000", "--input", "800", "--output", "60", "--latency", "5"];

#[test]
fn a_workload_is_compared_drawn_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("cost.svg");
    let drawn = bantam(&[&WORK[..], &["--svg", svg.to_str().unwrap()]].concat());
    assert!(drawn.status.success(), "{}", text(&drawn.stderr));
    let told = text(&drawn.stdout);
    for part in ["BREAK-EVEN", " *", "ASSUMPTION", "takes for granted", "2026-"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(std::fs::read_to_string(&svg).unwrap().contains("50,000 a day"));

    let found: Value = serde_json::from_slice(&bantam(&[&WORK[..], &["--json"]].concat()).stdout).unwrap();
    let monthly: Vec<f64> =
        found["rows"].as_array().unwrap().iter().filter_map(|row| row["monthly"]["dollars"].as_f64()).collect();
    assert!(monthly.len() > 10 && monthly.is_sorted());

    // The same work from a file, and a flag over it.
    let file = dir.path().join("work.toml");
    let work = "[workload]\nrequests_per_day = 9\ninput_tokens = 800\noutput_tokens = 60\nlatency_s = 5\n";
    std::fs::write(&file, work).unwrap();
    let args = ["cost", "compare", "--json", "--workload", file.to_str().unwrap(), "--requests", "50000"];
    let again: Value = serde_json::from_slice(&bantam(&args).stdout).unwrap();
    assert_eq!(again["rows"], found["rows"]);
}

#[test]
fn what_cannot_be_compared_is_named() {
    for (args, part) in [
        (&["cost", "compare"][..], "--requests"),
        (&["cost", "compare", "--requests", "0", "--input", "1", "--output", "1"], "requests_per_day"),
        (&[&WORK[..], &["--baseline", "nobody"]].concat(), "`gpt-4o`"),
        (&[&WORK[..], &["--latency", "0.001"]].concat(), "cannot be used multiple times"),
        (&[&WORK[..], &["--prices", "/nowhere.json"]].concat(), "/nowhere.json: there is no such file"),
        (&["route", "explain", "hello", "--router", "/nowhere.bin"], "/nowhere.bin: there is no such file"),
    ] {
        let output = bantam(args);
        assert!(!output.status.success() && text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
}

#[test]
fn a_litellm_configuration_becomes_one_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("config.yaml"), dir.path().join("bantam.toml"));
    let yaml = "model_list:\n  - model_name: gpt\n    litellm_params: {model: openai/gpt-4o, api_key: sk-secret-7}\nguardrails: []\n";
    std::fs::write(&from, yaml).unwrap();
    let args = ["config", "import-litellm", from.to_str().unwrap(), "--out", to.to_str().unwrap()];
    let output = bantam(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = std::fs::read_to_string(&to).unwrap();
    assert!(written.contains("[[routes]]") && written.contains("# - guardrails:") && !written.contains("sk-secret-7"));
    assert!(text(&output.stderr).contains("guardrails"));
    let again = bantam(&args);
    assert!(!again.status.success(), "an existing file is not written over");
    assert!(text(&again.stderr).contains("bantam.toml is there already"), "{}", text(&again.stderr));
}

/// An answer of the small model, a tenth of what it would have cost.
fn answered() -> Outcome {
    Outcome {
        status: 200,
        model: Some("small".into()),
        tokens: TokenCounts { input: 100, output: 10, ..TokenCounts::default() },
        cost: NanoDollars(1_000),
        counterfactual: Some(NanoDollars(10_000)),
        ..Outcome::default()
    }
}

/// A ledger of requests to `auto` that ended so, each so many minutes ago.
fn ledger(path: &std::path::Path, requests: impl IntoIterator<Item = (u64, Outcome)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = Ledger::open(LedgerConfig::sqlite(path)).await.unwrap();
        for (minutes, outcome) in requests {
            let begin = Begin {
                request: uuid::Uuid::now_v7(),
                at: Timestamp::now().minus(std::time::Duration::from_secs(60 * minutes)),
                key: None,
                surface: "chat".into(),
                route: Some("auto".into()),
                model: "auto".into(),
                subject: None,
                estimate: Estimate::default(),
            };
            ledger.begin(begin).await.unwrap().finish(outcome).await.unwrap();
        }
        ledger.close().await.unwrap();
    });
}

#[test]
fn recorded_requests_are_reported_with_what_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    ledger(&path, (0..40).map(|_| (0, answered())));
    let at = ["--ledger", path.to_str().unwrap()];
    let report: Value =
        serde_json::from_slice(&bantam(&[&["cost", "report", "--by", "model", "--json"], &at[..]].concat()).stdout)
            .unwrap();
    assert_eq!((&report["groups"][0]["name"], &report["groups"][0]["requests"]), (&"small".into(), &40.into()));
    assert_eq!((&report["total"]["cost"], &report["total"]["saved"]), (&40_000.into(), &360_000.into()));
    assert_eq!(report["total"]["saving"]["share"], 0.9);
    let told = text(&bantam(&[&["cost", "report"], &at[..]].concat()).stdout);
    assert!(told.contains("90.0%") && told.contains("REQUESTS") && !told.contains("unpriced"), "{told}");
    let asked: Value =
        serde_json::from_slice(&bantam(&[&["cost", "report", "--by", "asked", "--json"], &at[..]].concat()).stdout)
            .unwrap();
    assert_eq!((&asked["groups"][0]["name"], &asked["groups"][0]["requests"]), (&"auto".into(), &40.into()));
    let short = bantam(&[&["cost", "compare", "--recorded", "7"], &at[..]].concat());
    assert!(text(&short.stderr).contains("40 requests within 0.0 hours: too little"), "{}", text(&short.stderr));
    assert!(!bantam(&["cost", "report", "--ledger", "/nowhere/ledger.db"]).status.success());
}

#[test]
fn what_has_no_price_or_nothing_to_compare_with_is_not_told_as_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let unpriced = Outcome {
        model: Some("huge".into()),
        decision: serde_json::json!({"unpriced": true}),
        cost: NanoDollars(0),
        counterfactual: None,
        ..answered()
    };
    let alone = Outcome { model: Some("alone".into()), cost: NanoDollars(500), counterfactual: None, ..answered() };
    ledger(&path, [answered(), unpriced.clone(), unpriced, alone].map(|outcome| (0, outcome)));
    let at = ["--ledger", path.to_str().unwrap()];
    let told = text(&bantam(&[&["cost", "report", "--by", "model"], &at[..]].concat()).stdout);
    let row = |name: &str| -> Vec<String> {
        let line = told.lines().find(|line| line.starts_with(name)).unwrap();
        line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
    };
    assert_eq!(row("huge"), ["huge", "2", "200", "20", "2 unpriced", "0", "–", "–", "–", "–"], "{told}");
    assert_eq!(row("alone")[4..], ["$0.000000500", "0", "–", "–", "–", "–"], "{told}");
    // The cost of all, and that of the one that is compared.
    assert_eq!(
        row("all")[4..],
        ["$0.000001500 + 2 unpriced", "1", "$0.000001000", "$0.000010000", "$0.000009000", "90.0%"],
        "{told}"
    );
    assert!(told.contains("[[prices.models]]"), "{told}");
}

#[test]
fn a_recorded_workload_says_what_it_stands_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let failed = Outcome { status: 502, ..Outcome::default() };
    ledger(&path, (0..13).map(|i| (15 * i, answered())).chain([(1000, failed)]));
    let args = ["cost", "compare", "--recorded", "2", "--ledger", path.to_str().unwrap()];
    let output = bantam(&args);
    let told = text(&output.stdout);
    for part in [
        "96 requests a day",
        "13 requests within 3.0 hours (1 failed ones are left out) on record, from 2",
        "less than a day",
    ] {
        assert!(told.contains(part), "{part}: {told}{}", text(&output.stderr));
    }
    let found: Value = serde_json::from_slice(&bantam(&[&args[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!((&found["recorded"]["requests"], &found["recorded"]["failed"]), (&13.into(), &1.into()));
}
