//! `auto` with a router that was trained here.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bantam_engine::TooLong;
use bantam_router::EncoderId;
use bantam_router::fit::{Excerpts, FitConfig, Wanted, fit};
use bantam_router::prompt::Asked;
use bantam_router::rows::Row;
use bantam_stats::head::pair::Outcome;
use serde_json::json;

use crate::ledger::{house, house_with};
use crate::server::{ENCODER, Options, encoder};
use crate::upstreams::{chat, file, gateway, mock, streamed};

/// A router that has seen that the small model knows greetings and no sums.
async fn trained() -> Vec<u8> {
    let served = encoder();
    let id = EncoderId { model: ENCODER.into(), digest: None, dimensions: served.embedder.dimensions(), tokens: 32 };
    let prompts: Vec<(String, bool)> = (0..160)
        .map(|i| match i % 2 {
            0 => (format!("Say hello to guest number {i}, please"), true),
            _ => (format!("What is {i} times {} plus {}?", i * 7 + 3, i + 11), false),
        })
        .collect();
    let mut vectors = Vec::new();
    let mut rows = Vec::new();
    for (prompt, easy) in &prompts {
        let asked = Asked::prompt(prompt);
        let ids = id.cut(served.embedder.tokens(&asked.what_to_embed(id.tokens), TooLong::Cut).unwrap());
        let embedded = served.embedder.embed(vec![ids]).unwrap().wait().await.unwrap();
        vectors.extend_from_slice(embedded.rows().next().unwrap());
        let small = if *easy { 1.0 } else { 0.0 };
        rows.push(Row::new(&asked, Outcome { small: Some(small), large: Some(1.0) }));
    }
    let config = FitConfig { encoder: id, threshold: Wanted::Given(0.5), excerpts: Excerpts::Drop, threads: 1 };
    let fitted = fit(&rows, &vectors, &config, &mut |_| ControlFlow::Continue(())).unwrap();
    fitted.router.to_bytes().unwrap()
}

#[tokio::test]
async fn the_router_sends_easy_requests_to_the_small_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("router.bin");
    std::fs::write(&path, trained().await).unwrap();
    let mock = mock(&[]).await;
    let auto = format!(
        "[auto]\nsmall = \"toy\"\nlarge = \"big\"\nencoder = \"{ENCODER}\"\nrouter = {:?}",
        path.to_str().unwrap()
    );
    let (_server, mut client) = gateway(&mock, &auto).await;
    for (text, provider) in
        [("Say hello to guest number 900, please", "local"), ("What is 412 times 33 plus 9?", "there")]
    {
        let reply = client.post("/v1/chat/completions", chat("auto", text)).await;
        assert_eq!(reply.header("x-bantam-provider"), Some(provider), "{text}: {}", reply.body);
        let reply = client.post("/v1/chat/completions", streamed(chat("auto", text))).await;
        assert_eq!(reply.header("x-bantam-provider"), Some(provider), "{text}");
        let message = json!({"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": text}]});
        let reply = client.post("/v1/messages", message).await;
        assert_eq!(reply.header("x-bantam-provider"), Some(provider), "{text}");
    }
}

/// A cascade whose small model is elsewhere, as are all that have a price.
fn cascade(small: &str, least: f64) -> String {
    format!(
        "[auto]\nsmall = \"little\"\nlarge = \"big\"\ncascade = {least}\n\
         [[routes]]\nname = \"little\"\ntargets = [{{ provider = \"there\", model = \"{small}\" }}]\n\
         [[prices.models]]\nname = \"{small}\"\ninput_per_million = 1.0\noutput_per_million = 2.0\n\
         [[prices.models]]\nname = \"gpt-big\"\ninput_per_million = 10.0\noutput_per_million = 40.0\n"
    )
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_small_model_elsewhere_is_judged_by_what_its_server_tells() {
    let mock = mock(&[]).await;
    // The mock's tokens have a probability of 0.905 each.
    for (least, answers) in [(0.5, "gpt-little"), (0.95, "gpt-big")] {
        let house = house(file(&mock, &cascade("gpt-little", least))).await;
        let mut client = house.server.client().await;
        let mut ask = chat("auto", "Hi");
        ask["logprobs"] = true.into();
        for (asked, ask) in [ask.clone(), streamed(ask)].into_iter().enumerate() {
            let reply = client.post(CHAT, ask).await;
            assert_eq!((reply.status.as_u16(), reply.header("x-bantam-model")), (200, Some(answers)), "{}", reply.body);
            let entry = house.entries(asked + 1).await.swap_remove(asked).entry;
            let models: Vec<_> = entry.attempts.iter().map(|a| &*a.model).collect();
            assert_eq!(
                models,
                if answers == "gpt-little" { vec!["gpt-little"] } else { vec!["gpt-little", "gpt-big"] }
            );
            // Both have read the prompt and written their 16 tokens.
            let input = entry.tokens.input / models.len() as u64;
            assert!(entry.attempts.iter().all(|a| (a.tokens.input, a.tokens.output) == (input, 16)), "{entry:?}");
            let prices = [(1000, 2000), (10_000, 40_000)].into_iter().take(models.len());
            let cost: u64 = prices.map(|(read, written)| input * read + 16 * written).sum();
            assert_eq!((entry.cost.0 as u64, input > 0), (cost, true));
            let confidence = entry.decision["confidence"].as_f64().unwrap();
            assert!((confidence - (-0.1f64).exp()).abs() < 1e-9, "{confidence}");
        }
    }
}

#[tokio::test]
async fn a_small_model_elsewhere_that_cannot_be_judged_is_not_asked() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, &cascade("gpt-little", 0.0))).await;
    let mut client = house.server.client().await;
    let message = json!({"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    for (asked, (surface, ask)) in [(CHAT, chat("auto", "Hi")), ("/v1/messages", message)].into_iter().enumerate() {
        let reply = client.post(surface, ask).await;
        assert_eq!(reply.header("x-bantam-model"), Some("gpt-big"), "{}", reply.body);
        assert_eq!(mock.stats().requests, asked as u64 + 1);
        let decision = house.entries(asked + 1).await.swap_remove(asked).entry.decision;
        assert!(decision["route"].as_str().unwrap().contains("log-probabilities"), "{decision}");
    }
}

#[tokio::test]
async fn a_small_answer_that_breaks_off_is_charged_and_made_up_for() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, &cascade("m+cut=10", 0.5))).await;
    let mut ask = streamed(chat("auto", "Hi"));
    ask["logprobs"] = true.into();
    let reply = house.server.client().await.post(CHAT, ask).await;
    assert_eq!(reply.header("x-bantam-model"), Some("gpt-big"), "{}", reply.body);
    let entry = house.entries(1).await.swap_remove(0).entry;
    let [small, large] = entry.attempts.as_slice() else { panic!("{:?}", entry.attempts) };
    assert_eq!(small.error.as_deref(), Some("no_upstream"));
    assert!((10..=20).contains(&small.tokens.output) && small.tokens.input > 0, "{small:?}");
    assert_eq!((large.tokens.output, large.error.as_deref()), (16, None));
    assert_eq!(entry.cost, small.cost.plus(large.cost));
}

#[tokio::test]
async fn judging_an_answer_takes_no_longer_than_a_request_may() {
    let mock = mock(&[]).await;
    let auto = "[auto]\nsmall = \"toy\"\nlarge = \"big\"\ncascade = 0.5";
    let mut options = Options { file: file(&mock, auto), step_time: Duration::from_millis(100), ..Options::default() };
    options.gateway.timeouts.request = Duration::from_millis(700);
    let house = house_with(options).await;
    let mut ask = streamed(chat("auto", "Hi"));
    ask["max_tokens"] = 300.into();
    let begun = Instant::now();
    let reply = house.server.client().await.post(CHAT, ask).await;
    assert_eq!((reply.status.as_u16(), &*reply.error().1), (504, "request_timeout"));
    assert!(begun.elapsed() < Duration::from_secs(10), "the answer alone takes 30 s");
    let entry = house.entries(1).await.swap_remove(0).entry;
    assert!((1..=100).contains(&entry.tokens.output), "{:?}", entry.tokens);
}
