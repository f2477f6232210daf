//! `/admin/keys`: virtual keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use bantam_ledger::keys::{KeyChange, KeyId, KeyRecord, NewKey, Secret};
use bantam_ledger::{KeyError, Ledger};
use bantam_types::openai::parse_fields;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::app::App;
use crate::body;
use crate::error::ApiError;

/// Longest time that a secret may stay good beside its successor.
pub(crate) const MAX_GRACE: Duration = Duration::from_secs(90 * 86_400);

pub(super) async fn list(State(app): State<Arc<App>>, _admin: Admin) -> Result<Json<Value>, ApiError> {
    let keys: Vec<_> = ledger(&app)?.keys().iter().map(|key| object(key)).collect();
    Ok(Json(json!({"object": "list", "data": keys})))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _admin: Admin,
) -> Result<Json<Value>, ApiError> {
    let ledger = ledger(&app)?;
    let id = KeyId::from(&*id);
    let key = ledger.key(&id).ok_or_else(|| ApiError::from(KeyError::NoSuchKey { id: id.to_string() }))?;
    let mut shown = object(&key);
    let used = ledger.budgets(Some(&id)).await.map_err(|e| ApiError::ledger(&e))?;
    let used = used.iter().map(|b| json!({"budget": b.budget, "spent": b.spent, "reserved": b.reserved}));
    shown["used"] = used.collect();
    Ok(Json(shown))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    _admin: Admin,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new: NewKey = read(&app, request).await?;
    let (key, secret) = ledger(&app)?.create_key(new).await?;
    Ok((StatusCode::CREATED, Json(with_secret(&key, &secret))))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _admin: Admin,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let change: KeyChange = read(&app, request).await?;
    let key = ledger(&app)?.update_key(&KeyId::from(&*id), change).await?;
    Ok(Json(object(&key)))
}

/// What `rotate` may say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rotate {
    /// Seconds that the secret before stays good.
    grace_s: u64,
}

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _admin: Admin,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let Rotate { grace_s } = read(&app, request).await?;
    let grace = Duration::from_secs(grace_s);
    if grace > MAX_GRACE {
        return Err(ApiError::field("grace_s", format!("must be at most {}", MAX_GRACE.as_secs())));
    }
    let (key, secret) = ledger(&app)?.rotate_key(&KeyId::from(&*id), grace).await?;
    Ok(Json(with_secret(&key, &secret)))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _admin: Admin,
) -> Result<Json<Value>, ApiError> {
    let key = ledger(&app)?.revoke_key(&KeyId::from(&*id)).await?;
    Ok(Json(object(&key)))
}

fn ledger(app: &App) -> Result<&Ledger, ApiError> {
    app.ledger
        .as_ref()
        .ok_or_else(|| ApiError::unsupported("keys", "this server keeps no ledger, and keys are kept there"))
}

pub(super) async fn read<T: serde::de::DeserializeOwned>(app: &App, request: Request) -> Result<T, ApiError> {
    let body = app.bounds().run(body::read(app, request)).await??;
    Ok(parse_fields(&body.bytes)?)
}

/// A key as it is shown.
fn object(key: &KeyRecord) -> Value {
    json!({
        "object": "key", "id": key.id, "name": key.name, "scopes": key.scopes, "models": key.models,
        "limits": key.limits, "metadata": key.metadata, "created": key.created, "expires": key.expires,
        "revoked": key.revoked, "revision": key.revision,
    })
}

/// A key and its secret, which is never shown again.
fn with_secret(key: &KeyRecord, secret: &Secret) -> Value {
    let mut shown = object(key);
    shown["key"] = secret.reveal().into();
    shown
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NoSuchKey { .. } => Self::NoSuchKey { why: error.to_string() },
            KeyError::Invalid { field, why } => Self::field(field, why),
            KeyError::Revoked { .. } => Self::field("id", error.to_string()),
            KeyError::Ledger(error) => Self::ledger(&error),
            other => Self::internal(&other),
        }
    }
}
