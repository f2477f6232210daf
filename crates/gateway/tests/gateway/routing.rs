//! `auto` with a router that was trained here.

use std::ops::ControlFlow;

use bantam_engine::TooLong;
use bantam_router::EncoderId;
use bantam_router::fit::{Excerpts, FitConfig, Wanted, fit};
use bantam_router::prompt::Asked;
use bantam_router::rows::Row;
use bantam_stats::head::pair::Outcome;
use serde_json::json;

use crate::server::{ENCODER, encoder};
use crate::upstreams::{chat, gateway, mock, streamed};

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
