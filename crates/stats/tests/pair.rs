//! Heads of two models' outcomes on made-up texts: what they learn, what they refuse, and that they are the same however made.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use bantam_stats::container::{Kind, open, seal};
use bantam_stats::head::pair::{Outcome, PairConfig, PairFit, PairHead, PairTraining, fit_pair};
use bantam_stats::head::{BlobError, FitError, Inputs};
use bantam_stats::{Rng, Rows};

const WIDTH: usize = 10;
const KIND: Kind = Kind { magic: b"BANTPAIR", version: 1 };

/// Rows whose first element says how likely the small model is right, and whose text has a word where the large one fails.
struct Data {
    embeddings: Vec<f32>,
    texts: Vec<String>,
    outcomes: Vec<Outcome>,
}

fn coin(rng: &mut Rng, p: f32) -> f32 {
    f32::from(u8::from((rng.below(10_000) as f32) < p * 10_000.0))
}

impl Data {
    fn new(seed: u64, rows: usize) -> Self {
        let mut rng = Rng::new(seed);
        let mut data = Self { embeddings: Vec::new(), texts: Vec::new(), outcomes: Vec::new() };
        for row in 0..rows {
            let easy = rng.below(2) as f32;
            let hard = rng.below(4) == 0;
            data.embeddings.push(2.0 * easy - 1.0);
            data.embeddings.extend((1..WIDTH).map(|_| rng.below(1_000) as f32 / 1_000.0 - 0.5));
            data.texts.push(format!("row {row} {} {}", if hard { "paradox" } else { "plain" }, rng.below(90)));
            let small = coin(&mut rng, if hard { 0.2 } else { 0.35 + 0.5 * easy });
            let large = coin(&mut rng, if hard { 0.2 } else { 0.9 });
            data.outcomes.push(Outcome { small: Some(small), large: Some(large) });
        }
        data
    }

    fn texts(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }

    fn inputs<'a>(&'a self, texts: &'a [&'a str]) -> Inputs<'a> {
        Inputs { embeddings: Rows::new("embeddings", &self.embeddings, WIDTH).unwrap(), texts }
    }

    fn fit(&self, threads: usize) -> PairFit {
        let texts = self.texts();
        let training = PairTraining { inputs: self.inputs(&texts), outcomes: &self.outcomes };
        let config = PairConfig { threads, strengths: vec![0.1, 1.0, 10.0] };
        fit_pair(&training, &config, &mut |_| ControlFlow::Continue(())).unwrap()
    }
}

#[test]
fn both_probabilities_and_the_gain_are_learned() {
    let (train, test) = (Data::new(1, 1_500), Data::new(2, 1_000));
    let found = train.fit(2);
    let predictions = found.head.predict(test.inputs(&test.texts()), 2).unwrap();
    let mean = |wanted: &dyn Fn(usize) -> bool, of: &dyn Fn(usize) -> f64| -> f64 {
        let rows: Vec<usize> = (0..1_000).filter(|row| wanted(*row)).collect();
        rows.iter().map(|row| of(*row)).sum::<f64>() / rows.len() as f64
    };
    let hard = |row: usize| test.texts[row].contains("paradox");
    let easy = |row: usize| test.embeddings[row * WIDTH] > 0.0;
    // Small is right on 0.85 of the easy rows and 0.35 of the others, large on 0.9 of both.
    let small_easy = mean(&|row| easy(row) && !hard(row), &|row| predictions[row].small);
    let small_other = mean(&|row| !easy(row) && !hard(row), &|row| predictions[row].small);
    let large_hard = mean(&hard, &|row| predictions[row].large);
    let large_plain = mean(&|row| !hard(row), &|row| predictions[row].large);
    assert!((small_easy - 0.85).abs() < 0.1 && (small_other - 0.35).abs() < 0.1, "{small_easy} {small_other}");
    assert!((large_plain - 0.9).abs() < 0.1 && large_hard < 0.45, "{large_plain} {large_hard}");
    let gain = |wanted: &dyn Fn(usize) -> bool| mean(wanted, &|row| predictions[row].gain);
    // Of the large model, 0.55 and 0.05.
    let (much, little) = (gain(&|row| !easy(row) && !hard(row)), gain(&|row| easy(row) && !hard(row)));
    assert!(much > 0.35 && little < 0.2, "{much} {little}");
    // What is said of training rows comes from heads that did not see them: it is as good, and not better.
    let brier = |p: f64, y: Option<f32>| (p - f64::from(y.unwrap())).powi(2);
    let held: f64 =
        found.held_out.iter().zip(&train.outcomes).map(|(p, o)| brier(p.small, o.small)).sum::<f64>() / 1_500.0;
    let new: f64 = predictions.iter().zip(&test.outcomes).map(|(p, o)| brier(p.small, o.small)).sum::<f64>() / 1_000.0;
    assert!((held - new).abs() < 0.02, "{held} {new}");
}

#[test]
fn threads_and_company_do_not_change_a_bit_and_bytes_come_back() {
    let data = Data::new(3, 1_200);
    let (one, three) = (data.fit(1), data.fit(3));
    let bytes = one.head.to_bytes().unwrap();
    assert_eq!(bytes, three.head.to_bytes().unwrap());
    assert_eq!(one.held_out, three.held_out);
    let head = PairHead::from_bytes(&bytes).unwrap();
    assert_eq!(head, one.head);
    let texts = data.texts();
    let together = head.predict(data.inputs(&texts), 3).unwrap();
    let alone = Inputs {
        embeddings: Rows::new("e", &data.embeddings[7 * WIDTH..][..WIDTH], WIDTH).unwrap(),
        texts: &texts[7..8],
    };
    assert_eq!(head.predict(alone, 1).unwrap()[0], together[7]);
    let nearest = head.nearest(&data.embeddings[7 * WIDTH..][..WIDTH], 3).unwrap();
    assert_eq!((head.kept()[nearest[0].at], nearest.len(), nearest[0].outcome), (7, 3, data.outcomes[7]));
}

#[test]
fn one_model_may_be_missing_on_a_row() {
    let mut data = Data::new(4, 900);
    for (row, outcome) in data.outcomes.iter_mut().enumerate() {
        match row % 3 {
            0 => outcome.small = None,
            1 => outcome.large = None,
            _ => {}
        }
    }
    let head = data.fit(1).head;
    let test = Data::new(5, 400);
    let predictions = head.predict(test.inputs(&test.texts()), 1).unwrap();
    let mean = |easy: bool| {
        let rows: Vec<usize> = (0..400).filter(|row| (test.embeddings[row * WIDTH] > 0.0) == easy).collect();
        rows.iter().map(|row| predictions[*row].small).sum::<f64>() / rows.len() as f64
    };
    assert!(mean(true) > mean(false) + 0.2);
    for outcome in &mut data.outcomes {
        outcome.large = None;
    }
    let texts = data.texts();
    let training = PairTraining { inputs: data.inputs(&texts), outcomes: &data.outcomes };
    let error = fit_pair(&training, &PairConfig::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().starts_with("outcomes of the large model: 0 given"), "{error}");
}

#[test]
fn bad_rows_are_refused_and_work_may_be_ended() {
    let mut data = Data::new(6, 60);
    let stopped = {
        let texts = data.texts();
        let training = PairTraining { inputs: data.inputs(&texts), outcomes: &data.outcomes };
        let few = PairTraining { outcomes: &data.outcomes[..5], ..training };
        assert!(fit_pair(&few, &PairConfig::default(), &mut |_| ControlFlow::Continue(())).is_err());
        let none = PairConfig { strengths: vec![], threads: 1 };
        assert!(fit_pair(&training, &none, &mut |_| ControlFlow::Continue(())).is_err());
        fit_pair(&training, &PairConfig::default(), &mut |_| ControlFlow::Break(()))
    };
    assert_eq!(stopped.err(), Some(FitError::Cancelled));
    data.outcomes[3].small = Some(1.5);
    let texts = data.texts();
    let training = PairTraining { inputs: data.inputs(&texts), outcomes: &data.outcomes };
    let error = fit_pair(&training, &PairConfig::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().starts_with("outcomes: 1.5 is not allowed"));
}

/// Damage is found; and with a checksum that was made to match, there is an error or a head that can be used, never a panic.
#[test]
fn damage_is_found_and_a_checksum_is_not_trusted() {
    let data = Data::new(7, 60);
    let texts = data.texts();
    let bytes = data.fit(1).head.to_bytes().unwrap();
    let opened = open(KIND, &bytes).unwrap();
    let mut rng = Rng::new(8);
    for round in 0..600 {
        let mut damaged = bytes.clone();
        damaged[rng.below(bytes.len())] ^= 1 << rng.below(8);
        assert!(PairHead::from_bytes(&damaged).is_err());
        assert!(PairHead::from_bytes(&bytes[..rng.below(bytes.len())]).is_err());
        let (mut header, mut body) = (opened.header.to_vec(), opened.body.to_vec());
        if round % 3 == 0 {
            let at = rng.below(body.len());
            body[at] = rng.below(256) as u8;
        } else {
            let at = rng.below(header.len());
            header[at] = if round % 2 == 0 { b'0' + rng.below(10) as u8 } else { rng.below(256) as u8 };
        }
        if let Ok(head) = PairHead::from_bytes(&seal(KIND, &header, &body)) {
            assert!(head.predict(data.inputs(&texts), 1).is_ok() || head.width() != WIDTH);
        }
    }
    let newer = seal(Kind { version: 2, ..KIND }, opened.header, opened.body);
    assert!(matches!(PairHead::from_bytes(&newer), Err(BlobError::Version { found: 2, expected: 1 })));
}
