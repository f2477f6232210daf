//! What is known of a key.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::secret::{KeyId, SecretHash};
use crate::limits::Limits;
use crate::time::Timestamp;

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Models: chat, completions, embeddings, tasks, and feedback on their answers.
    Inference,
    /// Reading requests, costs and reports.
    Reports,
    /// Keys, configuration, erasure.
    Admin,
}

/// A key to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// For people, up to 100 characters.
    pub name: String,
    /// What it is for; nothing means inference.
    #[serde(default)]
    pub scopes: BTreeSet<Scope>,
    /// Models and routes it may ask for; nothing means all.
    #[serde(default)]
    pub models: BTreeSet<String>,
    /// Rates and budgets.
    #[serde(default)]
    pub limits: Limits,
    /// When it ends by itself.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Labels for people, rules and reports.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// Changes to a key; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyChange {
    /// A new name.
    pub name: Option<String>,
    /// New scopes.
    pub scopes: Option<BTreeSet<Scope>>,
    /// New models; an empty set means all.
    pub models: Option<BTreeSet<String>>,
    /// New rates and budgets, in place of all that were.
    pub limits: Option<Limits>,
    /// A new end: `Some(None)` for never.
    #[serde(deserialize_with = "given")]
    pub expires: Option<Option<Timestamp>>,
    /// New labels, in place of all that were.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Tells a field that is null from one that is not there.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// A key as it is stored. Its secrets are stored as digests; serialising them is for the chain, so show [`KeyRecord`]s by their fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The part of the key that is no secret.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// What it is for.
    pub scopes: BTreeSet<Scope>,
    /// Models and routes it may ask for; nothing means all.
    pub models: BTreeSet<String>,
    /// Rates and budgets.
    pub limits: Limits,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// Counts changes, from 1.
    pub revision: u64,
    /// The newest first.
    pub(crate) secrets: Vec<SecretHash>,
}

impl KeyRecord {
    /// Whether it may ask for this model or route.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.contains(model)
    }

    /// Whether it may be used at this moment.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }

    /// Whether it is for this.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// A key as it is shown: without its secrets, with times as texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The part of the key that is no secret.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// `active`, `expired` or `revoked`.
    pub state: &'static str,
    /// What it is for.
    pub scopes: BTreeSet<Scope>,
    /// Models and routes it may ask for; nothing means all.
    pub models: BTreeSet<String>,
    /// Rates and budgets.
    pub limits: Limits,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// When it was made (RFC 3339).
    pub created: String,
    /// When it ends by itself (RFC 3339).
    pub expires: Option<String>,
    /// When it was revoked (RFC 3339).
    pub revoked: Option<String>,
    /// Counts changes, from 1.
    pub revision: u64,
}

impl KeyRecord {
    /// The key as it is shown at this moment.
    #[must_use]
    pub fn info(&self, now: Timestamp) -> KeyInfo {
        let state = match (self.revoked, self.is_valid(now)) {
            (Some(_), _) => "revoked",
            (None, true) => "active",
            (None, false) => "expired",
        };
        let shown = |time: Timestamp| time.to_string();
        let KeyRecord { id, name, scopes, models, limits, metadata, created, expires, revoked, revision, .. } =
            self.clone();
        let (created, expires, revoked) = (shown(created), expires.map(shown), revoked.map(shown));
        KeyInfo { id, name, state, scopes, models, limits, metadata, created, expires, revoked, revision }
    }
}
