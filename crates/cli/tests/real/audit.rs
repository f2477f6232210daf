use std::process::Command;

use serde_json::{Value, json};

use super::{MODEL, Server, bantam, http, ok};

/// What was answered on two threads comes out the same on one, after a restart, from what the ledger kept; and the ledger is what was written.
#[test]
fn answers_are_computed_again_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("body.key");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let config = dir.path().join("bantam.toml");
    let text = format!(
        "[ledger]\nbodies = \"encrypted\"\nbody_key = {{ file = \"body.key\" }}\n[[models]]\nname = \"small\"\nsource = \"{MODEL}\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Server::start(&["--config", config.to_str().unwrap(), "--threads", "2"]);
    let client = http();
    for i in 0..6 {
        let body = json!({"model": "small", "max_tokens": 24, "temperature": 0.9, "stream": i % 2 == 0, "messages": [
            {"role": "user", "content": format!("Tell me fact number {i} about chickens.")}]});
        let answer = client.post(format!("{}/v1/chat/completions", server.url)).json(&body).send().unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().unwrap();
    }
    server.terminate();
    assert!(server.wait().success());
    let ledger = server.ledger.path().join("ledger.db");
    let on_ledger = |command: &mut Command| ok(command.arg("--ledger").arg(&ledger));
    let replayed = on_ledger(
        bantam()
            .args(["audit", "replay", "--last", "6", "--threads", "1", "--json", "--body-key"])
            .arg(&key)
            .args(["--model", &format!("small={MODEL}")]),
    );
    let replayed: Value = serde_json::from_str(&replayed).unwrap();
    assert_eq!((&replayed["same"], &replayed["different"]), (&json!(6), &json!(0)), "{replayed}");
    on_ledger(bantam().args(["audit", "verify"]));
}
