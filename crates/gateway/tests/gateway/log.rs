//! The line that is logged for each request.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bantam_gateway::ConfigFile;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::answers::chat;
use crate::client::post;
use crate::server::{MODEL, Options, start_with};

const CHAT: &str = "/v1/chat/completions";

/// What is logged on this thread, on which the server runs as well.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Status and model of each request for an answer, when there are so many.
    async fn answers(&self, count: usize) -> Vec<(u64, String)> {
        for _ in 0..500 {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone());
            let ours = lines.filter(|fields| fields["message"] == "request" && fields["route"] == CHAT);
            let seen: Vec<_> =
                ours.map(|f| (f["status"].as_u64().unwrap(), f["model"].as_str().unwrap().to_owned())).collect();
            if seen.len() >= count {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are not {count} lines");
    }
}

#[tokio::test]
async fn the_log_says_what_was_asked_for() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).with_writer(log.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let rules = "[[policy.rules]]\nname = 'none'\nlabels = ['secret']\nthen = 'refuse'";
    let file = ConfigFile::parse(rules, std::path::Path::new("bantam.toml")).unwrap();
    let options = Options { file, step_time: Duration::from_millis(20), ..Options::default() };
    let mut server = start_with(options).await;
    let mut client = server.client().await;
    let hostile = format!("no\u{1b}[2J\n{}", "x".repeat(100_000));
    let bounded = format!("no\\u{{1b}}[2J\\n{}", "x".repeat(121));
    for name in ["gpt-9", &hostile, MODEL] {
        client.post(CHAT, chat(json!({ "model": name, "max_tokens": 1 }))).await;
    }
    let mut refused = post(CHAT, chat(json!({})));
    refused.headers_mut().insert("x-bantam-labels", "secret".parse().unwrap());
    assert_eq!(client.reply(refused).await.error().1, "policy_refused");
    // On its way out.
    let mut late = server.client().await;
    late.get("/readyz").await;
    let running = client.send(post(CHAT, chat(json!({ "max_tokens": 40, "stream": true })))).await;
    server.begin_shutdown();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(late.post(CHAT, chat(json!({}))).await.error().1, "shutting_down");
    running.into_body().collect().await.unwrap();
    let seen = log.answers(6).await;
    let expected = [(404, "gpt-9"), (404, &*bounded), (200, MODEL), (403, MODEL), (503, MODEL), (200, MODEL)];
    assert_eq!(seen, expected.map(|(status, model)| (status, model.to_owned())));
    server.ended().await;
}
