//! What entries say: JSON objects whose bytes the chain covers, and the columns made from them for searching.

use std::time::Duration;

use bantam_types::NanoDollars;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::Value;
use crate::error::LedgerError;
use crate::keys::{KeyId, KeyRecord};
use crate::request::{Attempt, Begin, Estimate, Hash, Outcome, Rating, TokenCounts};
use crate::time::Timestamp;

/// The version of what entries say.
const VERSION: u32 = 1;

/// Bytes that a name in an entry may have; longer ones are cut.
const NAME_BYTES: usize = 256;
/// Bytes that the decision of a request may have as JSON.
const DECISION_BYTES: usize = 32 << 10;
/// Attempts of a request that are kept.
const ATTEMPTS: usize = 64;

/// How a request came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// Its outcome was reported.
    Finished,
    /// It was not admitted.
    Refused,
    /// Nobody reported an outcome; charged with what was reserved.
    Abandoned,
    /// Its process died; charged with what was reserved.
    Interrupted,
}

impl Settled {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A request as its entry tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestEntry {
    /// The version of this object.
    pub v: u32,
    /// How it ended.
    pub settled: Settled,
    /// When it arrived.
    pub arrived: Timestamp,
    /// The day (since 1970, UTC) whose budgets it was charged to.
    pub day: i64,
    /// Whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The API it came in by.
    pub surface: String,
    /// The route that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The model asked for.
    pub asked: String,
    /// The HTTP status answered; 0 where none is known.
    pub status: u16,
    /// Which rules and routes decided and why.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub decision: serde_json::Value,
    /// Calls of models made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Which model answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The digest of its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// The digest of its adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_digest: Option<String>,
    /// Tokens of all attempts.
    pub tokens: TokenCounts,
    /// Tokens charged to budgets.
    pub charged_tokens: u64,
    /// Microseconds from arrival to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_us: Option<u64>,
    /// Microseconds from arrival to the end.
    pub latency_us: u64,
    /// What was reserved, in nano-dollars.
    pub reserved_cost: NanoDollars,
    /// What was reserved, in tokens.
    pub reserved_tokens: u64,
    /// What it cost, and was charged, in nano-dollars.
    pub cost: NanoDollars,
    /// What it would have cost without routing, in nano-dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counterfactual: Option<NanoDollars>,
    /// The type of the error answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the answer ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// Whether it was a stream.
    pub streamed: bool,
    /// Digests that bind what is kept beside the entry.
    #[serde(default, skip_serializing_if = "Bound::is_empty")]
    pub bound: Bound,
}

/// Salted digests of the texts kept beside an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bound {
    /// Of the end user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Hash>,
    /// Of the request's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Hash>,
    /// Of the answer's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Hash>,
    /// Of what is needed to compute the answer again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Hash>,
}

impl Bound {
    /// Whether nothing is kept beside the entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The columns of `requests` that follow from an entry, in the order of [`RequestEntry::columns`].
pub(crate) const COLUMNS: [&str; 24] = [
    "settled",
    "arrived",
    "day",
    "key_id",
    "surface",
    "route",
    "asked",
    "status",
    "provider",
    "model",
    "input",
    "cached",
    "cache_written",
    "output",
    "reasoning",
    "charged_tokens",
    "first_token_us",
    "latency_us",
    "cost",
    "counterfactual",
    "error",
    "stop",
    "streamed",
    "attempts",
];

impl RequestEntry {
    /// The entry of a request whose process dies before its outcome is known.
    pub(crate) fn interrupted(begin: &Begin, day: i64) -> Self {
        let Estimate { cost, tokens } = begin.estimate;
        Self {
            v: VERSION,
            settled: Settled::Interrupted,
            arrived: begin.at,
            day,
            key: begin.key.clone(),
            surface: name(&begin.surface),
            route: optional_name(begin.route.as_deref()),
            asked: name(&begin.model),
            status: 0,
            decision: serde_json::Value::Null,
            attempts: Vec::new(),
            provider: None,
            model: None,
            model_digest: None,
            adapter_digest: None,
            tokens: TokenCounts::default(),
            charged_tokens: tokens,
            first_token_us: None,
            latency_us: 0,
            reserved_cost: cost,
            reserved_tokens: tokens,
            cost,
            counterfactual: None,
            error: None,
            stop: None,
            streamed: false,
            bound: Bound::default(),
        }
    }

    /// The entry when the outcome is known; its bodies are bound by the caller.
    pub(crate) fn with(self, settled: Settled, outcome: Outcome) -> Self {
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX).min(i64::MAX as u64);
        let mut attempts = outcome.attempts;
        attempts.truncate(ATTEMPTS);
        let decision_bytes = serde_json::to_string(&outcome.decision).map_or(usize::MAX, |json| json.len());
        let decision = match decision_bytes {
            0..=DECISION_BYTES => outcome.decision,
            _ => serde_json::json!({ "left_out": "longer than 32 KiB" }),
        };
        Self {
            settled,
            status: outcome.status,
            decision,
            attempts,
            provider: optional_name(outcome.provider.as_deref()),
            model: optional_name(outcome.model.as_deref()),
            model_digest: optional_name(outcome.model_digest.as_deref()),
            adapter_digest: optional_name(outcome.adapter_digest.as_deref()),
            tokens: outcome.tokens,
            charged_tokens: outcome.tokens.charged(),
            first_token_us: outcome.first_token.map(micros),
            latency_us: micros(outcome.latency),
            cost: outcome.cost,
            counterfactual: outcome.counterfactual,
            error: optional_name(outcome.error.as_deref()),
            stop: optional_name(outcome.stop.as_deref()),
            streamed: outcome.streamed,
            ..self
        }
    }

    /// What the columns named in [`COLUMNS`] hold.
    pub(crate) fn columns(&self) -> [Value; 24] {
        let tokens = &self.tokens;
        [
            Value::text(self.settled.name()),
            Value::Int(self.arrived.0),
            Value::Int(self.day),
            self.key.as_ref().map_or(Value::Null, |key| Value::text(key.as_str())),
            Value::text(&self.surface),
            Value::optional(self.route.as_deref()),
            Value::text(&self.asked),
            Value::Int(self.status.into()),
            Value::optional(self.provider.as_deref()),
            Value::optional(self.model.as_deref()),
            Value::count(tokens.input),
            Value::count(tokens.cached),
            Value::count(tokens.cache_written),
            Value::count(tokens.output),
            Value::count(tokens.reasoning),
            Value::count(self.charged_tokens),
            self.first_token_us.map_or(Value::Null, Value::count),
            Value::count(self.latency_us),
            Value::Int(self.cost.0),
            self.counterfactual.map_or(Value::Null, |cost| Value::Int(cost.0)),
            Value::optional(self.error.as_deref()),
            Value::optional(self.stop.as_deref()),
            Value::Int(self.streamed.into()),
            Value::count(self.attempts.len() as u64),
        ]
    }
}

/// An opinion as its entry tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackEntry {
    /// The version of this object.
    pub v: u32,
    /// Bad, neutral or good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<Rating>,
    /// Whether the answer was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// A salted digest of the correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Hash>,
}

impl FeedbackEntry {
    pub(crate) const fn new(rating: Option<Rating>, accepted: Option<bool>) -> Self {
        Self { v: VERSION, rating, accepted, correction: None }
    }

    /// The columns `rating` and `accepted`.
    pub(crate) fn columns(&self) -> [Value; 2] {
        let rating = self.rating.map(Rating::number);
        [rating.map_or(Value::Null, Value::Int), self.accepted.map_or(Value::Null, |yes| Value::Int(yes.into()))]
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyEvent {
    /// It was made.
    Created,
    /// Its fields were changed.
    Updated,
    /// It has a new secret.
    Rotated,
    /// It was revoked.
    Revoked,
    /// Nothing: its last entry was about to be removed because of its age.
    Carried,
}

/// A key as an entry tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The version of this object.
    pub v: u32,
    /// What happened.
    pub event: KeyEvent,
    /// The key afterwards.
    pub record: KeyRecord,
}

impl KeyEntry {
    pub(crate) const fn new(event: KeyEvent, record: KeyRecord) -> Self {
        Self { v: VERSION, event, record }
    }
}

/// Texts that were erased, as the entry tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedEntry {
    /// The version of this object.
    pub v: u32,
    /// Everything bound to requests and feedback written before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// Everything bound to these requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Uuid>,
}

impl ErasedEntry {
    pub(crate) const fn before(before: Timestamp) -> Self {
        Self { v: VERSION, before: Some(before), requests: Vec::new() }
    }

    pub(crate) const fn of(requests: Vec<Uuid>) -> Self {
        Self { v: VERSION, before: None, requests }
    }

    /// Whether it accounts for the texts of this request, or of feedback on it, whose entry was written at `at`.
    pub(crate) fn covers(&self, request: Uuid, at: Timestamp) -> bool {
        self.before.is_some_and(|before| at < before) || self.requests.contains(&request)
    }
}

/// Entries that were removed, as the entry tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgedEntry {
    /// The version of this object.
    pub v: u32,
    /// The chain they were of.
    pub chain: u32,
    /// The last of them, which has a checkpoint.
    pub through: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was written.
    pub at: Timestamp,
}

/// A checkpoint, as its entry tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointEntry {
    /// The version of this object.
    pub v: u32,
    /// The identity of the key that signs it.
    pub key: String,
}

impl PurgedEntry {
    pub(crate) const fn new(chain: u32, through: u64, hash: Hash, at: Timestamp) -> Self {
        Self { v: VERSION, chain, through, hash, at }
    }
}

impl CheckpointEntry {
    pub(crate) const fn new(key: String) -> Self {
        Self { v: VERSION, key }
    }
}

/// The bytes of what an entry says.
pub(crate) fn encode(content: &impl Serialize) -> Result<Vec<u8>, LedgerError> {
    serde_json::to_vec(content).map_err(|e| LedgerError::Invalid { field: "entry", why: e.to_string() })
}

/// What an entry says.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8], chain: u32, seq: u64) -> Result<T, LedgerError> {
    serde_json::from_slice(bytes)
        .map_err(|e| LedgerError::Damaged { what: format!("entry {seq} of chain {chain} does not read: {e}") })
}

/// A name as it is stored: without NUL, which Postgres does not take, and not longer than [`NAME_BYTES`].
pub(crate) fn name(text: &str) -> String {
    let mut end = text.len().min(NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

fn optional_name(text: Option<&str>) -> Option<String> {
    text.map(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(name("a\0b"), "a\u{fffd}b");
        let long = "ü".repeat(200);
        assert_eq!(name(&long), "ü".repeat(128));
        assert_eq!(name(&format!("x{long}")), format!("x{}", "ü".repeat(127)));
    }
}
