//! `POST /admin/erase`: the texts of an end user's requests.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::keys::read;
use crate::admin::Admin;
use crate::app::App;
use crate::error::ApiError;

/// Whose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Erase {
    /// The end user, as requests named them.
    subject: String,
}

pub(super) async fn erase(
    State(app): State<Arc<App>>,
    _admin: Admin,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let Erase { subject } = read(&app, request).await?;
    if subject.is_empty() {
        return Err(ApiError::field("subject", "names an end user, as `user` of their requests did"));
    }
    let Some(ledger) = &app.ledger else {
        return Err(ApiError::unsupported("subject", "this server keeps no ledger, so there is nothing to erase"));
    };
    let erased = ledger.erase_subject(&subject).await.map_err(|e| ApiError::ledger(&e))?;
    Ok(Json(json!({"object": "erased", "requests": erased})))
}
