//! What an operator can set.

mod derive;
mod file;
pub mod litellm;
mod probe;
mod read;

use std::time::Duration;

use axum::http::HeaderValue;

pub use file::{
    Action, AutoTable, Bodies, ConfigFile, Durability, KeysTable, LedgerTable, MachineTable, ModelTable, PolicyTable,
    PriceRow, PricesTable, ProviderTable, RouteTable, RuleTable, SecretRef, ServerTable, TargetTable,
};
pub use probe::{EXAMPLE, Probed};
pub use read::ConfigFileError;

/// How to serve.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Name or address to bind; `127.0.0.1` by default, so that only this machine can connect.
    pub host: String,
    /// Port to bind; 0 lets the system pick one, which the ready callback then tells.
    pub port: u16,
    /// Origins (such as `https://app.example`) whose pages may call the API from a browser; `*` is any. None by
    /// default.
    pub cors_origins: Vec<String>,
    /// Host names, besides `localhost` and IP addresses, under which a server bound to loopback may be addressed. A
    /// page that points its own name at 127.0.0.1 could otherwise use the server through a visitor's browser.
    pub allowed_hosts: Vec<String>,
    /// Sizes and counts.
    pub limits: Limits,
    /// Times.
    pub timeouts: Timeouts,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Bounds on what clients can make the server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones wait in the system's backlog.
    pub connections: usize,
    /// Requests for answers at one time, those in the engine's queue included; further ones get 429.
    pub concurrent_requests: usize,
    /// Bytes of one request body; a longer one gets 413.
    pub body_bytes: usize,
    /// Bytes of all request bodies held at one time; when used up, 429.
    pub buffered_bytes: usize,
    /// Answers of one request: prompts times `n`.
    pub choices: usize,
    /// Texts of one request for vectors.
    pub texts: usize,
    /// Inputs of one request to a task.
    pub task_inputs: usize,
    /// Requests to tasks that are answered at one time, each on a thread of its own; further ones wait.
    pub task_runs: usize,
    /// Requests that are read, rendered and tokenised at one time, each on a thread of its own.
    pub cpu_tasks: usize,
    /// The same for requests of more than [`Limits::LARGE_BODY`] bytes, which may take seconds: they wait for each
    /// other, so that small ones do not wait for them.
    pub large_cpu_tasks: usize,
}

impl Limits {
    /// Bytes of a body from which on it counts as large.
    pub const LARGE_BODY: usize = 64 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            connections: 512,
            concurrent_requests: 384,
            body_bytes: 4 << 20,
            buffered_bytes: 64 << 20,
            choices: 128,
            texts: 2048,
            task_inputs: 256,
            task_runs: 64,
            cpu_tasks: cpus,
            large_cpu_tasks: cpus.div_ceil(4),
        }
    }
}

/// Bounds on how long anything may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From connecting, or from the end of the request before, to the end of a request's headers.
    pub headers: Duration,
    /// From the headers to the end of the body; then 408.
    pub body: Duration,
    /// From the headers to the end of the answer; then 504, or an error event in a stream.
    pub request: Duration,
    /// How long a client may accept no byte of its answer before it is cut off.
    pub write_stall: Duration,
    /// Silence in a stream after which a comment is sent, so that proxies keep the connection.
    pub heartbeat: Duration,
    /// How long running requests may go on after shutdown began.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(30),
            body: Duration::from_secs(30),
            request: Duration::from_secs(600),
            write_stall: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            drain: Duration::from_secs(30),
        }
    }
}

/// A value of the configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ConfigError {
    /// The field of [`GatewayConfig`].
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub why: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

impl GatewayConfig {
    /// Checks every field.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let l = &self.limits;
        for (field, value) in [
            ("limits.connections", l.connections),
            ("limits.concurrent_requests", l.concurrent_requests),
            ("limits.body_bytes", l.body_bytes),
            ("limits.buffered_bytes", l.buffered_bytes),
            ("limits.choices", l.choices),
            ("limits.texts", l.texts),
            ("limits.task_inputs", l.task_inputs),
            ("limits.task_runs", l.task_runs),
            ("limits.cpu_tasks", l.cpu_tasks),
            ("limits.large_cpu_tasks", l.large_cpu_tasks),
        ] {
            // The upper bound is what a semaphore takes in one acquisition.
            if value == 0 || u32::try_from(value).is_err() {
                return Err(ConfigError::new(field, format!("must be between 1 and {}, is {value}", u32::MAX)));
            }
        }
        if l.buffered_bytes < l.body_bytes {
            return Err(ConfigError::new("limits.buffered_bytes", "must be at least limits.body_bytes"));
        }
        let t = &self.timeouts;
        for (field, value) in [
            ("timeouts.headers", t.headers),
            ("timeouts.body", t.body),
            ("timeouts.request", t.request),
            ("timeouts.write_stall", t.write_stall),
            ("timeouts.heartbeat", t.heartbeat),
        ] {
            if value.is_zero() {
                return Err(ConfigError::new(field, "must be longer than nothing"));
            }
        }
        self.cors_headers().map(drop)
    }

    pub(crate) fn cors_headers(&self) -> Result<Vec<HeaderValue>, ConfigError> {
        let parse = |origin: &String| {
            let shaped = origin.starts_with("http://") || origin.starts_with("https://");
            let bare = !origin.ends_with('/');
            HeaderValue::from_str(origin).ok().filter(|_| origin == "*" || (shaped && bare)).ok_or_else(|| {
                ConfigError::new(
                    "cors_origins",
                    format!("'{origin}' is no origin; write it like https://app.example, without a slash at the end"),
                )
            })
        };
        self.cors_origins.iter().map(parse).collect()
    }
}
