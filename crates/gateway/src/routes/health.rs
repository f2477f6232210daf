//! For whoever runs the server: is it alive, should it get requests, what is it doing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;

use crate::admin::Admin;
use crate::app::{App, Phase};
use crate::error::ApiError;
use crate::metrics::Viewer;

/// The process answers.
pub(super) async fn alive() -> impl IntoResponse {
    Json(json!({ "status": "ok" }))
}

/// Every model takes requests and the server is not on its way out.
pub(super) async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    let models: serde_json::Map<_, _> =
        app.running.models.iter().map(|m| (m.id.clone(), m.engine.is_ready().into())).collect();
    let (code, status) = if app.phase() > Phase::Open {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if app.model_list(None).data.is_empty() || models.values().any(|ready| ready == false) {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    } else {
        (StatusCode::OK, "ready")
    };
    (code, Json(json!({ "status": status, "models": models })))
}

/// Prometheus' text format. Who may administer sees costs and budgets, too.
pub(super) async fn metrics(State(app): State<Arc<App>>, admin: Result<Admin, ApiError>) -> impl IntoResponse {
    let viewer = if admin.is_ok() { Viewer::Admin } else { Viewer::Anybody };
    let text = app.metrics.render(&app, viewer).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
