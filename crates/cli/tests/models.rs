//! `pull`, `list`, `show` and `rm` as a user types them, with a model that comes from a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use bantam_formats::gguf::{GgmlType, GgufWriter};
use serde_json::Value;

/// A data directory whose catalogue has `toy`.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut gguf = GgufWriter::new();
    gguf.set("general.architecture", "llama").set("llama.context_length", 64u32);
    gguf.tensor("token_embd.weight", GgmlType::F32, &[8, 4], vec![0u8; 128]);
    let source = dir.path().join("source.gguf");
    std::fs::write(&source, gguf.to_bytes().unwrap()).unwrap();

    // The digest is whatever `show --verify` says of the file: no second implementation here.
    let shown = json(dir.path(), &["show", "--verify", source.to_str().unwrap()]);
    let (size, sha256) = (&shown["local"]["size"], shown["local"]["sha256"].as_str().unwrap());
    assert_eq!((&shown["gguf"]["parameters"], &shown["gguf"]["context"]), (&32.into(), &64.into()));
    let catalogue = format!(
        r#"[[model]]
name = "toy"
aliases = ["toy:latest"]
family = "Toy"
architecture = "llama"
parameters = 32
licence = {{ name = "Own", url = "https://example.org/terms", commercial_use = "Allowed on Sundays." }}
context = 64
quantisation = "F32"
size = {size}
sha256 = "{sha256}"
sources = [{{ file = {{ path = {:?} }} }}]
"#,
        source.to_str().unwrap()
    );
    std::fs::write(dir.path().join("catalogue.toml"), catalogue).unwrap();
    dir
}

/// Adds `vectors`, an encoder of two files, to the catalogue. Nothing here reads what is in them.
fn add_encoder(dir: &Path) {
    let toy = std::fs::read_to_string(dir.join("catalogue.toml")).unwrap();
    let line = |key: &str| toy.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    std::fs::create_dir(dir.join("encoder")).unwrap();
    let main = dir.join("encoder/model.safetensors");
    for path in [&main, &dir.join("encoder/config.json")] {
        std::fs::copy(dir.join("source.gguf"), path).unwrap();
    }
    let encoder: String = toy
        .lines()
        .filter(|line| !line.starts_with("aliases") && !line.starts_with("sources"))
        .map(|text| text.replace("\"toy\"", "\"vectors\"").replace("\"llama\"", "\"bert\"") + "\n")
        .collect();
    let more = format!(
        "task = \"embed\"\nsources = [{{ file = {{ path = {:?} }} }}]\n\
         [[model.companions]]\nfile = \"config.json\"\n{}\n{}\n",
        main.to_str().unwrap(),
        line("size"),
        line("sha256"),
    );
    std::fs::write(dir.join("catalogue.toml"), format!("{toy}\n{encoder}{more}")).unwrap();
}

fn bantam(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bantam"));
    for name in ["BANTAM_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"] {
        command.env_remove(name);
    }
    // Nobody listens on port 1 of this machine.
    command.env("BANTAM_DATA_DIR", dir).env("HF_ENDPOINT", "http://127.0.0.1:1").stdin(Stdio::null());
    command.args(args).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let output = bantam(dir, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The last line that the command prints with --json.
fn json(dir: &Path, args: &[&str]) -> Value {
    let out = ok(dir, &[args, &["--json"]].concat());
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

fn fails(dir: &Path, args: &[&str], code: i32, why: &str) {
    let output = bantam(dir, args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert!(error.contains(why), "{args:?}: {error}");
}

#[test]
fn a_model_is_pulled_listed_shown_and_removed() {
    let dir = data_dir();
    let dir = dir.path();
    assert!(!ok(dir, &["list"]).contains("toy"));
    assert!(ok(dir, &["list", "--all"]).contains("toy"));
    assert!(ok(dir, &["show", "toy"]).contains("bantam pull toy"));

    let pulled = json(dir, &["pull", "TOY:latest"]);
    assert_eq!((&pulled["event"], &pulled["model"]["name"]), (&"done".into(), &"toy".into()));
    let said = ok(dir, &["pull", "toy"]);
    assert!(said.contains("toy is ready") && said.contains("Allowed on Sundays"), "{said}");

    assert!(ok(dir, &["list"]).lines().any(|line| line.starts_with("toy ")));
    let listed = json(dir, &["list", "--all"]);
    let listed = listed.as_array().unwrap();
    let toy = listed.iter().find(|model| model["name"] == "toy").unwrap();
    assert_eq!((&toy["supported"], &toy["local"]["path"]), (&true.into(), &pulled["model"]["path"]));
    assert!(listed.iter().any(|model| model["name"] == "starcoder2-3b" && model["supported"] == false));

    let shown = ok(dir, &["show", "toy", "--verify"]);
    for part in [
        "toy:latest",
        "https://example.org/terms",
        "Allowed on Sundays",
        "token",
        "file:",
        "F32 128 B",
        "again just now",
    ] {
        assert!(shown.contains(part), "`{part}` is not in\n{shown}");
    }

    fails(dir, &["rm", "toy"], 1, "--yes");
    assert_eq!(json(dir, &["rm", "toy", "--yes"])["removed"]["name"], "toy");
    fails(dir, &["rm", "toy", "--yes"], 3, "not on this machine");
    assert_eq!(json(dir, &["list"]), Value::Array(vec![]));
}

#[test]
fn an_encoder_is_pulled_listed_and_shown_as_one_and_not_run() {
    let dir = data_dir();
    let dir = dir.path();
    add_encoder(dir);
    for command in ["run", "tokenize"] {
        fails(
            dir,
            &[command, "vectors", "hello"],
            2,
            "is an encoder, which turns texts into vectors; use `bantam embed",
        );
    }
    assert_eq!(json(dir, &["list"]), Value::Array(vec![]), "nothing was fetched for a command that cannot use it");

    let pulled = json(dir, &["pull", "vectors"]);
    let manifest = &pulled["model"]["manifest"];
    assert_eq!((&manifest["task"], &manifest["companions"][0]["file"]), (&"embed".into(), &"config.json".into()));
    assert_eq!(pulled["model"]["size"].as_u64(), manifest["size"].as_u64().map(|size| 2 * size));
    assert!(ok(dir, &["pull", "vectors"]).contains("so is the file beside it"));
    ok(dir, &["pull", "toy"]);

    for args in [&["list"][..], &["list", "--all"]] {
        let listed = ok(dir, args);
        let has = |name: &str, task: &str| {
            let row = listed.lines().find(|line| line.starts_with(name)).unwrap();
            row.split_whitespace().any(|cell| cell == task) && !row.contains("supported")
        };
        assert!(has("vectors", "embed") && has("toy", "generate"), "{listed}");
    }
    let shown = ok(dir, &["show", "vectors", "--verify"]);
    for part in ["turns texts into vectors", "bert\n", "model.safetensors", "config.json (", "again just now"] {
        assert!(shown.contains(part), "`{part}` is not in\n{shown}");
    }
    let shown = json(dir, &["show", "vectors"]);
    assert_eq!((&shown["catalogue"]["task"], &shown["supported"]), (&"embed".into(), &true.into()));

    let companion = Path::new(pulled["model"]["path"].as_str().unwrap()).with_file_name("config.json");
    std::fs::remove_file(companion).unwrap();
    fails(dir, &["show", "vectors"], 5, "its config.json is missing");
    ok(dir, &["pull", "vectors"]);
    ok(dir, &["rm", "-y", "vectors"]);
    assert!(!dir.join("models/vectors").exists());
}

#[test]
fn a_pull_mends_a_file_whose_bytes_have_changed() {
    let dir = data_dir();
    let dir = dir.path();
    let pulled = json(dir, &["pull", "toy"]);
    let path = pulled["model"]["path"].as_str().unwrap();
    let whole = std::fs::read(path).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(path, &damaged).unwrap();
    fails(dir, &["show", "--verify", "toy"], 5, "damaged");
    ok(dir, &["pull", "toy"]);
    assert_eq!(std::fs::read(path).unwrap(), whole);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let dir = data_dir();
    let dir = dir.path();
    fails(dir, &["pull"], 2, "MODEL");
    fails(dir, &["pull", "./source.gguf"], 2, "is a path");
    fails(dir, &["rm", "toy"], 3, "not on this machine");
    fails(dir, &["pull", "hf:nonsense"], 2, "hf:organisation/name/file.gguf");
    fails(dir, &["pull", "toyy"], 3, "did you mean `toy`");
    fails(dir, &["show", "./nothing.gguf"], 3, "no model file ./nothing.gguf");
    fails(dir, &["pull", "--offline", "qwen2.5-0.5b"], 3, "--offline");
    fails(dir, &["pull", "hf:org/repo/m.gguf"], 4, "fix: check the network");
    // One wrong byte in the source.
    let source = dir.join("source.gguf");
    let mut bytes = std::fs::read(&source).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&source, bytes).unwrap();
    fails(dir, &["pull", "toy"], 5, "SHA-256");
    // A typo among several is found before anything is pulled.
    fails(dir, &["pull", "toy", "toyy"], 3, "toyy");
    std::fs::write(dir.join("catalogue.toml"), "[[model]]\nname = \"x\"\ncolour = 1\n").unwrap();
    fails(dir, &["list"], 2, "colour");
}

#[test]
fn quiet_pulls_say_nothing_and_json_pulls_tell_each_step() {
    let dir = data_dir();
    let dir = dir.path();
    let output = bantam(dir, &["pull", "--quiet", "toy"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    ok(dir, &["rm", "-y", "toy"]);
    let out = ok(dir, &["pull", "--json", "toy"]);
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"trying"), Some(&"done")));
    let last = events.iter().rfind(|event| event["event"] == "progress").unwrap();
    assert_eq!(last["done_bytes"], last["total_bytes"]);
}
