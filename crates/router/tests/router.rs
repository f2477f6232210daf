//! A router from rows to decisions, with an encoder of the test's own.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use bantam_router::fit::{Excerpts, FitConfig, Fitted, Wanted, embed, fit, predict_rows};
use bantam_router::prompt::Asked;
use bantam_router::rows::{Row, read};
use bantam_router::{Check, Choice, Embed, EncoderId, RouteError, Router, SmallAnswer, Threshold};
use bantam_stats::Rng;
use bantam_stats::container::{Kind, open, seal};
use bantam_stats::risk::{Refusal, RiskBound, RiskOf};

const KIND: Kind = Kind { magic: b"BANTROUT", version: 1 };

/// Counts of letters: enough to tell words apart.
struct Letters;

impl Embed for Letters {
    type Error = std::convert::Infallible;

    fn embed(&self, encoder: &EncoderId, texts: &[String]) -> Result<Vec<f32>, Self::Error> {
        let one = |text: &String| {
            let mut counts = vec![0.1; encoder.dimensions];
            text.bytes().take(encoder.tokens * 8).for_each(|byte| counts[byte as usize % encoder.dimensions] += 1.0);
            counts
        };
        Ok(texts.iter().flat_map(one).collect())
    }
}

fn encoder() -> EncoderId {
    EncoderId { model: "letters".into(), digest: None, dimensions: 16, tokens: 64 }
}

/// Questions about sums are easy, those about proofs are not; the small model's answers to what it knows are sure.
fn lines(seed: u64, rows: usize) -> String {
    let mut rng = Rng::new(seed);
    let mut text = String::new();
    for row in 0..rows {
        let easy = rng.below(2) == 0;
        let coin = |rng: &mut Rng, percent: usize| rng.below(100) < percent;
        let (small, large) = (coin(&mut rng, if easy { 97 } else { 30 }), coin(&mut rng, 95));
        let prompt = if easy { format!("Add {row} and {}", rng.below(99)) } else { format!("Prove lemma {row}: why?") };
        let sure = if small { -0.1 } else { -1.5 } - rng.below(100) as f64 / 100.0;
        text.push_str(&format!(
            "{{\"prompt\": \"{prompt}\", \"small_correct\": {small}, \"large_correct\": {large}, \"small_mean_logprob\": {sure}, \"small_tokens\": 9}}\n"
        ));
    }
    text
}

fn rows(seed: u64, n: usize) -> Vec<Row> {
    read(lines(seed, n).as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn config(bound: f64) -> FitConfig {
    let bound = RiskBound { bound, confidence: 0.9, of: RiskOf::Accepted };
    let threshold = Wanted::Promised { bound, held_out: 0.4 };
    FitConfig { encoder: encoder(), threshold, excerpts: Excerpts::Keep, threads: 2 }
}

fn trained(rows: &[Row], config: &FitConfig) -> Result<Fitted, RouteError> {
    let vectors = embed(&Letters, &config.encoder, rows, &mut |_| ControlFlow::Continue(()))?;
    fit(rows, &vectors, config, &mut |_| ControlFlow::Continue(()))
}

fn vector(asked: &Asked<'_>) -> Vec<f32> {
    Letters.embed(&encoder(), &[asked.what_to_embed(64)]).unwrap()
}

#[test]
fn easy_prompts_stay_small_and_the_promise_holds_on_new_rows() {
    let fitted = trained(&rows(1, 1_500), &config(0.1)).unwrap();
    let router = Router::load(&fitted.router.to_bytes().unwrap()).unwrap();
    assert!(router == fitted.router, "what was read is not what was written");
    let decide = |text: &str| {
        let asked = Asked::prompt(text);
        router.decide(&asked, &vector(&asked)).unwrap()
    };
    let (easy, hard) = (decide("Add 7 and 12"), decide("Prove lemma 8: why?"));
    assert_eq!((easy.choose, hard.choose), (Choice::Small, Choice::Large));
    assert!(easy.p_small > 0.85 && hard.p_small < 0.5 && hard.gain > 0.3 && easy.p_large > 0.85);
    assert!(matches!(router.threshold(), Threshold::Promised { held, .. } if held.upper <= 0.1 && held.accepted > 100));

    let new = rows(2, 1_000);
    let vectors = embed(&Letters, &encoder(), &new, &mut |_| ControlFlow::Continue(())).unwrap();
    let predictions = predict_rows(&router, &new, &vectors, 2).unwrap();
    let kept: Vec<&Row> =
        new.iter().zip(&predictions).filter(|(_, p)| p.gain <= router.threshold().gain()).map(|(row, _)| row).collect();
    let lost = kept.iter().filter(|row| row.is_loss()).count();
    assert!(kept.len() > 300 && (lost as f64) < 0.1 * kept.len() as f64, "{lost} of {}", kept.len());
    // One by one and all together are the same.
    let asked = Asked::prompt(&new[3].text);
    assert_eq!(router.decide(&asked, &vector(&asked)).unwrap().gain, predictions[3].gain);
    let similar = router.similar(&asked, &vector(&asked), 2).unwrap();
    assert!(similar.len() == 2 && similar[0].similarity > 0.8 && similar[0].prompt.is_some());
}

#[test]
fn sure_answers_end_a_cascade_and_failed_ones_do_not() {
    let router = trained(&rows(3, 1_500), &config(0.1)).unwrap().router;
    let asked = Asked::prompt("Prove lemma 5: why?");
    let before = router.decide(&asked, &vector(&asked)).unwrap();
    let answer = |mean: f64| SmallAnswer { mean_logprob: Some(mean), tokens: Some(9), ..SmallAnswer::default() };
    let review = |answer: SmallAnswer| router.review(&before, &answer).unwrap();
    assert!(!review(answer(-0.2)).escalate && review(answer(-2.0)).escalate);
    assert!(review(SmallAnswer { check: Some(Check::Failed), ..answer(-0.2) }).escalate);
}

#[test]
fn what_the_rows_cannot_support_is_refused_with_what_would() {
    let refused = trained(&rows(4, 150), &config(0.02)).unwrap_err();
    let RouteError::Refused { refusal: Refusal::TooFewRows { rows: held, needed }, .. } = refused else {
        panic!("{refused}")
    };
    assert!(held < 100 && needed > held);
    let hopeless: String = (0..200)
        .map(|row| {
            format!("{{\"prompt\": \"p {row}\", \"small_correct\": {}, \"large_correct\": true}}\n", row % 4 == 0)
        })
        .collect();
    let hopeless: Vec<Row> = read(hopeless.as_bytes()).collect::<Result<_, _>>().unwrap();
    let error = trained(&hopeless, &config(0.05)).unwrap_err();
    assert!(matches!(error, RouteError::Refused { refusal: Refusal::OutOfReach { .. }, .. }), "{error}");
    let given = FitConfig { threshold: Wanted::Given(0.2), excerpts: Excerpts::Drop, ..config(0.05) };
    let router = trained(&hopeless, &given).unwrap().router;
    assert_eq!(router.threshold(), &Threshold::Given { gain: 0.2 });
    let asked = Asked::prompt("p");
    assert!(router.similar(&asked, &vector(&asked), 1).unwrap()[0].prompt.is_none());
    assert!(router.decide(&asked, &[1.0]).unwrap_err().to_string().contains("has 1 elements"));
    assert!(router.decide(&asked, &[f32::NAN; 16]).is_err());
    assert!(router.with_threshold(f64::NAN).is_err());
    let share = Wanted::Promised { bound: RiskBound { bound: 0.1, confidence: 0.9, of: RiskOf::All }, held_out: 0.0 };
    assert!(
        trained(&hopeless, &FitConfig { threshold: share, ..given }).unwrap_err().to_string().starts_with("held_out")
    );
}

/// Damage is found; and where the checksum was made to match, there is an error or a router that can be used.
#[test]
fn a_router_file_is_not_trusted() {
    let given = FitConfig { threshold: Wanted::Given(0.1), ..config(0.1) };
    let bytes = trained(&rows(5, 120), &given).unwrap().router.to_bytes().unwrap();
    let opened = open(KIND, &bytes).unwrap();
    let asked = Asked::prompt("Add 1 and 2");
    let vector = vector(&asked);
    let mut rng = Rng::new(6);
    for _ in 0..400 {
        let mut damaged = bytes.clone();
        damaged[rng.below(bytes.len())] ^= 1 << rng.below(8);
        assert!(matches!(Router::load(&damaged), Err(RouteError::File(_))));
        assert!(Router::load(&bytes[..rng.below(bytes.len())]).is_err());
        let mut header = opened.header.to_vec();
        let at = rng.below(header.len());
        header[at] = b'0' + rng.below(10) as u8;
        if let Ok(router) = Router::load(&seal(KIND, &header, opened.body)) {
            let decided = router.decide(&asked, &vector).unwrap();
            assert!((0.0..=1.0).contains(&decided.p_small) && decided.gain.is_finite());
        }
    }
}
