//! One prompt to two models, side by side.
//!
//! The requests go the way of all requests: routes, policy, budgets and the ledger hold for them. The script streams both answers; without it,
//! the form is answered when both have ended.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bantam_ledger::LedgerError;
use bantam_providers::wire::Api;
use bantam_types::openai::parse_fields;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::cache::patiently;
use super::failure::Failure;
use super::viewer::{Sent, Viewer};
use super::{Frame, format, render};
use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::flow::{self, ByAdmin};
use crate::observe::Trace;

pub(super) const PATH: &str = "/dashboard/playground";

/// Bytes of an answer that are shown.
const ANSWER_BYTES: usize = 1 << 20;

/// Tokens of an answer where the form does not say, and at most.
const USUAL_TOKENS: u32 = 256;
const MOST_TOKENS: u32 = 4096;

#[derive(Template)]
#[template(path = "dashboard/playground.html")]
struct Page {
    frame: Frame,
    names: Vec<String>,
    prompt: String,
    max_tokens: u32,
    sides: [Side; 2],
}

/// One of the two.
#[derive(Default)]
struct Side {
    /// The name of its field.
    field: &'static str,
    title: &'static str,
    model: String,
    answer: Option<Answer>,
}

/// What came of it.
struct Answer {
    text: String,
    error: Option<String>,
    id: Uuid,
    outcome: Option<Outcome>,
}

/// What the ledger says of an answer.
#[derive(serde::Serialize)]
pub(super) struct Outcome {
    by: String,
    status: u16,
    first_token: String,
    latency: String,
    input: String,
    output: String,
    cost: String,
}

/// The form as it was sent.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    prompt: String,
    left: String,
    right: String,
    max_tokens: String,
}

/// What the script asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedByScript {
    model: String,
    prompt: String,
    #[serde(default)]
    max_tokens: Option<u32>,
}

fn page_of(viewer: &Viewer, asked: Asked, answers: [Option<Answer>; 2]) -> Response {
    let names: Vec<String> = viewer.app.names(&viewer.app.live(), None);
    let [left, right] = answers;
    let side = |field, title, model: String, answer, usual: usize| {
        let usual = names.get(usual).or(names.first()).cloned().unwrap_or_default();
        Side { field, title, model: if model.is_empty() { usual } else { model }, answer }
    };
    let sides = [side("left", "Left", asked.left, left, 0), side("right", "Right", asked.right, right, 1)];
    let max_tokens = tokens(&asked.max_tokens).unwrap_or(USUAL_TOKENS);
    render(&Page { frame: viewer.frame("Playground", PATH), prompt: asked.prompt, max_tokens, sides, names })
}

fn tokens(text: &str) -> Result<u32, Failure> {
    match text.trim() {
        "" => Ok(USUAL_TOKENS),
        text => match text.parse() {
            Ok(tokens @ 1..=MOST_TOKENS) => Ok(tokens),
            _ => Err(Failure::Field { field: "tokens", why: format!("is a number from 1 to {MOST_TOKENS}") }),
        },
    }
}

pub(super) async fn page(viewer: Viewer) -> Response {
    page_of(&viewer, Asked::default(), [None, None])
}

/// The form without the script: both answers at once.
pub(super) async fn compare(Sent { viewer, form }: Sent<Asked>) -> Result<Response, Failure> {
    if form.prompt.trim().is_empty() {
        return Err(Failure::Field { field: "prompt", why: "write something".to_owned() });
    }
    let most = tokens(&form.max_tokens)?;
    let ask = |model: &str| ask(&viewer, chat(model, &form.prompt, most));
    let (left, right) = tokio::join!(ask(&form.left), ask(&form.right));
    Ok(page_of(&viewer, form, [Some(left), Some(right)]))
}

fn chat(model: &str, prompt: &str, max_tokens: u32) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens})
}

/// A request to be answered by the gateway itself.
fn request(body: &Value) -> Result<Request, ApiError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/chat/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .extension(ByAdmin)
        .body(Body::from(body.to_string()));
    request.map_err(|error| ApiError::internal(&error))
}

async fn ask(viewer: &Viewer, body: Value) -> Answer {
    let trace = Arc::new(Trace::new());
    let id = trace.id;
    let answered = async {
        let response = flow::answer(Arc::clone(&viewer.app), trace, Api::Chat, request(&body)?).await;
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let bytes = body.map_err(|error| ApiError::BodyBroken { why: error.to_string() })?.to_bytes();
        serde_json::from_slice::<Value>(&bytes).map_err(|error| ApiError::internal(&error))
    };
    let (text, error) = match answered.await {
        Ok(body) => match body["error"]["message"].as_str() {
            Some(message) => (String::new(), Some(message.to_owned())),
            None => (body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned(), None),
        },
        Err(error) => (String::new(), Some(error.to_string())),
    };
    Answer { text, error, id, outcome: recorded(viewer, id).await.ok().flatten() }
}

/// What the ledger says of a request; nothing without a ledger, or where it has none.
async fn recorded(viewer: &Viewer, id: Uuid) -> Result<Option<Outcome>, Failure> {
    let Some(ledger) = &viewer.app.ledger else { return Ok(None) };
    let reading = ledger.reading();
    let story = patiently(async {
        match reading.story(id).await {
            Ok(story) => Ok(Some(story)),
            Err(LedgerError::NoSuchRequest { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    });
    Ok(story.await?.map(|story| {
        let entry = story.recorded.entry;
        let dash = || "–".to_owned();
        Outcome {
            by: match (entry.provider, entry.model) {
                (Some(provider), Some(model)) => format!("{provider}/{model}"),
                _ => "nobody".to_owned(),
            },
            status: entry.status,
            first_token: entry.first_token_us.map_or_else(dash, format::micros),
            latency: format::micros(entry.latency_us),
            input: format::count(entry.tokens.input),
            output: format::count(entry.tokens.output),
            cost: format::money(entry.cost),
        }
    }))
}

/// One answer, as a stream of the chat API.
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    viewer: Viewer,
    Extension(trace): Extension<Arc<Trace>>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Response> {
    viewer.check_header(&headers).map_err(IntoResponse::into_response)?;
    let read = async {
        let body = app.bounds().run(body::read(&app, request)).await??;
        let asked: AskedByScript = parse_fields(&body.bytes)?;
        let most = asked.max_tokens.unwrap_or(USUAL_TOKENS);
        if most == 0 || most > MOST_TOKENS {
            return Err(ApiError::field("max_tokens", format!("must be from 1 to {MOST_TOKENS}")));
        }
        let mut chat = chat(&asked.model, &asked.prompt, most);
        chat["stream"] = true.into();
        self::request(&chat)
    };
    let request = read.await.map_err(IntoResponse::into_response)?;
    Ok(flow::answer(app, trace, Api::Chat, request).await)
}

/// What an answer came to, for the script.
pub(super) async fn outcome(viewer: Viewer, Path(id): Path<Uuid>) -> Result<Json<Option<Outcome>>, Failure> {
    Ok(Json(recorded(&viewer, id).await?))
}
