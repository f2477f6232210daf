//! `bantam pilot` and what it leads to, with the real weights.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::{ENCODER, MODEL, bantam, fails, ok};

const LABELS: [&str; 3] = ["Delivery, late", "refund \"now\"", "login"];

/// Rows whose label shows in their words; every ninth answer of the LLM is wrong.
fn table(n: usize) -> String {
    let items =
        ["lamp", "blue shirt", "kettle", "pair of boots", "phone case", "desk", "backpack", "watch", "tent", "radio"];
    let parts = [
        ["Where is the {} that I ordered?", "My {} has not arrived yet.", "When will you deliver the {}?"],
        ["I want my money back for the {}.", "Please refund the {} that broke.", "You charged me twice for the {}."],
        [
            "I cannot log in to see the {}.",
            "My password fails when I look at the {}.",
            "The {} page says my account is locked.",
        ],
    ];
    let names = ["Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Gus"];
    let mut csv = "id,message,intent,llm_answer,llm_latency_ms,llm_cost\n".to_owned();
    for i in 0..n {
        let (label, item, part) = (i % 3, items[i / 3 % 10], parts[i % 3][i / 30 % 3]);
        let said = if i % 9 == 4 { (label + 1) % 3 } else { label };
        let text =
            format!("{} {} Regards {}", part.replace("{}", item), ["Thanks.", "Hello?"][i / 90 % 2], names[i % 7]);
        let quoted = |label: usize| format!("\"{}\"", LABELS[label].replace('"', "\"\""));
        writeln!(csv, "{i},{text},{},{},{},0.0004", quoted(label), quoted(said), 700 + i % 50).unwrap();
    }
    csv
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_first_day_ends_with_a_task_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = write(dir.path(), "My Tickets.csv", table(200));
    let out = dir.path().join("out");
    let candidates = format!("{ENCODER},{MODEL},no-such-model");
    let args = ["--candidates", &candidates, "--minutes-per-candidate", "0.05", "--json"];
    let found = json(&ok(bantam().args(["pilot", &data]).args(args).arg("--out").arg(&out)));

    let pilot = &found["pilot"];
    assert_eq!(pilot["columns"]["text"], "message");
    assert_eq!(pilot["columns"]["target"]["label"], "intent");
    assert_eq!(pilot["train_rows"].as_u64().unwrap() + pilot["test_rows"].as_u64().unwrap(), 200);
    let candidates = found["candidates"].as_array().unwrap();
    let names: Vec<_> = candidates.iter().map(|candidate| candidate["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], format!("{ENCODER} + head"));
    assert!(names.contains(&&*format!("{MODEL}, no examples")) && names.contains(&&*format!("{MODEL}, with examples")));
    assert!(found["skipped"][0]["name"] == "no-such-model", "{}", found["skipped"]);
    let accuracy = |candidate: &Value| candidate["quality"]["accuracy"]["value"].as_f64().unwrap();
    assert!(accuracy(&candidates[0]) > 0.9 && accuracy(&candidates[0]) > accuracy(&found["baseline"]));
    for candidate in candidates {
        let latency = &candidate["quality"]["latency"];
        assert!(latency["p50"].as_f64().unwrap() <= latency["p99"].as_f64().unwrap());
        assert!(candidate["cost_per_million"].as_f64().unwrap() > 0.0 && candidate["ram_bytes"].is_u64());
    }
    assert!((found["baseline"]["cost_per_million"].as_f64().unwrap() - 400.0).abs() < 1e-6);
    assert_eq!(found["winner"], 0);
    let acceptance = &pilot["acceptance"];
    assert!((0.85..0.93).contains(&acceptance["target"].as_f64().unwrap()), "{acceptance}");
    assert!(acceptance["promised_share"].as_f64().unwrap() > 0.5, "{acceptance}");
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("<svg") && report.contains("recorded LLM") && report.contains("no-such-model"));
    assert_eq!(json(&std::fs::read_to_string(out.join("pilot.json")).unwrap())["winner"], 0);

    // What was written runs as it is, on a table with that column alone.
    let task = out.join("my-tickets.toml");
    let new = write(dir.path(), "new.csv", "message\nThe parcel with my sofa is late.\nGive me my money back!\n");
    let answers = dir.path().join("answers.jsonl");
    ok(bantam().args(["task", "run"]).arg(&task).args(["--input", &new, "--output"]).arg(&answers));
    let answers = std::fs::read_to_string(answers).unwrap();
    let values: Vec<Value> = answers.lines().map(json).collect();
    assert_eq!(values.len(), 2);
    assert!(answers.contains("Delivery, late") && answers.contains("refund \\\"now\\\""), "{answers}");

    // And can be measured.
    let html = dir.path().join("eval.html");
    let mut eval = bantam();
    eval.args(["task", "eval"]).arg(&task).args(["--data", &data, "--answer", "intent", "--json", "--html"]).arg(&html);
    let evaluation = json(&ok(&mut eval));
    assert!(evaluation["quality"]["accuracy"]["value"].as_f64().unwrap() > 0.9);
    assert_eq!(evaluation["about"]["data"]["rows"], 200);
    assert!(evaluation["quality"]["confidence"]["at_threshold"]["coverage"].as_f64().unwrap() > 0.5);
    assert!(std::fs::read_to_string(&html).unwrap().contains("<svg"));
    let shown =
        ok(bantam().args(["task", "eval"]).arg(&task).args(["--data", &data, "--answer", "intent", "--limit", "9"]));
    assert!(shown.contains("of 9 rows") && shown.contains("macro-F1"), "{shown}");
}

#[test]
fn tables_that_cannot_work_are_refused_before_a_model_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, content: &str, args: &[&str]| {
        let data = write(dir.path(), name, content);
        let (code, error) = fails(bantam().current_dir(dir.path()).args(["pilot", &data]).args(args));
        assert!(code == 1 && !error.contains("panicked"), "{error}");
        error
    };
    assert!(refused("empty.csv", "", &[]).contains("is empty"));
    assert!(refused("header.csv", "text,label\n", &["--text", "text", "--label", "label"]).contains("0 labelled rows"));
    let broken = (0..60).fold("text,label\n".to_owned(), |csv, i| csv + &format!("Well, text {i},a\n"));
    assert!(refused("broken.csv", &broken, &[]).contains("60 are broken, the first line 2: has 3 fields"));
    assert!(refused("three.csv", &table(3), &[]).contains("3 labelled rows"));
    assert!(refused("columns.csv", &table(30), &["--label", "kind"]).contains("'intent'"));
    assert!(refused("quotes.csv", "text,label\n\"a,b\nc,d\n", &[]).contains("line 2: a quote is opened"));
    let one = (0..30).fold("text,label\n".to_owned(), |csv, i| csv + &format!("text {i},a\n"));
    assert!(refused("one.csv", &one, &[]).contains("all 30 rows have the label 'a'"));
    let many = (0..900).fold("text,label\n".to_owned(), |csv, i| csv + &format!("text {i},l{}\n", i % 300));
    assert!(refused("many.csv", &many, &[]).contains("300 different labels"));
    let control = (0..60).fold("text,label\n".to_owned(), |csv, i| csv + &format!("text {i},l\u{1}{}\n", i % 3));
    assert!(refused("control.csv", &control, &[]).contains("control characters"));
    let share = refused("share.csv", &table(60), &["--test-share", "1.5"]);
    assert!(share.contains("--test-share: 1.5"), "{share}");
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    write(&dir.path().join("mine"), "notes.txt", "x");
    assert!(refused("out.csv", &table(60), &["--out", "mine"]).contains("no pilot's"));
    assert!(!dir.path().join("pilot-share").exists());
}
