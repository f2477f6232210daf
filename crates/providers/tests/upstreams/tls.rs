//! Encrypted connections: who is trusted, and HTTP/2 where the server has it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bantam_providers::target::TargetConfig;
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{ask, plan, quick, story, upstreams_with};

struct Server {
    base_url: String,
    certificate: tempfile::NamedTempFile,
    connections: Arc<AtomicU64>,
}

/// Answers with the version of HTTP that it was asked in.
async fn server(protocols: &[&[u8]]) -> Server {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut certificate = tempfile::NamedTempFile::new().unwrap();
    certificate.write_all(made.cert.pem().as_bytes()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    let version = format!("{:?}", request.version());
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(version))))
                });
                let io = TokioIo::new(stream);
                let _ = if h2 {
                    http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
                } else {
                    http1::Builder::new().serve_connection(io, service).await
                };
            });
        }
    });
    Server { base_url: format!("https://localhost:{port}/v1"), certificate, connections }
}

#[tokio::test]
async fn http_2_is_used_where_the_server_offers_it_over_one_connection() {
    for (protocols, version) in [
        (vec![&b"h2"[..], b"http/1.1"], Version::HTTP_2),
        (vec![b"http/1.1"], Version::HTTP_11),
        (vec![], Version::HTTP_11),
    ] {
        let server = server(&protocols).await;
        let mut target = TargetConfig::new("a", "vllm", "m");
        target.base_url = Some(server.base_url.clone());
        target.ca_file = Some(server.certificate.path().to_owned());
        let upstreams = upstreams_with(&[target], quick());
        for _ in 0..3 {
            let answer = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
            assert_eq!(answer.body.collect().await.unwrap(), format!("{version:?}"));
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (server, other) = (server(&[]).await, server(&[]).await);
    let mut target = TargetConfig::new("a", "vllm", "m");
    target.base_url = Some(server.base_url.clone());
    target.ca_file = Some(other.certificate.path().to_owned());
    let upstreams = upstreams_with(&[target.clone()], quick());
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert!(
        story(&error.attempts)[0].starts_with("a connect ") && error.to_string().contains("certificate"),
        "{error}"
    );
    // Nor is the right one under another name.
    target.ca_file = Some(server.certificate.path().to_owned());
    target.base_url = Some(server.base_url.replace("localhost", "127.0.0.1"));
    let upstreams = upstreams_with(&[target.clone()], quick());
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);

    target.ca_file = Some("/nowhere.pem".into());
    assert!(target.resolve().unwrap_err().to_string().contains("ca_file: /nowhere.pem"));
    let empty = tempfile::NamedTempFile::new().unwrap();
    target.ca_file = Some(empty.path().to_owned());
    assert!(target.resolve().unwrap_err().to_string().contains("no certificate"));
}

/// A proxy that does `CONNECT` and nothing else, and counts its tunnels.
async fn proxy() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tunnels = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&tunnels);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(client.read_u8().await.unwrap());
                }
                let request = String::from_utf8(request).unwrap();
                let Some(to) = request.strip_prefix("CONNECT ") else { return };
                let mut server = TcpStream::connect(to.split(' ').next().unwrap()).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (format!("http://{address}"), tunnels)
}

#[tokio::test]
async fn a_proxy_that_is_configured_is_gone_through() {
    let (server, (proxy, tunnels)) = (server(&[b"h2"]).await, proxy().await);
    let mut target = TargetConfig::new("a", "vllm", "m");
    target.base_url = Some(server.base_url.clone());
    target.ca_file = Some(server.certificate.path().to_owned());
    target.proxy = Some(proxy);
    let upstreams = upstreams_with(&[target.clone()], quick());
    for _ in 0..2 {
        let answer = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
        assert_eq!(answer.body.collect().await.unwrap(), "HTTP/2.0");
    }
    assert_eq!(tunnels.load(Ordering::SeqCst), 1);
    for wrong in ["https://proxy:1", "http://me:secret@proxy:1", "proxy:1"] {
        target.proxy = Some(wrong.into());
        let error = target.resolve().unwrap_err().to_string();
        assert!(error.contains("proxy: it has the form") && !error.contains("secret"), "{error}");
    }
}
