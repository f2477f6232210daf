//! Drafts change how fast an answer comes and nothing else, over a toy model that likes to repeat itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::time::Duration;

use bantam_engine::{Engine, EngineConfig, Event, FinishReason, GenerateRequest, SamplingParams, Speculation};
use common::{Drafts, PLAIN, Toy, config, spell, text_of, wait_idle};
use proptest::prelude::*;

fn with(speculation: Speculation) -> EngineConfig {
    EngineConfig { speculation, ..config() }
}

/// All events of an answer with everything in them that must not change.
fn events(mut g: bantam_engine::Generation) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = g.blocking_next() {
        all.push(match event {
            Event::Token { id, text, logprob, end } => {
                let bits = logprob.map(|l| {
                    let top: Vec<_> = l.top.iter().map(|(id, p)| (*id, p.to_bits())).collect();
                    (l.logprob.to_bits(), top)
                });
                format!("{id} {text:?} {bits:?} {end}")
            }
            Event::Done { finish, matched_stop, usage, seed, .. } => {
                format!("{finish:?} {matched_stop:?} {} {} {seed}", usage.prompt_tokens, usage.completion_tokens)
            }
            Event::Error(error) => error.to_string(),
        });
    }
    all
}

fn answer(engine: &Engine, r: &GenerateRequest) -> Vec<String> {
    events(engine.generate(r.clone()).unwrap())
}

/// A request that goes round in circles; what it answers greedily repeats itself within a few tokens.
fn greedy(max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        max_tokens: Some(max_tokens),
        sampling: SamplingParams { seed: Some(1), ..SamplingParams::greedy() },
        logprobs: Some(3),
        ignore_eos: true,
        ..GenerateRequest::new([2, 3, 4, 5].repeat(6))
    }
}

/// Prompts of a few tokens over and over with something in between, and every way of drawing and ending.
fn request() -> impl Strategy<Value = GenerateRequest> {
    let prompt = (prop::collection::vec(2..PLAIN, 1..6), 1..12usize, prop::collection::vec(2..9u32, 0..6))
        .prop_map(|(piece, n, rest)| [piece.repeat(n), rest, piece].concat());
    let sampling = (
        prop_oneof![Just(0.0f32), Just(0.3), Just(1.0)],
        prop_oneof![Just((1.0f32, 0.0f32, 0.0f32)), Just((1.3, 0.0, 0.0)), Just((1.0, 0.5, 0.2))],
        prop_oneof![Just((0usize, 1.0f32, 0.0f32)), Just((5, 1.0, 0.0)), Just((0, 0.9, 0.05))],
        prop::collection::vec((2..12u32, -3.0f32..3.0), 0..3),
        any::<u64>(),
    )
        .prop_map(|(temperature, penalties, cuts, logit_bias, seed)| SamplingParams {
            logit_bias,
            repetition_penalty: penalties.0,
            presence_penalty: penalties.1,
            frequency_penalty: penalties.2,
            temperature,
            top_k: cuts.0,
            top_p: cuts.1,
            min_p: cuts.2,
            seed: Some(seed),
        });
    let stop = prop::collection::vec((2..10u32, 2..10u32).prop_map(|(a, b)| spell(a) + &spell(b)), 0..3);
    let ends = (stop, prop::collection::vec(2..PLAIN, 0..2), any::<bool>());
    (prompt, 1..70usize, sampling, ends, prop::option::of(0..4usize), 0..3u32).prop_map(
        |(prompt, max_tokens, sampling, (stop, stop_tokens, ignore_eos), logprobs, choice_index)| GenerateRequest {
            max_tokens: Some(max_tokens),
            sampling,
            stop,
            stop_tokens,
            ignore_eos,
            logprobs,
            choice_index,
            ..GenerateRequest::new(prompt)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Together in pools of any size, some given up on the way, and again one by one from the cache they left.
    #[test]
    fn answers_are_the_same_with_drafts_and_without(
        requests in prop::collection::vec((request(), prop::option::weighted(0.2, 0..20usize)), 1..7),
        n_pages in prop_oneof![10..16usize, Just(64)],
        prefill_chunk in prop_oneof![Just(5usize), Just(256)],
        max_sequences in 1..8usize,
    ) {
        let plain = Toy::new(64).repetitive().start(with(Speculation::Off));
        let expected: Vec<_> = requests.iter().map(|(r, _)| answer(&plain, r)).collect();
        let config = EngineConfig { prefill_chunk, max_sequences, ..with(Speculation::Lookup) };
        let engine = Toy::new(n_pages).repetitive().start(config);
        let running: Vec<_> = requests.iter().map(|(r, leave)| (engine.generate(r.clone()).unwrap(), leave)).collect();
        for ((mut g, leave), expected) in running.into_iter().zip(&expected) {
            match leave {
                Some(n) => (0..*n).for_each(|_| drop(g.blocking_next())),
                None => prop_assert_eq!(&events(g), expected),
            }
        }
        wait_idle(&engine);
        prop_assert_eq!(engine.stats().kv_pages_used, 0);
        for ((r, _), expected) in requests.iter().zip(&expected) {
            prop_assert_eq!(&answer(&engine, r), expected);
        }
    }
}

#[test]
fn text_that_repeats_itself_takes_a_fraction_of_the_steps() {
    let plain = Toy::new(64).repetitive().start(with(Speculation::Off));
    let engine = Toy::new(64).repetitive().start(with(Speculation::Lookup));
    let r = greedy(400);
    assert_eq!(answer(&engine, &r), answer(&plain, &r));
    let (stats, without) = (engine.stats(), plain.stats());
    assert_eq!((without.steps, without.drafted_tokens, without.accepted_tokens), (400, 0, 0));
    assert!(stats.steps < 200, "{stats:?}");
    assert_eq!(stats.steps + stats.accepted_tokens, 400);
    assert_eq!(stats.computed_tokens, without.computed_tokens + stats.drafted_tokens - stats.accepted_tokens);
    assert_eq!(stats.generated_tokens, 400);
}

#[test]
fn text_that_does_not_repeat_costs_next_to_nothing() {
    let engine = Toy::new(256).start(with(Speculation::Lookup));
    for seed in 0..10 {
        let sampling = SamplingParams { seed: Some(seed), ..SamplingParams::default() };
        answer(&engine, &GenerateRequest { sampling, ..greedy(300) });
    }
    let stats = engine.stats();
    assert!(stats.drafted_tokens * 20 < stats.generated_tokens, "{stats:?}");
}

#[test]
fn an_answer_ends_inside_an_accepted_draft_as_it_would_without() {
    let plain = Toy::new(64).repetitive().start(with(Speculation::Off));
    let engine = Toy::new(64).repetitive().start(with(Speculation::Lookup));
    let whole = plain.generate(greedy(100)).unwrap().blocking_collect().unwrap();
    let mut accepted = 0;
    for n in 60..90 {
        let by_length = greedy(n);
        assert_eq!(answer(&engine, &by_length), answer(&plain, &by_length), "max_tokens {n}");
        let now = engine.stats().accepted_tokens;
        assert!(now > accepted);
        accepted = now;
        // Earlier occurrences do not count: the text before is part of the stop string.
        let text = text_of(&whole.tokens[..n]);
        let stop = vec![text[text.char_indices().rev().nth(79).unwrap().0..].to_owned()];
        let by_stop = GenerateRequest { stop, ..greedy(100) };
        assert_eq!(answer(&engine, &by_stop), answer(&plain, &by_stop), "stop string at {n}");
    }
    // Each of the tokens that go round ends the answer once.
    for id in 1..10 {
        let by_token = GenerateRequest { stop_tokens: vec![id], logprobs: None, ..greedy(100) };
        assert_eq!(answer(&engine, &by_token), answer(&plain, &by_token), "stop token {id}");
    }
    let by_eos: Vec<_> = (0..40)
        .map(|seed| GenerateRequest {
            ignore_eos: false,
            sampling: SamplingParams { seed: Some(seed), temperature: 0.7, ..SamplingParams::default() },
            ..greedy(100)
        })
        .collect();
    for r in &by_eos {
        assert_eq!(answer(&engine, r), answer(&plain, r));
    }
    let ended = by_eos.iter().map(|r| plain.generate(r.clone()).unwrap().blocking_collect().unwrap().finish);
    assert!(ended.filter(|f| *f == FinishReason::Stop).count() > 0);
}

#[test]
fn the_end_of_the_context_is_the_end_with_drafts_too() {
    let ends = |speculation| {
        let engine = Toy::new(4).repetitive().start(with(speculation));
        let answer = engine.generate(GenerateRequest { max_tokens: None, ..greedy(1) }).unwrap().blocking_collect();
        let answer = answer.unwrap();
        (answer.tokens, answer.finish, engine.stats().kv_pages_cached)
    };
    let (tokens, finish, cached) = ends(Speculation::Lookup);
    assert_eq!((tokens.len(), finish), (64 - 24, FinishReason::Length));
    assert_eq!((tokens, finish, cached), ends(Speculation::Off));
}

#[test]
fn rejected_tokens_are_never_found_in_the_cache() {
    // Drawn at random, many drafts fail; whatever is found later must be what the answer was.
    let engine = Toy::new(400).repetitive().start(with(Speculation::Lookup));
    let plain = Toy::new(400).repetitive().start(with(Speculation::Off));
    for seed in 0..20 {
        let sampling = SamplingParams { seed: Some(seed), ..SamplingParams::default() };
        let r = GenerateRequest { sampling, ..greedy(150) };
        let first = [&engine, &plain].map(|e| e.generate(r.clone()).unwrap().blocking_collect().unwrap());
        assert_eq!(first[0].tokens, first[1].tokens);
        let next = GenerateRequest { prompt: [&r.prompt[..], &first[0].tokens, &[7]].concat(), ..r };
        let next = [&engine, &plain].map(|e| e.generate(next.clone()).unwrap().blocking_collect().unwrap());
        assert_eq!(next[0].tokens, next[1].tokens);
        assert_eq!(next[0].usage, next[1].usage, "as many pages are cached with drafts as without");
        assert_eq!(next[0].usage.cached_tokens, (24 + 150 - 1) / 16 * 16);
    }
    assert_eq!(engine.stats().kv_pages_cached, plain.stats().kv_pages_cached);
    let stats = engine.stats();
    assert!(stats.accepted_tokens > 100 && stats.drafted_tokens - stats.accepted_tokens > 100, "{stats:?}");
}

#[test]
fn a_draft_that_is_not_finite_does_not_end_the_answer() {
    let plain = Toy::new(64).repetitive().start(with(Speculation::Off));
    let mut toy = Toy::new(64).repetitive();
    toy.drafts = Drafts::NotFinite;
    let broken = toy.start(with(Speculation::Lookup));
    assert_eq!(answer(&broken, &greedy(100)), answer(&plain, &greedy(100)));
    let stats = broken.stats();
    assert!(stats.drafted_tokens > 0);
    assert_eq!(stats.accepted_tokens, 0);
}

#[test]
fn drafts_take_rows_that_decoding_leaves_and_pages_that_nobody_needs() {
    for n_streams in [1, 3, 8, 12] {
        let toy = Toy::new(256).repetitive().slow(Duration::from_millis(1));
        let steps = toy.steps.clone();
        let engine = toy.start(with(Speculation::Lookup));
        let running: Vec<_> = (0..n_streams).map(|_| engine.generate(greedy(100)).unwrap()).collect();
        let all: Vec<_> = running.into_iter().map(events).collect();
        assert!(all.iter().all(|a| *a == all[0]));
        let steps = steps.lock().unwrap();
        let decoding = steps.iter().filter(|s| s.iter().all(|r| r.first_pos >= 24));
        assert!(decoding.clone().all(|s| s.iter().map(|r| r.n_tokens).sum::<usize>() <= n_streams.max(8)));
        let drafted = decoding.filter(|s| s.len() == n_streams && s.iter().any(|r| r.n_tokens > 1)).count();
        assert_eq!(drafted > 0, n_streams < 8, "{n_streams} streams");
    }
    // Twelve pages are just enough; with fewer, drafts end where the pages do, and sequences take turns.
    let plain = Toy::new(64).repetitive().start(with(Speculation::Off));
    let requests: Vec<_> = (2..5).map(|n| GenerateRequest { prompt: [n, 3, 4, 5].repeat(6), ..greedy(40) }).collect();
    let expected: Vec<_> = requests.iter().map(|r| answer(&plain, r)).collect();
    for n_pages in 4..=12 {
        let toy = Toy::new(n_pages).repetitive().slow(Duration::from_millis(1));
        let engine = toy.start(with(Speculation::Lookup));
        let running: Vec<_> = requests.iter().map(|r| engine.generate(r.clone()).unwrap()).collect();
        assert!(running.into_iter().map(events).eq(expected.iter().cloned()), "{n_pages} pages");
        assert!(engine.stats().accepted_tokens > 0);
        assert!(n_pages < 12 || engine.stats().preemptions == 0);
    }
}
