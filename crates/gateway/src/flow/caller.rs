//! Who asks.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use bantam_ledger::AuthError;
use bantam_ledger::keys::{KeyRecord, Scope};

use crate::app::App;
use crate::error::ApiError;
use crate::live::Live;

/// How keys of ours begin. What begins otherwise is a key that some client needs to have and nobody needs to check.
const PREFIX: &str = "sk-bantam-";

/// What helps where keys are required and there is none.
pub(crate) const NO_KEYS: &str = "this server needs an API key, and none has been made; make one with 'bantam key create NAME' while the server \
    is stopped, or with POST /admin/keys and the secret of keys.admin (which is not needed where only this machine can connect)";

/// What helps where `/admin` is closed to a request without a secret.
pub(crate) const NO_ADMIN: &str = "the admin key is needed, the secret of keys.admin or a key with the scope 'admin'; where other machines can connect \
    that holds for connections from this machine, too, for a proxy's look the same. Set keys.admin, or make keys with 'bantam key create NAME' \
    while the server is stopped";

/// What a stranger is told of a key. That one has expired or was revoked learns who has the whole secret.
const NOT_VALID: &str = "the API key is not valid here";

/// Where a client says what its request is about, for rules: names separated by commas.
const LABELS: &str = "x-bantam-labels";
/// Most labels of a request.
const MAX_LABELS: usize = 32;

/// Who asks, and what they say about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) key: Option<Arc<KeyRecord>>,
    pub(crate) labels: Vec<String>,
}

impl Caller {
    /// Whose request this is.
    pub(crate) fn of(app: &App, live: &Live, headers: &HeaderMap) -> Result<Self, ApiError> {
        let labels = headers.get(LABELS).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let labels = labels.split(',').map(str::trim).filter(|l| !l.is_empty()).take(MAX_LABELS).map(str::to_owned);
        let given = secret(headers);
        let key = match (given.filter(|s| s.starts_with(PREFIX)), &app.ledger) {
            (Some(secret), Some(ledger)) => {
                let key = ledger.authenticate(secret).map_err(|e| ApiError::Unauthorized { why: why(e) })?;
                if !key.has(Scope::Inference) {
                    return Err(ApiError::OutOfScope { scope: "inference" });
                }
                Some(key)
            }
            _ if live.keys_required => {
                let why = match given {
                    _ if !app.has_keys() => NO_KEYS,
                    Some(_) => NOT_VALID,
                    None => "this server needs an API key (sk-bantam-...)",
                };
                return Err(ApiError::Unauthorized { why });
            }
            _ => None,
        };
        Ok(Self { key, labels: labels.collect() })
    }

    /// Refuses a model that the key is not for.
    pub(crate) fn check_model(&self, model: &str) -> Result<(), ApiError> {
        match &self.key {
            Some(key) if !key.allows_model(model) => Err(ApiError::ModelNotAllowed { model: model.into() }),
            _ => Ok(()),
        }
    }

    pub(crate) fn key_name(&self) -> Option<&str> {
        self.key.as_ref().map(|key| &*key.name)
    }
}

/// The key in a request's headers, where Anthropic's clients put it or where OpenAI's do.
pub(crate) fn secret(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    };
    headers.get("x-api-key").and_then(|v| v.to_str().ok()).map(str::trim).or_else(bearer)
}

fn why(error: AuthError) -> &'static str {
    match error {
        AuthError::Expired => "the API key has expired",
        AuthError::Revoked => "the API key was revoked",
        _ => NOT_VALID,
    }
}
