//! The HTTP surfaces of Bantam.
//!
//! [`serve`] puts models behind the OpenAI API on one port, together with health checks, metrics and a chat page.
//! The way of a request through this crate:
//!
//! 1. `server` accepts the connection, within a limit on connections and with timeouts on everything a peer may delay;
//! 2. `observe` gives the request its id, checks the `Host`, and will log and count it when it ends, however it ends;
//! 3. `body` reads the body within its limits;
//! 4. `prepare` turns it into an engine request, on a blocking thread because templates and tokenizers are CPU work;
//! 5. `answer` submits it and writes what comes back, whole or as server-sent events.
//!
//! Tasks go another way after 3: their rows are answered by a `bantam_tasks::Runner`, on a thread that may block.
//!
//! Every fault on the way is an `error` that names the field and the fix, in OpenAI's error object.

mod admin;
mod answer;
mod app;
mod body;
pub mod config;
mod counted;
mod dashboard;
mod error;
mod flow;
mod guard;
mod host;
mod keep;
mod live;
mod metrics;
mod model;
mod observe;
mod prepare;
mod relay;
mod replay;
mod reply;
mod restore;
mod retention;
mod routes;
mod server;
pub mod telemetry;

pub use config::{
    Action, AutoTable, Bodies, ConfigError, ConfigFile, ConfigFileError, Durability, GatewayConfig, KeysTable,
    LedgerTable, Limits, MachineTable, ModelTable, PolicyTable, PriceRow, PricesTable, ProviderTable, RouteTable,
    RuleTable, SecretRef, ServerTable, TargetTable, Timeouts,
};
pub use flow::recorded_prompt;
pub use model::{Served, ServedEncoder, ServedModel};
pub use replay::{Replay, ReplayError, Replayed};
pub use server::{Gateway, Listener, ServeError, Setup, serve};
