//! The mock itself: what it says is what the real servers would.

use std::collections::HashMap;

use bantam_providers::call::{Call, Delivery, Outbound, Refusal};
use bantam_providers::mock::{Mock, MockConfig};
use bantam_providers::target::{Target, TargetConfig};
use bantam_providers::wire::Api;
use hyper::HeaderMap;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{LONG, plan, upstreams};

async fn post(mock: &Mock, api: Api, body: Value) -> String {
    let mut target = TargetConfig::new("a", "vllm", "m");
    target.base_url = Some(mock.base_url());
    let upstreams = upstreams(&[target]);
    let outgoing = |_: &Target| -> Result<Outbound, Refusal> {
        Ok(Outbound { api, headers: HeaderMap::new(), body: body.to_string().into() })
    };
    let call = Call { outgoing: &outgoing, delivery: Delivery::Whole, deadline: Instant::now() + LONG, trace: None };
    let answer = upstreams.call(&plan(&upstreams, "a"), call).await.unwrap();
    String::from_utf8(answer.body.collect().await.unwrap().to_vec()).unwrap()
}

async fn post_json(mock: &Mock, api: Api, body: Value) -> Value {
    serde_json::from_str(&post(mock, api, body).await).unwrap()
}

/// The data of a stream's events.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

async fn start() -> Mock {
    let recorded = HashMap::from([("What is 2+2?".to_owned(), "It is four,\nnaturally.".to_owned())]);
    Mock::start(MockConfig { recorded, ..MockConfig::default() }).await.unwrap()
}

fn weather(extra: Value) -> Value {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}}});
    let mut body = json!({
        "model": "m",
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": parameters}}],
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn recorded_answers_come_whole_and_in_tokens() {
    let mock = start().await;
    let mut request = json!({"model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?"}]});
    let whole = post_json(&mock, Api::Chat, request.clone()).await;
    assert_eq!(whole["choices"][0]["message"]["content"], "It is four,\nnaturally.");
    assert_eq!(whole["usage"], json!({"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}));
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let chunks = events(&post(&mock, Api::Chat, request.clone()).await);
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "It is four,\nnaturally.");
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);

    let same = json!({"model": "m", "max_tokens": 99, "system": "Be brief.", "messages": [{"role": "user", "content": [{"type": "text", "text": "What is 2+2?"}]}]});
    let message = post_json(&mock, Api::Messages, same.clone()).await;
    assert_eq!(message["content"], json!([{"type": "text", "text": "It is four,\nnaturally."}]));
    let mut streamed = same;
    streamed["stream"] = json!(true);
    let events = events(&post(&mock, Api::Messages, streamed).await);
    let text: String = events.iter().filter_map(|e| e["delta"]["text"].as_str()).collect();
    assert_eq!(text, "It is four,\nnaturally.");
    assert_eq!(
        (&events[0]["type"], &events.last().unwrap()["type"]),
        (&json!("message_start"), &json!("message_stop"))
    );
}

#[tokio::test]
async fn tools_are_called_with_arguments_that_fit_and_come_the_same_in_pieces() {
    let mock = start().await;
    let whole = post_json(&mock, Api::Chat, weather(json!({}))).await;
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(
        call["name"] == "weather"
            && arguments["city"].is_string()
            && arguments["days"].is_u64()
            && arguments["unit"] == "C"
    );
    let chunks = events(&post(&mock, Api::Chat, weather(json!({"stream": true}))).await);
    let delta = |chunk: &Value| {
        chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned)
    };
    assert_eq!(chunks.iter().filter_map(delta).collect::<String>(), call["arguments"].as_str().unwrap());
    // Not when it is told not to, and not after a result.
    let none = post_json(&mock, Api::Chat, weather(json!({"tool_choice": "none"}))).await;
    assert_eq!(none["choices"][0]["finish_reason"], "stop");
    let mut answered = weather(json!({}));
    answered["messages"].as_array_mut().unwrap().push(json!({"role": "tool", "tool_call_id": "1", "content": "sunny"}));
    assert_eq!(post_json(&mock, Api::Chat, answered).await["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn hostile_tool_streams_are_hostile() {
    let mock = start().await;
    let deltas = |text: String| -> Vec<Value> {
        events(&text).iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0).cloned()).collect()
    };
    let plain = deltas(post(&mock, Api::Chat, weather(json!({"model": "m+calls=2", "stream": true}))).await);
    let twice = deltas(post(&mock, Api::Chat, weather(json!({"model": "m+calls=2,duplicate", "stream": true}))).await);
    assert_eq!(twice.len(), 2 * plain.len());
    assert_eq!(twice.iter().step_by(2).collect::<Vec<_>>(), plain.iter().collect::<Vec<_>>());
    let turned = deltas(post(&mock, Api::Chat, weather(json!({"model": "m+calls=2,reorder", "stream": true}))).await);
    assert_eq!((turned.len(), &turned[0]["index"], &turned[1]["index"]), (plain.len(), &json!(1), &json!(0)));
    let lie = post_json(&mock, Api::Chat, json!({"model": "m+lie", "messages": []})).await;
    assert_eq!(lie["usage"]["completion_tokens"], 0);
}

#[tokio::test]
async fn limits_completions_and_embeddings() {
    let mock = start().await;
    let request = json!({"model": "m+tokens=9", "max_tokens": 4, "prompt": "Once"});
    let short = post_json(&mock, Api::Completions, request).await;
    assert_eq!(
        (&short["choices"][0]["finish_reason"], &short["usage"]["completion_tokens"]),
        (&json!("length"), &json!(4))
    );
    let vectors =
        post_json(&mock, Api::Embeddings, json!({"model": "m", "input": ["a", "b", "a"], "dimensions": 8})).await;
    let vector = |i: usize| -> Vec<f64> { serde_json::from_value(vectors["data"][i]["embedding"].clone()).unwrap() };
    assert!(vector(0).len() == 8 && vector(0) == vector(2) && vector(0) != vector(1));
    assert!((vector(0).iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    let packed =
        post_json(&mock, Api::Embeddings, json!({"model": "m", "input": "a", "encoding_format": "base64"})).await;
    assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), 88);
}

#[tokio::test]
async fn equal_requests_have_equal_answers_and_a_stamp_is_the_time() {
    let (one, other) = (start().await, start().await);
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "Sing."}]});
    let first = post(&one, Api::Chat, request.clone()).await;
    assert_eq!(first, post(&other, Api::Chat, request.clone()).await);
    assert_eq!(first, post(&one, Api::Chat, request).await);
    let stamped = json!({"model": "m+stamp,tokens=3", "messages": [], "stream": true});
    let chunks = events(&post(&one, Api::Chat, stamped).await);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let stamps: Vec<u128> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()?.trim().strip_prefix("t=")?.parse().ok())
        .collect();
    assert_eq!(stamps.len(), 3);
    assert!(stamps.iter().all(|&stamp| stamp <= now && now - stamp < LONG.as_nanos()));
    let wrong = post_json(&one, Api::Chat, json!({"model": "m+sing=1", "messages": []})).await;
    assert!(wrong["error"]["message"].as_str().unwrap().contains("'sing' is no behaviour"));
}
