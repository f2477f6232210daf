//! Labels searched through the whole engine: what is found is what scoring every label finds, bit for bit the same however it was
//! scheduled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{path::PathBuf, sync::Arc};

use bantam_engine::{
    Engine, EngineConfig, EngineParts, Explore, GenerateRequest, KvBudget, LabelRequest, LabelScores, LabelTrie,
    SamplingParams, ScoreRequest, SubmitError,
};
use bantam_formats::{Gguf, Tokenizer};
use bantam_kernels::{Cpu, CpuConfig};
use bantam_models::Model;

const END: u32 = 2;

fn start(n_threads: usize, engine: EngineConfig) -> Engine {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/llama-quantized/model.gguf");
    let gguf = Gguf::open(path).unwrap();
    let cpu = Cpu::new(CpuConfig { n_threads, isa: None }).unwrap();
    let model = Arc::new(Model::load_gguf(&cpu, &gguf).unwrap());
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).unwrap());
    Engine::start(EngineParts { model, tokenizer, cpu }, engine).unwrap()
}

fn config() -> EngineConfig {
    EngineConfig { kv_budget: KvBudget::Pages(256), ..EngineConfig::default() }
}

/// Labels of different lengths, some long enough to fill pages, that part early and late.
fn labels() -> Vec<Vec<u32>> {
    let long: Vec<u32> = (0..30).map(|i| 40 + i).collect();
    let mut labels = vec![
        vec![10, 11],
        vec![10, 12],
        vec![10, 12, 13],
        vec![20],
        vec![21, 5, 6, 7, 8],
        vec![21, 5, 6, 9],
        vec![30, 31],
    ];
    labels.extend([[&long[..], &[100]].concat(), [&long[..], &[101, 7]].concat(), [&long[..17], &[102]].concat()]);
    labels.iter_mut().for_each(|label| label.push(END));
    labels
}

fn prompt(n: usize) -> Vec<u32> {
    // All begin alike, so that there are pages to share.
    let len = 20 + n * 7 % 25;
    (0..len).map(|i| if i < 18 { 50 + i as u32 } else { ((i * i * 31 + n * 5) % 280) as u32 }).collect()
}

fn request(n: usize, explore: Explore) -> LabelRequest {
    let labels = Arc::new(LabelTrie::new(&labels()).unwrap());
    LabelRequest { prompt: prompt(n), labels, explore, cache_salt: None }
}

fn run(engine: &Engine, n: usize, explore: Explore) -> LabelScores {
    engine.label(request(n, explore)).unwrap().blocking_wait().unwrap()
}

fn bits(scores: &LabelScores) -> Vec<(usize, u64)> {
    scores.found.iter().map(|&(label, logprob)| (label, logprob.to_bits())).collect()
}

/// From the log-probabilities of all labels' tokens over the whole vocabulary.
fn expected(engine: &Engine, n: usize) -> Vec<f64> {
    let labels = labels();
    let scores = engine.score(ScoreRequest::new(prompt(n), labels.clone())).unwrap().blocking_wait().unwrap();
    let logprob = |label: usize, i: usize| f64::from(scores.continuations[label].logprobs[i]);
    let of = |label: usize| -> f64 {
        (0..labels[label].len())
            .map(|i| {
                let mut next = std::collections::BTreeMap::new();
                for (other, tokens) in labels.iter().enumerate() {
                    if tokens.len() > i && tokens[..i] == labels[label][..i] {
                        next.insert(tokens[i], logprob(other, i));
                    }
                }
                logprob(label, i) - next.values().map(|p| p.exp()).sum::<f64>().ln()
            })
            .sum()
    };
    (0..labels.len()).map(of).collect()
}

#[test]
fn a_search_finds_what_scoring_every_label_finds() {
    let engine = start(2, config());
    for n in 0..6 {
        let expected = expected(&engine, n);
        let all = run(&engine, n, Explore::ALL);
        assert_eq!(all.found.len(), expected.len());
        for &(label, logprob) in &all.found {
            assert!(
                (logprob - expected[label]).abs() < 1e-4,
                "prompt {n}, label {label}: {logprob}, {}",
                expected[label]
            );
        }
        let best = run(&engine, n, Explore::BEST);
        assert_eq!(bits(&best)[..], bits(&all)[..1], "prompt {n}");
        assert!(best.searched_tokens <= all.searched_tokens);
        assert_eq!(best.prompt_tokens, prompt(n).len());
    }
    assert_eq!(engine.stats().kv_pages_used, 0);
}

#[test]
fn batch_cache_threads_chunks_and_preemption_change_no_bit() {
    const N: usize = 12;
    let alone: Vec<_> = (0..N).map(|n| bits(&run(&start(1, config()), n, Explore::ALL))).collect();
    let small = KvBudget::Pages(8);
    for (what, n_threads, config) in [
        ("batch", 1, config()),
        ("2 threads", 2, config()),
        ("chunks of 7", 2, EngineConfig { prefill_chunk: 7, ..config() }),
        ("preempted", 2, EngineConfig { kv_budget: small, ..config() }),
    ] {
        let engine = start(n_threads, config);
        // Other work in the same batch, whose pages overlap.
        let other: Vec<_> = (0..N)
            .map(|n| {
                let long = [prompt(n), labels()[7][..20].to_vec()].concat();
                let other = GenerateRequest { max_tokens: Some(5), ignore_eos: true, ..GenerateRequest::new(long) };
                let label = engine.label(request(n, Explore::ALL)).unwrap();
                (engine.generate(other).unwrap(), label)
            })
            .collect();
        for (n, (other, label)) in other.into_iter().enumerate() {
            assert_eq!(bits(&label.blocking_wait().unwrap()), alone[n], "{what}, prompt {n}");
            other.blocking_collect().unwrap();
        }
        for n in 0..N {
            let warm = run(&engine, n, Explore::ALL);
            assert_eq!(bits(&warm), alone[n], "{what}, warm, prompt {n}");
            assert!(warm.cached_tokens >= 16 || engine.stats().kv_pages_total == 8);
        }
        if engine.stats().kv_pages_total == 8 {
            assert!(engine.stats().preemptions > 0);
        }
        assert_eq!(engine.stats().kv_pages_used, 0);
    }
}

/// A search leaves nothing in the cache that is not what the cache says it is.
#[test]
fn what_comes_after_a_search_is_computed_from_the_right_pages() {
    let fresh = |n: usize| GenerateRequest {
        max_tokens: Some(8),
        ignore_eos: true,
        sampling: SamplingParams::greedy(),
        ..GenerateRequest::new(after(n))
    };
    fn after(n: usize) -> Vec<u32> {
        [prompt(0), labels()[n][..labels()[n].len() - 1].to_vec(), vec![3; 5]].concat()
    }
    let engine = start(2, config());
    run(&engine, 0, Explore::ALL);
    for n in 7..10 {
        let warm = engine.generate(fresh(n)).unwrap().blocking_collect().unwrap();
        let cold = start(1, config()).generate(fresh(n)).unwrap().blocking_collect().unwrap();
        assert_eq!(warm.tokens, cold.tokens, "{n}");
    }
}

#[test]
fn a_dropped_search_frees_its_pages_and_bad_requests_are_named() {
    let engine = start(1, config());
    for n in 0..4 {
        drop(engine.label(request(n, Explore::ALL)).unwrap());
    }
    run(&engine, 9, Explore::BEST);
    assert_eq!(engine.stats().kv_pages_used, 0);
    let too_long = LabelRequest { prompt: vec![5; 110], ..request(0, Explore::BEST) };
    assert!(matches!(engine.label(too_long), Err(SubmitError::TooLong { .. })));
    let nothing = LabelRequest { prompt: vec![], ..request(0, Explore::BEST) };
    assert!(matches!(engine.label(nothing), Err(SubmitError::Invalid { param: "prompt", .. })));
    let outside = LabelTrie::new(&[vec![1], vec![9999]]).unwrap();
    let outside = LabelRequest { labels: Arc::new(outside), ..request(0, Explore::BEST) };
    assert!(matches!(engine.label(outside), Err(SubmitError::Invalid { param: "labels", .. })));
}
