use std::process::Stdio;

use serde_json::{Value, json};

use super::{MODEL, bantam, fails, ok};

fn answer(isa: &str, threads: &str, chunk: &str) -> Value {
    let mut command = bantam();
    command.env("BANTAM_ISA", isa).args(["run", MODEL, "--json", "--max-tokens", "24", "--temperature", "0.8"]);
    command.args(["--seed", "7", "--threads", threads, "--prefill-chunk", chunk]);
    let mut value: Value = serde_json::from_str(&ok(command.arg("Write a short poem about the sea."))).unwrap();
    value.as_object_mut().unwrap().remove("timings").expect("timings are reported");
    value
}

#[test]
fn an_answer_is_the_same_on_every_level_thread_count_and_chunk_size() {
    let expected = answer("scalar", "1", "256");
    assert_eq!(expected["usage"]["completion_tokens"], 24);
    assert_eq!(expected["seed"], 7);
    for level in bantam_kernels::IsaLevel::ALL.into_iter().filter(|level| level.is_available()) {
        assert_eq!(answer(&level.to_string(), "2", "5"), expected, "{level}");
    }
}

#[test]
fn a_small_model_knows_the_capital_of_france() {
    let args = ["run", MODEL, "--raw", "--quiet", "--max-tokens", "8", "The capital of France is"];
    assert!(ok(bantam().args(args)).contains("Paris"));
}

#[test]
fn a_benchmark_tells_rates_and_shares() {
    let sizes = ["--prompt", "32", "--answer", "8", "--streams", "3", "--classify", "0", "--repeat", "1", "--json"];
    let bench: Value = serde_json::from_str(&ok(bantam().args(["bench", MODEL]).args(sizes))).unwrap();
    let ceilings = bench["ceilings"].as_object().unwrap();
    assert!(ceilings.len() == 3 && ceilings.values().all(|rate| rate.as_f64().unwrap() > 1e6), "{ceilings:?}");
    let results = bench["results"].as_array().unwrap();
    let works: Vec<_> = results.iter().map(|result| result["work"].as_str().unwrap()).collect();
    assert_eq!(works, ["prefill", "decode", "streams"]);
    assert!(results.iter().all(|result| result["rate"].as_f64().unwrap() > 0.0));
    assert!(results[0]["share"]["ceiling"] == "int8" && results[1]["share"]["ceiling"] == "memory");
    // The layers' and the head's weights are all of the model's matrices; the head is the embedding's, too.
    let summary = &bench["summary"];
    let n = |part: &str| summary[part]["n_parameters"].as_u64().unwrap();
    let all = summary["n_parameters"].as_u64().unwrap();
    assert!(n("layers") + n("head") <= all && n("layers") + n("head") > all * 99 / 100, "{summary}");

    let (code, error) = fails(bantam().args(["bench", MODEL, "--prompt", "100000"]));
    assert!(code == 1 && error.contains("prefill 100000 needs a context of 100001"), "{error}");
    let (code, error) = fails(bantam().args(["bench", MODEL, "--streams", "1000000"]));
    assert!(code == 1 && error.contains("streams: must be at most 1024"), "{error}");
}

#[test]
fn a_reader_that_has_gone_ends_the_work_without_a_failure() {
    for args in [&["tokenize", MODEL, "one two three"][..], &["run", MODEL, "--max-tokens", "8", "Count to ten."]] {
        let mut child = bantam().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !error.contains("panicked") && !error.contains("error"),
            "{args:?}: {error}"
        );
    }
}

#[test]
fn tokens_are_those_of_the_reference_tokenizer() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../formats/tests/fixtures/");
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(format!("{fixtures}{name}")).unwrap()).unwrap()
    };
    let (corpus, expected) = (read("tokenizer/corpus.json"), read("real_ids.json"));
    let corpus: Vec<&str> = corpus.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let expected = expected[MODEL].as_array().unwrap();
    let shown: Value = serde_json::from_str(&ok(bantam().args(["show", "--json", MODEL]))).unwrap();
    let gguf = bantam_formats::Gguf::open(std::path::Path::new(shown["local"]["path"].as_str().unwrap()));
    let tokenizer = match gguf {
        Ok(gguf) => bantam_formats::Tokenizer::from_gguf(&gguf).unwrap(),
        Err(error) => panic!("{error}"),
    };
    let options = bantam_formats::EncodeOptions { add_special: false, parse_special: true };
    assert!(corpus.len() > 30 && corpus.len() == expected.len());
    for (line, ids) in corpus.into_iter().zip(expected) {
        assert_eq!(&json!(tokenizer.encode(line, options).unwrap()), ids, "{line:?}");
    }
}

#[test]
fn tokenize_prints_pieces_ids_counts_and_json() {
    let tokenize = |args: &[&str]| ok(bantam().args(["tokenize", MODEL]).args(args));
    assert_eq!(tokenize(&["--count", "Hello, world"]), "3\n");
    let ids = tokenize(&["--ids", "<|im_start|>user"]);
    assert!(ids.split(' ').count() > 3, "special tokens are text unless asked for: {ids}");
    assert_eq!(tokenize(&["--ids", "--parse-special", "<|im_start|>user"]), "1 4093\n");
    let value: Value = serde_json::from_str(&tokenize(&["--json", "Hello, world"])).unwrap();
    assert_eq!((&value["count"], &value["pieces"][0]), (&json!(3), &json!("Hello")));
}

#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let schema = r#"{"type": "object", "properties": {"city": {"type": "string", "maxLength": 20},
        "inhabitants": {"type": "integer", "minimum": 1000}}, "required": ["city", "inhabitants"],
        "additionalProperties": false}"#;
    let schema = file("schema.json", schema);
    let asked = |args: &[&str]| {
        let mut command = bantam();
        command.args(["run", MODEL, "--quiet", "Tell me of a large city in France."]).args(args);
        command
    };
    let value: Value = serde_json::from_str(&ok(&mut asked(&["--schema", &schema]))).unwrap();
    assert!(value["city"].is_string() && value["inhabitants"].as_u64().unwrap() >= 1000, "{value}");
    let digits = ok(&mut asked(&["--regex", "[0-9]{3}-[0-9]{2}"]));
    assert_eq!((digits.len(), digits.as_bytes()[3]), (7, b'-'), "{digits}");
    let chosen = ok(&mut asked(&["--choice", "Paris,Lyon,Nice"]));
    assert!(["Paris", "Lyon", "Nice"].contains(&chosen.trim()), "{chosen}");
    let lark = file("answer.lark", "start: \"It is \" (\"large\" | \"small\") \".\"");
    assert!(ok(&mut asked(&["--lark", &lark])).starts_with("It is "));

    let (code, error) = fails(&mut asked(&["--schema", &schema, "--max-tokens", "5"]));
    assert!(code == 6 && error.contains("--max-tokens"), "{error}");
    let (code, error) = fails(&mut asked(&["--schema", &file("bad.json", r#"{"items": {"not": {}}}"#)]));
    assert!(code == 2 && error.contains("items: the keyword 'not' is not supported"), "{error}");
    let (code, error) = fails(&mut asked(&["--regex", "a", "--json-object"]));
    assert!(code == 2 && error.contains("cannot be used with"), "{error}");
}

#[test]
fn perplexity_says_by_which_rule_it_was_taken() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, include_str!("../../../../LICENSE")).unwrap();
    let args = ["perplexity", MODEL, "--json", "--positions", "--window", "256", file.path().to_str().unwrap()];
    let value: Value = serde_json::from_str(&ok(bantam().args(args))).unwrap();
    let scored = value["scored_tokens"].as_u64().unwrap();
    assert_eq!(scored, value["windows"].as_u64().unwrap() * 127);
    assert_eq!(value["top1"].as_array().unwrap().len() as u64, scored);
    // Of 49,152 tokens: far from chance, and not suspiciously good for so small a model.
    assert!((5.0..40.0).contains(&value["perplexity"].as_f64().unwrap()), "{}", value["perplexity"]);
    assert_eq!(value["bos"], "no BOS");

    std::fs::write(&file, "Too short.").unwrap();
    let (code, error) = fails(bantam().args(["perplexity", MODEL, file.path().to_str().unwrap()]));
    assert!(code == 1 && error.contains("less than one window of 512"), "{error}");
}

#[test]
fn wrong_usage_names_the_flag_and_the_fix() {
    let run = |args: &[&str]| fails(bantam().args(["run", MODEL, "hello"]).args(args)).1;
    assert!(run(&["--temperature=-1"]).contains("temperature"), "{}", run(&["--temperature=-1"]));
    assert!(run(&["--top-p", "NaN"]).contains("top_p"), "{}", run(&["--top-p", "NaN"]));
    assert!(run(&["--max-tokens", "0"]).contains("max_tokens"));
    let (code, error) = fails(bantam().args(["run", "smollm2-135m-instrukt", "hello"]));
    assert!(code == 3 && error.contains(MODEL), "{error}");
    let (code, error) = fails(bantam().env("BANTAM_ISA", "avx9").args(["run", MODEL, "hello"]));
    assert!(code == 1 && error.contains("BANTAM_ISA"), "{error}");
}
