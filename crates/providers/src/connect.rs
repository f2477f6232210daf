//! Connections: TLS, who may be called unencrypted, and how long a connection may take to come about.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http_body_util::Full;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tower::Service;

use crate::error::TargetError;
use crate::target::{PlainHttp, Target, is_private};

pub(crate) type HttpClient = Client<Connector, Full<Bytes>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long an idle connection is kept. Servers commonly close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(50);
const IDLE_CONNECTIONS: usize = 1024;

/// TLS with ring, and certificates of the system and of `roots` to check servers by. ALPN is left to the connector.
pub(crate) fn tls(roots: &[CertificateDer<'static>]) -> Result<ClientConfig, TargetError> {
    let fault = |error: rustls::Error| TargetError::Tls { why: error.to_string() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(roots.iter().cloned(), Arc::clone(&provider)).map_err(fault)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(fault)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// A client of one target, encrypted if there is a configuration for that: it has its own connections, for its limits and times are its own.
pub(crate) fn client(target: &Target, tls: Option<ClientConfig>) -> HttpClient {
    let encrypted = target.base.scheme_str() == Some("https");
    let resolver =
        Resolver { inner: GaiResolver::new(), private_only: !encrypted && target.plain_http == PlainHttp::Private };
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_secs(30)));
    let builder = |tls| HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions();
    let inner = match (tls, &target.proxy) {
        (None, _) => Inner::Plain(http),
        (Some(tls), None) => Inner::Tls(builder(tls).wrap_connector(http)),
        (Some(tls), Some(proxy)) => Inner::Proxied(builder(tls).wrap_connector(Tunnel::new(proxy.clone(), http))),
    };
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_buf_size(target.limits.header_bytes as usize)
        .http2_max_header_list_size(target.limits.header_bytes)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_adaptive_window(true);
    builder.build(Connector { inner, timeout: target.timeouts.connect })
}

/// No connection came about in the time that there is for it.
#[derive(Debug, thiserror::Error)]
#[error("no connection in time")]
pub(crate) struct TimedOut;

/// A name that leads to public addresses only, and the connection would not be encrypted.
#[derive(Debug, thiserror::Error)]
#[error("public address")]
pub(crate) struct Public;

/// Resolves names, to private addresses only if so wanted.
#[derive(Clone)]
pub(crate) struct Resolver {
    inner: GaiResolver,
    private_only: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let private_only = self.private_only;
        let found = self.inner.call(name);
        Box::pin(async move {
            let all: Vec<SocketAddr> = found.await?.collect();
            let fit = |address: &SocketAddr| !private_only || is_private(address.ip());
            let fitting: Vec<SocketAddr> = all.iter().copied().filter(fit).collect();
            if fitting.is_empty() && !all.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, Public));
            }
            Ok(fitting.into_iter())
        })
    }
}

#[derive(Clone)]
enum Inner {
    Plain(HttpConnector<Resolver>),
    Tls(HttpsConnector<HttpConnector<Resolver>>),
    Proxied(HttpsConnector<Tunnel<HttpConnector<Resolver>>>),
}

/// Connects within a time, TLS included.
#[derive(Clone)]
pub(crate) struct Connector {
    inner: Inner,
    timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = Socket;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Socket, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.inner {
            Inner::Plain(inner) => inner.poll_ready(cx).map_err(Into::into),
            Inner::Tls(inner) => inner.poll_ready(cx),
            Inner::Proxied(inner) => inner.poll_ready(cx),
        }
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connecting = match &mut self.inner {
            Inner::Plain(inner) => {
                inner.call(address).map(|io| Ok(MaybeHttpsStream::Http(io.map_err(BoxError::from)?))).boxed()
            }
            Inner::Tls(inner) => inner.call(address).boxed(),
            Inner::Proxied(inner) => inner.call(address).boxed(),
        };
        let timeout = self.timeout;
        Box::pin(async move {
            let stream = tokio::time::timeout(timeout, connecting).await.map_err(|_| TimedOut)??;
            Ok(Socket { stream, answered: Answered::default() })
        })
    }
}

/// Whether a connection has brought an answer before: one that is then found closed was idle for too long, and says nothing about the
/// server's health.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered(Arc<AtomicBool>);

impl Answered {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection.
pub(crate) struct Socket {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    answered: Answered,
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.answered.clone())
    }
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
