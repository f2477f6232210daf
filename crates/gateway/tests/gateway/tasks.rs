//! Tasks over HTTP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bantam_tasks::fit::{Labelled, fit_encoder};
use bantam_tasks::model::{EncoderModel, LocalModel};
use bantam_tasks::{Runner, Task};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::client::{Client, post};
use crate::server::{ENCODER, MODEL, Options, Server, start, start_with};
use crate::toy::{BOMB, POISON};

const TOPIC: &str = "/v1/tasks/topic/run";
const MAIL: &str = "/v1/tasks/mail/run";

fn task(text: &str) -> Arc<Task> {
    let dir = PathBuf::from("/nonexistent");
    Arc::new(Task::parse(text, Path::new("task.toml"), &dir).unwrap())
}

/// A classification by the toy, fields of two columns, fields that never fit, and a classification by the encoder.
fn tasks(toy: &LocalModel, encoder: &EncoderModel) -> Vec<Runner> {
    let topic = task(
        "name = 'topic'\nkind = 'classify'\ndescription = 'What it is about.'\nmodel = 'toy'\n\
         [classify]\nlabels = ['billing', 'delivery', 'account']\n[accept]\nconfidence = 0.9\n",
    );
    let mail = task(
        "name = 'mail'\nkind = 'fields'\ninput = ['subject', 'body']\n[fields.schema]\ntype = 'object'\n\
         required = ['urgent', 'topic']\nadditionalProperties = false\n[fields.schema.properties]\n\
         urgent = { type = 'boolean' }\ntopic = { enum = ['a', 'b'] }\n",
    );
    let cut = task(
        "name = 'cut'\nkind = 'fields'\n[fields]\nmax_tokens = 3\n[fields.schema]\ntype = 'object'\nrequired = ['a']\n\
         [fields.schema.properties]\na = { type = 'string', minLength = 9 }\n",
    );
    let intent = task("name = 'intent'\nkind = 'classify'\n[classify]\nlabels = ['card', 'greeting']\n");
    let rows = (0..24).map(|i| match i % 2 {
        0 => Labelled { input: vec![format!("my card {i}")], answer: "card".into() },
        _ => Labelled { input: vec![format!("hello there {i}")], answer: "greeting".into() },
    });
    let fitted = fit_encoder(&intent, encoder, &rows.collect::<Vec<_>>(), &mut |_| std::ops::ControlFlow::Continue(()));
    vec![
        Runner::generating(topic, toy, None).unwrap(),
        Runner::generating(mail, toy, None).unwrap(),
        Runner::generating(cut, toy, None).unwrap(),
        Runner::encoder(intent, encoder.clone(), &fitted.unwrap().file).unwrap(),
    ]
}

async fn started() -> Server {
    start_with(Options { tasks, ..Options::default() }).await
}

/// A result without what differs from run to run.
fn stable(mut result: Value) -> Value {
    let object = result.as_object_mut().unwrap();
    object.remove("latency_ms").unwrap();
    object["usage"].as_object_mut().unwrap().remove("cached_tokens").unwrap();
    result
}

#[tokio::test]
async fn tasks_are_listed_with_what_they_take_and_give() {
    let server = started().await;
    let mut client = server.client().await;
    let list = client.get("/v1/tasks").await.json();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
    assert_eq!((&list["object"], &names[..]), (&json!("list"), &["topic", "mail", "cut", "intent"][..]));
    let topic = client.get("/v1/tasks/topic").await.json();
    assert_eq!(topic, list["data"][0]);
    assert_eq!((&topic["labels"], &topic["mode"]), (&json!(["billing", "delivery", "account"]), &json!("one")));
    assert_eq!((&topic["object"], &topic["model"]), (&json!("task"), &json!(MODEL)));
    assert_eq!((&topic["accept_confidence"], &topic["otherwise"]), (&json!(0.9), &json!("review")));
    assert_eq!(topic["hash"].as_str().unwrap().len(), 64);
    let mail = client.get("/v1/tasks/mail").await.json();
    assert_eq!((&mail["input"], &mail["schema"]["type"]), (&json!(["subject", "body"]), &json!("object")));
    assert!(mail.get("labels").is_none());

    let none = start().await;
    let mut client = none.client().await;
    assert_eq!(client.get("/v1/tasks").await.json()["data"], json!([]));
    assert!(client.get("/v1/tasks/topic").await.error().3.contains("no tasks; give it some"));
}

#[tokio::test]
async fn one_input_is_answered_by_its_result() {
    let server = started().await;
    let mut client = server.client().await;
    let reply = client.post(TOPIC, json!({ "input": "Where is my parcel?" })).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let result = reply.json();
    assert!(["billing", "delivery", "account"].contains(&result["value"].as_str().unwrap()), "{result}");
    let confidence = result["confidence"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&confidence));
    assert_eq!(result["verdict"] == "accept", confidence >= 0.9, "{result}");
    let hash = client.get("/v1/tasks/topic").await.json()["hash"].as_str().unwrap().to_owned();
    assert_eq!((&result["task"], &result["task_hash"]), (&json!("topic"), &json!(hash)));
    let headers = ["x-bantam-task", "x-bantam-task-hash", "x-bantam-model"].map(|name| reply.header(name).unwrap());
    assert_eq!(headers, ["topic", &hash, MODEL]);
    let named = client.post(TOPIC, json!({ "input": { "text": "Where is my parcel?" } })).await.json();
    assert_eq!(stable(named), stable(result));

    let mail = client.post(MAIL, json!({ "input": { "subject": "Help", "body": "Now!" } })).await.json();
    assert!(mail["value"]["urgent"].is_boolean() && mail["field_confidence"]["urgent"].is_number(), "{mail}");
    let intent = client.post("/v1/tasks/intent/run", json!({ "input": "hello there" })).await;
    assert_eq!((intent.json()["model"].as_str(), &intent.json()["calibrated"]), (Some(ENCODER), &json!(true)));
}

#[tokio::test]
async fn many_inputs_are_answered_in_order_as_each_would_be_alone() {
    let server = started().await;
    let mut client = server.client().await;
    for (path, of) in [
        (TOPIC, (|i| json!(format!("Message {i}"))) as fn(usize) -> Value),
        ("/v1/tasks/intent/run", |i| json!(format!("card {}", "hello ".repeat(i)))),
        (MAIL, |i| json!({ "subject": i, "body": "The same." })),
    ] {
        let inputs: Vec<Value> = (0..40).map(of).collect();
        let reply = client.post(path, json!({ "inputs": inputs })).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let together = reply.json()["results"].as_array().unwrap().clone();
        assert_eq!(together.len(), 40);
        for (input, result) in inputs.iter().zip(together) {
            let alone = client.post(path, json!({ "input": input })).await.json();
            assert_eq!(stable(result), stable(alone), "{path} {input}");
        }
    }
}

#[tokio::test]
async fn errors_name_the_field_and_the_fix() {
    let server = started().await;
    let mut client = server.client().await;
    let long = "word ".repeat(200);
    for (path, body, status, code, param) in [
        (TOPIC, json!({}), 400, "invalid_value", Some("input")),
        (TOPIC, json!({ "input": "a", "inputs": ["b"] }), 400, "invalid_value", Some("inputs")),
        (TOPIC, json!({ "input": 5 }), 400, "invalid_value", Some("input")),
        (TOPIC, json!({ "input": " " }), 400, "invalid_value", Some("input")),
        (TOPIC, json!({ "input": "a\u{0}b" }), 400, "invalid_value", Some("input")),
        (TOPIC, json!({ "input": { "text": "a", "title": "b" } }), 400, "invalid_value", Some("input.title")),
        (TOPIC, json!({ "input": { "text": ["a"] } }), 400, "invalid_value", Some("input.text")),
        (TOPIC, json!({ "inputs": [] }), 400, "invalid_value", Some("inputs")),
        (TOPIC, json!({ "inputs": "a" }), 400, "invalid_value", Some("inputs")),
        (TOPIC, json!({ "inputs": vec!["a"; 257] }), 400, "invalid_value", Some("inputs")),
        (TOPIC, json!({ "input": long }), 400, "context_length_exceeded", Some("input")),
        (MAIL, json!({ "input": "one text" }), 400, "invalid_value", Some("input")),
        (MAIL, json!({ "input": { "subject": "a" } }), 400, "invalid_value", Some("input.body")),
        (MAIL, json!({ "input": { "subject": "a", "body": null } }), 400, "invalid_value", Some("input.body")),
        ("/v1/tasks/cut/run", json!({ "input": "a" }), 422, "answer_cut", None),
        (TOPIC, json!({ "input": POISON }), 500, "model_error", None),
        ("/v1/tasks/topics/run", json!({ "input": "a" }), 404, "task_not_found", None),
    ] {
        let reply = client.post(path, &body).await;
        let (found, said, blamed, message) = reply.error();
        assert_eq!((found, &*said, blamed.as_deref()), (status, code, param), "{path} {body}: {message}");
        if status == 404 {
            assert!(message.contains("'topic', 'mail', 'cut', 'intent'"), "{message}");
        } else {
            assert!(reply.header("x-bantam-task").is_some(), "{path} {body}");
        }
    }
    assert_eq!(client.post(TOPIC, "{").await.error().1, "invalid_json");
    assert_eq!(client.get(TOPIC).await.error().0, 405);
    let reply = client.post(TOPIC, json!({ "input": BOMB })).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (503, "model_error"));
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn an_input_without_an_answer_does_not_cost_the_others_theirs() {
    let server = started().await;
    let mut client = server.client().await;
    let body = json!({ "inputs": ["fine", 7, { "text": "fine" }, "", POISON, { "txt": "a" }] });
    let reply = client.post(TOPIC, body).await;
    assert_eq!(reply.status, 200);
    let results = reply.json()["results"].as_array().unwrap().clone();
    assert_eq!(stable(results[0].clone()), stable(results[2].clone()));
    let error = |i: usize| (results[i]["error"]["code"].as_str().unwrap(), results[i]["error"]["param"].as_str());
    assert_eq!(error(1), ("invalid_value", Some("inputs[1]")));
    assert_eq!(error(3), ("invalid_value", Some("inputs[3]")));
    assert_eq!(error(4), ("model_error", None));
    assert_eq!(error(5), ("invalid_value", Some("inputs[5].text")));
    let metrics = client.get("/metrics").await.body;
    let verdict = results[0]["verdict"].as_str().unwrap();
    for line in [
        format!(r#"bantam_task_inputs_total{{task="topic",verdict="{verdict}"}} 2"#),
        r#"bantam_task_inputs_total{task="topic",verdict="bad_input"} 1"#.to_owned(),
        r#"bantam_task_inputs_total{task="topic",verdict="model_failed"} 1"#.to_owned(),
        r#"bantam_task_input_duration_seconds_count{task="topic"} 2"#.to_owned(),
        format!(
            r#"bantam_http_requests_total{{route="/v1/tasks/{{name}}/run",model="{MODEL}",method="POST",status="200"}} 1"#
        ),
    ] {
        assert!(metrics.lines().any(|found| found == line), "missing {line}\n{metrics}");
    }
}

async fn run(address: std::net::SocketAddr, path: &'static str, body: Value) -> crate::client::Reply {
    Client::connect(address).await.post(path, body).await
}

#[tokio::test]
async fn many_clients_at_once_get_what_each_would_alone_and_block_nobody() {
    let mut options = Options { tasks, step_time: Duration::from_millis(2), ..Options::default() };
    options.gateway.limits.task_runs = 2;
    let server = start_with(options).await;
    let body = |i: usize| json!({ "inputs": [format!("a {i}"), format!("b {i}")] });
    let mut alone = Vec::new();
    for i in 0..8 {
        alone.push(run(server.address, TOPIC, body(i)).await.json());
    }
    let together: Vec<_> = (0..8).map(|i| tokio::spawn(run(server.address, TOPIC, body(i)))).collect();
    assert_eq!(server.client().await.get("/healthz").await.status, 200);
    for (reply, alone) in join_all(together).await.into_iter().zip(alone) {
        let reply = reply.unwrap().json();
        for i in 0..2 {
            assert_eq!(stable(reply["results"][i].clone()), stable(alone["results"][i].clone()));
        }
    }
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_any_more_ends() {
    let mut options = Options { tasks, step_time: Duration::from_millis(40), ..Options::default() };
    options.gateway.limits.task_runs = 1;
    options.gateway.timeouts.request = Duration::from_millis(400);
    let server = start_with(options).await;
    let inputs: Vec<String> = (0..256).map(|i| format!("Message {i}")).collect();
    let reply = run(server.address, TOPIC, json!({ "inputs": inputs })).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (504, "request_timeout"));
    server.idle().await;
    // Its place is free again.
    for _ in 0..100 {
        if run(server.address, TOPIC, json!({ "input": "One." })).await.status == 200 {
            return;
        }
    }
    panic!("the run goes on");
}

#[tokio::test]
async fn a_running_task_is_finished_before_the_server_ends() {
    let mut server = start_with(Options { tasks, step_time: Duration::from_millis(20), ..Options::default() }).await;
    let running = tokio::spawn(run(server.address, TOPIC, json!({ "inputs": vec!["a b c"; 256] })));
    server.wait("a running task", || server.engine.stats().running > 0).await;
    let mut late = server.client().await;
    server.begin_shutdown();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = late.reply(post(TOPIC, json!({ "input": "a" }))).await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (503, "shutting_down"));
    assert_eq!(running.await.unwrap().json()["results"].as_array().unwrap().len(), 256);
    server.ended().await;
}

#[tokio::test]
async fn a_task_that_outlasts_the_drain_timeout_is_ended() {
    let mut options = Options { tasks, step_time: Duration::from_millis(20), ..Options::default() };
    options.gateway.timeouts.drain = Duration::from_millis(100);
    let mut server = start_with(options).await;
    let inputs: Vec<String> = (0..256).map(|i| format!("Message {i}")).collect();
    let running = tokio::spawn(run(server.address, TOPIC, json!({ "inputs": inputs })));
    server.wait("a running task", || server.engine.stats().running > 0).await;
    server.begin_shutdown();
    assert_eq!(running.await.unwrap().error().1, "shutting_down");
    server.idle().await;
    server.ended().await;
}
