//! Heads on made-up texts: what they learn, what they refuse, and that they are the same however they are made.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use bantam_stats::head::{BlobError, Fit, FitConfig, FitError, Head, Inputs, Labels, Training, fit};
use bantam_stats::{Rng, Rows, StatsError};
use sha2::{Digest, Sha256};

const WIDTH: usize = 12;
const CLASSES: usize = 4;

/// Rows whose embedding is a class's direction and noise, and whose text has a word of the class among others.
struct Data {
    embeddings: Vec<f32>,
    texts: Vec<String>,
    labels: Vec<usize>,
}

impl Data {
    fn new(seed: u64, rows: usize, noise: f32) -> Self {
        let mut rng = Rng::new(seed);
        let mut data = Self { embeddings: Vec::new(), texts: Vec::new(), labels: Vec::new() };
        for row in 0..rows {
            let label = rng.below(CLASSES);
            for i in 0..WIDTH {
                let centred = rng.below(1_000) as f32 / 500.0 - 1.0;
                data.embeddings.push(f32::from(u8::from(i % CLASSES == label)) + noise * centred);
            }
            let topic = ["card", "cash", "rate", "login"][label];
            data.texts.push(format!("row {row} about {topic} {} {}", rng.below(50), rng.below(50)));
            data.labels.push(label);
        }
        data
    }

    fn texts(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }

    fn embeddings(&self) -> Rows<'_, f32> {
        Rows::new("embeddings", &self.embeddings, WIDTH).unwrap()
    }

    fn fit(&self, texts: &[&str], threads: usize) -> Fit {
        let inputs = Inputs { embeddings: self.embeddings(), texts };
        let training = Training { inputs, labels: Labels::One(&self.labels), classes: CLASSES };
        fit(&training, &FitConfig { threads, ..FitConfig::default() }, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn accuracy(&self, head: &Head, texts: &[&str]) -> f64 {
        let predictions = head.predict(Inputs { embeddings: self.embeddings(), texts }, 1).unwrap();
        let right = predictions.iter().zip(&self.labels).filter(|(p, label)| p.class() == **label).count();
        right as f64 / self.labels.len() as f64
    }
}

#[test]
fn text_helps_where_embeddings_are_poor() {
    let (train, test) = (Data::new(1, 300, 3.0), Data::new(2, 300, 3.0));
    let without = train.fit(&[], 1);
    let with = train.fit(&train.texts(), 1);
    assert!(!without.head.needs_texts() && with.head.needs_texts());
    let (low, high) = (test.accuracy(&without.head, &[]), test.accuracy(&with.head, &test.texts()));
    assert!((0.4..0.9).contains(&low) && high > 0.97, "{low} {high}");
    // Every row was held out once, and what they say agrees with rows that are new.
    let rows: Vec<usize> = without.held_out.iter().map(|held_out| held_out.row).collect();
    assert_eq!(rows, (0..300).collect::<Vec<_>>());
    let right = without.held_out.iter().filter(|h| h.prediction.class() == train.labels[h.row]).count();
    assert!((right as f64 / 300.0 - low).abs() < 0.12, "{right} {low}");
    for held_out in &with.held_out {
        assert!((held_out.prediction.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn threads_and_company_do_not_change_a_bit() {
    let data = Data::new(3, 2_100, 1.5);
    let texts = data.texts();
    let one = data.fit(&texts, 1);
    let three = data.fit(&texts, 3);
    assert_eq!(one.head.to_bytes().unwrap(), three.head.to_bytes().unwrap());
    assert_eq!(one.held_out, three.held_out);
    // From 2,000 rows on, one fold of five is held out.
    assert!((300..540).contains(&one.held_out.len()), "{}", one.held_out.len());
    let together = one.head.predict(Inputs { embeddings: data.embeddings(), texts: &texts }, 3).unwrap();
    for row in [0, 1, 2_099] {
        let embeddings = Rows::new("embeddings", &data.embeddings[row * WIDTH..][..WIDTH], WIDTH).unwrap();
        let alone = one.head.predict(Inputs { embeddings, texts: &texts[row..=row] }, 1).unwrap();
        assert_eq!(alone[0], together[row]);
    }
}

#[test]
fn rows_may_have_several_classes_or_none() {
    let data = Data::new(4, 400, 0.5);
    // Class 4 is everything of classes 0 and 1; rows of class 3 are left without a label.
    let label = |of: &usize| match *of {
        0 | 1 => vec![4, *of],
        3 => vec![],
        _ => vec![*of],
    };
    let labels: Vec<Vec<usize>> = data.labels.iter().map(label).collect();
    let texts = data.texts();
    let inputs = Inputs { embeddings: data.embeddings(), texts: &texts };
    let training = Training { inputs, labels: Labels::Many(&labels), classes: 5 };
    let found = fit(&training, &FitConfig::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let test = Data::new(5, 200, 0.5);
    let head = Head::from_bytes(&found.head.to_bytes().unwrap()).unwrap();
    let predictions = head.predict(Inputs { embeddings: test.embeddings(), texts: &test.texts() }, 1).unwrap();
    for (prediction, &label) in predictions.iter().zip(&test.labels) {
        let yes: Vec<bool> = prediction.probabilities.iter().map(|p| *p > 0.5).collect();
        assert_eq!(yes, [label == 0, label == 1, label == 2, false, label < 2], "{label}: {prediction:?}");
    }
}

#[test]
fn twenty_rows_are_enough_to_begin_and_classes_may_be_empty() {
    let (train, test) = (Data::new(6, 20, 0.3), Data::new(7, 200, 0.3));
    let head = train.fit(&train.texts(), 1).head;
    assert!(test.accuracy(&head, &test.texts()) > 0.95);
    let inputs = Inputs { embeddings: Rows::new("embeddings", &[1.0, 0.0, 0.0, 1.0], 2).unwrap(), texts: &[] };
    let training = Training { inputs, labels: Labels::One(&[0, 1]), classes: 3 };
    let two = fit(&training, &FitConfig::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let predictions = two.head.predict(inputs, 1).unwrap();
    assert_eq!((predictions[0].class(), predictions[1].class()), (0, 1));
}

#[test]
fn progress_is_told_and_may_end_the_work() {
    let data = Data::new(8, 100, 1.0);
    let texts = data.texts();
    let inputs = Inputs { embeddings: data.embeddings(), texts: &texts };
    let training = Training { inputs, labels: Labels::One(&data.labels), classes: CLASSES };
    let mut heard = Vec::new();
    let mut listen = |progress: bantam_stats::head::FitProgress| {
        heard.push((progress.done, progress.iteration, progress.total));
        ControlFlow::Continue(())
    };
    fit(&training, &FitConfig::default(), &mut listen).unwrap();
    // Five folds of three strengths of two parts, and each part again.
    assert!(heard.is_sorted() && heard.iter().all(|(done, _, total)| done < total && *total == 32));
    assert_eq!(heard.last().map(|last| last.0), Some(31));
    let mut left = 40;
    let mut stop = |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let cancelled = fit(&training, &FitConfig::default(), &mut stop);
    assert_eq!((cancelled.err(), left), (Some(FitError::Cancelled), 0));
}

#[test]
fn bad_rows_are_refused_by_name() {
    let data = Data::new(9, 30, 1.0);
    let texts = data.texts();
    let inputs = Inputs { embeddings: data.embeddings(), texts: &texts };
    let good = Training { inputs, labels: Labels::One(&data.labels), classes: CLASSES };
    let error = |training: Training<'_>, strengths: &[f64]| {
        let config = FitConfig { strengths: strengths.to_vec(), ..FitConfig::default() };
        fit(&training, &config, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string()
    };
    let short = Inputs { texts: &texts[1..], ..inputs };
    assert!(error(Training { inputs: short, ..good }, &[1.0]).starts_with("texts: 29 values"));
    assert!(error(Training { labels: Labels::One(&[0]), ..good }, &[1.0]).starts_with("labels: 1 values"));
    assert!(error(Training { classes: 3, ..good }, &[1.0]).contains("has class 3"));
    assert!(error(Training { classes: usize::MAX, ..good }, &[1.0]).starts_with("classes:"));
    let far = vec![vec![4]; 30];
    assert!(error(Training { labels: Labels::Many(&far), ..good }, &[1.0]).contains("has class 4"));
    assert!(error(good, &[0.0]).starts_with("strengths: 0 is not allowed"));
    assert!(error(good, &[]).starts_with("strengths: 0 given"));
    assert!(matches!(Rows::new("e", &[1.0_f32, f32::NAN], 1), Err(StatsError::NotFinite { row: 1, .. })));
    let head = data.fit(&texts, 1).head;
    assert!(head.predict(Inputs { texts: &[], ..inputs }, 1).is_err());
    let narrow = Rows::new("e", &[1.0_f32], 1).unwrap();
    assert!(head.predict(Inputs { embeddings: narrow, texts: &["x"] }, 1).is_err());
}

#[test]
fn bytes_come_back_as_the_same_head_and_damage_is_found() {
    let data = Data::new(10, 40, 0.5);
    let head = data.fit(&data.texts(), 1).head;
    let bytes = head.to_bytes().unwrap();
    assert_eq!(Head::from_bytes(&bytes).unwrap(), head);
    let mut rng = Rng::new(11);
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        damaged[rng.below(bytes.len())] ^= 1 << rng.below(8);
        assert!(Head::from_bytes(&damaged).is_err());
        assert!(Head::from_bytes(&bytes[..rng.below(bytes.len())]).is_err());
    }
    let mut newer = bytes.clone();
    newer[8] = 9;
    assert!(matches!(Head::from_bytes(&newer), Err(BlobError::Version { found: 9, expected: 1 })));
    assert!(matches!(Head::from_bytes(b"GGUF and more than sixteen"), Err(BlobError::NotAHead)));
}

/// Damage with a checksum that was made to match: an error or a head that can be used, never a panic.
#[test]
fn a_checksum_is_not_trusted() {
    let data = Data::new(12, 40, 0.5);
    let texts = data.texts();
    let bytes = data.fit(&texts, 1).head.to_bytes().unwrap();
    let body = &bytes[..bytes.len() - 32];
    let seal = |body: &[u8]| [body, &Sha256::digest(body)[..]].concat();
    let header_len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    let mut rng = Rng::new(13);
    let inputs = Inputs { embeddings: data.embeddings(), texts: &texts };
    for round in 0..1_000 {
        let mut body = body.to_vec();
        let at = if round % 4 == 0 { rng.below(body.len()) } else { 12 + rng.below(header_len + 4) };
        body[at] = if round % 2 == 0 { b'0' + rng.below(10) as u8 } else { rng.below(256) as u8 };
        if let Ok(head) = Head::from_bytes(&seal(&body)) {
            assert!(head.predict(inputs, 1).is_ok() || head.width() != WIDTH);
        }
    }
    let header = std::str::from_utf8(&body[16..16 + header_len]).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(header.contains(from), "{header}");
        let header = header.replacen(from, to, 1);
        let length = (header.len() as u32).to_le_bytes();
        let parts = [&body[..12], &length, header.as_bytes(), &body[16 + header_len..]];
        Head::from_bytes(&seal(&parts.concat())).unwrap_err().to_string()
    };
    assert!(changed("\"classes\":4", "\"classes\":0").contains("no classes"));
    assert!(changed("\"classes\":4", "\"classes\":18446744073709551615").contains("too large"));
    assert!(changed("\"classes\":4", "\"classes\":5").contains("than the header says"));
    assert!(changed("\"labels\":[[", "\"labels\":[[9").contains("labels"));
    assert!(changed("\"pool\":[", "\"pool\":[1.0,").contains("pool"));
    assert!(changed("\"width\":12", "\"width\":13").contains("than the header says"));
    assert!(changed("\"text\":{", "\"text\":{\"more\":1,").contains("header"));
}
