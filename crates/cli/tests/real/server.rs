use std::io::{BufRead, BufReader};
use std::process::Command;

use super::{ENCODER, MODEL, Server, http, ok, python};

#[test]
fn the_official_openai_client_works() {
    let server = Server::start(&["--model", MODEL, "--model", ENCODER]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py");
    ok(Command::new(python()).arg(script).arg(format!("{}/v1", server.url)).args([MODEL, ENCODER]));
}

/// Status code and body of a request by curl.
fn curl(url: &str, args: &[&str]) -> (String, String) {
    let output = ok(Command::new("curl").args(["-sS", "-w", "\n%{http_code}", url]).args(args));
    let (body, status) = output.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn curl_works() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("curl is not installed: the same requests are made by the other tests");
        return;
    }
    let server = Server::start(&[]);
    let url = |path: &str| format!("{}{path}", server.url);
    let post = |path: &str, body: &str| curl(&url(path), &["-H", "content-type: application/json", "-d", body]);

    for path in ["/healthz", "/readyz", "/metrics", "/", "/v1/models"] {
        let (status, body) = curl(&url(path), &[]);
        assert!(status == "200" && !body.is_empty(), "{path}: {status} {body}");
    }
    let (status, body) = post(
        "/v1/chat/completions",
        &format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"Hi"}}],"max_tokens":5,"stream":true}}"#),
    );
    assert_eq!(status, "200");
    assert!(body.starts_with("data: {") && body.trim_end().ends_with("data: [DONE]"), "{body}");
    let (status, body) = post("/v1/completions", &format!(r#"{{"model":"{MODEL}","prompt":"Hi","max_tokens":2}}"#));
    assert!(status == "200" && body.contains("\"usage\""), "{body}");

    for (path, request, expected, part) in [
        ("/v1/chat/completions", "{", "400", "\"error\""),
        ("/v1/chat/completions", r#"{"model":"none","messages":[]}"#, "404", "model_not_found"),
        ("/v1/nothing", "{}", "404", "\"error\""),
    ] {
        let (status, body) = post(path, request);
        assert!(status == expected && body.contains(part), "{path} {request}: {status} {body}");
    }
    let long = format!(r#"{{"model":"{MODEL}","prompt":"{}","max_tokens":2}}"#, "word ".repeat(10_000));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, long).unwrap();
    let (status, body) = post("/v1/completions", &format!("@{}", file.path().display()));
    assert!(status == "400" && body.contains("context_length_exceeded"), "{body}");
}

#[test]
fn sigterm_lets_running_answers_finish() {
    let mut server = Server::start(&[]);
    let body = format!(r#"{{"model":"{MODEL}","prompt":"Once upon a time","max_tokens":60,"stream":true}}"#);
    let response = http()
        .post(format!("{}/v1/completions", server.url))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .unwrap();
    let mut lines = BufReader::new(response).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("data: {"));
    server.terminate();
    let rest: Vec<String> = lines.map(Result::unwrap).filter(|line| !line.is_empty()).collect();
    assert_eq!(rest.last().map(String::as_str), Some("data: [DONE]"));
    assert!(server.wait().success());
}

#[test]
fn a_pinned_system_prompt_is_computed_before_the_first_request() {
    let system = "You sort the mail of a town library. ".repeat(20);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("{system}\n")).unwrap();
    let server = Server::start(&["--pin", file.path().to_str().unwrap()]);
    let body = serde_json::json!({"model": MODEL, "max_tokens": 1, "messages": [
        {"role": "system", "content": system}, {"role": "user", "content": "Where do returned books go?"}]});
    let answer: serde_json::Value =
        http().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().unwrap().json().unwrap();
    let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!((100..300).contains(&cached), "{answer}");
    let metrics = http().get(format!("{}/metrics", server.url)).send().unwrap().text().unwrap();
    let pinned = format!("bantam_kv_pages_pinned{{model=\"{MODEL}\"}} {}", cached / 16);
    assert!(metrics.contains(&pinned), "{metrics}");
}
