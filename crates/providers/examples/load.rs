//! Sends requests to a server and measures how long answers take; see `bench/gateway.py`.
//!
//!     cargo run --release -p bantam-providers --example load -- --url http://127.0.0.1:8081/v1/chat/completions --rate 1000
//!
//! With `--rate` the load is open: requests start when the clock says, whether or not earlier ones were answered, and times count from when a
//! request should have started, so that a server that stalls is not spared the requests it held up. Without it every connection sends
//! the next request when it has the answer to the last. Where a stream's tokens are their time of sending (the mock's `stamp`), the time
//! from there to here is measured for each; clocks are those of one machine.

#![allow(clippy::print_stdout, reason = "the result")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{LocalSet, spawn_local};

/// Measures a server under load.
#[derive(Debug, Parser)]
struct Args {
    /// Where requests go; plain http
    #[arg(long)]
    url: Uri,
    /// Requests per second; without it, as many as the connections can
    #[arg(long)]
    rate: Option<f64>,
    /// Connections, and most requests at one time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds after them in which answers may still come; what has none then has failed
    #[arg(long, default_value_t = 10.0)]
    drain: f64,
    /// Seconds before the measured ones
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Header of every request, such as 'authorization: Bearer sk-1'; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The model asked for
    #[arg(long, default_value = "mock")]
    model: String,
    /// The user's message
    #[arg(long, default_value = "Is the small bird up yet?")]
    prompt: String,
    /// Ask for a stream
    #[arg(long)]
    stream: bool,
}

/// What came of the requests that were measured.
#[derive(Default)]
struct Results {
    ok: u64,
    errors: BTreeMap<String, u64>,
    /// Seconds from when a request should have started.
    latency: Vec<f64>,
    /// Seconds from when it was sent.
    service: Vec<f64>,
    /// Seconds to the first byte of the body.
    first_byte: Vec<f64>,
    /// Seconds from a chunk's stamp to its arrival.
    chunks: Vec<f64>,
}

struct Load {
    args: Args,
    body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
    address: String,
    /// Requests that should start before are not counted.
    from: Instant,
    until: Instant,
    results: RefCell<Results>,
}

type Connection = SendRequest<Full<Bytes>>;

impl Load {
    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream =
            TcpStream::connect(&self.address).await.with_context(|| format!("cannot connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        spawn_local(connection);
        Ok(sender)
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let path = self.args.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(Method::POST).uri(path).body(Full::new(self.body.clone()))?;
        request.headers_mut().insert(HOST, HeaderValue::try_from(&self.address)?);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }

    /// One request that should start at `due`; a connection that failed is replaced.
    async fn one(&self, connection: &mut Option<Connection>, due: Instant) {
        let mut chunks = Vec::new();
        let outcome = self.exchange(connection, &mut chunks).await;
        let end = Instant::now();
        if due < self.from || due >= self.until {
            return;
        }
        let mut results = self.results.borrow_mut();
        match outcome {
            Ok((sent, first_byte)) => {
                results.ok += 1;
                results.latency.push((end - due).as_secs_f64());
                results.service.push((end - sent).as_secs_f64());
                results.first_byte.push((first_byte - sent).as_secs_f64());
                results.chunks.append(&mut chunks);
            }
            Err(error) => {
                *connection = None;
                *results.errors.entry(error.to_string()).or_default() += 1;
            }
        }
    }

    async fn exchange(
        &self,
        slot: &mut Option<Connection>,
        chunks: &mut Vec<f64>,
    ) -> anyhow::Result<(Instant, Instant)> {
        let mut connection = match slot.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        let request = self.request()?;
        connection.ready().await?;
        let sent = Instant::now();
        let response = connection.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let (mut first_byte, mut tail) = (None, Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame?.into_data() else { continue };
            first_byte.get_or_insert_with(Instant::now);
            if self.args.stream {
                stamps(&piece, chunks);
                tail.extend_from_slice(&piece[piece.len().saturating_sub(64)..]);
                let extra = tail.len().saturating_sub(64);
                tail.drain(..extra);
            }
        }
        if !status.is_success() {
            bail!("status {}", status.as_u16());
        }
        let complete = |end: &[u8]| tail.windows(end.len()).any(|window| window == end);
        if self.args.stream && !complete(b"[DONE]") && !complete(b"message_stop") {
            bail!("the stream has no end");
        }
        *slot = Some(connection);
        Ok((sent, first_byte.context("the answer is empty")?))
    }
}

/// Times since the stamps in a piece, `t=` and nanoseconds since 1970.
fn stamps(piece: &[u8], times: &mut Vec<f64>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut rest = piece;
    while let Some(at) = rest.windows(2).position(|window| window == b"t=") {
        rest = &rest[at + 2..];
        let stamp = rest.get(..19).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u128>().ok());
        if let Some(stamp) = stamp {
            times.push((now as f64 - stamp as f64) / 1e9);
        }
    }
}

/// Starts requests when the clock says. A thread of its own, for its sleeps are finer than the runtime's.
fn pace(rate: f64, start: Instant, until: Instant, due: mpsc::UnboundedSender<Instant>) {
    for i in 0u64.. {
        let at = start + Duration::from_secs_f64(i as f64 / rate);
        if at >= until {
            return;
        }
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        if due.send(at).is_err() {
            return;
        }
    }
}

async fn run(load: Rc<Load>, start: Instant) -> anyhow::Result<()> {
    let mut idle = Vec::new();
    for _ in 0..load.args.connections {
        idle.push(load.connect().await?);
    }
    let (sender, queue) = mpsc::unbounded_channel();
    let queue = Rc::new(Mutex::new(queue));
    let pacer = load.args.rate.map(|rate| {
        let until = load.until;
        std::thread::spawn(move || pace(rate, start, until, sender))
    });
    let open = pacer.is_some();
    let workers = idle.into_iter().map(|connection| {
        let (load, queue) = (Rc::clone(&load), Rc::clone(&queue));
        spawn_local(async move {
            let mut connection = Some(connection);
            loop {
                let due = if open {
                    queue.lock().await.recv().await
                } else {
                    Some(Instant::now()).filter(|now| *now < load.until)
                };
                let Some(due) = due else { return };
                load.one(&mut connection, due).await;
            }
        })
    });
    let all = futures::future::try_join_all(workers.collect::<Vec<_>>());
    let end = load.until + Duration::from_secs_f64(load.args.drain);
    // Those that hang are counted by who is missing.
    if let Ok(ended) = tokio::time::timeout_at(end.into(), all).await {
        ended?;
    }
    Ok(())
}

/// Percentiles in milliseconds.
fn summary(times: &mut [f64]) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize] * 1e3;
    let mean = times.iter().sum::<f64>() / times.len() as f64 * 1e3;
    json!({"n": times.len(), "mean": mean, "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0)})
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.url.scheme_str() != Some("http") || args.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        bail!("--url is plain http://, and --rate is above 0");
    }
    let host = args.url.host().context("--url has no host")?;
    let body = json!({
        "model": args.model,
        "messages": [{"role": "user", "content": args.prompt}],
        "max_tokens": 1024,
        "stream": args.stream,
    });
    let header = |text: &String| {
        let (name, value) = text.split_once(':').with_context(|| format!("--header {text}: there is no colon"))?;
        anyhow::Ok((HeaderName::try_from(name.trim())?, HeaderValue::try_from(value.trim())?))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now() + Duration::from_millis(100);
    let from = start + Duration::from_secs_f64(args.warmup);
    let load = Rc::new(Load {
        body: body.to_string().into(),
        headers: args.headers.iter().map(header).collect::<Result<_, _>>()?,
        address: format!("{host}:{}", args.url.port_u16().unwrap_or(80)),
        from,
        until: from + Duration::from_secs_f64(args.seconds),
        results: RefCell::default(),
        args,
    });
    LocalSet::new().block_on(&runtime, run(Rc::clone(&load), start))?;
    let results = &mut *load.results.borrow_mut();
    let wanted = load.args.rate.map_or(0, |rate| (rate * load.args.seconds) as u64);
    let missing = wanted.saturating_sub(results.ok + results.errors.values().sum::<u64>());
    // The first and the last may fall on either side of the measured time.
    if missing > 1 {
        results.errors.insert("no answer in time".to_owned(), missing);
    }
    let failed: u64 = results.errors.values().sum();
    // An answer that is late counts for the time until it came.
    let seconds = load.args.seconds.max((Instant::now() - load.from).as_secs_f64());
    let report = json!({
        "mode": if load.args.rate.is_some() { "open" } else { "closed" },
        "wanted_per_s": load.args.rate,
        "connections": load.args.connections,
        "seconds": seconds,
        "ok": results.ok,
        "failed": failed,
        "errors": results.errors,
        "ok_per_s": results.ok as f64 / seconds,
        "latency_ms": summary(&mut results.latency),
        "service_ms": summary(&mut results.service),
        "first_byte_ms": summary(&mut results.first_byte),
        "chunk_ms": summary(&mut results.chunks),
    });
    println!("{report}");
    Ok(())
}
