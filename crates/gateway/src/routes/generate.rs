//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use bantam_types::openai::{WireRequest, parse};

use crate::answer::{ChatFormat, CompletionFormat, Context, answer};
use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::model::ServedModel;
use crate::observe::Trace;
use crate::prepare::{self, Prepared};

/// Turns a request of kind `R` for a model into engine requests, at most so many.
type Build<R> = fn(Arc<ServedModel>, R, usize) -> Result<Prepared, ApiError>;

pub(super) async fn chat(
    State(app): State<Arc<App>>,
    Extension(trace): Extension<Arc<Trace>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, prepared) = prepare(app, trace, request, prepare::chat).await?;
    let format = ChatFormat::new(&prepared);
    answer(context, prepared, format).await
}

pub(super) async fn completions(
    State(app): State<Arc<App>>,
    Extension(trace): Extension<Arc<Trace>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, mut prepared) = prepare(app, trace, request, prepare::completion).await?;
    let n = prepared.n;
    let echo: Vec<_> = prepared.prompts.iter_mut().flat_map(|p| vec![p.echo.take(); n]).collect();
    let format = CompletionFormat { logprobs: prepared.options.logprobs.is_some(), sent: vec![0; echo.len()], echo };
    answer(context, prepared, format).await
}

/// Admits a request, reads it and turns it into engine requests.
async fn prepare<R: WireRequest + Send + 'static>(
    app: Arc<App>,
    trace: Arc<Trace>,
    request: Request,
    build: Build<R>,
) -> Result<(Context, Prepared), ApiError> {
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
    Ok((Context { app, trace, bounds, _place: place }, prepared))
}
