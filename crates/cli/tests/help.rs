//! What every command says of itself.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;

fn help(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bantam"));
    command.env_remove("BANTAM_DATA_DIR").env_remove("BANTAM_OFFLINE").env("COLUMNS", "100");
    let output = command.args(args).arg("--help").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_help_texts() {
    insta::assert_snapshot!("bantam", help(&[]));
    for command in [
        "run",
        "serve",
        "pull",
        "list",
        "show",
        "rm",
        "tokenize",
        "perplexity",
        "bench",
        "completions",
        "pilot",
        "mock",
    ] {
        insta::assert_snapshot!(command, help(&[command]));
    }
}
