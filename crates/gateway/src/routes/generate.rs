//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bantam_types::openai::{WireRequest, parse};

use crate::answer::{ChatFormat, CompletionFormat, answer};
use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::model::ServedModel;
use crate::observe::Trace;
use crate::prepare::{self, Prepared};
use crate::relay::Relay;

pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-bantam-model");
const FINGERPRINT: HeaderName = HeaderName::from_static("x-bantam-fingerprint");

/// Turns a request of kind `R` for a model into engine requests, at most so many.
type Build<R> = fn(Arc<ServedModel>, R, usize) -> Result<Prepared, ApiError>;

pub(super) async fn chat(
    State(app): State<Arc<App>>,
    Extension(trace): Extension<Arc<Trace>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut relay, prepared) = prepare(app, trace, request, prepare::chat).await?;
    let (model, format) = (Arc::clone(&prepared.model), ChatFormat::new(&prepared));
    let answer = answer(Arc::clone(&relay.app), Arc::clone(&relay.trace), prepared, format);
    let reply = relay.bounds.run(answer).await??;
    Ok(with_model(relay.respond(reply), &model))
}

pub(super) async fn completions(
    State(app): State<Arc<App>>,
    Extension(trace): Extension<Arc<Trace>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut relay, mut prepared) = prepare(app, trace, request, prepare::completion).await?;
    let model = Arc::clone(&prepared.model);
    let format = CompletionFormat::new(&mut prepared);
    let answer = answer(Arc::clone(&relay.app), Arc::clone(&relay.trace), prepared, format);
    let reply = relay.bounds.run(answer).await??;
    Ok(with_model(relay.respond(reply), &model))
}

/// Says in headers which model answered.
fn with_model(mut response: Response, model: &ServedModel) -> Response {
    for (name, value) in [(MODEL, &model.id), (FINGERPRINT, &model.fingerprint())] {
        // A name that cannot stand in a header is in the body all the same.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Admits a request, reads it and turns it into engine requests.
async fn prepare<R: WireRequest + Send + 'static>(
    app: Arc<App>,
    trace: Arc<Trace>,
    request: Request,
    build: Build<R>,
) -> Result<(Relay, Prepared), ApiError> {
    let mut bounds = app.bounds();
    let (place, request) = body::unless_refused(&app, request, app.admit()).await?;
    let work = async {
        let body = body::read(&app, request).await?;
        let (inner, trace) = (Arc::clone(&app), Arc::clone(&trace));
        app.cpu_task(body.bytes.len(), move || {
            let request: R = parse(&body.bytes)?;
            let model = inner.model(request.common().model.as_deref())?;
            // Nobody else sets it.
            let _ = trace.model.set(model.id.clone());
            build(Arc::clone(model), request, inner.config.limits.choices)
        })
        .await
    };
    let prepared = bounds.run(work).await??;
    Ok((Relay { app, trace, bounds, place }, prepared))
}
