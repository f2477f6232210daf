//! From the engine's events to a reply: whole answers and streams.
//!
//! Both go through the same [`choices`] and the same [`format::Format`], so that a stream put together is the whole
//! answer. The engine's events have a buffer as large as the answer, so a client that reads slowly delays nobody else;
//! dropping a reply, finished or not, frees what it holds in the engine.

mod calls;
mod chat;
mod choices;
mod completion;
mod format;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bantam_engine::{GenerateRequest, Generation};
use bantam_providers::wire::SseEvent;
use futures::StreamExt;
use serde::Serialize;

use crate::app::App;
use crate::error::ApiError;
use crate::observe::Trace;
use crate::prepare::{Delivery, Prepared};
use crate::reply::{Noted, Part, Reply};

pub(crate) use calls::{CLOSE, CallStyle, OPEN};
pub(crate) use chat::ChatFormat;
use choices::{Choices, Step, Tally};
pub(crate) use completion::CompletionFormat;
use format::{Answer, Format, Head, StreamEvent};

/// Submits the request and answers it in the given format.
pub(crate) async fn answer<F: Format>(
    app: Arc<App>,
    trace: Arc<Trace>,
    prepared: Prepared,
    mut format: F,
) -> Result<Reply, ApiError> {
    let generations = submit(&prepared)?;
    let prompt_tokens: usize = prepared.prompts.iter().map(|prompt| prompt.ids.len()).sum();
    trace.prompt_tokens.fetch_add(prompt_tokens * prepared.n, Ordering::Relaxed);
    let choices = Choices::new(generations, prepared.n, trace);
    let head = head::<F>(&prepared);
    match prepared.delivery {
        Delivery::Whole => whole(&app, &head, choices, &mut format).await,
        Delivery::Stream { include_usage } => Ok(stream(app, Streamed { head, choices, format, include_usage })),
    }
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

async fn whole<F: Format>(app: &App, head: &Head, mut choices: Choices, format: &mut F) -> Result<Reply, ApiError> {
    let mut answers: Vec<Answer> = (0..choices.len()).map(|_| Answer::default()).collect();
    let mut tally = Tally::default();
    while let Some((index, step)) = choices.next().await.transpose()? {
        match step {
            Step::Piece(piece) => answers[index].append(piece),
            Step::Finish(finished) => {
                count(app, head, &finished);
                tally.add(index, choices.per_prompt(), &finished);
                answers[index].finish = Some(finished.finish);
            }
        }
    }
    let noted = tally.noted();
    Ok(Reply::Whole { body: json(&format.whole(head, answers, tally.usage())).into(), noted })
}

/// An answer to be streamed.
struct Streamed<F> {
    head: Head,
    choices: Choices,
    format: F,
    include_usage: bool,
}

fn stream<F: Format>(app: Arc<App>, streamed: Streamed<F>) -> Reply {
    let Streamed { head, mut choices, mut format, include_usage } = streamed;
    let no_usage = include_usage.then_some(None);
    let parts = async_stream::try_stream! {
        let (mut tally, mut ended) = (Tally::default(), 0);
        for index in 0..choices.len() {
            if let Some(chunk) = format.chunk(&head, index, StreamEvent::Open, no_usage) {
                yield event(&chunk);
            }
        }
        while let Some((index, step)) = choices.next().await.transpose()? {
            let step = match step {
                Step::Piece(piece) => StreamEvent::Piece(piece),
                Step::Finish(finished) => {
                    count(&app, &head, &finished);
                    tally.add(index, choices.per_prompt(), &finished);
                    ended += 1;
                    if ended == choices.len() {
                        yield Part::Noted(tally.noted());
                        yield Part::Ending;
                    }
                    StreamEvent::Close(finished.finish)
                }
            };
            if let Some(chunk) = format.chunk(&head, index, step, no_usage) {
                yield event(&chunk);
            }
        }
        if include_usage {
            yield event(&format.usage_chunk(&head, tally.usage()));
        }
        yield Part::Event(SseEvent::data("[DONE]"));
    };
    Reply::Stream(parts.boxed())
}

/// Counts a finished choice.
fn count(app: &App, head: &Head, finished: &choices::Finished) {
    app.metrics.answer(&head.name, &finished.timings, finished.usage.completion_tokens);
}

fn event(value: &impl Serialize) -> Part {
    Part::Event(SseEvent::data(json(value)))
}

fn json(value: &impl Serialize) -> String {
    // Cannot fail with the wire types, whose keys are strings and whose numbers are finite.
    serde_json::to_string(value).unwrap_or_default()
}

impl Tally {
    fn noted(&self) -> Noted {
        let usage = self.usage();
        Noted {
            prompt_tokens: usage.prompt_tokens as u64,
            cached_tokens: usage.prompt_tokens_details.cached_tokens as u64,
            completion_tokens: usage.completion_tokens as u64,
            finish: self.finish.map(|finish| {
                match finish {
                    bantam_engine::FinishReason::Stop => "stop",
                    bantam_engine::FinishReason::Length => "length",
                }
                .into()
            }),
            reasoning_tokens: 0,
            logprobs: self.logprobs,
            drawn: self.drawn.values().cloned().collect(),
        }
    }
}
