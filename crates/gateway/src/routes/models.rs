//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use bantam_types::openai::{ModelList, ModelObject};

use crate::app::App;
use crate::error::ApiError;
use crate::flow::Caller;

pub(super) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<ModelList>, ApiError> {
    let caller = Caller::of(&app, &app.live(), &headers)?;
    Ok(Json(app.model_list(Some(&caller))))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ModelObject>, ApiError> {
    let caller = Caller::of(&app, &app.live(), &headers)?;
    app.model_object(&id, &caller).map(Json)
}
