//! The answers of one request, as they come.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bantam_engine::{Event, FinishReason, GenerateError, Generation, Timings, Usage};
use bantam_types::openai;
use futures::stream::{self, SelectAll, Stream, StreamExt};

use crate::error::ApiError;
use crate::observe::Trace;
use crate::replay::Drawn;
use crate::reply::Logprobs;

/// A token that belongs to a [`Piece`], if log probabilities were asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DrawnToken {
    pub(crate) id: u32,
    pub(crate) logprob: f32,
    /// The likeliest tokens, best first.
    pub(crate) top: Vec<(u32, f32)>,
}

/// Text that has become certain, and the tokens it is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) tokens: Vec<DrawnToken>,
}

/// A choice that has ended.
pub(crate) struct Finished {
    pub(crate) finish: FinishReason,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
    /// Of its tokens, if they were asked for.
    pub(crate) logprobs: Option<Logprobs>,
    /// What was drawn.
    pub(crate) drawn: Drawn,
}

pub(crate) enum Step {
    Piece(Piece),
    Finish(Finished),
}

type Events = Pin<Box<dyn Stream<Item = (usize, Event)> + Send>>;

/// All choices of a request.
pub(crate) struct Choices {
    events: SelectAll<Events>,
    /// Per choice: tokens whose text is not certain yet.
    pending: Vec<Vec<DrawnToken>>,
    /// Per choice: what [`Finished::logprobs`] will be.
    logprobs: Vec<Option<Logprobs>>,
    /// Per choice: tokens drawn so far.
    drawn: Vec<Vec<u32>>,
    /// A step that comes after the one just given.
    next: Option<(usize, Step)>,
    per_prompt: usize,
    trace: Arc<Trace>,
}

impl Choices {
    /// `per_prompt` choices of the first prompt, then as many of the second, and so on.
    pub(crate) fn new(generations: Vec<Generation>, per_prompt: usize, trace: Arc<Trace>) -> Self {
        let pending = generations.iter().map(|_| Vec::new()).collect();
        let logprobs = vec![None; generations.len()];
        let drawn = vec![Vec::new(); generations.len()];
        let events = generations.into_iter().enumerate().map(|(i, g)| events(i, g)).collect();
        Self { events, pending, logprobs, drawn, next: None, per_prompt, trace }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn per_prompt(&self) -> usize {
        self.per_prompt
    }

    /// The next step of any choice; `None` when all have finished. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<(usize, Step), ApiError>> {
        if let Some(step) = self.next.take() {
            return Some(Ok(step));
        }
        while let Some((index, event)) = self.events.next().await {
            let pending = &mut self.pending[index];
            match event {
                Event::Token { id, text, logprob, end } => {
                    self.trace.completion_tokens.fetch_add(1, Ordering::Relaxed);
                    self.drawn[index].push(id);
                    // The token that ends a turn is not part of the answer.
                    if let Some(l) = logprob.filter(|_| !end) {
                        let one = Logprobs { sum: l.logprob.into(), least: l.logprob.into(), tokens: 1 };
                        self.logprobs[index] = Some(Logprobs::with(self.logprobs[index], one));
                        pending.push(DrawnToken { id, logprob: l.logprob, top: l.top });
                    }
                    if !text.is_empty() {
                        let tokens = std::mem::take(pending);
                        return Some(Ok((index, Step::Piece(Piece { text, tokens }))));
                    }
                }
                Event::Done { finish, matched_stop, usage, timings, seed } => {
                    let logprobs = self.logprobs[index];
                    let drawn = Drawn { seed, tokens: std::mem::take(&mut self.drawn[index]) };
                    let finished = Step::Finish(Finished { finish, usage, timings, logprobs, drawn });
                    let tokens = std::mem::take(pending);
                    // Tokens of a stop string have no text in the answer, and so no log probabilities either.
                    if tokens.is_empty() || matched_stop.is_some() {
                        return Some(Ok((index, finished)));
                    }
                    self.next = Some((index, finished));
                    return Some(Ok((index, Step::Piece(Piece { text: String::new(), tokens }))));
                }
                Event::Error(e) => return Some(Err(e.into())),
            }
        }
        None
    }
}

fn events(index: usize, generation: Generation) -> Events {
    Box::pin(stream::unfold(Some(generation), move |state| async move {
        let mut generation = state?;
        // An engine thread that is gone closes the channel without a last word.
        let event = generation.next().await.unwrap_or(Event::Error(GenerateError::ShutDown));
        let more = matches!(event, Event::Token { .. });
        Some(((index, event), more.then_some(generation)))
    }))
}

/// Adds up the token counts of a request.
#[derive(Default)]
pub(crate) struct Tally {
    usage: openai::Usage,
    /// Why the last choice ended.
    pub(super) finish: Option<FinishReason>,
    /// Of all tokens.
    pub(super) logprobs: Option<Logprobs>,
    /// What was drawn, by choice.
    pub(super) drawn: BTreeMap<usize, Drawn>,
}

impl Tally {
    /// Adds a choice. The prompt is counted at the first of its choices; the others found it in the cache.
    pub(crate) fn add(&mut self, index: usize, per_prompt: usize, finished: &Finished) {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = finished.usage;
        if index.checked_rem(per_prompt) == Some(0) {
            self.usage.prompt_tokens += prompt_tokens;
            self.usage.prompt_tokens_details.cached_tokens += cached_tokens;
        }
        self.usage.completion_tokens += completion_tokens;
        self.finish = Some(finished.finish);
        self.drawn.insert(index, finished.drawn.clone());
        if let Some(logprobs) = finished.logprobs {
            self.logprobs = Some(Logprobs::with(self.logprobs, logprobs));
        }
    }

    pub(crate) fn usage(&self) -> openai::Usage {
        openai::Usage { total_tokens: self.usage.prompt_tokens + self.usage.completion_tokens, ..self.usage }
    }
}
