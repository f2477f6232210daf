//! `/v1/tasks`: what tasks there are, and their answers.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bantam_ledger::{Estimate, TokenCounts};
use bantam_tasks::table::text_of;
use bantam_tasks::{RowError, Runner, TaskResult, TaskSummary};
use bantam_types::openai::parse_fields;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::flow::{Account, Answerer, Caller, ID, MODEL};
use crate::observe::Trace;

pub(super) const TASK: HeaderName = HeaderName::from_static("x-bantam-task");
pub(super) const TASK_HASH: HeaderName = HeaderName::from_static("x-bantam-task-hash");

/// A task as it is served.
#[derive(Serialize)]
struct TaskObject<'a> {
    object: &'static str,
    #[serde(flatten)]
    summary: TaskSummary<'a>,
    model: &'a str,
    fingerprint: &'a str,
}

impl<'a> TaskObject<'a> {
    fn new(runner: &'a Runner) -> Self {
        let summary = runner.task().summary();
        TaskObject { object: "task", summary, model: runner.model(), fingerprint: runner.fingerprint() }
    }
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    let tasks: Vec<_> = app.running.tasks.iter().map(|runner| TaskObject::new(runner)).collect();
    Json(json!({ "object": "list", "data": tasks })).into_response()
}

pub(super) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    app.task(&name).map(|runner| Json(TaskObject::new(runner)).into_response())
}

/// What a client asks of a task; one of the two.
#[derive(Deserialize)]
struct RunRequest {
    #[serde(default)]
    input: Option<Value>,
    #[serde(default)]
    inputs: Option<Vec<Value>>,
}

/// Inputs, each as the texts of the task's columns or as the reason why it cannot be.
struct Prepared {
    inputs: Vec<Result<Vec<String>, ApiError>>,
    form: Form,
}

/// How a request names its inputs, and is answered.
#[derive(Clone, Copy)]
enum Form {
    /// `input`, by its result or error.
    One,
    /// `inputs`, by a list.
    Many,
}

impl Form {
    /// What the input of an index is called.
    fn name(self, index: usize) -> String {
        match self {
            Form::One => "input".to_owned(),
            Form::Many => format!("inputs[{index}]"),
        }
    }
}

pub(super) async fn run(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Extension(trace): Extension<Arc<Trace>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut bounds, live) = (app.bounds(), app.live());
    let admitted = app
        .admit()
        .and_then(|place| Ok((place, Caller::of(&app, &live, request.headers())?, Arc::clone(app.task(&name)?))));
    // The place is held to the end.
    let ((_place, caller, runner), request) = body::unless_refused(&app, request, admitted).await?;
    // Nobody else sets it.
    let _ = trace.model.set(runner.model().to_owned());
    let mut account = Account::new(Arc::clone(&app), live, Arc::clone(&trace), "tasks", &caller);
    account.named(&name);
    let answered = answer(&app, &runner, &mut account, request);
    let answered = bounds.run(answered).await.and_then(|answered| answered);
    let answered = match answered {
        Ok(response) => account.close().await.map(|()| response),
        Err(error) => {
            account.fail(&error).await;
            Err(error)
        }
    };
    let mut response = with_decision(answered.into_response(), &runner);
    response.headers_mut().extend(HeaderValue::from_str(&trace.id.to_string()).ok().map(|id| (ID, id)));
    Ok(response)
}

async fn answer(
    app: &App,
    runner: &Arc<Runner>,
    account: &mut Account,
    request: Request,
) -> Result<Response, ApiError> {
    let body = body::read(app, request).await?;
    account.check(&runner.task().name)?;
    let (of, most, length) = (Arc::clone(runner), app.config.limits.task_inputs, body.bytes.len());
    let Prepared { inputs, form } =
        app.cpu_task(length, move || prepare(&of, parse_fields(&body.bytes)?, most)).await?;
    let answerer = answerer(app, runner);
    if let Answerer::Hosted { preset, model, .. } = &answerer {
        account.check_price(preset, model)?;
    }
    account.open(estimate(app, &answerer, inputs.len(), length)).await?;
    account.durable().await?;
    account.answers(answerer);
    let good: Vec<Vec<String>> = inputs.iter().filter_map(|input| input.as_ref().ok().cloned()).collect();
    let mut outcomes = app.run_task(Arc::clone(runner), good).await?.into_iter();
    let mut tokens = TokenCounts::default();
    let mut results = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let outcome = match input {
            Ok(_) => {
                let outcome = outcomes.next().unwrap_or(Err(RowError::Stopped));
                app.metrics.task_input(&runner.task().name, &outcome);
                outcome.map_err(|error| no_answer(runner, form.name(index), error))
            }
            Err(error) => Err(error),
        };
        if let Ok(result) = &outcome {
            tokens.input += result.usage.prompt_tokens as u64;
            tokens.cached += result.usage.cached_tokens as u64;
            tokens.output += result.usage.completion_tokens as u64;
        }
        results.push(outcome);
    }
    account.first_token();
    account.spent(tokens, None);
    match form {
        Form::One => results.pop().unwrap_or(Err(ApiError::Internal)).map(|result| Json(result).into_response()),
        Form::Many => Ok(Json(Results { results: results.into_iter().map(Item::from).collect() }).into_response()),
    }
}

/// Who answers a task: a model here, or the server that its file names.
fn answerer(app: &App, runner: &Runner) -> Answerer {
    let name = runner.model();
    if let Some(model) = app.running.models.iter().find(|m| m.id == name) {
        return Answerer::Local(Arc::clone(model));
    }
    match runner.task().server.clone() {
        Some(provider) => Answerer::Hosted { provider, preset: "openai-compatible", model: name.to_owned() },
        None => Answerer::Encoder(name.to_owned()),
    }
}

/// The most that so many inputs may cost.
fn estimate(app: &App, answerer: &Answerer, inputs: usize, bytes: usize) -> Estimate {
    let pricing = &app.live().pricing;
    // Every input has the task's own prompt before it.
    let prompt = bytes as u64 / 3 + inputs as u64 * 1024;
    let output = Some(inputs as u64 * 512);
    let (cost, tokens) = match answerer {
        Answerer::Local(model) => pricing.local_bound(model, prompt, output),
        Answerer::Encoder(_) => (bantam_types::NanoDollars::ZERO, prompt),
        Answerer::Hosted { preset, model, .. } => pricing.hosted_bound(Some(preset), model, prompt, output),
    };
    Estimate { cost, tokens }
}

#[derive(Serialize)]
struct Results {
    results: Vec<Item>,
}

/// One of many outcomes.
#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Result(Box<TaskResult>),
    Error(bantam_types::openai::ErrorBody),
}

impl From<Result<TaskResult, ApiError>> for Item {
    fn from(outcome: Result<TaskResult, ApiError>) -> Self {
        match outcome {
            Ok(result) => Item::Result(Box::new(result)),
            Err(error) => Item::Error(error.body()),
        }
    }
}

fn prepare(runner: &Runner, request: RunRequest, most: usize) -> Result<Prepared, ApiError> {
    let (inputs, form) = match (request.input, request.inputs) {
        (Some(input), None) => (vec![input], Form::One),
        (None, Some(inputs)) => (inputs, Form::Many),
        (None, None) => return Err(ApiError::field("input", "is missing; give one, or a list of them as 'inputs'")),
        (Some(_), Some(_)) => return Err(ApiError::field("inputs", "goes without 'input'; put all into one list")),
    };
    if inputs.is_empty() || inputs.len() > most {
        let why = format!("must hold between 1 and {most} inputs, holds {}", inputs.len());
        return Err(ApiError::field("inputs", why));
    }
    let columns = &runner.task().input;
    let inputs = inputs.into_iter().enumerate().map(|(index, input)| texts(columns, input, &form.name(index)));
    Ok(Prepared { inputs: inputs.collect(), form })
}

/// An input as one text per column.
fn texts(columns: &[String], input: Value, at: &str) -> Result<Vec<String>, ApiError> {
    let mut fields = match (input, columns) {
        (Value::String(text), [_]) => return Ok(vec![text]),
        (Value::Object(fields), _) => fields,
        (_, [column]) => {
            return Err(ApiError::field(at, format!("must be a text, or an object with the text as '{column}'")));
        }
        _ => return Err(ApiError::field(at, format!("must be an object with {}", columns.join(", ")))),
    };
    let texts = columns.iter().map(|column| match fields.remove(column) {
        Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => Ok(text_of(&value)),
        Some(_) => Err(ApiError::field(format!("{at}.{column}"), "must be a text")),
        None => Err(ApiError::field(format!("{at}.{column}"), "is missing")),
    });
    let texts = texts.collect::<Result<_, _>>()?;
    match fields.keys().next() {
        None => Ok(texts),
        Some(extra) => Err(ApiError::field(
            format!("{at}.{extra}"),
            format!("is no input of the task; it has {}", columns.join(", ")),
        )),
    }
}

fn no_answer(runner: &Runner, at: String, error: RowError) -> ApiError {
    let param = match &error {
        // A column is only named where there are several.
        RowError::Input { field, .. } if runner.task().input.len() > 1 => format!("{at}.{field}"),
        _ => at,
    };
    ApiError::NoAnswer { param, error }
}

/// Says in headers which task answered, in which version, and by which model.
fn with_decision(mut response: Response, runner: &Runner) -> Response {
    let decision = [(TASK, &*runner.task().name), (TASK_HASH, &*runner.task().hash), (MODEL, runner.model())];
    for (name, value) in decision {
        // A model's name may have characters that no header takes.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
