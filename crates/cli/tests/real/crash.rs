//! What clients were told outlives the process that told them.

use std::process::Command;

use super::ok;

#[test]
fn no_delivered_answer_is_lost_when_the_server_is_killed_under_load() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/crash.py");
    let program = env!("CARGO_BIN_EXE_bantam");
    // It fails where an answer has no entry, the chain is broken, or a budget was overspent.
    ok(Command::new("python3").args([script, "--bantam", program, "--kills", "5"]));
}
