//! `bantam pii` between a file and another.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn bantam(dir: &Path, args: &[&str], stdin: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bantam"));
    command.current_dir(dir).args(args).stdin(Stdio::from(std::fs::File::open(stdin).unwrap())).output().unwrap()
}

#[test]
fn what_is_put_back_is_what_went_in_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (given, hidden) = (dir.path().join("given"), dir.path().join("hidden"));
    for text in ["Write to ann@example.org", "a@b.example\n", "one\r\n\r\n\tann@example.org \n\n", "ü\n", ""] {
        std::fs::write(&given, text).unwrap();
        let args = ["pii", "anonymize", "--operator", "pseudonymise", "--map", "map.json"];
        let anonymised = bantam(dir.path(), &args, &given);
        assert!(anonymised.status.success(), "{}", String::from_utf8_lossy(&anonymised.stderr));
        assert!(!String::from_utf8_lossy(&anonymised.stdout).contains("@"));
        std::fs::write(&hidden, &anonymised.stdout).unwrap();
        let restored = bantam(dir.path(), &["pii", "restore", "--map", "map.json"], &hidden);
        assert_eq!(String::from_utf8(restored.stdout).unwrap(), text);
    }
}

#[cfg(unix)]
#[test]
fn originals_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (given, map) = (dir.path().join("given"), dir.path().join("map.json"));
    std::fs::write(&given, "ann@example.org").unwrap();
    let mode = || std::fs::metadata(&map).unwrap().permissions().mode() & 0o777;
    let args = ["pii", "anonymize", "--operator", "pseudonymise", "--map", "map.json"];
    assert!(bantam(dir.path(), &args, &given).status.success());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&map, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(bantam(dir.path(), &args, &given).status.success());
    assert_eq!(mode(), 0o600, "one that was there before");
}

#[test]
fn nothing_found_and_types_that_are_not_there_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    std::fs::write(&given, "nothing here").unwrap();
    let found = bantam(dir.path(), &["pii", "analyze"], &given);
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "nothing was found\n");
    let json = bantam(dir.path(), &["pii", "analyze", "--json"], &given);
    assert_eq!(String::from_utf8(json.stdout).unwrap(), "[]\n");
    let unknown = bantam(dir.path(), &["pii", "analyze", "--entities", "EMAIL"], &given);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean EMAIL_ADDRESS?"));
}
