use bantam_kernels::CpuConfig;
use proptest::prelude::*;

use super::*;

fn cpu() -> Cpu {
    Cpu::new(CpuConfig { n_threads: 1, ..CpuConfig::default() }).unwrap()
}

/// Draws at `position` with seed 7.
fn draw_at(cpu: &Cpu, logits: &[f32], params: &SamplingParams, position: usize) -> u32 {
    let key = DrawKey { seed: 7, choice_index: 0, position };
    draw(cpu, logits, params, &History::default(), key, None, &mut Scratch::default()).unwrap()
}

/// The definition by sorting everything, in f64: (id, probability) of what is kept, likeliest first.
fn definition(logits: &[f32], params: &SamplingParams) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = logits.iter().enumerate().map(|(i, &l)| (i as u32, f64::from(l))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let max = all[0].1;
    if params.top_k > 0 {
        all.truncate(params.top_k);
    }
    let normalise = |all: &mut Vec<(u32, f64)>| {
        let sum: f64 = all.iter().map(|c| c.1).sum();
        all.iter_mut().for_each(|c| c.1 /= sum);
    };
    all.iter_mut().for_each(|c| c.1 = ((c.1 - max) / f64::from(params.temperature)).exp());
    normalise(&mut all);
    let mut mass = 0.0;
    let n = all.iter().position(|c| {
        mass += c.1;
        mass >= f64::from(params.top_p)
    });
    all.truncate(n.map_or(all.len(), |n| n + 1));
    let best = all[0].1;
    all.retain(|c| c.1 >= f64::from(params.min_p) * best);
    normalise(&mut all);
    all
}

fn random_logits(seed: u64, n: usize, spread: f32) -> Vec<f32> {
    (0..n).map(|i| (rng::uniform(seed, 99, i) as f32 - 0.5) * spread).collect()
}

#[test]
fn draws_follow_the_distribution() {
    let cpu = cpu();
    let logits = random_logits(3, 50, 6.0);
    let base = SamplingParams::default();
    let variants = [
        base.clone(),
        SamplingParams { temperature: 0.6, ..base.clone() },
        SamplingParams { temperature: 1.7, top_k: 12, ..base.clone() },
        SamplingParams { top_p: 0.8, ..base.clone() },
        SamplingParams { min_p: 0.1, ..base.clone() },
        SamplingParams { temperature: 0.9, top_k: 20, top_p: 0.9, min_p: 0.05, ..base },
    ];
    for params in variants {
        let expected = definition(&logits, &params);
        let n = 20_000;
        let mut counts = vec![0u32; logits.len()];
        (0..n).for_each(|position| counts[draw_at(&cpu, &logits, &params, position) as usize] += 1);
        let mut chi = 0.0;
        for &(id, p) in &expected {
            let e = p * n as f64;
            chi += (f64::from(counts[id as usize]) - e).powi(2) / e;
        }
        let kept: u32 = expected.iter().map(|c| counts[c.0 as usize]).sum();
        assert_eq!(kept, n as u32, "a token that should have been dropped was drawn with {params:?}");
        // Four standard deviations of a chi-square variable; the seed is fixed.
        let freedom = (expected.len() - 1) as f64;
        assert!(chi < freedom + 4.0 * (2.0 * freedom).sqrt(), "chi-square {chi} of {freedom} with {params:?}");
    }
}

#[test]
fn a_pick_is_where_the_sum_passes_its_share() {
    // More than one block, with the ends and zeros on both sides of a border.
    let mut p = vec![0.0f32; 2500];
    (p[3], p[1023], p[1024], p[2490]) = (0.25, 0.25, 0.25, 0.25);
    let picks = [0.0, 0.2499, 0.25, 0.4999, 0.5, 0.75, 0.999_999].map(|u| pick_from_row(&p, u));
    assert_eq!(picks.map(Option::unwrap), [3, 3, 1023, 1023, 1024, 2490, 2490]);
    assert_eq!(pick_from_row(&p, 1.0), Some(2490));
    assert_eq!(pick_from_row(&[0.0; 5], 0.5), None);
    let kept: Vec<(u32, f32)> = p.iter().enumerate().map(|(i, &p)| (i as u32, p)).collect();
    for i in 0..1000 {
        let u = f64::from(i) / 1000.0;
        assert_eq!(pick_from_row(&p, u), pick(&kept, u));
    }
}

#[test]
fn ties_go_to_the_lower_id() {
    let cpu = cpu();
    let logits = [1.0, 3.0, 3.0, 2.0, 3.0];
    assert_eq!(draw_at(&cpu, &logits, &SamplingParams::greedy(), 0), 1);
    assert_eq!(top_n(&logits, 2), [(1, 3.0), (2, 3.0)]);
    let two = SamplingParams { top_k: 2, ..SamplingParams::default() };
    assert!((0..100).all(|position| draw_at(&cpu, &logits, &two, position) <= 2));
}

#[test]
fn extreme_parameters_are_harmless() {
    let cpu = cpu();
    let logits = random_logits(5, 300, 1e30);
    let best = draw_at(&cpu, &logits, &SamplingParams::greedy(), 0);
    for temperature in [f32::from_bits(1), 1e-30, 1e-3] {
        let params = SamplingParams { temperature, ..SamplingParams::default() };
        assert_eq!(draw_at(&cpu, &logits, &params, 0), best);
    }
    let flat = random_logits(5, 300, 20.0);
    let best = draw_at(&cpu, &flat, &SamplingParams::greedy(), 0);
    for params in [
        SamplingParams { top_p: 0.0, ..SamplingParams::default() },
        SamplingParams { top_k: 1, ..SamplingParams::default() },
        SamplingParams { min_p: 1.0, ..SamplingParams::default() },
    ] {
        assert!((0..20).all(|position| draw_at(&cpu, &flat, &params, position) == best), "{params:?}");
    }
    let hot = SamplingParams { temperature: f32::MAX, top_k: usize::MAX, ..SamplingParams::default() };
    assert!((draw_at(&cpu, &flat, &hot, 3) as usize) < flat.len());
    let nothing = [f32::NEG_INFINITY; 4];
    let key = DrawKey { seed: 0, choice_index: 0, position: 0 };
    let history = History::default();
    assert_eq!(draw(&cpu, &nothing, &SamplingParams::greedy(), &history, key, None, &mut Scratch::default()), None);
}

#[test]
fn bias_and_penalties_follow_their_definitions() {
    let params = SamplingParams {
        logit_bias: vec![(0, 1.5), (0, 0.5), (3, -100.0)],
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        ..SamplingParams::default()
    };
    let mut history = History::new(&params, &[0, 1]);
    history.push(&params, 2);
    history.push(&params, 2);
    let mut logits = [1.0, -1.0, 4.0, 5.0, 6.0];
    history.adjust(&params, &mut logits);
    // Prompt tokens 0 and 1 meet only the repetition penalty; 2 was drawn twice and meets all three.
    assert_eq!(logits, [3.0 / 2.0, -2.0, 4.0 / 2.0 - 0.5 - 0.5, -95.0, 6.0]);
    let cpu = cpu();
    let banned = SamplingParams { logit_bias: vec![(4, -100.0)], ..SamplingParams::greedy() };
    assert_eq!(draw_at(&cpu, &[1.0, -1.0, 4.0, 5.0, 6.0], &banned, 0), 3);
}

#[test]
fn logprobs_are_of_the_raw_distribution() {
    let cpu = cpu();
    let logits = random_logits(11, 1000, 10.0);
    let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    let found = logprob(&cpu, &logits, 17, 20, None, &mut Scratch::default());
    assert!((f64::from(found.logprob) - (f64::from(logits[17]) - sum.ln())).abs() < 1e-5);
    assert_eq!(found.top.len(), 20);
    let expected = definition(&logits, &SamplingParams::default());
    for (got, want) in found.top.iter().zip(&expected) {
        assert_eq!(got.0, want.0);
        assert!((f64::from(got.1) - want.1.ln()).abs() < 1e-5);
    }
    let best = expected[0].0;
    assert_eq!(score(&cpu, &logits, best, &mut Scratch::default()), (found.top[0].1, best));
    let second = score(&cpu, &logits, expected[1].0, &mut Scratch::default());
    assert_eq!(second, (found.top[1].1, best));
}

#[test]
fn each_bad_parameter_is_named() {
    let good = SamplingParams::default();
    assert_eq!(good.validate(10), Ok(()));
    let bad = [
        ("logit_bias", SamplingParams { logit_bias: vec![(10, 0.0)], ..good.clone() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(1, f32::NAN)], ..good.clone() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(1, 0.0); MAX_LOGIT_BIAS + 1], ..good.clone() }),
        ("repetition_penalty", SamplingParams { repetition_penalty: 0.0, ..good.clone() }),
        ("repetition_penalty", SamplingParams { repetition_penalty: f32::INFINITY, ..good.clone() }),
        ("presence_penalty", SamplingParams { presence_penalty: 2.5, ..good.clone() }),
        ("frequency_penalty", SamplingParams { frequency_penalty: f32::NAN, ..good.clone() }),
        ("temperature", SamplingParams { temperature: -0.1, ..good.clone() }),
        ("temperature", SamplingParams { temperature: f32::NAN, ..good.clone() }),
        ("top_p", SamplingParams { top_p: 1.1, ..good.clone() }),
        ("min_p", SamplingParams { min_p: -0.1, ..good }),
    ];
    for (name, params) in bad {
        match params.validate(10) {
            Err(SubmitError::Invalid { param, .. }) => assert_eq!(param, name),
            other => panic!("{name} was accepted: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn top_n_is_the_head_of_the_sorted_row(values in prop::collection::vec(-5..5i32, 1..600), n in 1..40usize) {
        let row: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        let mut sorted: Vec<(u32, f32)> = row.iter().enumerate().map(|(i, &l)| (i as u32, l)).collect();
        sorted.sort_by(by_likelihood);
        sorted.truncate(n);
        prop_assert_eq!(top_n(&row, n), sorted);
    }

    #[test]
    fn only_what_the_parameters_keep_is_drawn(
        seed in any::<u64>(),
        n in 2..3000usize,
        spread in 0.1..30f32,
        temperature in 0.1..3f32,
        top_k in 0..100usize,
        top_p in 0.0..1.0f32,
        min_p in 0.0..0.5f32,
    ) {
        let cpu = cpu();
        let logits = random_logits(seed, n, spread);
        let params = SamplingParams { temperature, top_k, top_p, min_p, ..SamplingParams::default() };
        // A hair wider than asked for: f32 may round either way at the border.
        let wider = SamplingParams { top_p: top_p * 1.0001 + 1e-5, min_p: min_p * 0.9999, ..params.clone() };
        let kept = definition(&logits, &wider);
        for position in 0..10 {
            let id = draw_at(&cpu, &logits, &params, position);
            prop_assert!(kept.iter().any(|c| c.0 == id), "{} is not among the {} kept", id, kept.len());
            prop_assert_eq!(id, draw_at(&cpu, &logits, &params, position), "a draw is a function of its key");
        }
    }
}
