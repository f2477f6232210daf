//! What servers elsewhere say may quote the key they were sent: no client gets to see that.

use bantam_gateway::ConfigFile;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::{Client, Reply};
use crate::server::{Options, Server, start_with};
use crate::upstreams::streamed;

const KEY: &str = "upstream-secret-1234567890";

/// A server that gives every request the same answer.
async fn upstream(status: u16, content_type: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
                while !seen.ends_with(b"}") {
                    match stream.read(&mut buffer).await.unwrap_or(0) {
                        0 => return,
                        n => seen.extend_from_slice(&buffer[..n]),
                    }
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    base
}

/// A gateway that sends its key to that server, as one that speaks chat and as one that speaks messages.
async fn gateway(base: &str) -> (Server, Client, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), KEY).unwrap();
    let provider = |name: &str, preset: &str, base: &str| {
        let key = dir.path().join("key");
        format!(
            "[[providers]]\nname = '{name}'\npreset = '{preset}'\nbase_url = '{base}'\nretries = 0\napi_key = {{ file = '{}' }}\n\
             [[routes]]\nname = '{name}'\ntargets = [{{ provider = '{name}', model = 'm' }}]\n",
            key.display()
        )
    };
    let v1 = format!("{base}/v1");
    let text = provider("openai", "openai", &v1) + &provider("claude", "anthropic", base);
    let file = ConfigFile::parse(&text, std::path::Path::new("bantam.toml")).unwrap();
    let server = start_with(Options { file, ..Options::default() }).await;
    let client = server.client().await;
    (server, client, dir)
}

fn requests(model: &str) -> [(&'static str, Value); 3] {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    [
        ("/v1/chat/completions", json!({"model": model, "messages": messages})),
        ("/v1/responses", json!({"model": model, "input": "Hi"})),
        ("/v1/messages", json!({"model": model, "max_tokens": 5, "messages": messages})),
    ]
}

#[track_caller]
fn keeps_quiet(reply: &Reply, about: &str) {
    for secret in [KEY, "upstream-secret", "sk-other"] {
        assert!(!reply.body.contains(secret), "{about}: {}", reply.body);
    }
}

fn quoting(code: &str) -> String {
    json!({"error": {
        "message": format!("Bad header: 'authorization: Bearer {KEY}' or {KEY}, not sk-other-key-0987654321; ask for less"),
        "type": "invalid_request_error", "code": code, "param": format!("authorization {KEY}"),
    }})
    .to_string()
}

#[tokio::test]
async fn errors_do_not_quote_the_key() {
    for (status, told) in
        [(400, 400), (401, 502), (402, 502), (403, 502), (404, 404), (407, 502), (429, 429), (500, 502)]
    {
        let base = upstream(status, "application/json", quoting("bad")).await;
        let (_server, mut client, _dir) = gateway(&base).await;
        for model in ["openai", "claude"] {
            for (path, body) in requests(model) {
                for body in [body.clone(), streamed(body)] {
                    let reply = client.post(path, body).await;
                    let about = format!("{status} {model} {path}");
                    assert_eq!(reply.status, told, "{about}: {}", reply.body);
                    keeps_quiet(&reply, &about);
                    // What helps the client is told, unless it is none of its business.
                    let passed_on = !matches!(status, 401..=403 | 407);
                    assert_eq!(reply.body.contains("ask for less"), passed_on, "{about}: {}", reply.body);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_refused_by_another_status_is_not_quoted_either() {
    let base = upstream(400, "application/json", quoting("invalid_api_key")).await;
    let (_server, mut client, _dir) = gateway(&base).await;
    let reply = client.post("/v1/chat/completions", requests("openai")[0].1.clone()).await;
    assert_eq!((reply.error().0, &*reply.error().1), (502, "upstream_refused"));
    assert!(!reply.body.contains("ask for less"), "{}", reply.body);
}

#[tokio::test]
async fn errors_in_successes_and_streams_do_not_quote_the_key() {
    let base = upstream(200, "application/json", quoting("bad")).await;
    let (_server, mut client, _dir) = gateway(&base).await;
    for model in ["openai", "claude"] {
        for (path, body) in requests(model) {
            let reply = client.post(path, body).await;
            keeps_quiet(&reply, path);
            assert!(reply.body.contains("[struck out]"), "{path}: {}", reply.body);
        }
    }
    for (code, passed_on) in [("bad", true), ("invalid_api_key", false)] {
        let event = quoting(code);
        let failed = json!({"type": "response.failed", "response": {"error": serde_json::from_str::<Value>(&event).unwrap()["error"]}});
        for event in [format!("data: {event}\n\n"), format!("event: response.failed\ndata: {failed}\n\n")] {
            let base = upstream(200, "text/event-stream", event.clone() + "data: [DONE]\n\n").await;
            let (_server, mut client, _dir) = gateway(&base).await;
            for (model, (path, body)) in ["openai", "claude"].into_iter().flat_map(|m| requests(m).map(|r| (m, r))) {
                let reply = client.post(path, streamed(body)).await;
                let about = format!("{code} {model} {path}");
                keeps_quiet(&reply, &about);
                assert!(reply.body.contains("error") && !reply.body.contains("[DONE]"), "{about}: {}", reply.body);
                // Only OpenAI's server has that event.
                if !event.contains("response.failed") || (model, path) == ("openai", "/v1/responses") {
                    assert_eq!(reply.body.contains("ask for less"), passed_on, "{about}: {}", reply.body);
                }
            }
        }
    }
}
