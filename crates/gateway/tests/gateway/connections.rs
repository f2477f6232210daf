//! Peers that leave, stall, flood, or do not speak HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::answers::chat;
use crate::client::{Client, post};
use crate::server::{Options, start, start_with};

const CHAT: &str = "/v1/chat/completions";

/// A connection without HTTP.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Ends what is sent; an answer can still come.
    pub(crate) async fn half_close(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Everything until the server closes, which must be soon.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is a way to close as well.
        let read = tokio::time::timeout(Duration::from_secs(10), self.0.read_to_end(&mut bytes));
        let _ = read.await.expect("the server keeps the connection open");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn slow() -> Options {
    Options { step_time: Duration::from_millis(10), ..Options::default() }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    for stream in [false, true] {
        let server = start_with(slow()).await;
        let mut client = server.client().await;
        let body = chat(json!({ "stream": stream, "max_tokens": 450, "n": 3 }));
        if stream {
            let mut response = client.send(post(CHAT, body)).await;
            response.body_mut().frame().await.unwrap().unwrap();
            drop(response);
            drop(client);
        } else {
            let request = tokio::spawn(async move { client.post(CHAT, body).await });
            server.wait("running", || server.engine.stats().running == 3).await;
            request.abort();
        }
        let left = Instant::now();
        server.idle().await;
        assert!(left.elapsed() < Duration::from_secs(2), "stream {stream}: cancelled after {:?}", left.elapsed());
        assert_eq!(server.engine.stats().cancelled_requests, 3);
        let metrics = server.client().await.get("/metrics").await.body;
        assert!(metrics.contains(r#"status="499""#), "{metrics}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let mut options = Options { context_length: 20_000, ..Options::default() };
    options.gateway.timeouts.write_stall = Duration::from_millis(300);
    let server = start_with(options).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let body =
        chat(json!({ "stream": true, "max_tokens": 19_000, "n": 8, "logprobs": true, "top_logprobs": 20 })).to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    // One byte now and then is not reading.
    let reader = tokio::spawn(async move {
        let mut byte = [0; 1];
        while matches!(stream.read(&mut byte).await, Ok(1)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    server.wait("running", || server.engine.stats().running > 0).await;
    // Others are served meanwhile.
    assert_eq!(server.client().await.post(CHAT, chat(json!({}))).await.status, 200);
    let mut watcher = server.client().await;
    for _ in 0..1500 {
        let metrics = watcher.get("/metrics").await.body;
        if metrics.contains(r#"status="499""#) {
            server.idle().await;
            reader.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the client was not cut off");
}

#[tokio::test]
async fn what_is_not_http_gets_an_answer_or_a_close() {
    let server = start().await;
    let mut post_without_end =
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".to_vec();
    post_without_end.extend(b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n");
    let huge_header = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many_headers = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for (bytes, status) in [
        (b"hello\r\n\r\n".to_vec(), "400"),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -4\r\n\r\n".to_vec(), "400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n".to_vec(), "400"),
        (huge_header.into_bytes(), "431"),
        (many_headers.into_bytes(), "431"),
        (post_without_end, "400"),
    ] {
        let mut raw = Raw::connect(server.address).await;
        raw.write(&bytes).await;
        let answer = raw.rest().await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.contains(status), "{:?}: {line:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
    }
    assert_eq!(server.client().await.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn headers_and_bodies_must_arrive_in_time() {
    let mut options = Options::default();
    options.gateway.timeouts.headers = Duration::from_millis(200);
    options.gateway.timeouts.body = Duration::from_millis(200);
    let server = start_with(options).await;
    let mut silent = Raw::connect(server.address).await;
    let mut trickle = Raw::connect(server.address).await;
    trickle.write(b"GET / HTT").await;
    let mut body = Raw::connect(server.address).await;
    body.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{\"mod")
        .await;
    assert_eq!(silent.rest().await, "");
    trickle.rest().await;
    let answer = body.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_is_refused_before_it_sends() {
    let server = start().await;
    let mut raw = Raw::connect(server.address).await;
    raw.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 10000000\r\n\r\n",
    )
    .await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Within the limit it is told to go on.
    let mut raw = Raw::connect(server.address).await;
    raw.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
    )
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    raw.write(b"{}").await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn a_flood_is_answered_by_turns() {
    let mut options = Options::default();
    options.gateway.limits.connections = 8;
    options.engine.queue_len = 400;
    let server = start_with(options).await;
    let floods: Vec<_> = (0..300)
        .map(|i| {
            let address = server.address;
            tokio::spawn(async move {
                let body = chat(json!({ "temperature": 1, "seed": i, "max_tokens": 4 }));
                Client::connect(address).await.post(CHAT, body).await.status
            })
        })
        .collect();
    for answer in floods {
        assert_eq!(answer.await.unwrap(), 200);
    }
    server.idle().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_kept_ones_make_room() {
    let mut options = Options::default();
    options.gateway.limits.connections = 1;
    let server = start_with(options).await;
    let mut first = server.client().await;
    let reply = first.get("/healthz").await;
    assert_eq!((reply.status.as_u16(), reply.header("connection")), (200, Some("close")));
    assert_eq!(server.client().await.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let server = start().await;
    let mut client = server.client().await;
    for _ in 0..5 {
        assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
        assert_eq!(client.get("/v1/nothing").await.status, 404);
        assert_eq!(client.events(CHAT, chat(json!({ "stream": true }))).await.len(), 14);
    }
    // Two requests in one packet.
    let mut raw = Raw::connect(server.address).await;
    raw.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert_eq!(raw.rest().await.matches("HTTP/1.1 200 OK").count(), 2);
}
