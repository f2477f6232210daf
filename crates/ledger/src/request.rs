//! What the ledger is told of a request.

use std::fmt;
use std::time::Duration;

use bantam_types::NanoDollars;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keys::KeyId;
use crate::time::Timestamp;

/// A request before anything was done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Its id, a UUIDv7 that no request had before.
    pub request: Uuid,
    /// When it arrived. Budgets of this moment's day and month are charged.
    pub at: Timestamp,
    /// Whose budgets it is charged to besides the overall ones.
    pub key: Option<KeyId>,
    /// The API it came in by, such as `chat` or `messages`.
    pub surface: String,
    /// The route of the configuration that took it.
    pub route: Option<String>,
    /// The model asked for.
    pub model: String,
    /// The end user the caller named: kept apart from the entry, so that it can be erased.
    pub subject: Option<String>,
    /// What to reserve.
    pub estimate: Estimate,
}

/// The most a request may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Money.
    pub cost: NanoDollars,
    /// Prompt tokens and the most that may be generated.
    pub tokens: u64,
}

/// What became of a request. Costs are charged as they are here, even where they are above the estimate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The HTTP status answered, or what it would have been for a stream that broke.
    pub status: u16,
    /// Which rules and routes decided and why: a small object, without texts of the request.
    pub decision: serde_json::Value,
    /// Calls of models made for it, in order.
    pub attempts: Vec<Attempt>,
    /// Who answered.
    pub provider: Option<String>,
    /// Which model answered.
    pub model: Option<String>,
    /// The digest of its weights, where known.
    pub model_digest: Option<String>,
    /// The digest of its adapter, if it had one.
    pub adapter_digest: Option<String>,
    /// Tokens of all attempts.
    pub tokens: TokenCounts,
    /// From arrival to the first token.
    pub first_token: Option<Duration>,
    /// From arrival to the end.
    pub latency: Duration,
    /// What it cost.
    pub cost: NanoDollars,
    /// What it would have cost where it would have gone without routing.
    pub counterfactual: Option<NanoDollars>,
    /// The type of the error answered.
    pub error: Option<String>,
    /// Why the answer ended: `stop`, `length`, `tool_calls` ...
    pub stop: Option<String>,
    /// Whether it was answered as a stream.
    pub streamed: bool,
    /// Texts to be kept as the configuration has it.
    pub bodies: Bodies,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Of the prompt, cached ones included.
    pub input: u64,
    /// Of the prompt, found in a cache.
    pub cached: u64,
    /// Of the prompt, written to a cache.
    pub cache_written: u64,
    /// Generated, reasoning included.
    pub output: u64,
    /// Generated while reasoning.
    pub reasoning: u64,
}

impl TokenCounts {
    /// What is charged to a budget of tokens.
    #[must_use]
    pub const fn charged(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// One call of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Who was called.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// The status answered, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The type of the error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took, in microseconds.
    pub latency_us: u64,
    /// Its tokens.
    pub tokens: TokenCounts,
    /// What it cost.
    pub cost: NanoDollars,
}

/// What may be kept beside an entry, as bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bodies {
    /// The request's body.
    pub request: Option<Vec<u8>>,
    /// The answer's body.
    pub response: Option<Vec<u8>>,
    /// What is needed to compute the answer again: prompt ids, seed, grammar, numerics version.
    pub replay: Option<Vec<u8>>,
}

/// Lengths only: bodies belong in no log.
impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |body: &Option<Vec<u8>>| body.as_ref().map(Vec::len);
        f.debug_struct("Bodies")
            .field("request", &length(&self.request))
            .field("response", &length(&self.response))
            .field("replay", &length(&self.replay))
            .finish()
    }
}

/// An opinion on an answer. Several may be given on one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// From -1 (bad) to 1 (good).
    pub rating: Option<Rating>,
    /// What the answer should have been: kept apart from the entry, so that it can be erased, and stored as bodies are.
    pub correction: Option<String>,
    /// Whether the answer was used.
    pub accepted: Option<bool>,
}

/// Bad, neutral or good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// Bad.
    Bad,
    /// Neither.
    Neutral,
    /// Good.
    Good,
}

impl Rating {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Bad => -1,
            Self::Neutral => 0,
            Self::Good => 1,
        }
    }

    pub(crate) fn of_number(number: i64) -> Option<Self> {
        [Self::Bad, Self::Neutral, Self::Good].into_iter().find(|rating| rating.number() == number)
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The place of an entry in the ledger. Within a chain `seq` gives the order, and `at` never decreases, whatever the clock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryReceipt {
    /// The chain.
    pub chain: u32,
    /// The place in it, from 1.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Its hash.
    pub hash: Hash,
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut hash = [0; 32];
        match crate::hex::decode(&text, &mut hash) {
            true => Ok(Self(hash)),
            false => Err(serde::de::Error::custom("a digest has 64 hexadecimal digits")),
        }
    }
}
