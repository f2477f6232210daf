//! A gateway before a model of its own and servers of other kinds, as applications meet it that keep their official clients.

use std::collections::HashMap;
use std::fmt::Write;
use std::process::Command;

use bantam_ledger::query::Filter;
use bantam_ledger::{BodyStorage, LedgerConfig, Reading};

use super::{ENCODER, MODEL, Server, ok, python};

/// What goes wrong where, as routes' names end with it and as the mock is told.
const FAULTS: [(&str, &str); 7] = [
    ("", ""),
    ("-two-calls", "+calls=2"),
    ("-down", "+status=503"),
    ("-busy", "+status=429,retry-after=7"),
    ("-cut", "+cut=3"),
    ("-broken", "+broken"),
    ("-slow", "+token=50,tokens=1000"),
];

fn configuration(mock: &str) -> String {
    let mut text = format!(
        r#"
        [keys]
        required = true
        [[models]]
        source = "{MODEL}"
        [[models]]
        source = "{ENCODER}"
        [[providers]]
        name = "there"
        preset = "openai-compatible"
        base_url = "{mock}/v1"
        retries = 0
        [[providers]]
        name = "claude"
        preset = "anthropic"
        base_url = "{mock}"
        retries = 0
        "#
    );
    for (route, provider) in [("openai", "there"), ("anthropic", "claude")] {
        for (end, fault) in FAULTS {
            let target = format!(r#"{{ provider = "{provider}", model = "m{fault}" }}"#);
            writeln!(text, "[[routes]]\nname = \"{route}{end}\"\ntargets = [{target}]").unwrap();
        }
    }
    text
}

/// Status by id of all requests on record.
fn on_record(server: &Server) -> HashMap<String, u16> {
    let store = LedgerConfig::sqlite(&server.ledger.path().join("ledger.db")).store;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = runtime.block_on(async {
        let reading = Reading::open(&store, BodyStorage::None).await.unwrap();
        reading.requests(&Filter::default(), None, 1000).await.unwrap()
    });
    all.into_iter().map(|recorded| (recorded.id.to_string(), recorded.entry.status)).collect()
}

#[test]
fn the_official_clients_run_through_the_gateway() {
    let files = tempfile::tempdir().unwrap();
    let (answers, config) = (files.path().join("answers.jsonl"), files.path().join("bantam.toml"));
    std::fs::write(&answers, r#"{"prompt": "Say hello.", "answer": "Hello, world. This is no model."}"#).unwrap();
    let mock = Server::mock(&["--answers", answers.to_str().unwrap()]);
    std::fs::write(&config, configuration(&mock.url)).unwrap();
    let mut server = Server::start(&["--config", config.to_str().unwrap()]);

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway_clients.py");
    let told = ok(Command::new(python()).arg(script).arg(&server.url).args([MODEL, ENCODER]));
    server.terminate();
    assert!(server.wait().success());
    let on_record = on_record(&server);
    let told: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("entry ")?.split_once(' ')).collect();
    assert!(told.len() > 80, "{told:?}");
    for (id, status) in told {
        assert_eq!(on_record.get(id).map(u16::to_string).as_deref(), Some(status), "the request {id}");
    }
}
