//! Pulling over HTTP, from a server on this machine that behaves like Hugging Face, and then does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bantam_hub::{
    Cancel, ErrorKind, HubError, Manifest, PullOptions, Restriction, Silent, SourceError, Store, Token, TokenSent,
    Verified,
};
use support::*;

const N: usize = 300_000;

/// A hub whose file is on a second server.
fn hub_and_cdn(
    bytes: Vec<u8>,
    cdn: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static,
) -> (Server, Server) {
    let served = bytes.clone();
    let cdn = Server::start(move |request, number| cdn(request, number, &served));
    let location = format!("{}/blob?signature=1", cdn.url);
    let hub = Server::start(move |_, _| Reply::hub(&location, &bytes));
    (hub, cdn)
}

fn failure(error: HubError) -> SourceError {
    match error {
        HubError::AllSourcesFailed { mut failures, .. } if failures.len() == 1 => failures.remove(0).error,
        other => panic!("not one failed source: {other:?}"),
    }
}

fn part_len(store: &TestStore) -> u64 {
    let partial = store.files_in("partial");
    let path = store.dir.path().join("partial").join(&partial[0]).join("download.part");
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn a_file_comes_from_where_the_hub_points_and_is_checked_against_what_it_states() {
    let bytes = model_bytes(N, 1);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |request, _, bytes| Reply::file(request, bytes));
    let store = TestStore::new();
    let options = PullOptions { hf_token: Token::new("secret"), ..options(&hub) };
    let recorder = Recorder::default();
    let local = store.store.pull(&parse(HF), &options, &recorder).unwrap();

    assert_eq!(std::fs::read(&local.path).unwrap(), bytes);
    assert_eq!((local.name.as_str(), local.size), (HF, N as u64));
    let manifest: Manifest = local.manifest.unwrap();
    assert_eq!((manifest.sha256, manifest.verified), (sha256(&bytes), Verified::Stated));
    assert_eq!(manifest.commit.as_deref(), Some("0123abc"));
    assert!(store.files_in("partial").is_empty());
    assert_eq!(recorder.count("checking"), 1);
    assert!(recorder.count(&format!("bytes {N} Some({N})")) >= 1);

    hub.request(0, |request| {
        assert_eq!(request.path, "/org/repo/resolve/main/m.gguf");
        assert_eq!(request.header("authorization"), Some("Bearer secret"));
    });
    cdn.request(0, |request| assert_eq!(request.header("authorization"), None, "the token left the hub"));

    // A second pull asks nobody.
    store.store.pull(&parse(HF), &options, &Silent).unwrap();
    assert_eq!((hub.n_requests(), cdn.n_requests()), (1, 1));
}

#[test]
fn a_revision_and_folders_reach_the_server_as_named() {
    let bytes = model_bytes(100, 2);
    let (hub, _cdn) = hub_and_cdn(bytes, |request, _, bytes| Reply::file(request, bytes));
    let store = TestStore::new();
    store.store.pull(&parse("hf:org/repo/a b/m.gguf@refs/pr/1"), &options(&hub), &Silent).unwrap();
    hub.request(0, |request| assert_eq!(request.path, "/org/repo/resolve/refs/pr/1/a%20b/m.gguf"));
}

#[test]
fn a_cut_connection_is_continued_where_it_broke() {
    let bytes = model_bytes(N, 3);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |request, number, bytes| {
        let cut_at = (number < 2).then_some(100_000);
        Reply { cut_at, ..Reply::file(request, bytes) }.with("ETag", "\"v1\"")
    });
    let store = TestStore::new();
    let recorder = Recorder::default();
    let local = store.store.pull(&parse(HF), &options(&hub), &recorder).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
    assert_eq!(recorder.count("retrying"), 2);
    cdn.request(1, |request| {
        assert_eq!(request.header("if-range"), Some("\"v1\""));
        assert!(request.range_start().unwrap() > 0);
    });
    // The hub did not give this tag and is not asked about it.
    hub.request(1, |request| assert_eq!(request.header("if-range"), None));
}

#[test]
fn the_next_pull_goes_on_with_what_the_last_one_left() {
    let bytes = model_bytes(N, 4);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |request, number, bytes| {
        let cut_at = (number == 0).then_some(120_000);
        Reply { cut_at, ..Reply::file(request, bytes) }
    });
    let store = TestStore::new();
    let once = PullOptions { retries: 0, ..options(&hub) };
    let error = store.store.pull(&parse(HF), &once, &Silent).unwrap_err();
    assert!(matches!(failure(error), SourceError::Broken { .. }));
    let left = part_len(&store);
    assert!(left > 0 && left <= 120_000);

    let local = store.store.pull(&parse(HF), &once, &Silent).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
    cdn.request(1, |request| assert_eq!(request.range_start(), Some(left as usize)));
}

#[test]
fn a_server_without_ranges_sends_the_file_from_the_start() {
    let bytes = model_bytes(N, 5);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |_, number, bytes| {
        let cut_at = (number == 0).then_some(120_000);
        Reply { body: bytes.to_vec(), cut_at, ..Reply::new(200) }
    });
    let store = TestStore::new();
    let local = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
    cdn.request(1, |request| assert!(request.range_start().is_some()));
}

#[test]
fn a_part_of_another_file_is_not_continued() {
    let (old, new) = (model_bytes(N, 6), model_bytes(N, 7));
    let current = Arc::new(Mutex::new(old));
    let (for_cdn, for_hub) = (Arc::clone(&current), Arc::clone(&current));
    let cdn = Server::start(move |request, number| {
        let cut_at = (number == 0).then_some(120_000);
        Reply { cut_at, ..Reply::file(request, &for_cdn.lock().unwrap()) }
    });
    let location = cdn.url.clone();
    let hub = Server::start(move |_, _| Reply::hub(&location, &for_hub.lock().unwrap()));
    let store = TestStore::new();
    let once = PullOptions { retries: 0, ..options(&hub) };
    store.store.pull(&parse(HF), &once, &Silent).unwrap_err();
    *current.lock().unwrap() = new.clone();
    let local = store.store.pull(&parse(HF), &once, &Silent).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), new);
    cdn.request(1, |request| assert_eq!(request.range_start(), None));
}

#[test]
fn a_part_that_was_damaged_on_disk_is_fetched_again() {
    let bytes = model_bytes(N, 8);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |request, number, bytes| {
        let cut_at = (number == 0).then_some(120_000);
        Reply { cut_at, ..Reply::file(request, bytes) }
    });
    let store = TestStore::new();
    store.store.pull(&parse(HF), &PullOptions { retries: 0, ..options(&hub) }, &Silent).unwrap_err();
    let part = store.dir.path().join("partial").join(&store.files_in("partial")[0]).join("download.part");
    let mut damaged = std::fs::read(&part).unwrap();
    damaged[7] ^= 1;
    std::fs::write(&part, damaged).unwrap();
    let local = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
    cdn.request(2, |request| assert_eq!(request.range_start(), None));
}

#[test]
fn a_part_that_is_already_whole_needs_no_body() {
    let bytes = model_bytes(5000, 9);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |request, _, bytes| Reply::file(request, bytes));
    let store = TestStore::new();
    // A pull that ended between the last byte and the move into place.
    let local = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    let folder = Path::new(&local.path).parent().unwrap();
    let partial = store.dir.path().join("partial").join(folder.file_name().unwrap());
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::rename(&local.path, partial.join("download.part")).unwrap();
    let note = format!(r#"{{"sha256":"{}","size":5000,"etag":null}}"#, sha256(&bytes));
    std::fs::write(partial.join("download.part.json"), note).unwrap();
    let local = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
    assert_eq!(cdn.n_requests(), 1, "the whole part was asked for again");
}

#[test]
fn a_gated_repository_says_what_to_do() {
    let hub = Server::start(|_, _| Reply::new(401).with("X-Error-Code", "GatedRepo"));
    let store = TestStore::new();
    let error = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Network);
    let error = failure(error);
    assert!(
        matches!(&error, SourceError::Restricted { repo, restriction: Restriction::Gated, token: TokenSent::No, .. } if repo == "org/repo"),
        "{error:?}"
    );
    assert!(text.contains(&format!("accept the terms at {}/org/repo", hub.url)) && text.contains("HF_TOKEN"), "{text}");
    assert_eq!(hub.n_requests(), 1, "asking again does not help");

    let options = PullOptions { hf_token: Token::new(" t \n"), ..options(&hub) };
    let error = failure(store.store.pull(&parse(HF), &options, &Silent).unwrap_err());
    assert!(matches!(error, SourceError::Restricted { token: TokenSent::Yes, .. }), "{error:?}");
    assert!(!format!("{options:?}").contains("\"t\""));
}

#[test]
fn a_private_and_a_missing_repository_look_the_same() {
    let hub = Server::start(|_, _| Reply::new(401).with("X-Error-Code", "RepoNotFound"));
    let error = failure(TestStore::new().store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err());
    assert!(matches!(error, SourceError::Restricted { restriction: Restriction::PrivateOrMissing, .. }), "{error:?}");
}

#[test]
fn a_missing_file_is_not_found() {
    let hub = Server::start(|_, _| Reply::new(404).with("X-Error-Code", "EntryNotFound"));
    let error = TestStore::new().store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(HF), "{error}");
}

#[test]
fn wrong_bytes_do_not_get_into_the_store() {
    let (hub, cdn) = hub_and_cdn(model_bytes(N, 10), |request, _, bytes| {
        let mut wrong = bytes.to_vec();
        wrong[N / 2] ^= 1;
        Reply::file(request, &wrong)
    });
    let store = TestStore::new();
    let error = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(matches!(failure(error), SourceError::DigestMismatch { .. }));
    assert!(store.store.resolve(&parse(HF)).unwrap().is_none());
    assert!(store.files_in("models").is_empty());
    assert_eq!(cdn.n_requests(), 1);
}

#[test]
fn a_changed_file_is_refused_before_its_body_until_the_pin_is_forgotten() {
    let (old, new) = (model_bytes(N, 11), model_bytes(N, 12));
    let current = Arc::new(Mutex::new(old));
    let (for_cdn, for_hub) = (Arc::clone(&current), Arc::clone(&current));
    let cdn = Server::start(move |request, _| Reply::file(request, &for_cdn.lock().unwrap()));
    let location = cdn.url.clone();
    let hub = Server::start(move |_, _| Reply::hub(&location, &for_hub.lock().unwrap()));
    let store = TestStore::new();
    store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    store.store.remove(&parse(HF)).unwrap();
    *current.lock().unwrap() = new.clone();

    let error = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err();
    assert!(error.to_string().contains("bantam rm --forget hf:org/repo/m.gguf"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert_eq!(cdn.n_requests(), 1, "the body of a refused file was fetched");

    assert!(store.store.forget(&parse(HF)).unwrap());
    assert!(!store.store.forget(&parse(HF)).unwrap());
    let local = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    assert_eq!(local.sha256, Some(sha256(&new)));
}

#[test]
fn a_pin_that_cannot_be_read_does_not_open_the_door() {
    let (hub, _cdn) = hub_and_cdn(model_bytes(100, 13), |request, _, bytes| Reply::file(request, bytes));
    let store = TestStore::new();
    store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    store.store.remove(&parse(HF)).unwrap();
    let pin = store.dir.path().join("pins").join(&store.files_in("pins")[0]);
    std::fs::write(pin, "{}").unwrap();
    let error = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err();
    assert!(matches!(error, HubError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_hub_that_states_no_digest_or_size_is_refused() {
    let hub = Server::start(|request, _| Reply::file(request, &model_bytes(100, 14)));
    let error = failure(TestStore::new().store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err());
    assert!(matches!(error, SourceError::NothingToCheck { what: "SHA-256", .. }), "{error:?}");
}

#[test]
fn a_mirror_may_send_the_file_itself_with_its_digest_as_etag() {
    let bytes = model_bytes(N, 15);
    let served = bytes.clone();
    let hub =
        Server::start(move |request, _| Reply::file(request, &served).with("ETag", format!("\"{}\"", sha256(&served))));
    let store = TestStore::new();
    let local = store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    assert_eq!(local.sha256, Some(sha256(&bytes)));
}

#[test]
fn a_lying_length_is_refused() {
    let bytes = model_bytes(N, 16);
    let (hub, _cdn) = hub_and_cdn(bytes, |request, _, bytes| Reply::file(request, &bytes[..N - 1]));
    let error = failure(TestStore::new().store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err());
    assert!(matches!(error, SourceError::SizeMismatch { expected, .. } if expected == N as u64), "{error:?}");
}

#[test]
fn a_busy_server_is_asked_again() {
    let bytes = model_bytes(N, 17);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |request, number, bytes| match number {
        0 => Reply::new(503),
        1 => Reply::new(429).with("Retry-After", 0),
        // A signed link that ran out.
        2 => Reply::new(403),
        _ => Reply::file(request, bytes),
    });
    let recorder = Recorder::default();
    let store = TestStore::new();
    let local = store.store.pull(&parse(HF), &options(&hub), &recorder).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
    assert_eq!((recorder.count("retrying"), cdn.n_requests()), (3, 4));
}

#[test]
fn a_server_that_stays_broken_is_given_up() {
    let (hub, cdn) = hub_and_cdn(model_bytes(N, 18), |_, _, _| Reply::new(500));
    let options = PullOptions { retries: 2, ..options(&hub) };
    let error = failure(TestStore::new().store.pull(&parse(HF), &options, &Silent).unwrap_err());
    assert!(matches!(error, SourceError::Status { status: 500, .. }), "{error:?}");
    assert_eq!(cdn.n_requests(), 3);
}

#[test]
fn a_silent_server_times_out_and_is_asked_again() {
    let bytes = model_bytes(N, 19);
    let (hub, _cdn) = hub_and_cdn(bytes.clone(), |request, number, bytes| {
        let pause = if number == 0 { Duration::from_secs(30) } else { Duration::ZERO };
        Reply { pause, ..Reply::file(request, bytes) }
    });
    let recorder = Recorder::default();
    let options = PullOptions { read_timeout: Duration::from_secs(1), ..options(&hub) };
    let store = TestStore::new();
    let local = store.store.pull(&parse(HF), &options, &recorder).unwrap();
    assert_eq!(std::fs::read(local.path).unwrap(), bytes);
    assert_eq!(recorder.count("retrying 127.0.0.1"), 1);
}

#[test]
fn a_download_slower_than_the_read_timeout_as_a_whole_succeeds() {
    let bytes = model_bytes(N, 20);
    let (hub, _cdn) = hub_and_cdn(bytes.clone(), |request, _, bytes| Reply {
        pause: Duration::from_millis(300),
        ..Reply::file(request, bytes)
    });
    let recorder = Recorder::default();
    let options = PullOptions { read_timeout: Duration::from_millis(1500), retries: 0, ..options(&hub) };
    let store = TestStore::new();
    store.store.pull(&parse(HF), &options, &recorder).unwrap();
    assert!(recorder.count("bytes") >= 4, "progress is told while it goes on");
}

#[test]
fn nobody_listening_fails_at_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = PullOptions { hf_endpoint: format!("http://{closed}"), ..PullOptions::default() };
    let start = Instant::now();
    let error = failure(TestStore::new().store.pull(&parse(HF), &options, &Silent).unwrap_err());
    assert!(matches!(error, SourceError::Connect { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("HTTPS_PROXY"));
    assert!(start.elapsed() < Duration::from_secs(3), "a refused connection was tried again");
}

#[test]
fn an_endpoint_that_is_no_address_is_named() {
    for bad in ["", "huggingface.co", "ftp://x", "http://"] {
        let options = PullOptions { hf_endpoint: bad.into(), ..PullOptions::default() };
        let error = failure(TestStore::new().store.pull(&parse(HF), &options, &Silent).unwrap_err());
        assert!(matches!(error, SourceError::Setting { setting: "HF_ENDPOINT", .. }), "{bad}: {error:?}");
    }
}

#[test]
fn redirects_in_a_circle_end() {
    let hub = Server::start(|_, number| Reply::new(307).with("Location", format!("/again/{number}")));
    let error = failure(TestStore::new().store.pull(&parse(HF), &options(&hub), &Silent).unwrap_err());
    assert!(matches!(error, SourceError::Redirect { .. }), "{error:?}");
    assert!(hub.n_requests() <= 11);
}

#[test]
fn a_full_disk_is_noticed_before_the_download() {
    let (hub, _cdn) = hub_and_cdn(model_bytes(N, 21), |request, _, bytes| Reply::file(request, bytes));
    let store = TestStore::new();
    let options = PullOptions { keep_free: u64::MAX / 2, ..options(&hub) };
    let error = store.store.pull(&parse(HF), &options, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Local);
    let error = failure(error);
    assert!(matches!(error, SourceError::DiskSpace { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("--data-dir"));
    assert_eq!(part_len(&store), 0);
}

#[test]
fn two_pulls_at_once_download_once() {
    let bytes = model_bytes(N, 22);
    let (hub, cdn) = hub_and_cdn(bytes.clone(), |request, _, bytes| Reply {
        pause: Duration::from_millis(60),
        ..Reply::file(request, bytes)
    });
    let store = TestStore::new();
    let waited = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // As another process would: with a store of its own on the same folder.
                let own = Store::open(Some(store.dir.path())).unwrap();
                let recorder = Recorder::default();
                let local = own.pull(&parse(HF), &options(&hub), &recorder).unwrap();
                assert_eq!(std::fs::read(local.path).unwrap(), bytes);
                waited.fetch_add(recorder.count("waiting"), Ordering::Relaxed);
            });
        }
    });
    assert_eq!((cdn.n_requests(), waited.into_inner()), (1, 1));
}

#[test]
fn a_pull_can_be_stopped_and_its_model_cannot_be_removed_meanwhile() {
    let bytes = model_bytes(N, 23);
    let (hub, _cdn) = hub_and_cdn(bytes.clone(), |request, number, bytes| {
        let pause = if number == 0 { Duration::from_millis(500) } else { Duration::ZERO };
        Reply { pause, ..Reply::file(request, bytes) }
    });
    let store = TestStore::new();
    let cancel = Cancel::default();
    let stopped = PullOptions { cancel: cancel.clone(), ..options(&hub) };
    thread::scope(|scope| {
        let pull = scope.spawn(|| store.store.pull(&parse(HF), &stopped, &Silent));
        while hub.n_requests() == 0 {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(matches!(store.store.remove(&parse(HF)), Err(HubError::Busy { .. })));
        thread::sleep(Duration::from_millis(700));
        cancel.cancel();
        let error = pull.join().unwrap().unwrap_err();
        assert!(matches!(error, HubError::Cancelled), "{error:?}");
    });
    assert!(part_len(&store) > 0, "what came was thrown away");
    store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
}

#[test]
fn offline_asks_nobody_and_says_what_is_missing() {
    let (hub, _cdn) = hub_and_cdn(model_bytes(100, 24), |request, _, bytes| Reply::file(request, bytes));
    let store = TestStore::new();
    let offline = PullOptions { offline: true, ..options(&hub) };
    let error = store.store.pull(&parse(HF), &offline, &Silent).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error:?}");
    assert!(error.to_string().contains(HF) && error.to_string().contains("--offline"));
    assert_eq!(hub.n_requests(), 0);
    store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    store.store.pull(&parse(HF), &offline, &Silent).unwrap();
    assert_eq!(hub.n_requests(), 1);
}

#[test]
fn left_overs_of_long_ago_go_and_fresh_ones_stay() {
    let (hub, _cdn) = hub_and_cdn(model_bytes(100, 25), |request, _, bytes| Reply::file(request, bytes));
    let store = TestStore::new();
    for (name, days) in [("old", 30), ("fresh", 1)] {
        let folder = store.dir.path().join("partial").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::fs::File::create(folder.join("download.part")).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        file.set_modified(time).unwrap();
        std::fs::File::open(&folder).unwrap().set_modified(time).unwrap();
    }
    store.store.pull(&parse(HF), &options(&hub), &Silent).unwrap();
    assert_eq!(store.files_in("partial"), ["fresh"]);
}
