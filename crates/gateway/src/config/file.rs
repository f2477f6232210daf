//! The shape of `bantam.toml`.
//!
//! Strict: a key that nothing reads is an error that names the nearest one that something does. Secrets are never in the file: it names the
//! environment variable or the file that holds them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bantam_types::NanoDollars;
use serde::{Deserialize, Serialize};

/// Everything in `bantam.toml`. Every table may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// Where to listen, and limits on clients.
    pub server: ServerTable,
    /// Who may ask.
    #[serde(skip_serializing_if = "is_default")]
    pub keys: KeysTable,
    /// Where requests are recorded.
    #[serde(skip_serializing_if = "is_default")]
    pub ledger: LedgerTable,
    /// What this machine costs, and so its models.
    #[serde(skip_serializing_if = "is_default")]
    pub machine: MachineTable,
    /// Price lists of models elsewhere.
    #[serde(skip_serializing_if = "is_default")]
    pub prices: PricesTable,
    /// Models that run in this process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelTable>,
    /// Servers elsewhere. Only these are ever contacted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderTable>,
    /// Names that clients ask for, and what answers them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteTable>,
    /// What the model `auto` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto: Option<AutoTable>,
    /// What may leave.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: PolicyTable,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTable {
    /// Name or address to listen on.
    pub host: String,
    /// Port to listen on; 0 lets the system pick one.
    pub port: u16,
    /// Origins whose pages may call the API from a browser.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cors_origins: Vec<String>,
    /// Further host names under which clients address this server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Most bytes of a request body, in MiB.
    pub max_body_mib: u32,
    /// Requests that are answered at one time; further ones get 429.
    pub concurrent_requests: usize,
    /// Open connections; further ones wait.
    pub connections: usize,
    /// Most seconds that one request may take.
    pub timeout_s: u64,
    /// Seconds that running requests may go on after a signal to stop.
    pub drain_s: u64,
    /// Directory of task files to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<PathBuf>,
}

impl Default for ServerTable {
    fn default() -> Self {
        let (limits, timeouts) = (super::Limits::default(), super::Timeouts::default());
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            max_body_mib: 4,
            concurrent_requests: limits.concurrent_requests,
            connections: limits.connections,
            timeout_s: timeouts.request.as_secs(),
            drain_s: timeouts.drain.as_secs(),
            tasks: None,
        }
    }
}

/// Where a secret is. One of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Path of the file; white space around its content is not part of the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// `[keys]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysTable {
    /// Whether every request needs a key. By default it does where the server can be reached from other machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// The key of the admin API and the dashboard. Without one they answer on loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SecretRef>,
    /// Most money that all requests together may cost in a day (UTC), in dollars such as "12.50".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_per_day: Option<String>,
    /// The same for a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_per_month: Option<String>,
}

/// How requests and answers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bodies {
    /// Not at all.
    #[default]
    None,
    /// With the personal data that was found in them replaced.
    Redacted,
    /// Encrypted; local answers can be replayed.
    Encrypted,
}

/// What an entry survives before its answer is reported done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The end of the process.
    #[default]
    Process,
    /// The end of the machine's power: every commit waits for the disk.
    Power,
}

/// `[ledger]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerTable {
    /// Whether there is one. Without it there are no keys, budgets or reports, and nothing is recorded.
    pub enabled: bool,
    /// SQLite file; by default `ledger.db` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A Postgres instead: where its URL (`postgres://user:password@host/database`) is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<SecretRef>,
    /// How requests and answers are kept.
    pub bodies: Bodies,
    /// The key they are encrypted with: 32 bytes in hex or base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_key: Option<SecretRef>,
    /// Days after which bodies, texts of feedback and names of end users are deleted, looked at every hour; kept for good if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    /// What an entry survives.
    pub durability: Durability,
}

impl Default for LedgerTable {
    fn default() -> Self {
        Self {
            enabled: true,
            path: None,
            postgres: None,
            bodies: Bodies::default(),
            body_key: None,
            retention_days: None,
            durability: Durability::default(),
        }
    }
}

/// `[machine]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineTable {
    /// What the machine costs an hour.
    pub dollars_per_hour: f64,
    /// Share of its time that it is expected to work, over 0 and at most 1.
    pub utilisation: f64,
}

impl Default for MachineTable {
    fn default() -> Self {
        // Two cores of a general-purpose cloud machine, about.
        Self { dollars_per_hour: 0.10, utilisation: 0.5 }
    }
}

/// `[prices]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PricesTable {
    /// A file in the format of LiteLLM's `model_prices_and_context_window.json`, over the built-in list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Prices by name, over both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<PriceRow>,
}

/// One of `[[prices.models]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRow {
    /// The model as its provider calls it.
    pub name: String,
    /// Dollars per million tokens of prompts.
    pub input_per_million: f64,
    /// Dollars per million tokens of answers.
    pub output_per_million: f64,
}

/// One of `[[models]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// The name clients and routes use; by default the source's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Catalogue name, path, or hf:org/repo/file.gguf, as for `bantam serve --model`.
    pub source: String,
}

/// One of `[[providers]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderTable {
    /// The name routes use.
    pub name: String,
    /// The kind of server, such as `openai`, `anthropic`, `vllm`; `bantam config presets` lists them.
    pub preset: String,
    /// Where it is, if the preset does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Whether plain http may be used to a host that is not this machine or in a private network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_http: bool,
    /// Most requests to it at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<usize>,
    /// Where it computes, such as `eu`; policies read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The contract that covers it, such as `dpa-2026`; policies read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// How long it keeps what it is sent, such as `none`, `30d`; policies read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Milliseconds to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
    /// Milliseconds from the request to the answer's first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_timeout_ms: Option<u64>,
    /// Milliseconds of silence within an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Milliseconds to the end of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_timeout_ms: Option<u64>,
    /// Further headers of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Further parameters of the address, such as Azure's `api-version`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// Proxy through which an encrypted server is reached, `http://HOST:PORT`. None is taken from the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// PEM file of certificates that the server's is checked by, besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Times that one request is tried again on this provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Seconds between looks at whether it is well; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_interval_s: Option<u64>,
}

/// One of `[[routes]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// What clients put in `model`.
    pub name: String,
    /// What answers, shared out by weight.
    pub targets: Vec<TargetTable>,
    /// Routes or local models to turn to, in order, when no target answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// The model whose price is the counterfactual; the model asked for, if absent and priced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// One target of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTable {
    /// A provider's name; a local model if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model as that provider, or `[[models]]`, calls it.
    pub model: String,
    /// Share of the requests, beside the other targets' weights.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// `[auto]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoTable {
    /// Route or local model for what is easy.
    pub small: String,
    /// Route or local model for the rest.
    pub large: String,
    /// What `bantam route train` wrote. Without it, and without a cascade, every request goes to the large model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<PathBuf>,
    /// Local encoder that reads the prompts.
    #[serde(default = "default_encoder")]
    pub encoder: String,
    /// Least confidence of the small model's answer with which it stands; below it the large model answers instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade: Option<f64>,
}

fn default_encoder() -> String {
    "all-minilm-l6-v2".into()
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It may leave as it is.
    Allow,
    /// It may leave with pseudonyms in place of what was found; they are put back in the answer.
    RedactThenAllow,
    /// Only a model in this process may see it.
    LocalOnly,
    /// Nobody answers it.
    Refuse,
}

/// `[policy]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyTable {
    /// What becomes of a request that no rule is about.
    pub default: Action,
    /// Record what the rules would do, and do not do it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Milliseconds that looking for personal data may take; then `on_failure`.
    pub detection_timeout_ms: u64,
    /// What becomes of a request when detection fails: `local_only` or `refuse`.
    pub on_failure: Action,
    /// Least score of a finding, from 0 to 1.
    pub min_score: f64,
    /// Rules; of those that apply the strictest decides (refuse, local_only, redact_then_allow, allow).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleTable>,
}

impl Default for PolicyTable {
    fn default() -> Self {
        Self {
            default: Action::Allow,
            dry_run: false,
            detection_timeout_ms: 200,
            on_failure: Action::LocalOnly,
            min_score: 0.4,
            rules: Vec::new(),
        }
    }
}

/// One of `[[policy.rules]]`. It applies where all that it names applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    /// For the record.
    pub name: String,
    /// What becomes of the request.
    pub then: Action,
    /// One of these was found; `*` is anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<String>,
    /// The client gave one of these labels in `x-bantam-labels`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The key has one of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The model asked for is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Applies only to targets whose provider is not in one of these regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub region_not: Vec<String>,
    /// Applies only to targets whose provider has none of these contracts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contract_not: Vec<String>,
    /// Applies only to targets whose provider keeps what it is sent otherwise than in one of these ways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retention_not: Vec<String>,
}

/// A budget as the file has it.
///
/// # Errors
/// Where it is no amount.
pub(super) fn budget(field: &'static str, text: Option<&str>) -> Result<Option<NanoDollars>, super::ConfigError> {
    text.map(|text| {
        text.parse().map_err(|e: bantam_types::ParseMoneyError| super::ConfigError::new(field, e.to_string()))
    })
    .transpose()
}
