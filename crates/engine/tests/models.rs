//! Real decoders (tiny ones of every family) through the whole engine: what comes out is the same bits however it was
//! scheduled and on whatever it ran.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{path::PathBuf, sync::Arc};

use bantam_engine::{
    Completion, Engine, EngineConfig, EngineParts, FinishReason, GenerateRequest, GrammarSource, JumpForward, KvBudget,
    KvType, SamplingParams, ScoreRequest, Speculation, TokenLogprob,
};
use bantam_formats::{Gguf, Tokenizer};
use bantam_kernels::{Cpu, CpuConfig, isa::IsaLevel};
use bantam_models::Model;

const FAMILIES: [&str; 9] =
    ["llama", "llama-quantized", "llama3-rope", "mistral", "qwen2", "gemma2", "gemma3", "phi3", "phi3-longrope"];

/// What a run may differ in without any consequence.
#[derive(Clone)]
struct Setup {
    cpu: CpuConfig,
    engine: EngineConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            cpu: CpuConfig { n_threads: 1, isa: None },
            engine: EngineConfig { kv_budget: KvBudget::Pages(256), ..EngineConfig::default() },
        }
    }
}

impl Setup {
    fn start(&self, family: &str) -> Engine {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(family);
        let gguf = Gguf::open(path.join("model.gguf")).unwrap();
        let cpu = Cpu::new(self.cpu).unwrap();
        let model = Arc::new(Model::load_gguf(&cpu, &gguf).unwrap());
        let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).unwrap());
        Engine::start(EngineParts { model, tokenizer, cpu }, self.engine.clone()).unwrap()
    }
}

/// The `n`-th of a family of different requests: other lengths, other parameters, other seeds.
fn request(engine: &Engine, n: usize) -> GenerateRequest {
    let vocab = engine.limits().vocab_size;
    let len = 1 + (n * 11) % 45;
    let sampling = match n % 3 {
        0 => SamplingParams::greedy(),
        1 => SamplingParams { seed: Some(n as u64), ..SamplingParams::default() },
        _ => SamplingParams {
            seed: Some(n as u64),
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.01,
            repetition_penalty: 1.1,
            presence_penalty: 0.2,
            frequency_penalty: 0.1,
            logit_bias: vec![(3, -5.0)],
        },
    };
    GenerateRequest {
        max_tokens: Some(8 + n % 12),
        sampling,
        logprobs: Some(20),
        ignore_eos: true,
        ..GenerateRequest::new((0..len).map(|i| ((i * i * 31 + i * 7 + n * 5) % vocab) as u32).collect())
    }
}

/// Everything of an answer that must not change, floats as bits.
fn essence(c: &Completion) -> (Vec<u32>, String, FinishReason, Vec<u32>) {
    let bits = |l: &TokenLogprob| {
        let top: Vec<u32> = l.top.iter().flat_map(|&(id, p)| [id, p.to_bits()]).collect();
        [vec![l.logprob.to_bits()], top].concat()
    };
    (c.tokens.clone(), c.text.clone(), c.finish, c.logprobs.iter().flat_map(bits).collect())
}

fn run(engine: &Engine, r: GenerateRequest) -> Completion {
    engine.generate(r).unwrap().blocking_collect().unwrap()
}

/// All requests alone, each in an engine that has seen nothing else.
fn alone(setup: &Setup, family: &str, n_requests: usize) -> Vec<Completion> {
    (0..n_requests)
        .map(|n| {
            let engine = setup.start(family);
            let r = request(&engine, n);
            run(&engine, r)
        })
        .collect()
}

fn assert_same(found: &[Completion], expected: &[Completion], what: &str) {
    for (n, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(essence(a), essence(b), "request {n}, {what}");
    }
}

/// All requests at once, then each again from the warm cache.
fn check(setup: &Setup, family: &str, expected: &[Completion], what: &str) {
    let engine = setup.start(family);
    let all: Vec<_> = (0..expected.len()).map(|n| engine.generate(request(&engine, n)).unwrap()).collect();
    let found: Vec<_> = all.into_iter().map(|g| g.blocking_collect().unwrap()).collect();
    assert_same(&found, expected, what);
    let again: Vec<_> = (0..expected.len()).map(|n| run(&engine, request(&engine, n))).collect();
    assert!(again.iter().any(|c| c.usage.cached_tokens > 0));
    assert_same(&again, expected, &format!("{what}, warm cache"));
    assert_eq!(engine.stats().kv_pages_used, 0);
}

#[test]
fn every_family_answers_alone_as_in_a_batch() {
    for family in FAMILIES {
        let setup = Setup::default();
        let expected = alone(&setup, family, 4);
        assert!(expected.iter().enumerate().all(|(n, c)| c.tokens.len() == 8 + n % 12));
        check(&setup, family, &expected, family);
    }
}

#[test]
fn batch_threads_chunks_pages_and_instruction_sets_change_no_bit() {
    for family in ["llama-quantized", "gemma3"] {
        let base = Setup::default();
        let expected = alone(&base, family, 17);
        check(&base, family, &expected, "in a batch of 17");
        for n_threads in [2, 3] {
            let setup = Setup { cpu: CpuConfig { n_threads, isa: None }, ..base.clone() };
            check(&setup, family, &expected, &format!("{n_threads} threads"));
        }
        for prefill_chunk in [1, 7, 16, 64, 512] {
            let setup = Setup { engine: EngineConfig { prefill_chunk, ..base.engine.clone() }, ..base.clone() };
            check(&setup, family, &expected, &format!("prefill_chunk {prefill_chunk}"));
        }
        for isa in IsaLevel::ALL.into_iter().filter(|isa| isa.is_available()) {
            let setup = Setup { cpu: CpuConfig { n_threads: 2, isa: Some(isa) }, ..base.clone() };
            check(&setup, family, &expected, &format!("instruction set {isa}"));
        }
        // Room for two of the sequences: the others take turns.
        let kv_budget = KvBudget::Pages(8);
        let setup = Setup { engine: EngineConfig { kv_budget, ..base.engine.clone() }, ..base.clone() };
        let engine = setup.start(family);
        let all: Vec<_> = (0..17).map(|n| engine.generate(request(&engine, n)).unwrap()).collect();
        let found: Vec<_> = all.into_iter().map(|g| g.blocking_collect().unwrap()).collect();
        assert_same(&found, &expected, "8 pages");
    }
}

#[test]
fn scores_equal_the_logprobs_of_generation() {
    for family in FAMILIES {
        for kv_type in [KvType::F16, KvType::F32, KvType::I8] {
            let engine_config = EngineConfig { score_rows: 3, kv_type, ..Setup::default().engine };
            let engine = Setup { engine: engine_config, ..Setup::default() }.start(family);
            let r = request(&engine, 4);
            let answer = run(&engine, r.clone());
            let continuations = vec![answer.tokens.clone(), answer.tokens[..2].to_vec()];
            let scores = engine.score(ScoreRequest::new(r.prompt, continuations)).unwrap().blocking_wait().unwrap();
            let bits = |l: &[f32]| l.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
            let generated: Vec<f32> = answer.logprobs.iter().map(|l| l.logprob).collect();
            assert_eq!(bits(&scores.continuations[0].logprobs), bits(&generated), "{family}");
            assert_eq!(bits(&scores.continuations[1].logprobs), bits(&generated[..2]), "{family}");
        }
    }
}

/// A request whose prompt says the same over and over, so that there is something to draft from the start.
fn repetitive(engine: &Engine, n: usize) -> GenerateRequest {
    let r = request(engine, n);
    let period = 2 + n % 5;
    let prompt = r.prompt.iter().cycle().take(period).copied().cycle().take(30 + n).collect();
    GenerateRequest { prompt, max_tokens: Some(48), ..r }
}

#[test]
fn drafts_change_no_bit() {
    let mut rejected = 0;
    for family in FAMILIES {
        let setup = |speculation| {
            let base = Setup::default();
            Setup { engine: EngineConfig { speculation, ..base.engine.clone() }, ..base }
        };
        let plain = setup(Speculation::Off).start(family);
        let expected: Vec<_> = (0..6).map(|n| run(&plain, repetitive(&plain, n))).collect();
        assert_eq!(plain.stats().drafted_tokens, 0);

        let engine = setup(Speculation::Lookup).start(family);
        let found: Vec<_> = (0..6).map(|n| run(&engine, repetitive(&engine, n))).collect();
        assert_same(&found, &expected, &format!("{family}, drafted alone"));
        let stats = engine.stats();
        assert!(stats.accepted_tokens > 0, "{family}: {stats:?}");
        rejected += stats.drafted_tokens - stats.accepted_tokens;

        let engine = setup(Speculation::Lookup).start(family);
        let all: Vec<_> = (0..6).map(|n| engine.generate(repetitive(&engine, n)).unwrap()).collect();
        let found: Vec<_> = all.into_iter().map(|g| g.blocking_collect().unwrap()).collect();
        assert_same(&found, &expected, &format!("{family}, drafted in a batch"));
        // What the answers left in the cache is what a prompt would have put there.
        for (n, answer) in expected.iter().enumerate() {
            let r = repetitive(&engine, n);
            let longer = GenerateRequest { prompt: [&r.prompt[..], &answer.tokens].concat(), ..r };
            let (warm, cold) = (run(&engine, longer.clone()), run(&setup(Speculation::Off).start(family), longer));
            assert_eq!(essence(&warm), essence(&cold), "{family}, request {n} continued");
            assert!(warm.usage.cached_tokens >= 64);
        }
    }
    assert!(rejected > 0);
}

#[test]
fn grammars_are_followed_and_change_no_bit() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "first name": { "type": "string", "maxLength": 8 },
            "kind": { "enum": ["forced to the end", "other"] },
            "n": { "type": "array", "items": { "type": "integer", "minimum": -9, "maximum": 99 }, "minItems": 2, "maxItems": 2 },
        },
        "required": ["first name", "kind", "n"],
        "additionalProperties": false,
    });
    let source = GrammarSource::JsonSchema(schema);
    let constrained = |engine: &Engine, n: usize| GenerateRequest {
        grammar: Some(engine.compile_grammar(&source).unwrap()),
        max_tokens: Some(200),
        logprobs: n.is_multiple_of(2).then_some(3),
        ..request(engine, n)
    };
    for family in FAMILIES {
        let with = |speculation, jump_forward, n_threads| {
            let base = Setup::default();
            let engine = EngineConfig { speculation, jump_forward, ..base.engine };
            Setup { cpu: CpuConfig { n_threads, isa: None }, engine }
        };
        let plain = with(Speculation::Off, JumpForward::Off, 1).start(family);
        let expected: Vec<_> = (0..6).map(|n| run(&plain, constrained(&plain, n))).collect();
        for answer in &expected {
            assert_eq!(answer.finish, FinishReason::Stop, "{family}: {}", answer.text);
            let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
            assert_eq!(value["n"].as_array().unwrap().len(), 2, "{family}: {value}");
        }
        let engine = with(Speculation::Lookup, JumpForward::Forced, 2).start(family);
        let all: Vec<_> = (0..6).map(|n| engine.generate(constrained(&engine, n)).unwrap()).collect();
        let found: Vec<_> = all.into_iter().map(|g| g.blocking_collect().unwrap()).collect();
        assert_same(&found, &expected, &format!("{family}, together"));
        let again: Vec<_> = (0..6).map(|n| run(&engine, constrained(&engine, n))).collect();
        assert_same(&again, &expected, &format!("{family}, again"));
        assert!(engine.stats().forced_tokens > 0);
    }
}
