//! `POST /v1/feedback`: what somebody thinks of an answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use bantam_ledger::{Feedback, LedgerError, Rating};
use bantam_types::openai::parse_fields;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::flow::Caller;

/// Longest correction, in bytes.
const MAX_CORRECTION: usize = 256 << 10;

/// What a client says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    /// `x-bantam-id` of the answer.
    id: String,
    /// -1, 0 or 1; or `bad`, `neutral`, `good`.
    #[serde(default)]
    rating: Option<Value>,
    #[serde(default)]
    correction: Option<String>,
    #[serde(default)]
    accepted: Option<bool>,
}

pub(super) async fn feedback(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let live = app.live();
    let admitted = app.admit().and_then(|place| Ok((place, Caller::of(&app, &live, request.headers())?)));
    let ((_place, caller), request) = body::unless_refused(&app, request, admitted).await?;
    let body = app.bounds().run(body::read(&app, request)).await??;
    let said: Said = parse_fields(&body.bytes)?;
    let id = said.id.parse::<Uuid>();
    let id = id.map_err(|_| ApiError::field("id", "is the x-bantam-id of an answer, such as 0190f4a2-..."))?;
    if said.correction.as_ref().is_some_and(|text| text.len() > MAX_CORRECTION) {
        return Err(ApiError::field("correction", format!("must not be longer than {MAX_CORRECTION} bytes")));
    }
    let rating = said.rating.map(|rating| rating_of(&rating)).transpose()?;
    if rating.is_none() && said.correction.is_none() && said.accepted.is_none() {
        return Err(ApiError::field("rating", "say at least one of rating, correction, accepted"));
    }
    let Some(ledger) = &app.ledger else {
        return Err(ApiError::unsupported("id", "this server keeps no ledger, so there are no answers to speak of"));
    };
    let unknown = || ApiError::field("id", format!("there is no request {id} of yours on record"));
    // Whose request it was, nobody else may find out.
    let story = ledger.reading().story(id).await.map_err(|e| match e {
        LedgerError::NoSuchRequest { .. } => unknown(),
        error => ApiError::ledger(&error),
    })?;
    if caller.key.as_ref().is_some_and(|key| story.recorded.entry.key.as_ref() != Some(&key.id)) {
        return Err(unknown());
    }
    let feedback = Feedback { rating, correction: said.correction, accepted: said.accepted };
    match ledger.feedback(id, feedback).await {
        Ok(_) => Ok((StatusCode::CREATED, Json(json!({"object": "feedback", "id": said.id})))),
        Err(LedgerError::NoSuchRequest { .. }) => Err(unknown()),
        Err(LedgerError::Invalid { field, why }) => Err(ApiError::field(field, why)),
        Err(error) => Err(ApiError::ledger(&error)),
    }
}

fn rating_of(value: &Value) -> Result<Rating, ApiError> {
    match (value.as_i64(), value.as_str()) {
        (Some(-1), _) | (_, Some("bad")) => Ok(Rating::Bad),
        (Some(0), _) | (_, Some("neutral")) => Ok(Rating::Neutral),
        (Some(1), _) | (_, Some("good")) => Ok(Rating::Good),
        _ => Err(ApiError::field("rating", "is -1, 0 or 1, or bad, neutral or good")),
    }
}
