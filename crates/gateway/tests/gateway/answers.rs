//! Whole answers: shape, sampling, counting.

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{BASE_MODEL, MODEL, start};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// A chat request with `extra` fields put over the usual ones.
pub(crate) fn chat(extra: Value) -> Value {
    let mut body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 12,
        "temperature": 0 });
    merge(&mut body, extra);
    body
}

/// A completion request with `extra` fields put over the usual ones.
pub(crate) fn completion(extra: Value) -> Value {
    let mut body = json!({ "model": MODEL, "prompt": "once upon", "max_tokens": 12, "temperature": 0 });
    merge(&mut body, extra);
    body
}

fn merge(body: &mut Value, extra: Value) {
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
}

async fn ask(client: &mut Client, path: &str, body: Value) -> Value {
    let reply = client.post(path, &body).await;
    assert_eq!(reply.status, 200, "{body}: {}", reply.body);
    reply.json()
}

fn content(answer: &Value, index: usize) -> String {
    let choice = &answer["choices"][index];
    assert_eq!(choice["index"], index);
    choice["message"]["content"].as_str().or(choice["text"].as_str()).unwrap().to_string()
}

#[tokio::test]
async fn a_chat_answer_has_openais_shape() {
    let server = start().await;
    let reply = server.client().await.post(CHAT, chat(json!({}))).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-bantam-model"), Some(MODEL));
    assert_eq!(reply.header("x-bantam-fingerprint"), Some("bantam-0123456789abcdef-n1"));
    let answer = reply.json();
    let keys: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], MODEL);
    assert_eq!(answer["system_fingerprint"], "bantam-0123456789abcdef-n1");
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(content(&answer, 0).len(), 12);
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["logprobs"], Value::Null);
    assert_eq!(choice["message"]["role"], "assistant");
    // <|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n
    let usage = json!({ "prompt_tokens": 24, "completion_tokens": 12, "total_tokens": 36,
        "prompt_tokens_details": { "cached_tokens": 0 }, "completion_tokens_details": { "reasoning_tokens": 0 } });
    assert_eq!(answer["usage"], usage);
}

#[tokio::test]
async fn a_completion_has_openais_shape() {
    let server = start().await;
    let mut client = server.client().await;
    let answer = ask(&mut client, COMPLETIONS, completion(json!({ "model": BASE_MODEL }))).await;
    let keys: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]);
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["model"], BASE_MODEL);
    let choice = json!({ "index": 0, "text": content(&answer, 0), "logprobs": null, "finish_reason": "length" });
    assert_eq!(answer["choices"], json!([choice]));
    assert_eq!(answer["usage"]["prompt_tokens"], 9);
    // Without max_tokens a completion is short, as OpenAI's are.
    let mut body = completion(json!({}));
    body.as_object_mut().unwrap().remove("max_tokens");
    assert_eq!(ask(&mut client, COMPLETIONS, body).await["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn parts_and_the_developer_role_are_what_they_stand_for() {
    let server = start().await;
    let mut client = server.client().await;
    let plain = json!([{ "role": "system", "content": "be brief" }, { "role": "user", "content": "hello" }]);
    let parts = json!([
        { "role": "developer", "content": [{ "type": "text", "text": "be " }, { "type": "text", "text": "brief" }] },
        { "role": "user", "content": [{ "type": "text", "text": "hello" }], "name": "ann" }
    ]);
    let a = ask(&mut client, CHAT, chat(json!({ "messages": plain }))).await;
    let b = ask(&mut client, CHAT, chat(json!({ "messages": parts }))).await;
    assert_eq!(content(&a, 0), content(&b, 0));
    assert_eq!(a["usage"]["prompt_tokens"], b["usage"]["prompt_tokens"]);
    assert_eq!(b["usage"]["prompt_tokens_details"]["cached_tokens"], 32, "the same prompt again is cached: {b}");
}

#[tokio::test]
async fn harmless_fields_are_tolerated() {
    let server = start().await;
    let extra = json!({ "user": "u", "store": true, "metadata": { "a": "b" }, "service_tier": "auto", "tools": [],
        "tool_choice": "none", "response_format": { "type": "text" }, "modalities": ["text"], "n": null,
        "parallel_tool_calls": true, "reasoning_effort": "low", "stop": [], "logit_bias": {}, "seed": null,
        "stream_options": null, "something_new": [1, 2, { "x": null }], "logprobs": false, "top_logprobs": 0 });
    ask(&mut server.client().await, CHAT, chat(extra)).await;
    let extra = json!({ "user": "u", "best_of": 1, "suffix": "", "logprobs": null, "echo": false });
    ask(&mut server.client().await, COMPLETIONS, completion(extra)).await;
}

#[tokio::test]
async fn a_seed_makes_sampling_repeatable() {
    let server = start().await;
    let mut client = server.client().await;
    let mut texts = Vec::new();
    for seed in [json!(7), json!(7), json!(8), json!(-1), json!(u64::MAX)] {
        let body = chat(json!({ "temperature": 1, "seed": seed }));
        texts.push(content(&ask(&mut client, CHAT, body).await, 0));
    }
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0], texts[2]);
    assert_eq!(texts[3], texts[4], "-1 and 2^64 - 1 are the same 64 bits");
    let mut free = Vec::new();
    for _ in 0..2 {
        free.push(content(&ask(&mut client, CHAT, chat(json!({ "temperature": 1 }))).await, 0));
    }
    assert_ne!(free[0], free[1], "without a seed every answer is drawn anew");
}

#[tokio::test]
async fn n_answers_differ_and_are_the_same_again() {
    let server = start().await;
    let mut client = server.client().await;
    let body = chat(json!({ "temperature": 1, "seed": 3, "n": 4 }));
    let a = ask(&mut client, CHAT, body.clone()).await;
    let texts: Vec<_> = (0..4).map(|i| content(&a, i)).collect();
    for i in 0..4 {
        assert!(!texts[..i].contains(&texts[i]), "{texts:?}");
    }
    assert_eq!(a["usage"]["prompt_tokens"], 24, "a prompt counts once");
    assert_eq!(a["usage"]["completion_tokens"], 48);
    let b = ask(&mut client, CHAT, body).await;
    assert_eq!(a["choices"], b["choices"]);
    let one = ask(&mut client, CHAT, chat(json!({ "temperature": 1, "seed": 3 }))).await;
    assert_eq!(content(&one, 0), texts[0], "the first of n is the one of one");
}

#[tokio::test]
async fn many_prompts_are_answered_in_order() {
    let server = start().await;
    let mut client = server.client().await;
    let single = async |client: &mut Client, prompt: Value| {
        let answer =
            ask(client, COMPLETIONS, completion(json!({ "prompt": prompt, "temperature": 1, "seed": 5 }))).await;
        content(&answer, 0)
    };
    let first = single(&mut client, json!("abc")).await;
    let second = single(&mut client, json!("xyz")).await;
    assert_ne!(first, second);
    let extra = json!({ "prompt": ["abc", "xyz"], "temperature": 1, "seed": 5, "n": 2 });
    let both = ask(&mut client, COMPLETIONS, completion(extra)).await;
    assert_eq!(both["choices"].as_array().unwrap().len(), 4);
    assert_eq!(content(&both, 0), first);
    assert_eq!(content(&both, 2), second);
    assert_eq!(both["usage"]["prompt_tokens"], 6);
    // The same as token ids.
    assert_eq!(single(&mut client, json!([97, 98, 99])).await, first);
    let lists = json!({ "prompt": [[97, 98, 99], [120, 121, 122]], "temperature": 1, "seed": 5 });
    let lists = ask(&mut client, COMPLETIONS, completion(lists)).await;
    assert_eq!((content(&lists, 0), content(&lists, 1)), (first, second));
}

#[tokio::test]
async fn echo_repeats_the_prompt() {
    let server = start().await;
    let mut client = server.client().await;
    let plain = content(&ask(&mut client, COMPLETIONS, completion(json!({}))).await, 0);
    let echoed = ask(&mut client, COMPLETIONS, completion(json!({ "echo": true }))).await;
    assert_eq!(content(&echoed, 0), format!("once upon{plain}"));
    let ids: Vec<u8> = "once upon".into();
    let echoed = ask(&mut client, COMPLETIONS, completion(json!({ "echo": true, "prompt": ids, "n": 2 }))).await;
    assert_eq!(content(&echoed, 1), format!("once upon{plain}"));
}

#[tokio::test]
async fn answers_stop_where_they_are_told_to() {
    let server = start().await;
    let mut client = server.client().await;
    let full = content(&ask(&mut client, CHAT, chat(json!({ "max_tokens": 40 }))).await, 0);
    let stop = &full[10..13];
    let at = full.find(stop).unwrap();
    for stop in [json!(stop), json!(["never!", stop])] {
        let answer = ask(&mut client, CHAT, chat(json!({ "max_tokens": 40, "stop": stop }))).await;
        assert_eq!(content(&answer, 0), full[..at]);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    let byte = full.as_bytes()[5];
    let answer = ask(&mut client, CHAT, chat(json!({ "max_tokens": 40, "stop_token_ids": [byte] }))).await;
    assert_eq!(content(&answer, 0), full[..full.find(char::from(byte)).unwrap()]);
    // The model ends its turn by itself after '!'.
    let ends = json!({ "logit_bias": { "33": 100 } });
    let answer = ask(&mut client, CHAT, chat(ends)).await;
    assert_eq!((content(&answer, 0).as_str(), &answer["choices"][0]["finish_reason"]), ("!", &json!("stop")));
    let goes_on = json!({ "logit_bias": { "33": 100 }, "ignore_eos": true });
    let answer = ask(&mut client, CHAT, chat(goes_on)).await;
    assert_eq!(answer["usage"]["completion_tokens"], 12);
}

#[tokio::test]
async fn an_answer_ends_with_the_context() {
    let server = start().await;
    let mut body = chat(json!({}));
    body.as_object_mut().unwrap().remove("max_tokens");
    let answer = ask(&mut server.client().await, CHAT, body).await;
    assert_eq!(answer["usage"]["total_tokens"], 512);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn characters_of_two_tokens_arrive_whole() {
    let server = start().await;
    let mut client = server.client().await;
    // Byte 0xc3 is always drawn, and 0xa9 always follows it.
    let body = chat(json!({ "logit_bias": { "195": 100 }, "max_tokens": 6 }));
    assert_eq!(content(&ask(&mut client, CHAT, body).await, 0), "ééé");
    let body = chat(json!({ "logit_bias": { "195": 100 }, "max_tokens": 5, "logprobs": true, "top_logprobs": 2 }));
    let answer = ask(&mut client, CHAT, body).await;
    assert_eq!(content(&answer, 0), "éé\u{fffd}", "half a character at the end is shown as such");
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    assert_eq!((&tokens[0]["bytes"], &tokens[1]["bytes"]), (&json!([0xc3]), &json!([0xa9])));
    let body = completion(json!({ "logit_bias": { "195": 100 }, "max_tokens": 4, "logprobs": 1 }));
    let answer = ask(&mut client, COMPLETIONS, body).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["bytes:\\xc3", "bytes:\\xa9", "bytes:\\xc3", "bytes:\\xa9"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 1, 2]));
}

#[tokio::test]
async fn chat_logprobs_belong_to_the_text() {
    let server = start().await;
    let mut client = server.client().await;
    let extra =
        json!({ "logprobs": true, "top_logprobs": 3, "stop": "!", "logit_bias": { "33": 0.5 }, "max_tokens": 30 });
    let answer = ask(&mut client, CHAT, chat(extra)).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["refusal"], Value::Null);
    let tokens = logprobs["content"].as_array().unwrap();
    let text: String = tokens.iter().map(|t| t["token"].as_str().unwrap()).collect();
    assert_eq!(text, content(&answer, 0));
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy takes the likeliest.
        assert_eq!(top[0]["token"], token["token"]);
        assert_eq!(top[0]["logprob"], token["logprob"]);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
        let bytes: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
        assert_eq!(bytes, token["token"].as_str().unwrap().as_bytes());
    }
    let plain = ask(&mut client, CHAT, chat(json!({ "logprobs": true }))).await;
    assert_eq!(plain["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[tokio::test]
async fn tokens_of_a_stop_string_have_no_logprobs() {
    let server = start().await;
    let mut client = server.client().await;
    let full = content(&ask(&mut client, CHAT, chat(json!({ "max_tokens": 40 }))).await, 0);
    let stop = &full[10..13];
    let body = chat(json!({ "max_tokens": 40, "stop": stop, "logprobs": true }));
    let answer = ask(&mut client, CHAT, body).await;
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), content(&answer, 0).len());
    // Nor does the token that ends the turn.
    let body = chat(json!({ "logit_bias": { "33": 100 }, "logprobs": true }));
    let answer = ask(&mut client, CHAT, body).await;
    assert_eq!(answer["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn completion_logprobs_run_in_step() {
    let server = start().await;
    let answer = ask(&mut server.client().await, COMPLETIONS, completion(json!({ "logprobs": 2 }))).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    let lengths: Vec<_> = logprobs.as_object().unwrap().values().map(|v| v.as_array().unwrap().len()).collect();
    assert_eq!(lengths, [12; 4]);
    let tokens: String = logprobs["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(tokens, content(&answer, 0));
    assert_eq!(logprobs["text_offset"], json!((0..12).collect::<Vec<_>>()));
    for i in 0..12 {
        let top = logprobs["top_logprobs"][i].as_object().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[logprobs["tokens"][i].as_str().unwrap()], logprobs["token_logprobs"][i]);
    }
}

#[tokio::test]
async fn penalties_and_cuts_reach_the_engine() {
    let server = start().await;
    let mut client = server.client().await;
    let greedy = content(&ask(&mut client, CHAT, chat(json!({}))).await, 0);
    let cut = chat(json!({ "temperature": 2, "top_k": 1 }));
    assert_eq!(content(&ask(&mut client, CHAT, cut).await, 0), greedy);
    let cut = chat(json!({ "temperature": 2, "top_p": 1e-300 }));
    assert_eq!(content(&ask(&mut client, CHAT, cut).await, 0), greedy);
    let cut = chat(json!({ "temperature": 2, "min_p": 1 }));
    assert_eq!(content(&ask(&mut client, CHAT, cut).await, 0), greedy);
    for (field, value) in [("frequency_penalty", 2.0), ("presence_penalty", 2.0), ("repetition_penalty", 5.0)] {
        let penalised = ask(&mut client, CHAT, chat(json!({ field: value, "max_tokens": 60 }))).await;
        let plain = ask(&mut client, CHAT, chat(json!({ "max_tokens": 60 }))).await;
        assert_ne!(content(&penalised, 0), content(&plain, 0), "{field}");
    }
    let banned = greedy.as_bytes()[0].to_string();
    let answer = ask(&mut client, CHAT, chat(json!({ "logit_bias": { banned: -100 } }))).await;
    assert!(!content(&answer, 0).contains(&greedy[..1]));
    let newer = chat(json!({ "max_completion_tokens": 5 }));
    assert_eq!(ask(&mut client, CHAT, newer).await["usage"]["completion_tokens"], 5);
}
