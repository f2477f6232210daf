//! A small HTTP client that hides nothing: one connection, one request after another, bodies frame by frame.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// `(status, code, param, message)` of an error.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String, Option<String>, String) {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
        assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"]);
        assert_eq!(body.as_object().unwrap().len(), 1);
        let text = |key: &str| error[key].as_str().map(str::to_string);
        assert!(text("type").is_some());
        (self.status.as_u16(), text("code").unwrap(), text("param"), text("message").unwrap())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, host: address.to_string() }
    }

    /// Sends a request and returns its answer's head; dropping that before its end drops the connection.
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
        let host = self.host.parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        self.sender.ready().await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.sender.send_request(request)).await.unwrap().unwrap()
    }

    pub(crate) async fn reply(&mut self, request: Request<Full<Bytes>>) -> Reply {
        let response = self.send(request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status, headers: head.headers, body: String::from_utf8(body.into()).unwrap() }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.reply(Request::get(path).body(Full::default()).unwrap()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl ToString) -> Reply {
        self.reply(post(path, body)).await
    }

    /// The events of a stream, in full.
    pub(crate) async fn events(&mut self, path: &str, body: Value) -> Vec<Value> {
        let reply = self.post(path, body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
        parse_events(&reply.body)
    }
}

pub(crate) fn post(path: &str, body: impl ToString) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Full::from(body.to_string())).unwrap()
}

/// The JSON of each event of a stream, which must end with `[DONE]`, or else with an error.
#[track_caller]
pub(crate) fn parse_events(text: &str) -> Vec<Value> {
    let mut events: Vec<&str> = text
        .strip_suffix("\n\n")
        .expect("the last event is not finished")
        .split("\n\n")
        .filter(|e| !e.starts_with(':'))
        .map(|e| e.strip_prefix("data: ").unwrap_or_else(|| panic!("not an event: {e:?}")))
        .collect();
    let done = events.pop_if(|last| *last == "[DONE]").is_some();
    let events: Vec<Value> = events.into_iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    assert_eq!(done, events.last().is_none_or(|last| last["error"].is_null()), "{text}");
    events
}
