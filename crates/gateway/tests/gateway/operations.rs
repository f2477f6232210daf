//! What operators and browsers see: models, health, metrics, ids, the page, hosts and origins, configuration.

use bantam_gateway::{ConfigFile, GatewayConfig, Listener, ServeError, Served, Setup, serve};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::json;

use crate::answers::chat;
use crate::client::post;
use crate::server::{BASE_MODEL, MODEL, Options, start, start_with};

const CHAT: &str = "/v1/chat/completions";

fn get(path: &str) -> hyper::http::request::Builder {
    Request::get(path)
}

fn empty(builder: hyper::http::request::Builder) -> Request<Full<Bytes>> {
    builder.body(Full::default()).unwrap()
}

#[tokio::test]
async fn models_are_listed() {
    let server = start().await;
    let mut client = server.client().await;
    let list = client.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let toy = json!({ "id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "bantam",
        "context_length": 512, "chat": true });
    assert_eq!(list["data"][0], toy);
    assert_eq!((&list["data"][1]["id"], &list["data"][1]["chat"]), (&json!(BASE_MODEL), &json!(false)));
    assert_eq!(client.get("/v1/models/toy").await.json(), toy);
    assert_eq!(client.get("/v1/models/hf:org%2Ftoy%20base").await.json()["id"], BASE_MODEL);
    assert_eq!(client.get("/v1/models/hf:org/toy%20base").await.json()["id"], BASE_MODEL);
}

#[tokio::test]
async fn health_follows_the_engine() {
    let server = start().await;
    let mut client = server.client().await;
    assert_eq!(client.get("/healthz").await.json()["status"], "ok");
    let reply = client.get("/readyz").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["models"][MODEL]), (200, &json!(true)));
    server.engine.shutdown(std::time::Duration::ZERO);
    server.wait("engine down", || !server.engine.is_ready()).await;
    assert_eq!(client.get("/readyz").await.status, 503);
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.post(CHAT, chat(json!({}))).await.error().0, 503);
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let server = start().await;
    let mut client = server.client().await;
    client.post(CHAT, chat(json!({}))).await;
    client.events(CHAT, chat(json!({ "stream": true }))).await;
    client.post(CHAT, chat(json!({ "n": 0 }))).await;
    client.get("/some/where").await;
    let reply = client.get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = reply.body;
    for line in [
        r#"bantam_http_requests_total{route="/v1/chat/completions",model="toy",method="POST",status="200"} 2"#,
        r#"bantam_http_requests_total{route="/v1/chat/completions",model="toy",method="POST",status="400"} 1"#,
        r#"bantam_http_requests_total{route="unknown",model="",method="GET",status="404"} 1"#,
        r#"bantam_http_requests_in_flight 1"#,
        r#"bantam_http_connections 1"#,
        r#"bantam_generated_tokens_total{model="toy"} 24"#,
        r#"bantam_prompt_tokens_total{model="toy"} 48"#,
        "# TYPE bantam_drafted_tokens_total counter",
        "# TYPE bantam_accepted_tokens_total counter",
        "# TYPE bantam_forced_tokens_total counter",
        "# TYPE bantam_grammar_mask_microseconds_total counter",
        r#"bantam_cached_prompt_tokens_total{model="toy"} 16"#,
        r#"bantam_time_to_first_token_seconds_count{model="toy"} 2"#,
        r#"bantam_time_per_output_token_seconds_count{model="toy"} 2"#,
        r#"bantam_http_request_duration_seconds_count{route="/v1/chat/completions",model="toy"} 3"#,
        r#"bantam_engine_running{model="toy"} 0"#,
        r#"bantam_kv_pages_total{model="toy"} 4096"#,
        "# TYPE bantam_http_request_duration_seconds histogram",
        "# HELP bantam_engine_waiting Requests waiting for a place",
    ] {
        assert!(text.lines().any(|l| l == line), "missing {line}\n{text}");
    }
}

#[tokio::test]
async fn request_ids_are_taken_over_or_made() {
    let server = start().await;
    let mut client = server.client().await;
    let made = client.get("/healthz").await.header("x-request-id").unwrap().to_string();
    assert_eq!((made.len(), made.as_bytes()[14]), (36, b'7'), "a UUID of version 7: {made}");
    let given = client.reply(empty(get("/v1/nothing").header("x-request-id", "order-66_a.b:c"))).await;
    assert_eq!(given.header("x-request-id"), Some("order-66_a.b:c"));
    for bad in ["a b", "", "<script>", &"x".repeat(129)] {
        let reply = client.reply(empty(get("/healthz").header("x-request-id", bad))).await;
        assert_eq!(reply.header("x-request-id").unwrap().len(), 36, "{bad:?}");
    }
}

#[tokio::test]
async fn the_page_comes_with_a_strict_policy() {
    let server = start().await;
    let reply = server.client().await.get("/").await;
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(reply.body.contains("<title>Bantam</title>"));
}

#[tokio::test]
async fn a_loopback_server_answers_to_its_own_names_only() {
    let mut options = Options::default();
    options.gateway.allowed_hosts = vec!["bantam.test".into()];
    let server = start_with(options).await;
    let mut client = server.client().await;
    for (host, status) in [("localhost:1", 200), ("127.0.0.1", 200), ("bantam.test", 200), ("evil.example", 403)] {
        let reply = client.reply(empty(get("/v1/models").header("host", host))).await;
        assert_eq!(reply.status, status, "{host}");
    }
    let mut request = post(CHAT, chat(json!({})));
    request.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(client.reply(request).await.error().1, "host_not_allowed");
}

#[tokio::test]
async fn other_origins_are_let_in_only_when_named() {
    let preflight = || {
        empty(
            Request::options(CHAT)
                .header("origin", "https://app.example")
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "content-type,x-stainless-os"),
        )
    };
    let server = start().await;
    let reply = server.client().await.reply(preflight()).await;
    assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (405, None));

    let mut options = Options::default();
    options.gateway.cors_origins = vec!["https://app.example".into()];
    let server = start_with(options).await;
    let mut client = server.client().await;
    let reply = client.reply(preflight()).await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("content-type,x-stainless-os"));
    let mut request = post(CHAT, chat(json!({ "n": 0 })));
    request.headers_mut().insert("origin", "https://app.example".parse().unwrap());
    let reply = client.reply(request).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("access-control-allow-origin")),
        (400, Some("https://app.example"))
    );
    let reply = client.reply(empty(get("/v1/models").header("origin", "https://evil.example"))).await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_server_that_could_let_nobody_in_does_not_start() {
    let listener =
        |host: &str| Listener::bind(GatewayConfig { host: host.into(), port: 0, ..GatewayConfig::default() });
    let mut required = ConfigFile::default();
    required.keys.required = Some(true);
    for (host, file) in [("0.0.0.0", ConfigFile::default()), ("127.0.0.1", required.clone())] {
        let setup = Setup { file, ..Setup::only(Served::default()) };
        let error = serve(listener(host).await.unwrap(), setup, async {}).await.unwrap_err().to_string();
        for part in ["keys.required", "ledger.enabled", "--ledger none"] {
            assert!(error.contains(part), "{host}: {error}");
        }
    }
    // Nor does one that serves become such a one.
    let server = start().await;
    let mut client = server.client().await;
    // When the third is taken, the first has been looked at.
    for _ in 0..3 {
        server.reload.send(required.clone()).await.unwrap();
    }
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
}

async fn refused(config: GatewayConfig) -> String {
    let error = Listener::bind(config).await.unwrap_err();
    assert!(matches!(error, ServeError::Config(_) | ServeError::Bind { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_named() {
    let config = GatewayConfig { port: 0, ..GatewayConfig::default() };
    let mut bad = config.clone();
    bad.limits.connections = 0;
    assert!(refused(bad).await.contains("limits.connections"));
    let mut bad = config.clone();
    bad.limits.buffered_bytes = 1;
    assert!(refused(bad).await.contains("limits.buffered_bytes"));
    let mut bad = config.clone();
    bad.timeouts.request = std::time::Duration::ZERO;
    assert!(refused(bad).await.contains("timeouts.request"));
    for origin in ["app.example", "https://app.example/", "null", "https://a\nb"] {
        let bad = GatewayConfig { cors_origins: vec![origin.into()], ..config.clone() };
        assert!(refused(bad).await.contains("cors_origins"), "{origin}");
    }
    let bad = GatewayConfig { host: "256.1.1.1".into(), ..config.clone() };
    assert!(refused(bad).await.contains("256.1.1.1:0"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(refused(GatewayConfig { port, ..config }).await.contains(&format!("127.0.0.1:{port}")));
}
