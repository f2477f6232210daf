//! A stand-in for an LLM server: real HTTP, no model.
//!
//! It speaks OpenAI chat, completions, embeddings and models and Anthropic messages, whole and streamed, with tools, usage and, in chat,
//! log-probabilities. What it says comes from recorded answers or is made of words drawn by seed; when it says it, and what goes wrong on the way, a
//! [`Behaviour`] tells: the server's own, changed by the request's `x-bantam-mock` header, changed by what follows `+` in its model's
//! name. So a test asks for `"model": "any+status=503,first=2"` through whatever stands between.
//!
//! The text of an answer depends on seed and request, its delays and faults on seed and the number of the request, so that equal requests in
//! equal order meet equal answers.

mod anthropic;
mod behaviour;
mod body;
mod openai;
mod script;
mod server;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use hyper::HeaderMap;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub use behaviour::{BEHAVIOUR_HELP, Behaviour, BehaviourError, Delay, MockFault};

/// The header that changes a request's behaviour.
pub const BEHAVIOUR_HEADER: &str = "x-bantam-mock";

/// How a mock is set up.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// How it behaves unless a request says otherwise.
    pub behaviour: Behaviour,
    /// Answers by the text of a conversation's last user message.
    pub recorded: HashMap<String, String>,
    /// The key that requests must have, as a bearer token, `x-api-key` or `api-key`; any or none if there is none here.
    pub key: Option<String>,
    /// Of everything that is drawn.
    pub seed: u64,
    /// How many of the last requests are kept for [`Mock::seen`].
    pub keep: usize,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            behaviour: Behaviour::default(),
            recorded: HashMap::new(),
            key: None,
            seed: 0,
            keep: 0,
        }
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its path, parameters included.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MockStats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose body was read.
    pub requests: u64,
    /// Answers that came to their end, faults that were wanted included.
    pub answered: u64,
    /// Requests whose client left before the end of the answer.
    pub disconnects: u64,
}

/// A mock at work. It stops listening when it is dropped.
#[derive(Debug)]
pub struct Mock {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    behaviour: RwLock<Behaviour>,
    recorded: HashMap<String, String>,
    key: Option<String>,
    seed: u64,
    keep: usize,
    ready: AtomicBool,
    seen: Mutex<VecDeque<Seen>>,
    /// How often a fault of the first so many requests was asked for, by its behaviour's hash.
    struck: Mutex<HashMap<u64, u64>>,
    connections: AtomicU64,
    requests: AtomicU64,
    answered: AtomicU64,
    disconnects: AtomicU64,
}

impl Mock {
    /// Listens and serves on the current tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(config: MockConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behaviour: RwLock::new(config.behaviour),
            recorded: config.recorded,
            key: config.key,
            seed: config.seed,
            keep: config.keep,
            ready: AtomicBool::new(true),
            seen: Mutex::default(),
            struck: Mutex::default(),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
        });
        let listening = tokio::spawn(server::accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, address, listening })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base address for an OpenAI client. Anthropic's wants it without `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Behaves differently from the next request on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        *self.shared.behaviour.write().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// What `GET /health` says from now on: 200, or 503.
    pub fn set_ready(&self, ready: Ready) {
        self.shared.ready.store(ready == Ready::Yes, Ordering::Relaxed);
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> MockStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let shared = &self.shared;
        MockStats {
            connections: get(&shared.connections),
            requests: get(&shared.requests),
            answered: get(&shared.answered),
            disconnects: get(&shared.disconnects),
        }
    }

    /// The last requests, oldest first, as many as the configuration keeps.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Whether a mock says that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `GET /health` answers 200.
    Yes,
    /// It answers 503.
    No,
}
