//! Answers that follow a grammar, over a toy model whose tokens are pieces of JSON: whatever it would rather say, what
//! comes out is allowed, and the same however it was computed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bantam_engine::{
    Completion, Engine, EngineConfig, FinishReason, GenerateError, GenerateRequest, GrammarError, GrammarSource,
    JumpForward, LogprobsOf, SamplingParams, Speculation, SubmitError,
};
use common::{EOG, PLAIN, Toy, config, wait_idle};
use proptest::prelude::*;
use serde_json::{Value, json};

fn engine(n_pages: usize, config: EngineConfig) -> Engine {
    Toy::new(n_pages).json().repetitive().start(config)
}

/// Nothing is drafted and nothing is jumped over.
fn stepping() -> EngineConfig {
    EngineConfig { speculation: Speculation::Off, jump_forward: JumpForward::Off, ..config() }
}

fn request(engine: &Engine, source: &GrammarSource, seed: u64) -> GenerateRequest {
    GenerateRequest {
        max_tokens: Some(150),
        sampling: SamplingParams { seed: Some(seed), ..SamplingParams::default() },
        grammar: Some(engine.compile_grammar(source).unwrap()),
        ..GenerateRequest::new((0..20).map(|i| 2 + (i * 7 + seed as u32 % 50) % (PLAIN - 2)).collect())
    }
}

fn run(engine: &Engine, request: GenerateRequest) -> Completion {
    engine.generate(request).unwrap().blocking_collect().unwrap()
}

fn ask(engine: &Engine, source: &GrammarSource, seed: u64) -> Completion {
    run(engine, request(engine, source, seed))
}

/// What must not depend on how an answer was computed.
fn essence(c: &Completion) -> (Vec<u32>, String, FinishReason, usize) {
    (c.tokens.clone(), c.text.clone(), c.finish, c.usage.completion_tokens)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "pattern": "^[a-z]{1,5}$" },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "mood": { "enum": ["fine", "tired", null, true] },
            "tags": { "type": "array", "items": { "type": "string", "maxLength": 3 }, "maxItems": 3 },
        },
        "required": ["name", "age", "mood"],
        "additionalProperties": false,
    })
}

fn sources() -> Vec<GrammarSource> {
    let tree = json!({
        "$defs": { "tree": {
            "type": "object",
            "properties": { "v": { "type": "boolean" }, "sub": { "type": "array", "items": { "$ref": "#/$defs/tree" }, "maxItems": 2 } },
            "required": ["v"], "additionalProperties": false,
        } },
        "$ref": "#/$defs/tree",
    });
    vec![
        GrammarSource::JsonSchema(person()),
        GrammarSource::JsonSchema(tree),
        GrammarSource::JsonObject,
        GrammarSource::Regex("(name|null): [0-9]{2,4}(-[a-f]+)?".into()),
        GrammarSource::Choice(["true", "name", "nametrue", "null null null null"].map(str::to_owned).to_vec()),
        GrammarSource::Lark("start: \"tr\" item+\nitem: \"ue\" | \"null\" \": \" /[a-c]{3}/".into()),
        GrammarSource::TextOrJson { open: "{{".into(), close: "}".into(), schema: person() },
    ]
}

#[test]
fn finished_answers_are_valid_and_cut_ones_say_so() {
    let engine = engine(256, config());
    let (mut finished, mut cut) = (0, 0);
    for seed in 0..40 {
        let answer = ask(&engine, &GrammarSource::JsonSchema(person()), seed);
        assert_eq!(answer.finish, FinishReason::Stop, "{}", answer.text);
        let value: Value = serde_json::from_str(&answer.text).unwrap();
        let name = value["name"].as_str().unwrap();
        assert!((1..=5).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase()), "{value}");
        assert!(value["age"].as_u64().unwrap() <= 120, "{value}");
        assert!([json!("fine"), json!("tired"), json!(null), json!(true)].contains(&value["mood"]), "{value}");
        assert!(value.get("tags").is_none_or(|tags| tags.as_array().unwrap().len() <= 3), "{value}");

        let most = 2 + seed as usize;
        let any = run(
            &engine,
            GenerateRequest { max_tokens: Some(most), ..request(&engine, &GrammarSource::JsonObject, seed) },
        );
        match any.finish {
            FinishReason::Stop => {
                match serde_json::from_str::<Value>(&any.text) {
                    Ok(value) => assert!(value.is_object(), "{value}"),
                    // JSON knows no largest number; this reader does.
                    Err(error) => assert!(error.to_string().contains("number out of range"), "{error} in {}", any.text),
                }
                finished += 1;
            }
            FinishReason::Length => {
                assert_eq!(any.tokens.len(), most);
                cut += 1;
            }
        }
        assert!(!any.text.contains("  ") || any.text.contains('"'), "{}", any.text);
    }
    assert!(finished > 0 && cut > 0, "{finished} finished, {cut} cut");
    let stats = engine.stats();
    assert!(stats.forced_tokens > 0 && stats.masks.count > 0);
}

#[test]
fn one_of_several_texts() {
    let engine = engine(64, config());
    let texts = ["true", "name", "nametrue", "null null"].map(str::to_owned).to_vec();
    let source = GrammarSource::Choice(texts.clone());
    let found = (0..60).map(|seed| {
        let mut asked = request(&engine, &source, seed);
        // The toy seldom ends an answer where it could go on.
        asked.sampling.logit_bias = vec![(EOG, 2.0)];
        run(&engine, asked).text
    });
    let found: Vec<String> = found.collect();
    assert!(found.iter().all(|text| texts.contains(text)), "{found:?}");
    assert!(texts.iter().all(|text| found.contains(text)), "{found:?}");
}

#[test]
fn forced_tokens_take_no_step_of_their_own() {
    let text = "name: null name: true null: name";
    let source = GrammarSource::Choice(vec![format!("a{text}"), format!("b{text}{text}")]);
    let engine = engine(64, config());
    let answer = ask(&engine, &source, 3);
    let stats = engine.stats();
    assert!(answer.tokens.len() > 10);
    assert_eq!(stats.forced_tokens as usize, answer.tokens.len() - 1);
    assert_eq!(stats.steps, 1, "{stats:?}");
    // Between two drawn tokens, they are computed with the second one's row.
    let source = GrammarSource::Regex(format!("[ab]{text}[cd]{text}[ef]"));
    let answer = ask(&engine, &source, 4);
    assert_eq!(engine.stats().steps - stats.steps, 3, "{}", answer.text);
    // With log-probabilities every token has its row.
    let with = GenerateRequest { logprobs: Some(2), ..request(&engine, &source, 4) };
    let with = run(&engine, with);
    assert_eq!((with.logprobs.len(), &with.tokens), (answer.tokens.len(), &answer.tokens));
}

#[test]
fn among_what_is_allowed_forced_tokens_are_certain_and_jumping_changes_no_bit() {
    let jumping = engine(64, config());
    let stepping = engine(64, stepping());
    let mut n_forced = 0;
    for (n, source) in sources().iter().enumerate() {
        let asked = |engine: &Engine, logprobs_of| {
            run(engine, GenerateRequest { logprobs: Some(0), logprobs_of, ..request(engine, source, n as u64) })
        };
        let (jumped, stepped) = (asked(&jumping, LogprobsOf::Allowed), asked(&stepping, LogprobsOf::Allowed));
        assert_eq!((essence(&jumped), &jumped.logprobs), (essence(&stepped), &stepped.logprobs), "{source:?}");
        let raw = asked(&stepping, LogprobsOf::Vocabulary);
        assert_eq!(raw.tokens, stepped.tokens);
        let pairs: Vec<_> =
            stepped.logprobs.iter().zip(&raw.logprobs).map(|(a, raw)| (a.logprob, raw.logprob)).collect();
        assert!(pairs.iter().all(|(among, raw)| *among <= 0.0 && *among >= raw - 1e-4), "{source:?}: {pairs:?}");
        n_forced += pairs.iter().filter(|(among, raw)| *among == 0.0 && *raw < -0.01).count();
    }
    assert!(n_forced > 20, "{n_forced}");
    assert!(jumping.stats().forced_tokens > 0);
}

#[test]
fn stop_strings_bias_and_end_tokens_keep_working() {
    let engine = engine(64, config());
    let source = GrammarSource::Regex("[a-z]{20,40}".into());
    let whole = ask(&engine, &source, 5);
    assert!((20..=40).contains(&whole.text.len()) && whole.finish == FinishReason::Stop);
    let stop = whole.text[7..9].to_owned();
    let stopped = run(&engine, GenerateRequest { stop: vec![stop.clone()], ..request(&engine, &source, 5) });
    assert_eq!(stopped.text, whole.text[..whole.text.find(&stop).unwrap()]);
    assert_eq!(stopped.matched_stop, Some(stop));
    let mut biased = request(&engine, &source, 5);
    // Token 25 is "e"; token 2 is "}", which cannot come whatever is done for it.
    biased.sampling.logit_bias = vec![(25, 100.0), (2, 100.0)];
    assert_eq!(run(&engine, biased).text, "e".repeat(40));
    let past_end = run(&engine, GenerateRequest { ignore_eos: true, ..request(&engine, &source, 5) });
    assert_eq!(essence(&past_end), essence(&whole));
    let one = run(&engine, GenerateRequest { max_tokens: Some(1), ..request(&engine, &source, 5) });
    assert_eq!((one.finish, one.tokens.len()), (FinishReason::Length, 1));
}

#[test]
fn a_grammar_that_is_complete_at_the_limit_is_not_cut() {
    let engine = engine(64, config());
    let source = GrammarSource::Choice(vec!["null".into(), "true".into()]);
    let answer = run(&engine, GenerateRequest { max_tokens: Some(1), ..request(&engine, &source, 2) });
    // Either in one token, or in several of which only the first fits.
    let complete = ["null", "true"].contains(&answer.text.as_str());
    assert_eq!(answer.finish, if complete { FinishReason::Stop } else { FinishReason::Length });
    let all: Vec<_> = (0..30)
        .map(|seed| run(&engine, GenerateRequest { max_tokens: Some(1), ..request(&engine, &source, seed) }))
        .collect();
    assert!(all.iter().any(|a| a.finish == FinishReason::Stop && a.text.len() == 4));
}

#[test]
fn text_or_a_call() {
    let engine = engine(256, config());
    let source = GrammarSource::TextOrJson { open: "{{".into(), close: "}".into(), schema: person() };
    let (mut calls, mut texts) = (0, 0);
    for seed in 0..200 {
        let mut asked = request(&engine, &source, seed);
        asked.sampling.logit_bias = vec![(0, 3.0), (1, 2.0)];
        let answer = run(&engine, asked);
        match answer.text.split_once("{{") {
            None => texts += 1,
            Some((_, call)) if answer.finish == FinishReason::Stop => {
                let value: Value = serde_json::from_str(call.strip_suffix('}').unwrap()).unwrap();
                assert!(value["age"].is_u64() && value.get("name").is_some(), "{value}");
                calls += 1;
            }
            Some(_) => {}
        }
    }
    assert!(calls > 5 && texts > 5, "{calls} calls, {texts} texts");
}

#[test]
fn a_grammar_belongs_to_its_model() {
    let (one, other) = (engine(64, config()), engine(64, config()));
    let asked = request(&one, &GrammarSource::JsonObject, 1);
    assert!(matches!(other.generate(asked), Err(SubmitError::Invalid { param: "grammar", .. })));
}

#[test]
fn what_takes_too_much_work_ends_with_an_error() {
    let engine = engine(64, config());
    // Every repetition is a text of its own to the parser, and there is no end of them.
    let ambiguous = "start: x\nx: x x | x x x | \"a\" | \"aa\" | /[a-c]+/ | /a+b*/";
    let found = engine.compile_grammar(&GrammarSource::Lark(ambiguous.into()));
    if let Ok(grammar) = found {
        let asked = GenerateRequest { grammar: Some(grammar), ..request(&engine, &GrammarSource::JsonObject, 1) };
        match engine.generate(asked).unwrap().blocking_collect() {
            Ok(answer) => assert!(answer.tokens.len() <= 150),
            Err(error) => assert!(matches!(error, GenerateError::Grammar { .. }), "{error}"),
        }
    }
    // A text without end is forced piece by piece and cut, or refused.
    match engine.compile_grammar(&GrammarSource::Lark("start: \"name\" start".into())) {
        Ok(grammar) => {
            let asked = GenerateRequest { grammar: Some(grammar), ..request(&engine, &GrammarSource::JsonObject, 1) };
            match engine.generate(asked).unwrap().blocking_collect() {
                Ok(answer) => assert_eq!(answer.finish, FinishReason::Length),
                Err(error) => assert!(matches!(error, GenerateError::Grammar { .. }), "{error}"),
            }
        }
        Err(error) => assert!(matches!(error, GrammarError::Invalid { .. }), "{error}"),
    }
    // Nothing of it is left behind.
    wait_idle(&engine);
    assert_eq!(engine.stats().kv_pages_used, 0);
    assert_eq!(ask(&engine, &GrammarSource::JsonSchema(person()), 1).finish, FinishReason::Stop);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Alone and step by step, or together in pools of any size with drafts and jumps: the same tokens.
    #[test]
    fn answers_are_the_same_however_they_are_computed(
        asked in prop::collection::vec((0..7usize, any::<u64>(), 1..120usize, 0..3usize, prop::bool::ANY), 1..8),
        n_pages in prop_oneof![10..16usize, Just(64)],
        prefill_chunk in prop_oneof![Just(1usize), Just(5), Just(256)],
        max_sequences in 1..8usize,
        lookup in prop::bool::ANY,
    ) {
        let sources = sources();
        let of = |engine: &Engine| -> Vec<GenerateRequest> {
            asked.iter().map(|&(source, seed, max_tokens, way, logprobs)| {
                let mut r = request(engine, &sources[source], seed);
                r.max_tokens = Some(max_tokens);
                r.logprobs = logprobs.then_some(2);
                match way {
                    0 => r.sampling.temperature = 0.0,
                    1 => r.sampling.top_k = 4,
                    _ => (r.sampling.top_p, r.sampling.repetition_penalty) = (0.9, 1.2),
                }
                r
            }).collect()
        };
        let plain = engine(64, stepping());
        let expected: Vec<_> = of(&plain).into_iter().map(|r| run(&plain, r)).collect();
        prop_assert_eq!(plain.stats().forced_tokens, 0);
        let speculation = if lookup { Speculation::Lookup } else { Speculation::Off };
        let engine = engine(n_pages, EngineConfig { prefill_chunk, max_sequences, speculation, ..config() });
        let running: Vec<_> = of(&engine).into_iter().map(|r| engine.generate(r).unwrap()).collect();
        for (g, expected) in running.into_iter().zip(&expected) {
            let found = g.blocking_collect().unwrap();
            prop_assert_eq!(essence(&found), essence(expected));
            prop_assert_eq!(&found.logprobs, &expected.logprobs);
        }
        wait_idle(&engine);
        prop_assert_eq!(engine.stats().kv_pages_used, 0);
        for (r, expected) in of(&engine).into_iter().zip(&expected) {
            prop_assert_eq!(essence(&run(&engine, r)), essence(expected));
        }
    }
}
