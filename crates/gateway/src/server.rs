//! Listening, connections, and going down in order.
//!
//! The accept loop is our own because its limits are the point: so many connections at a time (further ones wait in
//! the system's backlog), a timeout on headers and idle connections, and a socket that notices clients who do not
//! read. On shutdown the listener stays open while running requests finish, so that load balancers see `/readyz`
//! fail and late clients get an error that says why; then everything closes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use bantam_ledger::Ledger;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::BuildError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower::Service;

use crate::app::{App, AppParts, Phase, ending};
use crate::config::{ConfigError, ConfigFile, ConfigFileError, GatewayConfig, KeysTable};
use crate::flow::NO_KEYS;
use crate::guard::Guarded;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::model::{Running, Served};
use crate::retention;
use crate::routes::router;
use crate::telemetry::Spans;

/// Most bytes of headers, and of answer buffered per connection.
const CONNECTION_BUFFER: usize = 64 << 10;

/// How long connections get to send what is written once no request runs any more.
const FLUSH: Duration = Duration::from_secs(5);

/// Pause after an accept that failed for want of a resource, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Why the server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A configuration value cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration file names what there is not.
    #[error(transparent)]
    File(#[from] ConfigFileError),
    /// Two models have the same name, so requests could not tell them apart.
    #[error("two models are called '{id}'; give one of them another name")]
    DuplicateModel {
        /// The name.
        id: String,
    },
    /// Two tasks have the same name.
    #[error("two tasks are called '{name}'; give one of them another name")]
    DuplicateTask {
        /// The name.
        name: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {host}:{port}: {source}; choose another port or host")]
    Bind {
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The metrics could not be set up.
    #[error("cannot set up the metrics: {0}")]
    Metrics(#[from] BuildError),
}

/// What is served, and under which rules.
pub struct Setup {
    /// Models and tasks that run in this process.
    pub served: Served,
    /// Routes, providers, policy, prices. Where to listen was said to [`Listener::bind`].
    pub file: ConfigFile,
    /// Where requests are put on record, and whose keys and budgets hold.
    pub ledger: Option<Ledger>,
    /// Configurations to take into use while serving.
    pub reloads: mpsc::Receiver<ConfigFile>,
    /// Where traces go, if anywhere.
    pub spans: Option<Arc<dyn Spans>>,
}

impl Setup {
    /// Models and tasks without anything else: no providers, no keys, no ledger.
    #[must_use]
    pub fn only(served: Served) -> Self {
        let file =
            ConfigFile { keys: KeysTable { required: Some(false), ..KeysTable::default() }, ..ConfigFile::default() };
        Self { served, file, ledger: None, reloads: mpsc::channel(1).1, spans: None }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A port that is taken, before the models behind it are loaded. Who connects early waits in the system's backlog.
#[derive(Debug)]
pub struct Listener {
    config: GatewayConfig,
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Checks the configuration and takes the port. Must run inside a tokio runtime with time and I/O enabled.
    ///
    /// # Errors
    /// [`ServeError::Config`], [`ServeError::Bind`].
    pub async fn bind(config: GatewayConfig) -> Result<Self, ServeError> {
        config.validate()?;
        let bind = async {
            let listener = TcpListener::bind((config.host.as_str(), config.port)).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        match bind.await {
            Ok((listener, address)) => Ok(Listener { config, listener, address }),
            Err(source) => Err(ServeError::Bind { host: config.host, port: config.port, source }),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `shutdown` completes and running requests have finished, or the drain timeout has passed.
///
/// # Errors
/// As [`Gateway::new`], before the first connection is accepted.
pub async fn serve(listener: Listener, setup: Setup, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    Gateway::new(listener, setup)?.run(shutdown).await;
    Ok(())
}

/// Everything checked and put together; nothing is accepted yet.
pub struct Gateway {
    app: Arc<App>,
    router: Router,
    listener: TcpListener,
    reloads: mpsc::Receiver<ConfigFile>,
    file: ConfigFile,
}

impl Gateway {
    /// Puts a gateway together. Must be called inside the runtime that the listener was bound in.
    ///
    /// # Errors
    /// [`ServeError::DuplicateModel`], [`ServeError::DuplicateTask`], [`ServeError::File`], [`ServeError::Metrics`].
    pub fn new(listener: Listener, setup: Setup) -> Result<Self, ServeError> {
        let Setup { served, file, ledger, reloads, spans } = setup;
        let Listener { config, listener, address } = listener;
        if let Some(id) = served.duplicate_model() {
            return Err(ServeError::DuplicateModel { id: id.to_owned() });
        }
        if let Some(name) = served.duplicate_task() {
            return Err(ServeError::DuplicateTask { name: name.to_owned() });
        }
        let (running, loopback) = (Running::from(served), address.ip().is_loopback());
        let metrics = Metrics::new()?;
        let live = Live::new(&file, &running, loopback)?.measured(&metrics, &running);
        check_keys(&live, ledger.as_ref())?;
        if !loopback && !live.keys_required {
            tracing::warn!(%address, "anyone who can reach this address can use the models: keys are not required");
        }
        let app = Arc::new(App::new(
            config,
            AppParts { running, live, ledger, bodies: file.ledger.bodies, spans },
            metrics,
            loopback,
        ));
        let router = router(Arc::clone(&app))?;
        Ok(Self { app, router, listener, reloads, file })
    }

    /// Serves until `shutdown` completes and running requests have finished, or the drain timeout has passed. Engines are left running: whoever
    /// started them shuts them down.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { app, router, listener, mut reloads, file: began } = self;
        let reloaded = Arc::clone(&app);
        let loopback = app.loopback;
        let reloading = tokio::spawn(async move {
            while let Some(file) = reloads.recv().await {
                let live = reloaded.live().changed(&file, &reloaded.running, loopback);
                match live.and_then(|live| check_keys(&live, reloaded.ledger.as_ref()).map(|()| live)) {
                    Ok(live) => {
                        reloaded.replace(live.measured(&reloaded.metrics, &reloaded.running));
                        tracing::info!("the configuration was read again");
                        let fixed = [
                            ("[server]", file.server == began.server),
                            ("[ledger]", file.ledger == began.ledger),
                            ("[[models]]", file.models == began.models),
                        ];
                        for (table, _) in fixed.iter().filter(|(_, same)| !same) {
                            tracing::warn!(
                                "{table} has changed: that takes a restart, and until then it stays as it was"
                            );
                        }
                    }
                    Err(error) => tracing::error!(%error, "the configuration cannot be used; the one before stays"),
                }
            }
        });

        let retaining = app.ledger.clone().map(|ledger| tokio::spawn(retention::keep(ledger)));

        let mut connections = JoinSet::new();
        run(&app, &router, &listener, &mut connections, shutdown).await;

        drop(listener);
        reloading.abort();
        if let Some(retaining) = retaining {
            retaining.abort();
        }
        // Connections watch the phase: they finish what they are sending and close.
        app.phase.send_replace(Phase::Ending);
        let flushed = timeout(FLUSH, async { while connections.join_next().await.is_some() {} }).await;
        if flushed.is_err() {
            tracing::warn!(connections = connections.len(), "closing connections that did not end by themselves");
            connections.shutdown().await;
        }
    }
}

/// Refuses a configuration under which nobody could ever be let in, and says so where nobody can be yet.
fn check_keys(live: &Live, ledger: Option<&Ledger>) -> Result<(), ConfigFileError> {
    if !live.keys_required {
        return Ok(());
    }
    let Some(ledger) = ledger else {
        let why = "every request needs a key here (the default where other machines can connect), and keys are kept in the \
                   ledger, which is off; enable it (ledger.enabled, no --ledger none), or set keys.required = false to let \
                   in whoever can connect";
        return Err(ConfigFileError::field("keys.required", why));
    };
    if ledger.keys().is_empty() {
        tracing::warn!("every request will be refused: {NO_KEYS}");
    }
    Ok(())
}

/// Accepts connections until shutdown is asked for and done, or has taken too long.
async fn run(
    app: &Arc<App>,
    router: &Router,
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(app.config.limits.connections));
    let mut upkeep = interval(METRICS_UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut end = pin!(async {
        shutdown.await;
        drain(app).await;
    });
    loop {
        tokio::select! {
            () = &mut end => return,
            (place, stream, peer) = accept(listener, &places) => {
                let connection = connection(Arc::clone(app), router.clone(), stream, peer, Arc::clone(&places));
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Some(ended) = connections.join_next() => {
                if let Err(e) = ended {
                    tracing::error!(error = %e, "a connection failed inside the server");
                }
            }
            _ = upkeep.tick() => app.metrics.upkeep(),
        }
    }
}

/// Refuses new requests and waits for the running ones.
async fn drain(app: &App) {
    app.phase.send_replace(Phase::Draining);
    let Ok(all) = u32::try_from(app.config.limits.concurrent_requests) else { return };
    let running = app.config.limits.concurrent_requests - app.requests.available_permits();
    tracing::info!(running, "shutting down: no new requests, running ones may finish");
    if timeout(app.config.timeouts.drain, app.requests.acquire_many(all)).await.is_err() {
        let running = app.config.limits.concurrent_requests - app.requests.available_permits();
        tracing::warn!(running, "the drain timeout has passed: ending the requests that still run");
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            // The semaphore is never closed.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (place, stream, peer),
            // The client left before it was accepted.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(e) => {
                tracing::error!(error = %e, "cannot accept connections; is the limit on open files too low?");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn connection(app: Arc<App>, router: Router, stream: TcpStream, peer: SocketAddr, places: Arc<Semaphore>) {
    // Tokens are small writes that must not wait for each other. A socket that is already dead will say so later.
    let _ = stream.set_nodelay(true);
    let gauge = app.metrics.connections();
    gauge.increment(1.0);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().call(request);
        let (app, places) = (&app, &places);
        async move {
            let mut response = answer.await?;
            // When places run out, those that have one must not keep it between requests.
            if places.available_permits() == 0 || app.phase() > Phase::Open {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let io = TokioIo::new(Guarded::new(stream, app.config.timeouts.write_stall));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.config.timeouts.headers)
            .max_buf_size(CONNECTION_BUFFER)
            .serve_connection(io, service)
    );
    let mut phase = app.phase.subscribe();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = ending(&mut phase) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(%peer, error = %e, "connection ended");
    }
    gauge.decrement(1.0);
}
