//! The tasks of `examples/`, by command and over HTTP.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ENCODER, MODEL, Server, bantam, fails, http, ok};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");

/// A directory of its own with the tasks of the examples, for what is fitted to lie beside them.
fn tasks() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(Path::new(EXAMPLES).join("tasks")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

fn tickets() -> PathBuf {
    Path::new(EXAMPLES).join("data/tickets.csv")
}

fn task(dir: &Path, args: &[&str]) -> Command {
    let mut command = bantam();
    command.env("BANTAM_TASKS", dir).args(["task", args[0], "--quiet", "--json"]).args(&args[1..]);
    command
}

fn results(output: &str) -> Vec<Value> {
    output.lines().map(|line| stable(serde_json::from_str(line).unwrap())).collect()
}

/// A result without what differs from run to run.
fn stable(mut result: Value) -> Value {
    let object = result.as_object_mut().unwrap();
    object.remove("latency_ms").unwrap_or_else(|| panic!("no result: {object:?}"));
    object["usage"].as_object_mut().unwrap().remove("cached_tokens").unwrap();
    result
}

fn fit(dir: &Path) -> Value {
    let data = tickets();
    let args = ["fit", "ticket-intent", "--data", data.to_str().unwrap(), "--answer", "topic"];
    serde_json::from_str(&ok(&mut task(dir, &args))).unwrap()
}

#[test]
fn the_examples_are_listed_checked_and_answered_the_same_alone_and_together() {
    let dir = tasks();
    let list: Value = serde_json::from_str(&ok(&mut task(dir.path(), &["list"]))).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["order-request", "ticket-intent", "ticket-tags", "ticket-topic", "topic-path"]);
    for name in names.iter().filter(|name| **name != "ticket-intent") {
        let shown: Value = serde_json::from_str(&ok(&mut task(dir.path(), &["check", name, "--load"]))).unwrap();
        assert_eq!(shown["model"], MODEL);
    }
    let texts = ["The courier left my parcel in the rain.", "I cannot sign in.", "Please send me the invoice again."];
    for name in ["ticket-topic", "topic-path"] {
        let together = results(&ok(task(dir.path(), &["run", name]).args(texts)));
        let again = results(&ok(task(dir.path(), &["run", name]).args(texts)));
        assert_eq!((together.len(), &together), (3, &again));
        for (text, together) in texts.iter().zip(&together) {
            assert_eq!(results(&ok(&mut task(dir.path(), &["run", name, text]))), std::slice::from_ref(together));
        }
        assert!(together[0]["value"].as_str().unwrap().starts_with("delivery"), "{together:?}");
    }
    let order = results(&ok(&mut task(dir.path(), &["run", "order-request", "Two coffee mugs, please."])));
    assert!(order[0]["value"]["quantity"].is_u64() && order[0]["field_confidence"]["product"].is_f64(), "{order:?}");
    let tags = results(&ok(&mut task(dir.path(), &["run", "ticket-tags", "Where is it?", "I need it today!"])));
    assert!(tags[0]["value"].is_array() && tags[0]["confidence"].is_f64(), "{tags:?}");
}

#[test]
fn a_batch_that_ctrl_c_stopped_goes_on_to_the_same_bytes() {
    let dir = tasks();
    let (input, output) = (tickets(), dir.path().join("out.csv"));
    let run = |output: &Path| {
        let args = ["run", "ticket-topic", "--input", input.to_str().unwrap(), "--output", output.to_str().unwrap()];
        task(dir.path(), &args)
    };
    let child = run(&output).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The state is there before the first row is answered, and 128 are answered before the next look.
    let state = dir.path().join("out.csv.state.json");
    while !state.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    ok(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let stopped = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&stopped.stdout).unwrap();
    assert_eq!((stopped.status.code(), &report["complete"]), (Some(130), &json!(false)), "{report}");
    let report: Value = serde_json::from_str(&ok(&mut run(&output))).unwrap();
    assert!(report["resumed_at"].as_u64().unwrap() < 152 && report["complete"] == true, "{report}");
    assert_eq!(report["summary"]["rows"], 152);
    assert!(!state.exists());
    let whole = dir.path().join("whole.csv");
    ok(&mut run(&whole));
    assert_eq!(std::fs::read(&output).unwrap(), std::fs::read(&whole).unwrap());
    let (_, error) = fails(&mut run(&output));
    assert!(error.contains("--restart"), "{error}");
}

#[test]
fn a_fitted_encoder_and_the_other_tasks_are_served_as_by_command() {
    let dir = tasks();
    let unfit = bantam().args(["serve", "--port", "0", "--tasks"]).arg(dir.path()).output().unwrap();
    let error = super::text(&unfit.stderr);
    assert!(!unfit.status.success() && error.contains("ticket-intent") && error.contains("task fit"), "{error}");

    let report = fit(dir.path());
    assert_eq!((&report["model"], &report["rows"]), (&json!(ENCODER), &json!(152)));
    let bytes = || std::fs::read(dir.path().join("ticket-intent.fit.json")).unwrap();
    let first = bytes();
    fit(dir.path());
    assert!(first == bytes(), "a fit of the same rows is another");

    let server = Server::start(&["--tasks", dir.path().to_str().unwrap()]);
    let models: Value = http().get(format!("{}/v1/models", server.url)).send().unwrap().json().unwrap();
    assert_eq!(models["data"].as_array().unwrap().len(), 2, "each model once: {models}");
    let run = |name: &str, body: &Value| -> Value {
        http().post(format!("{}/v1/tasks/{name}/run", server.url)).json(body).send().unwrap().json().unwrap()
    };
    let texts = ["I cannot sign in.", "Where is my parcel?", "How tall is the Eiffel Tower?"];
    for name in ["ticket-intent", "ticket-topic"] {
        let served = run(name, &json!({ "inputs": texts }));
        let served: Vec<Value> = served["results"].as_array().unwrap().iter().cloned().map(stable).collect();
        assert_eq!(served, results(&ok(task(dir.path(), &["run", name]).args(texts))));
        for (text, together) in texts.iter().zip(&served) {
            assert_eq!(&stable(run(name, &json!({ "input": text }))), together);
        }
    }
    let intent = run("ticket-intent", &json!({ "input": texts[0] }));
    assert_eq!((&intent["value"], &intent["calibrated"]), (&json!("account"), &json!(true)), "{intent}");
    let parcel = run("ticket-intent", &json!({ "input": texts[1] }));
    assert_eq!((&parcel["value"], &parcel["verdict"]), (&json!("delivery"), &json!("accept")), "{parcel}");
    let tags = run("ticket-tags", &json!({ "input": { "subject": "Where is it?", "body": "Today!" } }));
    assert!(tags["value"].is_array(), "{tags}");
}

#[test]
fn a_task_with_candidates_is_fitted_with_the_cheapest_that_is_about_as_good_as_the_best() {
    let dir = tasks();
    let path = dir.path().join("ticket-intent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with("model = ")).unwrap();
    std::fs::write(&path, text.replace(line, &format!("candidates = [\"{MODEL}\", \"{ENCODER}\"]"))).unwrap();
    let (code, error) = fails(&mut task(dir.path(), &["run", "ticket-intent", "I cannot sign in."]));
    assert!(code == 1 && error.contains("not chosen yet") && error.contains("task fit"), "{code} {error}");
    let fitted = fit(dir.path());
    assert_eq!(fitted["model"], ENCODER, "the generating model is cheaper by its place, and worse: {fitted}");
    let answer = results(&ok(&mut task(dir.path(), &["run", "ticket-intent", "I cannot sign in."]))).remove(0);
    assert_eq!(answer["model"], ENCODER);
}
