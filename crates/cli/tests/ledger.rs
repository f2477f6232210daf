//! `bantam key`, `bantam ledger` and `bantam audit` on a ledger of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bantam(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bantam"));
    command.env("BANTAM_DATA_DIR", dir).env_remove("BANTAM_LEDGER").args(args).output().unwrap()
}

fn json(dir: &Path, args: &[&str]) -> Value {
    let output = bantam(dir, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(dir: &Path, args: &[&str], code: i32, says: &str) {
    let output = bantam(dir, args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert!(message.contains(says), "{args:?}: {message}");
}

#[test]
fn a_key_is_made_changed_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fails(dir, &["key", "list"], 1, "there is no ledger");
    let made = json(
        dir,
        &[
            "key",
            "create",
            "app",
            "--daily-budget",
            "2.50",
            "--model",
            "small",
            "--label",
            "team=a",
            "--expires",
            "30d",
        ],
    );
    let secret = made["key"].as_str().unwrap();
    let id = made["info"]["id"].as_str().unwrap();
    assert!(secret.starts_with(&format!("sk-bantam-{id}-")) && made["info"]["state"] == "active");
    let updated = json(
        dir,
        &["key", "update", id, "--daily-budget", "0", "--monthly-tokens", "1000", "--all-models", "--no-expiry"],
    );
    assert_eq!(
        updated["info"]["limits"]["budgets"],
        serde_json::json!([{ "period": "month", "amount": { "tokens": 1000 } }])
    );
    assert_eq!(updated["info"]["models"], serde_json::json!([]));
    assert_eq!((&updated["info"]["expires"], &updated["info"]["metadata"]["team"]), (&Value::Null, &Value::from("a")));
    let rotated = json(dir, &["key", "rotate", id, "--grace", "0s"]);
    assert_ne!(rotated["key"], made["key"]);
    assert_eq!(json(dir, &["key", "revoke", id])["info"]["state"], "revoked");
    fails(dir, &["key", "rotate", id], 2, "was revoked");
    fails(dir, &["key", "show", "nobody"], 3, "there is no key nobody");
    fails(dir, &["key", "create", ""], 2, "name");
    let listed = json(dir, &["key", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let everything = String::from_utf8(bantam(dir, &["key", "show", id]).stdout).unwrap();
    assert!(everything.contains("revoked") && everything.contains("1000 tokens a month"), "{everything}");
    assert!(!listed.to_string().contains("hash"), "{listed}");
}

#[test]
fn keys_are_looked_at_beside_who_holds_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let made = json(dir, &["key", "create", "app", "--daily-budget", "2.50"]);
    json(dir, &["key", "create", "twin"]);
    json(dir, &["key", "create", "twin"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let held = bantam_ledger::LedgerConfig::sqlite(&dir.join("ledger.db"));
        let held = bantam_ledger::Ledger::open(held).await.unwrap();
        fails(dir, &["key", "create", "other"], 1, "held by another process");
        let names: Vec<Value> =
            json(dir, &["key", "list"]).as_array().unwrap().iter().map(|key| key["name"].clone()).collect();
        assert_eq!(names, ["app", "twin", "twin"]);
        let by_name = json(dir, &["key", "show", "app"]);
        assert_eq!(by_name, json(dir, &["key", "show", made["info"]["id"].as_str().unwrap()]));
        assert_eq!((&by_name["info"]["id"], by_name["budgets"][0]["spent"].as_i64()), (&made["info"]["id"], Some(0)));
        fails(dir, &["key", "show", "twin"], 1, "2 keys are called twin");
        fails(dir, &["key", "show", "nobody"], 3, "there is no key nobody");
        held.close().await.unwrap();
    });
}

#[test]
fn a_ledger_is_looked_after_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fails(dir, &["audit", "verify"], 1, "there is no ledger");
    fails(dir, &["audit", "verify", "--ledger", "nope.db"], 1, "there is no ledger nope.db");
    json(dir, &["key", "create", "first"]);
    json(dir, &["key", "create", "second"]);
    let info = json(dir, &["ledger", "info"]);
    assert_eq!((info["keys"].as_u64(), info["chains"][0]["last"].as_u64()), (Some(2), Some(4)));
    let report = json(dir, &["audit", "verify"]);
    assert_eq!((&report["broken"], report["chains"][0]["covered"].as_u64()), (&Value::Null, Some(4)));
    let end = format!("1:4:{}", report["chains"][0]["hash"].as_str().unwrap());
    assert!(bantam(dir, &["audit", "verify", "--expect", &end]).status.success());
    fails(dir, &["audit", "verify", "--expect", &end.replace("1:4:", "1:5:")], 5, "entry 5 of chain 1");
    let (export, copy) = (dir.join("export.jsonl"), dir.join("copy.db"));
    json(dir, &["audit", "export", "--out", export.to_str().unwrap()]);
    assert!(bantam(dir, &["audit", "verify", "--export", export.to_str().unwrap()]).status.success());
    let text = std::fs::read_to_string(&export).unwrap();
    std::fs::write(&export, text.replacen("first", "third", 1)).unwrap();
    fails(dir, &["audit", "verify", "--export", export.to_str().unwrap()], 5, "entry 1 of chain 1");
    json(dir, &["ledger", "backup", copy.to_str().unwrap()]);
    fails(dir, &["ledger", "backup", copy.to_str().unwrap()], 1, "is there already");
    let of_copy = json(dir, &["ledger", "info", "--ledger", copy.to_str().unwrap()]);
    assert_eq!(of_copy["ledger"], info["ledger"]);
    let of_copy = ["audit", "verify", "--ledger", copy.to_str().unwrap()];
    fails(dir, &of_copy, 1, "--public-key FILE");
    let key = dir.join("ledger.key.pub");
    assert!(bantam(dir, &[&of_copy[..], &["--public-key", key.to_str().unwrap()]].concat()).status.success());
    assert_eq!(json(dir, &["ledger", "erase", "somebody", "--yes"])["requests"], 0);
    fails(dir, &["ledger", "erase", "somebody"], 1, "--yes");
    fails(dir, &["ledger", "purge"], 2, "--texts");
    let purged = json(dir, &["ledger", "purge", "--entries", "0"]);
    assert_eq!(purged["entries"].as_u64(), Some(4));
    let report = json(dir, &["audit", "verify"]);
    assert_eq!((&report["broken"], report["chains"][0]["first"].as_u64()), (&Value::Null, Some(5)));
    assert_eq!(json(dir, &["key", "list"]).as_array().unwrap().len(), 2);
    std::fs::write(dir.join("ledger.key.pub"), "00").unwrap();
    fails(dir, &["audit", "verify"], 1, "64 hexadecimal digits");
}
