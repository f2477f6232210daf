//! Shutdown: running requests finish, new ones are told, and nothing hangs.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::json;
use tokio::net::TcpStream;

use crate::answers::chat;
use crate::client::{parse_events, post};
use crate::server::{Options, start, start_with};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn running_requests_finish_and_new_ones_are_refused() {
    let mut server = start_with(Options { step_time: Duration::from_millis(20), ..Options::default() }).await;
    let mut whole = server.client().await;
    let mut streaming = server.client().await;
    let mut late = server.client().await;
    let whole = tokio::spawn(async move { whole.post(CHAT, chat(json!({ "max_tokens": 40 }))).await });
    let stream = streaming.send(post(CHAT, chat(json!({ "max_tokens": 40, "stream": true })))).await;
    server.wait("two running", || server.engine.stats().running == 2).await;
    assert_eq!(late.get("/readyz").await.status, 200);
    server.begin_shutdown();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let reply = server.client().await.get("/readyz").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (503, &json!("draining")));
    assert_eq!(server.client().await.get("/healthz").await.status, 200);
    let reply = late.post(CHAT, chat(json!({}))).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (503, "shutting_down"));
    assert_eq!((reply.header("connection"), reply.header("retry-after")), (Some("close"), Some("1")));
    let whole = whole.await.unwrap();
    assert_eq!(whole.json()["usage"]["completion_tokens"], 40);
    let text = String::from_utf8(stream.into_body().collect().await.unwrap().to_bytes().into()).unwrap();
    assert_eq!(parse_events(&text).len(), 42);
    let address = server.address;
    server.ended().await;
    assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn an_idle_server_ends_at_once_even_with_open_connections() {
    let mut server = start().await;
    let mut used = server.client().await;
    used.get("/healthz").await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    server.begin_shutdown();
    server.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn requests_that_outlast_the_drain_timeout_are_ended() {
    let mut options = Options { step_time: Duration::from_millis(50), ..Options::default() };
    options.gateway.timeouts.drain = Duration::from_millis(200);
    let mut server = start_with(options).await;
    let mut whole = server.client().await;
    let mut streaming = server.client().await;
    let whole = tokio::spawn(async move { whole.post(CHAT, chat(json!({ "max_tokens": 400 }))).await });
    let stream = streaming.send(post(CHAT, chat(json!({ "max_tokens": 400, "stream": true })))).await;
    server.wait("two running", || server.engine.stats().running == 2).await;
    server.begin_shutdown();
    assert_eq!(whole.await.unwrap().error().1, "shutting_down");
    let text = String::from_utf8(stream.into_body().collect().await.unwrap().to_bytes().into()).unwrap();
    assert_eq!(parse_events(&text).last().unwrap()["error"]["code"], "shutting_down");
    server.idle().await;
    server.ended().await;
}
