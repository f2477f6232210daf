use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bantam_ledger::query::{Filter, Group};
use bantam_ledger::{BodyStorage, LedgerConfig, Reading};
use serde_json::Value;

use super::{MODEL, bantam, fails, ok, text};

/// The demonstration, with its ledger kept; gives what it printed and the ledger's sum in nano-dollars.
fn demo(args: &[&str]) -> (Value, i64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.db");
    let mut command = bantam();
    // No questions but its own.
    command.current_dir(dir.path()).env_remove("BANTAM_DATA").args(["demo", "--speed", "50", "--json", "--ledger"]);
    let printed: Value = serde_json::from_str(&ok(command.arg(&ledger).args(args))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
    let sums = runtime.block_on(async {
        let reading = Reading::open(&LedgerConfig::sqlite(&ledger).store, BodyStorage::None).await.unwrap();
        reading.sums(Group::All, &Filter::default()).await.unwrap()
    });
    (printed, sums[0].cost.0, sums[0].requests)
}

fn share(value: &Value) -> f64 {
    let at = |name: &str| value[name].as_f64().unwrap();
    // The bound of a share of 1 is 1 but for rounding.
    assert!(at("lower") <= at("value") && at("value") <= at("upper") + 1e-9, "{value}");
    at("value")
}

fn nanos(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

/// What was printed adds up, and is what the ledger says.
fn check(printed: &Value, cost: i64, requests: u64) {
    let (results, ledger) = (&printed["results"], &printed["ledger"]);
    let policy = |name: &str| {
        let policies = results["policies"].as_array().unwrap();
        policies.iter().find(|policy| policy["policy"] == name).unwrap_or_else(|| panic!("no {name} in {printed}"))
    };
    let (questions, kept) = (results["questions"].as_u64().unwrap(), results["kept"].as_u64().unwrap());
    assert!((share(&results["share_kept"]) - kept as f64 / questions as f64).abs() < 1e-12, "{printed}");
    let kinds = printed["kinds"].as_array().unwrap();
    let sum = |name: &str| kinds.iter().map(|kind| kind[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("questions"), sum("kept")), (questions, kept));
    match kept {
        0 => assert!(results["kept_accuracy"].is_null(), "{printed}"),
        _ => assert_eq!(share(&results["kept_accuracy"]), sum("kept_right") as f64 / kept as f64),
    }

    let parts = ["calibration_nanos", "stream_nanos", "comparison_nanos"].map(|name| nanos(&ledger[name]));
    assert_eq!(parts.iter().sum::<i64>(), cost, "{printed}");
    assert_eq!(nanos(&policy("routed")["cost_nanos"]), parts[1]);
    assert_eq!(requests, ledger["requests"].as_u64().unwrap());
    assert_eq!(requests, printed["calibration"]["questions"].as_u64().unwrap() + 2 * questions);

    // The large model's answers are recorded and right; the small one's tokens are cheap and not free.
    assert_eq!(share(&policy("all_large")["accuracy"]), 1.0);
    let (small, large) = (nanos(&policy("all_small")["cost_nanos"]), nanos(&policy("all_large")["cost_nanos"]));
    assert!(0 < small && 0 < large, "{printed}");
    let oracle = share(&policy("oracle")["accuracy"]);
    for name in ["routed", "all_small", "random"] {
        assert!(share(&policy(name)["accuracy"]) <= oracle, "{name}: {printed}");
    }
    let saving = share(&policy("routed")["saving"]);
    assert!((saving - (1.0 - parts[1] as f64 / large as f64)).abs() < 1e-9, "{printed}");
}

#[test]
fn what_a_small_demonstration_prints_adds_up() {
    let (printed, cost, requests) = demo(&["--questions", "12"]);
    assert_eq!(printed["small"], MODEL);
    assert_eq!(printed["results"]["questions"], 7);
    check(&printed, cost, requests);
    // Nothing can be promised from five questions, so nothing is kept, and asking costs nothing more.
    assert!(printed["calibration"]["guarantee"].is_null() && printed["results"]["kept"] == 0, "{printed}");
}

#[test]
fn with_a_weak_promise_easy_questions_stay() {
    let args = ["--questions", "60", "--max-error", "0.5", "--confidence", "0.6", "--quiet"];
    let (printed, cost, requests) = demo(&args);
    check(&printed, cost, requests);
    let kept = printed["results"]["kept"].as_u64().unwrap();
    assert!(kept > 0 && printed["calibration"]["guarantee"]["threshold"].as_f64().unwrap() > 0.0, "{printed}");
}

#[test]
fn people_read_the_same_and_bad_questions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("q.jsonl");
    let line = r#"{"question": "What is 2 + 2? Only the number.", "answer": "4", "gold": "4"}"#;
    std::fs::write(&file, format!("{line}\n").repeat(6)).unwrap();
    let mut command = bantam();
    let output = command.args(["demo", "--speed", "50", "--data"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (out, notes) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains("gpt-4-1106-preview, always") && out.contains("kept nothing"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(notes.starts_with("dashboard: http://127.0.0.1:") && notes.contains("--stay keeps it"), "{notes}");
    assert!(notes.contains("1 of 3: 2 questions to") && notes.contains("3 of 3"), "{notes}");

    std::fs::write(&file, r#"{"question": "a", "answer": "b", "gold": "c"}"#).unwrap();
    let (code, error) = fails(bantam().args(["demo", "--data"]).arg(&file));
    assert!(code == 1 && error.contains("line 1: gold is 'c'"), "{error}");
    let (code, error) = fails(bantam().args(["demo", "--max-error", "1.5"]));
    assert!(code == 2 && error.contains("between 0 and 1"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = bantam();
    command.args(["demo", "--speed", "0.1"]).env("TMPDIR", dir.path()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut notes = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(notes.any(|line| line.unwrap().starts_with("1 of 3")));
    assert!(std::fs::read_dir(dir.path()).unwrap().count() > 0);
    ok(Command::new("kill").args(["-INT", &child.id().to_string()]));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
