//! Which URL is answered by what.

mod chat_page;
mod erase;
mod feedback;
mod generate;
mod health;
mod keys;
mod models;
mod pii;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bantam_providers::wire::Api;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use crate::app::App;
use crate::config::ConfigError;
use crate::dashboard;
use crate::error::ApiError;
use crate::flow::{ID, MODEL};
use crate::observe::{MESSAGES, REQUEST_ID, observe};
pub(crate) use keys::MAX_GRACE;
use tasks::{TASK, TASK_HASH};

pub(crate) fn router(app: Arc<App>) -> Result<Router, ConfigError> {
    let mut router = Router::new()
        .route("/", get(chat_page::page))
        .route("/v1/models", get(models::list))
        // Ids may hold slashes.
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(generate::chat))
        .route("/v1/completions", post(generate::completions))
        .route("/v1/embeddings", post(generate::embeddings))
        .route("/v1/responses", post(generate::responses))
        .route(MESSAGES, post(generate::messages))
        .route("/v1/messages/count_tokens", post(generate::count_tokens))
        .route("/v1/feedback", post(feedback::feedback))
        .route("/admin/keys", get(keys::list).post(keys::create))
        .route("/admin/keys/{id}", get(keys::one).patch(keys::update).delete(keys::revoke))
        .route("/admin/keys/{id}/rotate", post(keys::rotate))
        .route("/admin/erase", post(erase::erase))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{name}", get(tasks::one))
        .route("/v1/tasks/{name}/run", post(tasks::run))
        .merge(pii::routes())
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(unknown_url)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked));
    if let Some(cors) = cors(&app)? {
        router = router.layer(cors);
    }
    // Pages of other origins have no business there, whatever they may ask of the API.
    router = router.merge(dashboard::router()?);
    Ok(router.layer(middleware::from_fn_with_state(Arc::clone(&app), observe)).with_state(app))
}

fn cors(app: &App) -> Result<Option<CorsLayer>, ConfigError> {
    let origins = app.config.cors_headers()?;
    if origins.is_empty() {
        return Ok(None);
    }
    let origin = if origins.iter().any(|o| o == "*") { AllowOrigin::from(Any) } else { AllowOrigin::list(origins) };
    Ok(Some(
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([REQUEST_ID, ID, header::RETRY_AFTER, MODEL, TASK, TASK_HASH]),
    ))
}

async fn unknown_url(request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    in_form_of(&path, &ApiError::UnknownUrl { method, path: path.clone() })
}

async fn method_not_allowed(request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    in_form_of(&path, &ApiError::MethodNotAllowed { method, path: path.clone() })
}

/// An error as the clients of the API that the path is of read it.
fn in_form_of(path: &str, error: &ApiError) -> Response {
    let messages = path.strip_prefix(MESSAGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    error.response_for(if messages { Api::Messages } else { Api::Chat })
}

fn panicked(reason: Box<dyn std::any::Any + Send>) -> Response {
    let text = reason.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| reason.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    ApiError::internal(&text).into_response()
}
