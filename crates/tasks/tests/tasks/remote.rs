//! A model behind a server that behaves, and misbehaves, as paid ones do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bantam_tasks::model::{RemoteConfig, RemoteModel};
use bantam_tasks::{RowError, Runner, Task, TaskResult};
use serde_json::{Value, json};

use crate::fake::task;

/// Status line's end, extra headers, body; and how many bytes of the body are really sent.
struct Reply {
    status: &'static str,
    headers: &'static str,
    body: String,
    cut: Option<usize>,
}

fn reply(status: &'static str, body: impl ToString) -> Reply {
    Reply { status, headers: "", body: body.to_string(), cut: None }
}

fn completion(content: &str) -> Value {
    json!({ "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": content } }],
        "usage": { "prompt_tokens": 12, "completion_tokens": 3 } })
}

struct Server {
    url: String,
    /// Headers and body of every request.
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

/// Answers the n-th request with what `say` makes of n and the user's text.
fn serve(say: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, say) = (Arc::clone(&seen), Arc::new(say));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (log, say) = (Arc::clone(&log), Arc::clone(&say));
            std::thread::spawn(move || one(stream.unwrap(), &log, &*say));
        }
    });
    Server { url, seen }
}

fn one(mut stream: TcpStream, log: &Mutex<Vec<(String, Value)>>, say: &dyn Fn(usize, &str) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let user = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    let n = {
        let mut log = log.lock().unwrap();
        log.push((head, body));
        log.len() - 1
    };
    let Reply { status, headers, body, cut } = say(n, &user);
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // The client may have gone.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body.as_bytes()[..cut.unwrap_or(body.len())]));
}

fn runner(task: Arc<Task>, url: &str, timeout: Duration) -> Runner {
    let config = RemoteConfig {
        base_url: url.to_owned(),
        model: "big".into(),
        api_key: Some("sk-secret".into()),
        concurrency: 4,
        timeout,
    };
    Runner::generating(task, &RemoteModel::new(config).unwrap(), None).unwrap()
}

fn topic() -> Arc<Task> {
    task(
        "name = 't'\nkind = 'classify'\ninstructions = 'Say what.'\n[classify]\nlabels = ['billing', 'delivery']\n\
         [[examples]]\ninput = 'Late.'\nanswer = 'delivery'\n",
    )
}

fn ask(server: &Server, task: Arc<Task>, text: &str) -> Result<TaskResult, RowError> {
    runner(task, &server.url, Duration::from_secs(20)).run(&[vec![text.into()]]).remove(0)
}

#[test]
fn rows_come_back_in_order_with_what_the_server_was_asked() {
    let server = serve(|_, user| {
        let n: u64 = user.parse().unwrap();
        std::thread::sleep(Duration::from_millis(n * 7 % 20));
        reply(
            "200 OK",
            completion(if n.is_multiple_of(2) { r#"{"label":"billing"}"# } else { r#"{"label": "delivery"}"# }),
        )
    });
    let rows: Vec<Vec<String>> = (0..20).map(|n| vec![n.to_string()]).collect();
    let runner = runner(topic(), &server.url, Duration::from_secs(20));
    for (n, result) in runner.run(&rows).into_iter().enumerate() {
        let result = result.unwrap();
        assert_eq!(result.value, ["billing", "delivery"][n % 2]);
        assert_eq!((result.confidence, result.usage.prompt_tokens), (None, 12));
    }
    let seen = server.seen.lock().unwrap();
    let (head, body) = &seen[0];
    assert!(
        head.starts_with("POST /v1/chat/completions")
            && head.to_lowercase().contains("authorization: bearer sk-secret")
    );
    let shown: Vec<&str> = body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(shown, ["system", "user", "assistant", "user"]);
    assert!(body["messages"][0]["content"].as_str().unwrap().starts_with("Say what."));
    assert_eq!(body["messages"][2]["content"], r#"{"label":"delivery"}"#);
    assert_eq!((&body["model"], &body["temperature"]), (&json!("big"), &json!(0)));
    let schema = &body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["properties"]["label"]["enum"], json!(["billing", "delivery"]));
    assert!(!format!("{runner:?}").contains("secret"));
}

#[test]
fn answers_of_the_wrong_type_are_errors_and_not_tried_again() {
    for (content, why) in [
        (r#"{"label": "refunds"}"#, "'refunds' is none of the labels"),
        (r#"{"labels": ["billing"]}"#, "no label"),
        ("billing", "not valid"),
        ("```json\n{\"label\": \"billing\"}\n```", "not valid"),
        ("", "not valid"),
    ] {
        let server = serve(move |_, _| reply("200 OK", completion(content)));
        let error = ask(&server, topic(), "x").unwrap_err();
        assert_eq!(error.code(), "invalid_answer");
        assert!(error.to_string().contains(why), "{content}: {error}");
        assert_eq!(server.seen.lock().unwrap().len(), 1);
    }
    for (body, code) in [
        (json!({}), "invalid_answer"),
        (json!([]), "invalid_answer"),
        (json!({ "choices": [{ "message": { "content": null, "refusal": "No." } }] }), "invalid_answer"),
        (json!({ "choices": [{ "finish_reason": "length", "message": { "content": "{\"lab" } }] }), "cut"),
    ] {
        let text = body.to_string();
        let server = serve(move |_, _| reply("200 OK", &text));
        assert_eq!(ask(&server, topic(), "x").unwrap_err().code(), code, "{body}");
    }
}

#[test]
fn probabilities_are_taken_where_the_servers_tokens_are_the_text() {
    let with = |tokens: Value| {
        let mut body = completion(r#"{"label":"billing"}"#);
        body["choices"][0]["logprobs"] = json!({ "content": tokens });
        let server = serve(move |_, _| reply("200 OK", &body));
        ask(&server, topic(), "x").unwrap().confidence
    };
    let token = |text: &str, p: f64| json!({ "token": text, "logprob": p.ln(), "bytes": text.as_bytes() });
    let (open, close) = (token(r#"{"label":"#, 0.1), token("}", 0.3));
    let p = with(json!([open, token("\"bill", 0.5), token("ing\"", 0.8), close])).unwrap();
    assert!((p - 0.4).abs() < 1e-6, "{p}");
    let named = json!([{ "token": r#"{"label":"billing"}"#, "logprob": -0.25 }, { "token": "<end>", "logprob": -1 }]);
    assert!((with(named).unwrap() - (-0.25f64).exp()).abs() < 1e-6);
    assert_eq!(with(json!([open, token("\"billing\"", 9.0), close])), Some(1.0), "no more than certain");
    for other in [
        json!(null),
        json!([]),
        json!([token("billing", 0.5)]),
        json!([open, token("\"bill", 0.5)]),
        json!([open, { "token": "\"billing\"" }, close]),
        json!("tokens"),
    ] {
        assert_eq!(with(other.clone()), None, "{other}");
    }
}

#[test]
fn failures_that_may_pass_are_tried_again_and_others_are_not() {
    let right = || reply("200 OK", completion(r#"{"label":"billing"}"#));
    let limit = serve(move |n, _| match n {
        0 => Reply {
            headers: "retry-after: 1\r\n",
            ..reply("429 Too Many Requests", json!({ "error": { "message": "slow down" } }))
        },
        _ => right(),
    });
    let started = std::time::Instant::now();
    assert_eq!(ask(&limit, topic(), "x").unwrap().value, "billing");
    assert!(started.elapsed() >= Duration::from_secs(1));
    let broken = serve(move |n, _| match n {
        0 => Reply { cut: Some(9), ..right() },
        _ => right(),
    });
    assert_eq!(ask(&broken, topic(), "x").unwrap().value, "billing");

    let html = format!("<html>{}</html>", "x".repeat(5000));
    for (status, body, tries, retry, why) in [
        ("500 Internal Server Error", html.clone(), 3, true, "500 Internal Server Error: <html>"),
        (
            "401 Unauthorized",
            json!({ "error": { "message": "wrong key sk-secret" } }).to_string(),
            1,
            false,
            "refuses this program's key",
        ),
        (
            "400 Bad Request",
            json!({ "error": { "message": "not sk-secret" } }).to_string(),
            1,
            false,
            "not [struck out]",
        ),
        ("302 Found", String::new(), 1, false, "302"),
        ("200 OK", html, 1, false, "no JSON"),
        ("200 OK", format!("\"{}\"", "x".repeat(5 << 20)), 1, false, "longer than"),
    ] {
        let server = serve(move |_, _| reply(status, &body));
        match ask(&server, topic(), "x").unwrap_err() {
            RowError::Model { why: said, retry: found } => {
                assert!(said.contains(why) && said.len() < 400 && found == retry, "{said}");
                assert!(!said.contains("sk-secret"), "{said}");
            }
            error => panic!("{error}"),
        }
        assert_eq!(server.seen.lock().unwrap().len(), tries, "{status}");
    }
}

#[test]
fn a_server_that_is_slow_or_not_there_may_be_back() {
    let slow = serve(|_, _| {
        std::thread::sleep(Duration::from_secs(2));
        reply("200 OK", "{}")
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [slow.url, format!("http://{nobody}/v1")] {
        let outcome = runner(topic(), &url, Duration::from_millis(100)).run(&[vec!["x".into()]]).remove(0);
        assert!(matches!(&outcome, Err(RowError::Model { retry: true, why }) if !why.contains("sk-")), "{outcome:?}");
    }
}

#[test]
fn several_labels_and_fields_are_asked_for_as_such() {
    let many = task(
        "name = 't'\nkind = 'classify'\n[classify]\nmode = 'many'\nlabels = ['red, white', 'blue']\n\
         [[examples]]\ninput = 'Wine.'\nanswer = ['red, white']\n",
    );
    let server = serve(|n, _| {
        reply("200 OK", completion(["{\"labels\": [\"blue\"]}", "{\"labels\": []}", "{\"labels\": [\"green\"]}"][n]))
    });
    assert_eq!(ask(&server, Arc::clone(&many), "x").unwrap().value, json!(["blue"]));
    assert_eq!(ask(&server, Arc::clone(&many), "x").unwrap().value, json!([]));
    assert_eq!(ask(&server, many, "x").unwrap_err().code(), "invalid_answer");
    let shown = server.seen.lock().unwrap()[0].1["messages"][2]["content"].clone();
    assert_eq!(shown, r#"{"labels":["red, white"]}"#);

    let fields = task(
        "name = 't'\nkind = 'fields'\n[fields]\nmax_tokens = 7\n[fields.schema]\ntype = 'object'\nrequired = ['n']\n\
         [fields.schema.properties]\nn = { type = 'integer' }\n",
    );
    let server = serve(|n, _| reply("200 OK", completion(["{\"n\": 3}", "{\"n\": \"three\"}"][n])));
    assert_eq!(ask(&server, Arc::clone(&fields), "x").unwrap().value, json!({ "n": 3 }));
    assert_eq!(ask(&server, fields, "x").unwrap_err().code(), "invalid_answer");
    assert_eq!(server.seen.lock().unwrap()[0].1["max_tokens"], 7);
}
