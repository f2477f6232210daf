//! Vectors over HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::server::{ENCODER, MODEL, start};

const EMBEDDINGS: &str = "/v1/embeddings";

/// What Transformers finds for a text: see the fixture.
fn reference(n: usize) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tests/fixtures/bert/reference.json");
    serde_json::from_str::<Value>(&std::fs::read_to_string(path).unwrap()).unwrap()[n].clone()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[tokio::test]
async fn vectors_are_the_encoders_in_order_and_in_both_encodings() {
    let server = start().await;
    let mut client = server.client().await;
    let (a, b) = (reference(0), reference(3));
    let body = json!({ "model": ENCODER, "input": [a["text"], b["text"]] });
    let reply = client.post(EMBEDDINGS, &body).await.json();
    assert_eq!((&reply["object"], &reply["model"]), (&json!("list"), &json!(ENCODER)));
    let n_tokens = a["ids"].as_array().unwrap().len() + b["ids"].as_array().unwrap().len();
    assert_eq!(reply["usage"], json!({ "prompt_tokens": n_tokens, "total_tokens": n_tokens }));
    for (i, text) in [&a, &b].into_iter().enumerate() {
        let entry = &reply["data"][i];
        assert_eq!((&entry["object"], &entry["index"]), (&json!("embedding"), &json!(i)));
        assert!(near(&floats(&entry["embedding"]), &floats(&text["vector"])), "{text}");
    }

    let packed = json!({ "model": ENCODER, "input": a["text"], "encoding_format": "base64" });
    let packed = client.post(EMBEDDINGS, &packed).await.json();
    let bytes = STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let unpacked: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(unpacked, floats(&reply["data"][0]["embedding"]));

    let by_ids = json!({ "model": ENCODER, "input": [a["ids"], b["ids"]] });
    assert_eq!(client.post(EMBEDDINGS, &by_ids).await.json()["data"], reply["data"]);
    let one = json!({ "model": ENCODER, "input": a["ids"] });
    assert_eq!(client.post(EMBEDDINGS, &one).await.json()["data"][0], reply["data"][0]);
}

#[tokio::test]
async fn fewer_dimensions_are_the_first_ones_at_length_one() {
    let server = start().await;
    let mut client = server.client().await;
    let whole = floats(&reference(0)["vector"])[..8].to_vec();
    let length = whole.iter().map(|x| x * x).sum::<f32>().sqrt();
    let expected: Vec<f32> = whole.iter().map(|x| x / length).collect();
    let body = json!({ "model": ENCODER, "input": reference(0)["text"], "dimensions": 8 });
    let reply = client.post(EMBEDDINGS, &body).await.json();
    assert!(near(&floats(&reply["data"][0]["embedding"]), &expected));
}

#[tokio::test]
async fn many_clients_at_once_get_what_each_would_alone() {
    let server = start().await;
    let mut alone = Vec::new();
    let mut client = server.client().await;
    let body =
        |n: usize| json!({ "model": ENCODER, "input": [reference(n % 4)["text"], "card", "hello ".repeat(n + 1)] });
    for n in 0..12 {
        alone.push(client.post(EMBEDDINGS, body(n)).await.body);
    }
    let together = (0..12).map(|n| {
        let address = server.address;
        tokio::spawn(async move { crate::client::Client::connect(address).await.post(EMBEDDINGS, body(n)).await.body })
    });
    for (n, reply) in futures::future::join_all(together.collect::<Vec<_>>()).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), alone[n], "{n}");
    }
    let metrics = client.get("/metrics").await.body;
    assert!(metrics.contains("bantam_embedded_texts_total{model=\"tiny-bert\"} 72"), "{metrics}");
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let server = start().await;
    let mut client = server.client().await;
    let long = "card ".repeat(60);
    for (extra, code, param) in [
        (json!({ "model": null }), "missing_required_parameter", "model"),
        (json!({ "model": "text-embedding-3-small" }), "model_not_found", "model"),
        (json!({ "model": MODEL }), "wrong_model_kind", "model"),
        (json!({ "input": null }), "invalid_value", "input"),
        (json!({ "input": [] }), "invalid_value", "input"),
        (json!({ "input": "" }), "invalid_value", "input"),
        (json!({ "input": ["a", ""] }), "invalid_value", "input[1]"),
        (json!({ "input": ["a", long] }), "invalid_value", "input[1]"),
        (json!({ "input": ["a", 5] }), "invalid_value", "input"),
        (json!({ "input": [[2, -1]] }), "invalid_value", "input[0][1]"),
        (json!({ "input": [[]] }), "invalid_value", "input"),
        (json!({ "input": [2, 99_999] }), "invalid_value", "input"),
        (json!({ "input": vec![2; 60] }), "context_length_exceeded", "input"),
        (json!({ "input": vec!["a"; 2049] }), "invalid_value", "input"),
        (json!({ "encoding_format": "int8" }), "invalid_value", "encoding_format"),
        (json!({ "dimensions": 0 }), "invalid_value", "dimensions"),
        (json!({ "dimensions": 65 }), "invalid_value", "dimensions"),
        (json!({ "dimensions": 1.5 }), "invalid_value", "dimensions"),
    ] {
        let mut body = json!({ "model": ENCODER, "input": "card" });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let reply = client.post(EMBEDDINGS, &body).await;
        let (status, found, blamed, message) = reply.error();
        let expected = if code == "model_not_found" { 404 } else { 400 };
        assert_eq!((status, &*found, blamed.as_deref()), (expected, code, Some(param)), "{extra}: {message}");
    }
    let reply = client.post("/v1/completions", json!({ "model": ENCODER, "prompt": "x" })).await;
    assert_eq!(reply.error().1, "wrong_model_kind");
}
