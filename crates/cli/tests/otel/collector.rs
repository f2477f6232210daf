//! A collector: a real server of OTLP by gRPC or HTTP that keeps what it is sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

/// What has come in.
#[derive(Default)]
struct Kept {
    requests: Vec<ExportTraceServiceRequest>,
    raw: Vec<u8>,
    headers: Vec<HeaderMap>,
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

/// The length that gRPC writes before a message, and whether it is compressed.
const PREFIX: usize = 5;

impl Collector {
    pub(crate) async fn start(protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let keep = Arc::clone(&kept);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let keep = Arc::clone(&keep);
                let service = service_fn(move |request| answer(protocol, request, Arc::clone(&keep)));
                let io = TokioIo::new(stream);
                // A client that goes away is none of ours.
                tokio::spawn(async move {
                    match protocol {
                        Protocol::Grpc => {
                            http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.ok()
                        }
                        Protocol::Http => http1::Builder::new().serve_connection(io, service).await.ok(),
                    }
                });
            }
        });
        Self { address, kept }
    }

    /// All spans, the earliest first.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let kept = self.kept.lock().unwrap();
        let scopes = kept.requests.iter().flat_map(|r| &r.resource_spans).flat_map(|r| &r.scope_spans);
        let mut spans: Vec<Span> = scopes.flat_map(|scope| scope.spans.clone()).collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }

    /// Attributes of who sent the spans.
    pub(crate) fn resource(&self) -> BTreeMap<String, Value> {
        let kept = self.kept.lock().unwrap();
        attributes(&kept.requests[0].resource_spans[0].resource.as_ref().unwrap().attributes)
    }

    /// Whether these bytes are anywhere in what was sent.
    pub(crate) fn was_sent(&self, text: &str) -> bool {
        self.kept.lock().unwrap().raw.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// A header of every request.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        kept.headers.iter().map(|h| h.get(name).map_or("", |v| v.to_str().unwrap()).to_owned()).collect()
    }
}

/// Attributes by name, each there once.
pub(crate) fn attributes(list: &[KeyValue]) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::new();
    for KeyValue { key, value, .. } in list {
        let value = value.clone().unwrap().value.unwrap();
        assert!(attributes.insert(key.clone(), value).is_none(), "{key} is there twice");
    }
    attributes
}

async fn answer(
    protocol: Protocol,
    request: Request<Incoming>,
    keep: Arc<Mutex<Kept>>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    let (path, kind, message, answer) = match protocol {
        Protocol::Http => ("/v1/traces", "application/x-protobuf", body.clone(), Full::from(answer).boxed()),
        Protocol::Grpc => {
            let mut framed = vec![0];
            framed.extend(u32::try_from(answer.len()).unwrap().to_be_bytes());
            framed.extend(answer);
            let done = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            let answer = Full::from(framed).with_trailers(async move { Some(Ok(done)) }).boxed();
            let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            (path, "application/grpc", body.slice(PREFIX..), answer)
        }
    };
    assert_eq!((head.uri.path(), head.headers[CONTENT_TYPE].to_str().unwrap()), (path, kind));
    let mut kept = keep.lock().unwrap();
    kept.requests.push(ExportTraceServiceRequest::decode(message).unwrap());
    kept.raw.extend_from_slice(&body);
    kept.headers.push(head.headers);
    Ok(Response::builder().header(CONTENT_TYPE, kind).body(answer).unwrap())
}
