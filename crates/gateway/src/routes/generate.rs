//! The APIs that models answer.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use bantam_providers::wire::Api;

use crate::app::App;
use crate::flow;
use crate::observe::Trace;

type Shared = (State<Arc<App>>, Extension<Arc<Trace>>);

pub(super) async fn chat((State(app), Extension(trace)): Shared, request: Request) -> Response {
    flow::answer(app, trace, Api::Chat, request).await
}

pub(super) async fn completions((State(app), Extension(trace)): Shared, request: Request) -> Response {
    flow::answer(app, trace, Api::Completions, request).await
}

pub(super) async fn embeddings((State(app), Extension(trace)): Shared, request: Request) -> Response {
    flow::answer(app, trace, Api::Embeddings, request).await
}

pub(super) async fn responses((State(app), Extension(trace)): Shared, request: Request) -> Response {
    flow::answer(app, trace, Api::Responses, request).await
}

pub(super) async fn messages((State(app), Extension(trace)): Shared, request: Request) -> Response {
    flow::answer(app, trace, Api::Messages, request).await
}

pub(super) async fn count_tokens((State(app), Extension(trace)): Shared, request: Request) -> Response {
    flow::count_tokens(app, trace, request).await
}
