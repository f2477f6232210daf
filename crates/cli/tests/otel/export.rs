//! What a collector gets, and what a collector that is not there costs.

use std::collections::BTreeMap;
use std::time::Duration;

use bantam_providers::trace::TraceContext;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use tokio::net::TcpListener;

use crate::collector::{Collector, Protocol, attributes};
use crate::server::{ANSWER, QUESTION, Server, mock, serve};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SECRET: &str = "sk-not-for-anybody";

/// Whether an answer is streamed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Stream,
}

/// Asks a route, and gives the status and the body.
async fn ask(server: &Server, route: &str, form: Form, parent: Option<&str>) -> (u16, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body =
        json!({"model": route, "stream": form == Form::Stream, "messages": [{"role": "user", "content": QUESTION}]});
    let mut request = client.post(format!("{}/v1/chat/completions", server.url)).bearer_auth(SECRET).json(&body);
    if let Some(parent) = parent {
        request = request.header("traceparent", parent).header("tracestate", "vendor=what-is-this");
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn end(server: Server) -> String {
    let (status, log) = tokio::task::spawn_blocking(|| server.end()).await.unwrap();
    assert!(status.success(), "{log}");
    log
}

fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

/// The value of an attribute that must be there.
#[track_caller]
fn get<'a>(span: &'a BTreeMap<String, Value>, name: &str) -> &'a Value {
    span.get(name).unwrap_or_else(|| panic!("no {name} in {span:#?}"))
}

#[track_caller]
fn count(span: &BTreeMap<String, Value>, name: &str) -> i64 {
    let Value::IntValue(count) = get(span, name) else { panic!("{name} is no count: {span:#?}") };
    *count
}

/// The spans below another, the earliest first.
fn below<'a>(all: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    all.iter().filter(|span| span.parent_span_id == parent.span_id).collect()
}

const UNSET: i32 = 0;
const ERROR: i32 = 2;

fn status(span: &Span) -> i32 {
    span.status.as_ref().map_or(UNSET, |status| status.code)
}

async fn exported(protocol: Protocol) {
    let collector = Collector::start(protocol).await;
    let mock = mock().await;
    let endpoint = format!("http://{}", collector.address);
    let name = if protocol == Protocol::Grpc { "grpc" } else { "http/protobuf" };
    let server = Server::start(serve(
        &mock,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", name),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=herons"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ],
    ));
    let (code, body) = ask(&server, "big", Form::Whole, Some(PARENT)).await;
    assert!(code == 200 && body.contains(ANSWER), "{body}");
    let (code, body) = ask(&server, "big", Form::Stream, None).await;
    assert!(code == 200 && body.trim_end().ends_with("[DONE]"), "{body}");
    assert_eq!(ask(&server, "shaky", Form::Whole, Some("00-nonsense")).await.0, 200);
    assert_eq!(ask(&server, "a heron's own model", Form::Whole, None).await.0, 404);
    // What is still in the queue is exported before the end.
    end(server).await;

    let spans = collector.spans();
    let requests: Vec<&Span> = spans.iter().filter(|span| span.kind == SpanKind::Server as i32).collect();
    let [whole, streamed, shaky, none] = requests[..] else { panic!("{requests:#?}") };
    assert!(requests.iter().all(|span| span.name == "POST /v1/chat/completions"), "{requests:#?}");
    assert_eq!(spans.len(), 4 + 4, "one attempt each, one twice, one never: {spans:#?}");

    // The client's trace goes on; without one that can be read, each request begins its own.
    let parent = TraceContext::parse(PARENT).unwrap();
    assert_eq!(whole.trace_id, parent.trace.to_be_bytes());
    assert_eq!(whole.parent_span_id, parent.span.to_be_bytes());
    for other in [streamed, shaky, none] {
        assert!(other.parent_span_id.is_empty() && other.trace_id != whole.trace_id, "{other:#?}");
    }
    for (request, stream) in [(whole, false), (streamed, true)] {
        let of = attributes(&request.attributes);
        for (name, value) in [
            ("http.request.method", text("POST")),
            ("http.route", text("/v1/chat/completions")),
            ("http.response.status_code", Value::IntValue(200)),
            ("gen_ai.operation.name", text("chat")),
            ("gen_ai.request.model", text("big")),
            ("gen_ai.request.stream", Value::BoolValue(stream)),
            ("gen_ai.response.model", text("m")),
        ] {
            assert_eq!(get(&of, name), &value, "{name}");
        }
        assert_eq!((status(request), of.get("error.type")), (UNSET, None));
        let [attempt] = below(&spans, request)[..] else { panic!("{spans:#?}") };
        assert_eq!((attempt.name.as_str(), attempt.kind, status(attempt)), ("chat m", SpanKind::Client as i32, UNSET));
        let attempt_of = attributes(&attempt.attributes);
        for (name, value) in [
            ("gen_ai.operation.name", text("chat")),
            ("gen_ai.provider.name", text("mistral_ai")),
            ("gen_ai.request.model", text("m")),
            ("server.address", text("127.0.0.1")),
            ("server.port", Value::IntValue(mock.address().port().into())),
            ("http.response.status_code", Value::IntValue(200)),
        ] {
            assert_eq!(get(&attempt_of, name), &value, "{name}");
        }
        for of in [&of, &attempt_of] {
            assert!(
                count(of, "gen_ai.usage.input_tokens") > 0 && count(of, "gen_ai.usage.output_tokens") > 0,
                "{of:#?}"
            );
            let Value::ArrayValue(reasons) = get(of, "gen_ai.response.finish_reasons") else { panic!("{of:#?}") };
            assert_eq!(reasons.values[0].value, Some(text("stop")));
        }
        assert!(request.start_time_unix_nano <= attempt.start_time_unix_nano);
        assert!(attempt.start_time_unix_nano < attempt.end_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= request.end_time_unix_nano);
    }

    // The attempt that failed and the one that mended it.
    let [first, second] = below(&spans, shaky)[..] else { panic!("{spans:#?}") };
    let of = attributes(&first.attributes);
    assert_eq!((status(first), status(second), status(shaky)), (ERROR, UNSET, UNSET));
    assert_eq!((get(&of, "error.type"), get(&of, "http.response.status_code")), (&text("503"), &Value::IntValue(503)));
    assert_eq!(count(&attributes(&second.attributes), "http.request.resend_count"), 1);
    assert!(first.end_time_unix_nano <= second.start_time_unix_nano);

    // A request for what there is not: no model's name that only the client knows, and no fault of the server's.
    let of = attributes(&none.attributes);
    assert_eq!((get(&of, "error.type"), status(none)), (&text("model_not_found"), UNSET));
    assert_eq!(of.get("gen_ai.request.model"), None);

    // Upstreams were told of the spans that were exported, and of nothing else.
    let told: Vec<TraceContext> = mock
        .seen()
        .iter()
        .map(|seen| {
            assert!(!seen.headers.contains_key("tracestate"));
            TraceContext::parse(seen.headers["traceparent"].to_str().unwrap()).unwrap()
        })
        .collect();
    let attempts = requests.iter().flat_map(|request| below(&spans, request));
    let exported: Vec<TraceContext> = attempts
        .map(|span| TraceContext {
            trace: u128::from_be_bytes(span.trace_id.clone().try_into().unwrap()),
            span: u64::from_be_bytes(span.span_id.clone().try_into().unwrap()),
            sampled: true,
        })
        .collect();
    assert_eq!(told, exported);

    for hidden in [QUESTION, ANSWER, "heron's own", SECRET, "vendor"] {
        assert!(!collector.was_sent(hidden), "{hidden}");
    }
    let resource = collector.resource();
    assert_eq!(get(&resource, "service.name"), &text("bantam"));
    assert_eq!(get(&resource, "deployment.environment.name"), &text("test"));
    assert!(collector.header("x-tenant").iter().all(|tenant| tenant == "herons"));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_exported_by_grpc() {
    exported(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_exported_by_http() {
    exported(Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_samples_nothing_exports_nothing() {
    let collector = Collector::start(Protocol::Http).await;
    let mock = mock().await;
    let endpoint = format!("http://{}/v1/traces", collector.address);
    let server = Server::start(serve(
        &mock,
        &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint), ("OTEL_TRACES_SAMPLER", "always_off")],
    ));
    assert_eq!(ask(&server, "big", Form::Whole, Some(PARENT)).await.0, 200);
    end(server).await;
    assert!(collector.spans().is_empty());
    let told = TraceContext::parse(mock.seen()[0].headers["traceparent"].to_str().unwrap()).unwrap();
    assert_eq!((told.trace, told.sampled), (TraceContext::parse(PARENT).unwrap().trace, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_or_does_not_answer_costs_nothing() {
    let mock = mock().await;
    // Accepts, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_address = mute.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = mute.accept().await {
            held.push(stream);
        }
    });
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (address, protocol) in [(mute_address, "http/protobuf"), (mute_address, "grpc"), (gone, "grpc")] {
        let endpoint = format!("http://{address}");
        let server = Server::start(serve(
            &mock,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                // An export begins at once and holds up those behind it; what does not fit is dropped.
                ("OTEL_BSP_SCHEDULE_DELAY", "1"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "2"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
            ],
        ));
        for _ in 0..20 {
            let asked = tokio::time::timeout(Duration::from_secs(20), ask(&server, "big", Form::Whole, None)).await;
            assert_eq!(asked.expect("a request waits for the collector").0, 200);
        }
        // Ends within its bound, though nothing can be exported.
        end(server).await;
    }
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_named() {
    let mock = mock().await;
    for (variables, named) in [
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")][..], "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (&[("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon")][..], "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[")][..], "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ] {
        let (mut command, _dir) = serve(&mock, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && log.contains(named), "{log}");
    }
    // Who switches it off needs no right values.
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://["), ("OTEL_SDK_DISABLED", "true")];
    end(Server::start(serve(&mock, &variables))).await;
}
