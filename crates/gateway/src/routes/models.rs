//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use bantam_types::openai::{ModelList, ModelObject};

use crate::app::App;
use crate::error::ApiError;

pub(super) async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    Json(app.model_list())
}

pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<ModelObject>, ApiError> {
    app.model_object(&id).map(Json)
}
