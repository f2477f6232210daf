use serde_json::{Value, json};

use super::{Server, bantam, fails, http, ok};

/// What applications said of answers, through a gateway that keeps requests, teaches a router; what is said of the same prompt comes together.
#[test]
fn a_router_learns_from_judged_answers_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let (key, config, router) =
        (dir.path().join("body.key"), dir.path().join("bantam.toml"), dir.path().join("router.bin"));
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let mock = Server::mock(&[]);
    let url = &mock.url;
    let text = format!(
        r#"
        [ledger]
        bodies = "encrypted"
        body_key = {{ file = "body.key" }}
        [[providers]]
        name = "there"
        preset = "openai-compatible"
        base_url = "{url}/v1"
        [[routes]]
        name = "small"
        targets = [{{ provider = "there", model = "little" }}]
        [[routes]]
        name = "large"
        targets = [{{ provider = "there", model = "big" }}]
        "#
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Server::start(&["--config", config.to_str().unwrap()]);
    let client = http();
    let post = |path: &str, body: Value| {
        let answer = client.post(format!("{}{path}", server.url)).json(&body).send().unwrap();
        let id = answer.headers().get("x-bantam-id").map(|id| id.to_str().unwrap().to_owned());
        assert!(answer.status().is_success(), "{}", answer.text().unwrap());
        id
    };
    let colours = ["red", "green", "blue", "white", "black", "brown", "grey", "pink"];
    for n in 0..48 {
        let colour = colours[n % 8];
        let (prompt, hard) = match n % 2 {
            0 => (format!("Name {n} things that are {colour}."), false),
            _ => (format!("Prove the theorem about prime ideals of rank {n} in a {colour} ring."), true),
        };
        for route in ["small", "large"] {
            let (path, body) = match n % 3 {
                0 => ("/v1/responses", json!({"model": route, "input": prompt})),
                1 => (
                    "/v1/messages",
                    json!({"model": route, "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}),
                ),
                _ => {
                    ("/v1/chat/completions", json!({"model": route, "messages": [{"role": "user", "content": prompt}]}))
                }
            };
            let id = post(path, body).unwrap();
            let good = route == "large" || !hard;
            let feedback = match n % 5 {
                0 => json!({"id": id, "accepted": good}),
                1 if !good => json!({"id": id, "correction": "It is so because it is so."}),
                _ => json!({"id": id, "rating": if good { "good" } else { "bad" }}),
            };
            post("/v1/feedback", feedback);
        }
    }
    // Somebody who only asked says nothing of it.
    post("/v1/chat/completions", json!({"model": "small", "messages": [{"role": "user", "content": "And you?"}]}));
    server.terminate();
    assert!(server.wait().success());

    let train = || {
        let mut command = bantam();
        command.args([
            "route",
            "train",
            "--small",
            "little",
            "--large",
            "there/big",
            "--threshold",
            "0.5",
            "--json",
            "--out",
        ]);
        command.arg(&router).arg("--ledger").arg(server.ledger.path().join("ledger.db"));
        command
    };
    let (code, said) = fails(&mut train());
    assert!(code == 1 && said.contains("--body-key"), "{code}: {said}");
    let trained: Value = serde_json::from_str(&ok(train().arg("--body-key").arg(&key))).unwrap();
    assert_eq!(trained["rows"], 48, "{trained}");
    for (prompt, choice) in [
        ("Name 50 things that are red.", "small"),
        ("Prove the theorem about prime ideals of rank 51 in a red ring.", "large"),
    ] {
        let explained = ok(bantam().args(["route", "explain", prompt, "--json", "--router"]).arg(&router));
        let explained: Value = serde_json::from_str(&explained).unwrap();
        assert_eq!(explained["decision"]["choose"], choice, "{explained}");
    }
    let (_, said) = fails(train().args(["--since", "0s", "--body-key"]).arg(&key));
    assert!(said.contains("no judged answer of little"), "{said}");
}
