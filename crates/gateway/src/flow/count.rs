//! `/v1/messages/count_tokens`: how many tokens a request's prompt has, where a model here would read it.

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bantam_providers::wire::Api;
use serde_json::json;

use super::caller::Caller;
use super::local::prepare;
use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::live::{AUTO, Step};
use crate::observe::Trace;

/// Counts the tokens of a request in Anthropic's form.
pub(crate) async fn count_tokens(app: Arc<App>, trace: Arc<Trace>, request: Request) -> Response {
    match counted(&app, &trace, request).await {
        Ok(tokens) => Json(json!({ "input_tokens": tokens })).into_response(),
        Err(error) => error.response_for(Api::Messages),
    }
}

async fn counted(app: &App, trace: &Trace, request: Request) -> Result<usize, ApiError> {
    let (mut bounds, live) = (app.bounds(), app.live());
    let admitted = app.admit().and_then(|place| Ok((place, Caller::of(app, &live, request.headers())?)));
    let ((_place, caller), request) = body::unless_refused(app, request, admitted).await?;
    let asked = bounds.run(super::read(app, Api::Messages, request)).await??;
    let served = || app.names(&live, Some(&caller));
    let Some(name) = asked.model.clone() else { return Err(ApiError::ModelMissing { served: served() }) };
    trace.asks_for(&name);
    caller.check_model(&name)?;
    let model = match live.routes.get(&name) {
        Some(route) if !route.leaves() => match route.steps(0.0).into_iter().next() {
            Some(Step::Local(model)) => model,
            _ => {
                let fix = "a model that generates";
                return Err(ApiError::WrongModelKind { model: name, kind: "an encoder", fix });
            }
        },
        Some(_) => return Err(ApiError::NotCounted { model: name }),
        None if name == AUTO && live.routes.auto.is_some() => return Err(ApiError::NotCounted { model: name }),
        None => return Err(app.unknown_model(&name, served())),
    };
    // Nobody else sets it, and the name is one of ours.
    let _ = trace.model.set(name);
    let most = app.config.limits.choices;
    let counted = app.cpu_task(asked.bytes.len(), move || {
        Ok(prepare(model, &asked, Api::Chat, most)?.prompts.iter().map(|prompt| prompt.ids.len()).sum())
    });
    bounds.run(counted).await?
}
