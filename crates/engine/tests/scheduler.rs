//! The scheduler's rules, over a toy model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::time::Duration;

use bantam_engine::{
    Completion, Engine, EngineConfig, Event, FinishReason, GenerateError, GenerateRequest, SamplingParams,
    ScoreRequest, Speculation, SubmitError, TokenLogprob,
};
use bantam_models::RopeSet;
use common::{BOMB, EOG, NAN, PLAIN, Row, Toy, config, engine, logits, text_of, wait_idle};

/// A prompt of harmless tokens that differs by `n`.
fn prompt(n: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 2 + (i * 7 + n * 13 + i * i * n) % (PLAIN - 2)).collect()
}

fn request(n: u32, len: usize, max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        max_tokens: Some(max_tokens),
        sampling: SamplingParams { seed: Some(u64::from(n)), ..SamplingParams::default() },
        logprobs: Some(5),
        ignore_eos: true,
        ..GenerateRequest::new(prompt(n, len))
    }
}

/// What must be equal however a request is scheduled.
fn essence(c: &Completion) -> (Vec<u32>, String, FinishReason, Vec<u32>) {
    let bits = |l: &TokenLogprob| {
        let top: Vec<u32> = l.top.iter().flat_map(|&(id, p)| [id, p.to_bits()]).collect();
        [vec![l.logprob.to_bits()], top].concat()
    };
    (c.tokens.clone(), c.text.clone(), c.finish, c.logprobs.iter().flat_map(bits).collect())
}

fn run(engine: &Engine, r: &GenerateRequest) -> Completion {
    engine.generate(r.clone()).unwrap().blocking_collect().unwrap()
}

fn run_all(engine: &Engine, requests: &[GenerateRequest]) -> Vec<Completion> {
    let all: Vec<_> = requests.iter().map(|r| engine.generate(r.clone()).unwrap()).collect();
    all.into_iter().map(|g| g.blocking_collect().unwrap()).collect()
}

#[test]
fn greedy_follows_the_models_logits() {
    let engine = engine(64, config());
    let r = GenerateRequest { sampling: SamplingParams::greedy(), ..request(3, 40, 30) };
    let answer = run(&engine, &r);
    let mut tokens = r.prompt.clone();
    for &id in &answer.tokens {
        let row = logits(&tokens, RopeSet::Short);
        let best = row.iter().position(|&l| l == row.iter().copied().fold(f32::MIN, f32::max)).unwrap();
        assert_eq!(id as usize, best);
        tokens.push(id);
    }
    assert_eq!((answer.tokens.len(), answer.finish), (30, FinishReason::Length));
    assert_eq!(answer.text, text_of(&answer.tokens));
    assert_eq!((answer.usage.prompt_tokens, answer.usage.completion_tokens), (40, 30));
}

#[test]
fn an_answer_does_not_depend_on_how_it_was_scheduled() {
    let requests: Vec<_> = (0..12).map(|n| request(n, 1 + (n as usize * 37) % 150, 40)).collect();
    let alone: Vec<_> = requests.iter().map(|r| essence(&run(&engine(64, config()), r))).collect();
    for prefill_chunk in [1, 7, 16, 64, 512] {
        let engine = engine(256, EngineConfig { prefill_chunk, ..config() });
        for (a, b) in run_all(&engine, &requests).iter().zip(&alone) {
            assert_eq!(&essence(a), b, "in a batch, prefill_chunk {prefill_chunk}");
        }
        for (r, b) in requests.iter().zip(&alone) {
            let warm = run(&engine, r);
            assert_eq!(&essence(&warm), b, "from a warm cache, prefill_chunk {prefill_chunk}");
            assert_eq!(warm.usage.cached_tokens, (r.prompt.len() - 1) / 16 * 16);
        }
    }
}

#[test]
fn preemption_changes_nothing_and_everything_finishes() {
    let requests: Vec<_> = (0..12).map(|n| request(n, 1 + (n as usize * 37) % 150, 60)).collect();
    let alone: Vec<_> = requests.iter().map(|r| essence(&run(&engine(64, config()), r))).collect();
    // 14 pages hold one of the longest sequences and little more.
    let tight = Toy::new(14).slow(Duration::from_millis(1)).start(config());
    for (a, b) in run_all(&tight, &requests).iter().zip(&alone) {
        assert_eq!(&essence(a), b);
    }
    assert!(tight.stats().preemptions > 0);
    assert_eq!(tight.stats().kv_pages_used, 0);
}

#[test]
fn pinned_prompts_outlive_what_would_push_them_out() {
    let pinned = prompt(1, 70);
    let config = EngineConfig { pinned_prompts: vec![pinned.clone()], ..config() };
    let engine = Toy::new(20).start(config);
    assert_eq!(engine.context_length(), (20 - 4) * 16, "the pinned pages are not for sequences");
    let ask = |end: u32, salt: Option<&str>| {
        let prompt = [pinned.clone(), prompt(end, 20)].concat();
        run(&engine, &GenerateRequest { prompt, cache_salt: salt.map(str::to_owned), ..request(0, 0, 4) })
    };
    assert_eq!(ask(50, Some("tenant")).usage.cached_tokens, 0);
    assert_eq!(engine.stats().kv_pages_pinned, 0, "who asks for a cache of its own pins nothing");
    assert_eq!(ask(51, None).usage.cached_tokens, 0);
    assert_eq!(engine.stats().kv_pages_pinned, 4);
    for n in 100..120 {
        run(&engine, &request(n, 200, 20));
    }
    assert_eq!(ask(52, None).usage.cached_tokens, 64);
    assert_eq!(ask(50, Some("tenant")).usage.cached_tokens, 0, "the other pages were pushed out");
    // Another sequence as long as the context still finds room.
    assert_eq!(run(&engine, &request(130, 16 * 16 - 10, 10)).tokens.len(), 10);
    wait_idle(&engine);
    let stats = engine.stats();
    assert_eq!((stats.kv_pages_pinned, stats.kv_pages_used), (4, 4));
}

#[test]
fn pins_that_leave_no_room_are_refused() {
    let config = EngineConfig { pinned_prompts: vec![prompt(1, 64)], ..config() };
    let error = Engine::with_backend(Box::new(Toy::new(4)), config).unwrap_err();
    assert!(error.to_string().contains("beside 4 pinned pages"), "{error}");
}

#[test]
fn equal_prompts_that_arrive_together_are_computed_once() {
    let toy = Toy::new(256).slow(Duration::from_millis(1));
    let engine = toy.start(EngineConfig { prefill_chunk: 32, speculation: Speculation::Off, ..config() });
    let requests: Vec<_> = (0..8).map(|i| GenerateRequest { choice_index: i, ..request(5, 200, 4) }).collect();
    let answers = run_all(&engine, &requests);
    let stats = engine.stats();
    // 192 tokens are shared; each computes the other 8 and 3 of its own answer.
    assert_eq!(stats.computed_tokens, 192 + 8 * (8 + 3));
    assert_eq!(stats.cached_tokens, 7 * 192);
    assert!(answers.iter().skip(1).any(|a| a.tokens != answers[0].tokens), "choices have random numbers of their own");
    let greedy = GenerateRequest { sampling: SamplingParams::greedy(), ..request(5, 200, 4) };
    assert_eq!(run(&engine, &greedy).usage.cached_tokens, 192);
    let salted = GenerateRequest { cache_salt: Some("another tenant".into()), ..greedy };
    assert_eq!(run(&engine, &salted).usage.cached_tokens, 0);
}

#[test]
fn rope_sets_do_not_share_pages() {
    let engine = engine(256, config());
    let short = run(&engine, &request(1, 100, 10));
    let long = run(&engine, &request(1, 100, 1000));
    assert_eq!(long.usage.cached_tokens, 0);
    assert_ne!(short.tokens, long.tokens[..10]);
}

#[test]
fn a_long_prompt_does_not_hold_up_a_running_stream() {
    let toy = Toy::new(512);
    let steps = toy.steps.clone();
    let config = EngineConfig { prefill_chunk: 16, speculation: Speculation::Off, ..config() };
    let engine = toy.slow(Duration::from_millis(1)).start(config);
    let mut stream = engine.generate(request(1, 3, 3000)).unwrap();
    for _ in 0..5 {
        assert!(matches!(stream.blocking_next(), Some(Event::Token { .. })));
    }
    let late = run(&engine, &request(2, 400, 2));
    assert_eq!(late.tokens.len(), 2);
    assert!(matches!(stream.try_next(), Some(Event::Token { .. })));
    drop(stream);
    let steps = steps.lock().unwrap();
    let mixed: Vec<_> = steps.iter().filter(|s| s.iter().any(|r| r.n_tokens > 3)).collect();
    assert!(mixed.len() >= 24, "400 tokens in chunks of 16");
    for step in mixed {
        assert_eq!(step.len(), 2, "the stream has its row in every step of the prefill");
        assert_eq!(step.iter().map(|r| r.n_tokens).min(), Some(1));
        assert!(step.iter().all(|r| r.n_tokens <= 16));
    }
}

#[test]
fn every_running_sequence_advances_in_every_step() {
    let toy = Toy::new(512).slow(Duration::from_millis(1));
    let steps = toy.steps.clone();
    let engine = toy.start(EngineConfig { speculation: Speculation::Off, ..config() });
    let requests: Vec<_> = (0..64).map(|n| request(n, 10, 50)).collect();
    assert!(run_all(&engine, &requests).iter().all(|c| c.tokens.len() == 50));
    let steps = steps.lock().unwrap();
    assert_eq!(steps.iter().flatten().map(|r| r.n_tokens).sum::<usize>(), 64 * (10 + 49));
    // A sequence that goes on was in the step before, and its first page tells which it is.
    for (before, step) in steps.iter().zip(&steps[1..]) {
        for row in step.iter().filter(|r| r.first_pos > 0) {
            let went_on = |b: &&Row| b.first_page == row.first_page && b.first_pos + b.n_tokens == row.first_pos;
            assert_eq!(before.iter().filter(went_on).count(), 1);
        }
    }
}

#[test]
fn a_request_is_in_the_counters_at_every_moment() {
    let engine = engine(64, config());
    for n in 1..=300 {
        let cancelled = engine.generate(request(n, 3, 2)).unwrap();
        drop(cancelled);
        let kept = engine.generate(request(n, 3, 2)).unwrap();
        let submitted = 2 * u64::from(n);
        loop {
            let s = engine.stats();
            let ended = s.finished_requests + s.cancelled_requests + s.failed_requests;
            assert_eq!(ended + (s.running + s.waiting) as u64, submitted, "{s:?}");
            if ended == submitted {
                break;
            }
        }
        kept.blocking_collect().unwrap();
    }
}

#[test]
fn a_dropped_generation_frees_its_pages() {
    let toy = Toy::new(64).slow(Duration::from_millis(1));
    let engine = toy.start(config());
    let mut stream = engine.generate(request(1, 100, 900)).unwrap();
    for _ in 0..2 {
        assert!(matches!(stream.blocking_next(), Some(Event::Token { .. })));
    }
    assert!(engine.stats().kv_pages_used > 0);
    drop(stream);
    wait_idle(&engine);
    let stats = engine.stats();
    assert_eq!((stats.kv_pages_used, stats.cancelled_requests, stats.finished_requests), (0, 1, 0));
    let score = engine.score(ScoreRequest::new(prompt(1, 50), vec![prompt(2, 900)])).unwrap();
    drop(score);
    wait_idle(&engine);
    assert_eq!(engine.stats().kv_pages_used, 0);
}

#[test]
fn a_full_queue_refuses_and_a_cancelled_place_is_given_away() {
    let toy = Toy::new(256).slow(Duration::from_millis(2));
    let engine = toy.start(EngineConfig { queue_len: 3, max_sequences: 1, ..config() });
    let mut running = engine.generate(request(0, 3, 3000)).unwrap();
    assert!(running.blocking_next().is_some());
    let mut queued: Vec<_> = (1..4).map(|n| engine.generate(request(n, 3, 2)).unwrap()).collect();
    match engine.generate(request(9, 3, 2)) {
        Err(SubmitError::QueueFull { retry_after }) => assert!(retry_after >= Duration::from_secs(1)),
        other => panic!("expected a full queue, got {other:?}"),
    }
    assert_eq!(engine.stats().refused_requests, 1);
    queued.pop();
    let instead = engine.generate(request(9, 3, 2)).unwrap();
    drop(running);
    for g in queued {
        assert_eq!(g.blocking_collect().unwrap().tokens.len(), 2);
    }
    assert_eq!(instead.blocking_collect().unwrap().tokens.len(), 2);
}

#[test]
fn a_client_that_does_not_read_delays_nobody() {
    let engine = engine(64, config());
    let lazy = engine.generate(request(0, 3, 300)).unwrap();
    for n in 1..5 {
        assert_eq!(run(&engine, &request(n, 3, 20)).tokens.len(), 20);
    }
    wait_idle(&engine);
    assert_eq!(lazy.blocking_collect().unwrap().tokens.len(), 300);
}

#[test]
fn a_non_finite_state_ends_only_its_request() {
    let engine = engine(64, config());
    let good = engine.generate(request(1, 100, 50)).unwrap();
    let mut broken = request(2, 100, 5);
    broken.prompt[70] = NAN;
    let broken = engine.generate(broken).unwrap().blocking_collect();
    assert_eq!(broken, Err(GenerateError::NonFinite { position: 70 }));
    assert_eq!(good.blocking_collect().unwrap().tokens.len(), 50);
    let mut continuation = prompt(1, 40);
    continuation[9] = NAN;
    let scores = engine.score(ScoreRequest::new(prompt(3, 5), vec![prompt(3, 3), continuation])).unwrap();
    assert_eq!(scores.blocking_wait(), Err(GenerateError::NonFinite { position: 14 }));
    wait_idle(&engine);
    assert_eq!(engine.stats().kv_pages_used, 0);
}

#[test]
fn a_panic_fails_what_runs_and_the_engine_goes_on() {
    let engine = engine(64, config());
    let before = essence(&run(&engine, &request(1, 50, 5)));
    let bomb = || GenerateRequest { prompt: vec![2, 3, BOMB], ..request(2, 3, 5) };
    for n in 1..=3 {
        let failed = engine.generate(bomb()).unwrap().blocking_collect();
        assert!(matches!(failed, Err(GenerateError::EngineFailed { .. })), "{failed:?}");
        wait_idle(&engine);
        assert_eq!(engine.is_ready(), n < 2, "after {n} panics in a row");
    }
    assert_eq!(essence(&run(&engine, &request(1, 50, 5))), before);
    assert!(engine.is_ready());
    assert_eq!(engine.stats().kv_pages_used, 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let engine = engine(4, config());
    assert_eq!(engine.context_length(), 64, "the pool is shorter than the model's context");
    assert_eq!(engine.generate(request(1, 64, 1)).map(|_| ()), Err(SubmitError::TooLong { prompt: 64, max: 63 }));
    let to_the_end = run(&engine, &GenerateRequest { max_tokens: None, ..request(1, 50, 1) });
    assert_eq!((to_the_end.tokens.len(), to_the_end.finish), (14, FinishReason::Length));
    let past_the_end = run(&engine, &request(1, 50, 1000));
    assert_eq!((past_the_end.tokens.len(), past_the_end.finish), (14, FinishReason::Length));
    assert_eq!(run(&engine, &request(1, 63, 5)).tokens.len(), 1);
}

#[test]
fn end_tokens_end_an_answer_without_text() {
    let engine = engine(64, config());
    let r = |n| GenerateRequest { ignore_eos: false, ..request(n, 5, 400) };
    let ended = (0..20).map(|n| run(&engine, &r(n))).find(|a| a.finish == FinishReason::Stop).unwrap();
    let (last, before) = ended.tokens.split_last().unwrap();
    assert_eq!(*last, EOG);
    assert!(!before.contains(&EOG));
    assert_eq!(ended.text, text_of(before));
    assert_eq!(ended.usage.completion_tokens, ended.tokens.len());

    let free = run(&engine, &request(1, 5, 30));
    let stop = GenerateRequest { stop_tokens: vec![free.tokens[10]], ..request(1, 5, 30) };
    let first = free.tokens.iter().position(|t| *t == free.tokens[10]).unwrap();
    let mut events = engine.generate(stop).unwrap();
    let mut tokens = Vec::new();
    loop {
        match events.blocking_next().unwrap() {
            Event::Token { id, end, .. } => tokens.push((id, end)),
            Event::Done { finish, .. } => break assert_eq!(finish, FinishReason::Stop),
            Event::Error(e) => panic!("{e}"),
        }
    }
    let expected: Vec<_> = free.tokens[..=first].iter().enumerate().map(|(i, &t)| (t, i == first)).collect();
    assert_eq!(tokens, expected);
    assert!(events.blocking_next().is_none());
}

#[test]
fn stop_strings_cut_the_text_wherever_tokens_split_it() {
    let engine = engine(64, config());
    let free = run(&engine, &request(4, 5, 60));
    let text: Vec<char> = free.text.chars().collect();
    for (at, len) in [(1, 1), (5, 2), (10, 3), (31, 7), (60, 20)] {
        let stop: String = text[at..at + len].iter().collect();
        let r = GenerateRequest { stop: vec!["never in the text".into(), stop.clone()], ..request(4, 5, 60) };
        let cut = run(&engine, &r);
        assert_eq!(cut.text, free.text[..free.text.find(&stop).unwrap()]);
        assert_eq!(cut.finish, FinishReason::Stop);
        assert_eq!(cut.matched_stop, Some(stop));
        assert_eq!(cut.tokens, free.tokens[..cut.tokens.len()]);
        assert!(cut.tokens.len() < free.tokens.len());
    }
    // A stop string that begins at the very end is let go when the answer ends.
    let tail: String = text[text.len() - 2..].iter().collect::<String>() + "more";
    let whole = run(&engine, &GenerateRequest { stop: vec![tail], ..request(4, 5, 60) });
    assert_eq!((whole.text, whole.finish, whole.matched_stop), (free.text, FinishReason::Length, None));
}

#[test]
fn seeds_reproduce_and_drawn_seeds_are_reported() {
    let engine = engine(64, config());
    let mut r = request(1, 10, 40);
    r.sampling.seed = None;
    let (a, b) = (run(&engine, &r), run(&engine, &r));
    assert_ne!(a.tokens, b.tokens);
    r.sampling.seed = Some(a.seed);
    assert_eq!(essence(&run(&engine, &r)), essence(&a));
}

#[test]
fn scores_are_the_logprobs_that_generation_reports() {
    let engine = engine(64, EngineConfig { score_rows: 7, prefill_chunk: 16, ..config() });
    let answers: Vec<_> =
        (0..3).map(|n| run(&engine, &GenerateRequest { choice_index: n, ..request(6, 70, 50) })).collect();
    let continuations = answers.iter().map(|a| a.tokens.clone()).collect();
    let scores = engine.score(ScoreRequest::new(prompt(6, 70), continuations)).unwrap().blocking_wait().unwrap();
    for (score, answer) in scores.continuations.iter().zip(&answers) {
        let generated: Vec<u32> = answer.logprobs.iter().map(|l| l.logprob.to_bits()).collect();
        let scored: Vec<u32> = score.logprobs.iter().map(|l| l.to_bits()).collect();
        assert_eq!(scored, generated);
        let argmax: Vec<u32> = answer.logprobs.iter().map(|l| l.top[0].0).collect();
        assert_eq!(score.argmax, argmax);
    }
    assert!(scores.cached_tokens >= 3 * 64, "the prompt was cached");
}

#[test]
fn a_long_score_runs_in_chunks_beside_everything_else_even_when_preempted() {
    let toy = Toy::new(40);
    let steps = toy.steps.clone();
    let engine = toy.start(EngineConfig { score_rows: 8, ..config() });
    let text = prompt(3, 500);
    let score = |e: &Engine| {
        let r = ScoreRequest::new(text[..1].to_vec(), vec![text[1..].to_vec(), text[1..300].to_vec()]);
        e.score(r).unwrap()
    };
    let alone = score(&engine).blocking_wait().unwrap();
    assert_eq!(alone.continuations[0].logprobs.len(), 499);
    assert_eq!(alone.continuations[1].logprobs[..], alone.continuations[0].logprobs[..299]);
    let expected: f64 = (1..500)
        .map(|n| {
            let row = logits(&text[..n], RopeSet::Short);
            let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
            f64::from(row[text[n] as usize]) - sum.ln()
        })
        .sum();
    assert!((alone.continuations[0].sum() - expected).abs() < 1e-3);
    assert!(steps.lock().unwrap().iter().all(|s| s.iter().map(|r| r.n_logits).sum::<usize>() <= 8));

    let others: Vec<_> = (0..6).map(|n| engine.generate(request(n, 100, 100)).unwrap()).collect();
    let crowded = score(&engine).blocking_wait().unwrap();
    assert_eq!(crowded.continuations, alone.continuations);
    for g in others {
        assert_eq!(g.blocking_collect().unwrap().tokens.len(), 100);
    }
}

#[test]
fn random_requests_with_random_cancels_leave_nothing_behind() {
    let toy = Toy::new(40).slow(Duration::from_micros(50));
    let engine = toy.start(EngineConfig { queue_len: 500, max_sequences: 16, prefill_chunk: 24, ..config() });
    let mut handles = Vec::new();
    let mut scores = Vec::new();
    for n in 0..200u32 {
        let len = 1 + (n as usize * 53) % 180;
        let max_tokens = 1 + (n as usize * 29) % 60;
        // Many share prompts.
        let r = request(n % 23, len, max_tokens);
        let cancel_after = (n % 3 == 0).then_some((n as usize * 17) % 40);
        handles.push((engine.generate(r).unwrap(), cancel_after, max_tokens));
        if n % 10 == 0 {
            scores.push(engine.score(ScoreRequest::new(prompt(n % 23, 30), vec![prompt(n, 20); 3])).unwrap());
        }
    }
    let keep = scores.split_off(10);
    drop(scores);
    std::thread::scope(|scope| {
        for (mut g, cancel_after, max_tokens) in handles {
            scope.spawn(move || match cancel_after {
                Some(events) => (0..events).for_each(|_| drop(g.blocking_next())),
                None => assert_eq!(g.blocking_collect().unwrap().tokens.len(), max_tokens),
            });
        }
    });
    for s in keep {
        assert_eq!(s.blocking_wait().unwrap().continuations.len(), 3);
    }
    wait_idle(&engine);
    let stats = engine.stats();
    assert_eq!(stats.kv_pages_used, 0);
    assert_eq!(stats.failed_requests, 0);
    assert!(stats.kv_pages_cached <= 40);
}

#[test]
fn shutdown_drains_then_cancels() {
    let toy = Toy::new(64).slow(Duration::from_millis(1));
    let quick = toy.clone().start(EngineConfig { max_sequences: 1, ..config() });
    let queued: Vec<_> = (0..4).map(|n| quick.generate(request(n, 3, 20)).unwrap()).collect();
    quick.shutdown(Duration::from_secs(60));
    assert_eq!(quick.generate(request(9, 3, 2)).map(|_| ()), Err(SubmitError::ShuttingDown));
    assert!(!quick.is_ready());
    quick.join();
    for g in queued {
        assert_eq!(g.blocking_collect().unwrap().tokens.len(), 20);
    }

    let slow = toy.start(EngineConfig { max_sequences: 1, ..config() });
    let running = slow.generate(request(0, 3, 900)).unwrap();
    let waiting = slow.generate(request(1, 3, 900)).unwrap();
    let score = slow.score(ScoreRequest::new(vec![2], vec![vec![3]])).unwrap();
    slow.shutdown(Duration::from_millis(20));
    slow.join();
    assert_eq!(running.blocking_collect().map(|_| ()), Err(GenerateError::ShutDown));
    assert_eq!(waiting.blocking_collect().map(|_| ()), Err(GenerateError::ShutDown));
    assert_eq!(score.blocking_wait(), Err(GenerateError::ShutDown));
}

#[test]
fn dropping_the_last_handle_stops_the_engine() {
    let toy = Toy::new(64).slow(Duration::from_millis(1));
    let engine = toy.start(config());
    let running = engine.generate(request(0, 3, 900)).unwrap();
    let other = engine.clone();
    drop(engine);
    assert!(other.is_ready());
    drop(other);
    assert_eq!(running.blocking_collect().map(|_| ()), Err(GenerateError::ShutDown));
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let start = |c: EngineConfig| Engine::with_backend(Box::new(Toy::new(8)), c).map(|_| ()).unwrap_err().to_string();
    assert!(start(EngineConfig { queue_len: 0, ..config() }).contains("queue_len"));
    assert!(start(EngineConfig { max_sequences: 0, ..config() }).contains("max_sequences"));
    assert!(start(EngineConfig { prefill_chunk: 0, ..config() }).contains("prefill_chunk"));
    assert!(start(EngineConfig { score_rows: 0, ..config() }).contains("score_rows"));
    assert!(start(EngineConfig { context_length: Some(1), ..config() }).contains("context_length"));
    assert!(Engine::with_backend(Box::new(Toy::new(0)), config()).is_err());
}

#[test]
fn the_events_can_be_awaited() {
    let engine = engine(64, config());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut g = engine.generate(request(1, 5, 3)).unwrap();
        assert!(matches!(g.next().await, Some(Event::Token { .. })));
        assert_eq!(g.collect().await.unwrap().tokens.len(), 2);
        let s = engine.score(ScoreRequest::new(vec![2, 3], vec![vec![4]])).unwrap().wait().await.unwrap();
        assert_eq!(s.continuations.len(), 1);
    });
}
