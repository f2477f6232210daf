//! From the engine's events to the client: whole answers and streams.
//!
//! Both go through the same [`choices`] and the same [`format::Format`], so that a stream put together is the whole
//! answer. The engine's events have a buffer as large as the answer, so a client that reads slowly delays nobody else;
//! dropping an answer, finished or not, frees what it holds in the engine.

mod calls;
mod chat;
mod choices;
mod completion;
mod format;
mod stream;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bantam_engine::{GenerateRequest, Generation};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{App, Bounds};
use crate::error::ApiError;
use crate::observe::Trace;
use crate::prepare::{Delivery, Prepared};

pub(crate) use calls::{CLOSE, CallStyle, OPEN};
pub(crate) use chat::ChatFormat;
use choices::{Choices, Step, Tally};
pub(crate) use completion::CompletionFormat;
use format::{Answer, Format, Head};

pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-bantam-model");
const FINGERPRINT: HeaderName = HeaderName::from_static("x-bantam-fingerprint");

/// What an answer needs besides the prepared request.
pub(crate) struct Context {
    pub(crate) app: Arc<App>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) bounds: Bounds,
    /// The request's place among the concurrent ones, kept until its answer has ended.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// Submits the request and answers it in the given format.
pub(crate) async fn answer<F: Format>(
    context: Context,
    prepared: Prepared,
    mut format: F,
) -> Result<Response, ApiError> {
    let generations = submit(&prepared)?;
    let prompt_tokens: usize = prepared.prompts.iter().map(|prompt| prompt.ids.len()).sum();
    context.trace.prompt_tokens.fetch_add(prompt_tokens * prepared.n, Ordering::Relaxed);
    let choices = Choices::new(generations, prepared.n, Arc::clone(&context.trace));
    let head = head::<F>(&prepared);
    let mut response = match prepared.delivery {
        Delivery::Whole => {
            let body = whole(context, &head, choices, &mut format).await?;
            Json(body).into_response()
        }
        Delivery::Stream { include_usage } => {
            stream::response(context, stream::Stream { head, choices, format, include_usage })
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [(MODEL, &prepared.model.id), (FINGERPRINT, &prepared.model.fingerprint())] {
        // A name that cannot stand in a header is in the body all the same.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// Queues every choice of every prompt; if one is refused, those before it are cancelled.
fn submit(prepared: &Prepared) -> Result<Vec<Generation>, ApiError> {
    let engine = &prepared.model.engine;
    let mut generations = Vec::new();
    for prompt in &prepared.prompts {
        for choice in 0..prepared.n {
            let request = GenerateRequest {
                prompt: prompt.ids.clone(),
                choice_index: u32::try_from(choice).unwrap_or(u32::MAX),
                ..prepared.options.clone()
            };
            let generation = engine.generate(request);
            generations.push(generation.map_err(|e| ApiError::submit(e, prepared.input, engine.context_length()))?);
        }
    }
    Ok(generations)
}

fn head<F: Format>(prepared: &Prepared) -> Head {
    Head {
        id: format!("{}-{}", F::ID_PREFIX, uuid::Uuid::now_v7().simple()).into(),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        name: prepared.model.id.as_str().into(),
        fingerprint: prepared.model.fingerprint().into(),
        model: Arc::clone(&prepared.model),
    }
}

async fn whole<F: Format>(
    mut context: Context,
    head: &Head,
    mut choices: Choices,
    format: &mut F,
) -> Result<F::Whole, ApiError> {
    let mut answers: Vec<Answer> = (0..choices.len()).map(|_| Answer::default()).collect();
    let mut tally = Tally::default();
    while let Some((index, step)) = context.bounds.run(choices.next()).await?.transpose()? {
        match step {
            Step::Piece(piece) => answers[index].append(piece),
            Step::Finish(finished) => {
                note(&context, head, &finished);
                tally.add(index, choices.per_prompt(), &finished);
                answers[index].finish = Some(finished.finish);
            }
        }
    }
    Ok(format.whole(head, answers, tally.usage()))
}

/// Counts a finished choice.
fn note(context: &Context, head: &Head, finished: &choices::Finished) {
    let trace = &context.trace;
    trace.cached_tokens.fetch_add(finished.usage.cached_tokens, Ordering::Relaxed);
    context.app.metrics.answer(&head.name, &finished.timings, finished.usage.completion_tokens);
}
