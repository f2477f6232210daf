//! `/analyze` and `/anonymize`: personal data in texts, as Presidio's services answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use bantam_pii::DetectError;
use bantam_pii::presidio::{
    AnalyzeRequest, AnalyzeResponse, AnonymizeRequest, AnonymizeResponse, RequestError, Texts, analyze, anonymize,
};
use bantam_types::openai::parse_fields;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::flow::Caller;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/analyze", post(analyzed))
        .route("/anonymize", post(anonymized))
        .route("/supportedentities", get(entities))
}

async fn entities(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<Vec<String>>, ApiError> {
    Caller::of(&app, &app.live(), &headers)?;
    Ok(Json(app.detectors.entities().into_iter().map(str::to_owned).collect()))
}

async fn analyzed(State(app): State<Arc<App>>, request: Request) -> Result<Json<AnalyzeResponse>, ApiError> {
    let (detectors, most) = (app.detectors.clone(), app.config.limits.texts);
    let answer = move |request: AnalyzeRequest| match &request.text {
        Some(Texts::Many(texts)) if texts.len() > most => {
            Err(ApiError::field("text", format!("may hold {most} texts, holds {}", texts.len())))
        }
        _ => Ok(analyze(&detectors, request)?),
    };
    work(&app, request, answer).await
}

async fn anonymized(State(app): State<Arc<App>>, request: Request) -> Result<Json<AnonymizeResponse>, ApiError> {
    work(&app, request, |request: AnonymizeRequest| Ok(anonymize(request)?)).await
}

/// Reads a body and answers it on a blocking thread.
async fn work<Q: DeserializeOwned, A: Send + 'static>(
    app: &App,
    request: Request,
    answer: impl FnOnce(Q) -> Result<A, ApiError> + Send + 'static,
) -> Result<Json<A>, ApiError> {
    let mut bounds = app.bounds();
    let admitted = app.admit().and_then(|place| Ok((place, Caller::of(app, &app.live(), request.headers())?)));
    // The place is held to the end.
    let (_admitted, request) = body::unless_refused(app, request, admitted).await?;
    let work = async {
        let body = body::read(app, request).await?;
        app.cpu_task(body.bytes.len(), move || answer(parse_fields(&body.bytes)?)).await
    };
    Ok(Json(bounds.run(work).await??))
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Field { field, why } => Self::field(field, why),
            RequestError::Detect(error @ (DetectError::TooLong { .. } | DetectError::TooMany)) => {
                Self::field("text", error.to_string())
            }
            RequestError::Detect(error) => Self::internal(&error),
        }
    }
}
