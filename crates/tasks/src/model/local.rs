//! A generating model of ours.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bantam_engine::{
    Completion, Engine, Explore, FinishReason, GenerateError, GenerateRequest, Generation, Grammar, GrammarSource,
    LabelHandle, LabelRequest, LabelScores, LabelTrie, LogprobsOf, SamplingParams, SubmitError,
};
use bantam_formats::{ChatInput, ChatTemplate, EncodeOptions, Tokenizer};
use serde_json::{Value, json};

use super::{Answerer, LanguageModel, Raw, RawValue, Usage, Wanted};
use crate::error::{RowError, TaskError};
use crate::prompt::{Conversation, answer_labels};

/// Stands for a row's input while the prompt around it is written. From a private-use area: no template and no text means it.
const INPUT: &str = "\u{e1f0}\u{e1f1}";
/// Stands for the answer.
const ANSWER: &str = "\u{e1f2}\u{e1f3}";

/// Inputs without content, whose answers are the model's bias (Zhao et al. 2021).
const CONTENT_FREE: [&str; 3] = ["N/A", "...", "[MASK]"];

/// How long to wait when the engine's queue is full.
pub(super) const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// A running model and what is needed to talk to it in text.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// What it is called.
    pub id: String,
    /// Names exactly what computes the answers.
    pub fingerprint: String,
    /// What runs it.
    pub engine: Engine,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template; a base model has none.
    pub template: Option<Arc<ChatTemplate>>,
}

/// The tokens around a row's input, and how an answer goes on from them.
struct Frame {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    /// What comes between the input's frame and the input itself.
    input_lead: &'static str,
    /// What comes before an answer's own text.
    answer_lead: String,
    /// What ends an answer.
    end: Vec<u32>,
}

impl LocalModel {
    fn fault(&self, why: impl Into<String>) -> TaskError {
        TaskError::Model { model: self.id.clone(), why: why.into() }
    }

    fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TaskError> {
        let options = EncodeOptions { add_special: false, parse_special };
        self.tokenizer.encode(text, options).map_err(|error| self.fault(error.to_string()))
    }

    /// The frame of a conversation whose last turn is `after` the input.
    fn frame(&self, conversation: &Conversation, after: &str) -> Result<Frame, TaskError> {
        let (text, answered) = match &self.template {
            Some(template) => {
                let messages = messages(conversation, after);
                let render = |messages: &[Value], generate: bool| {
                    template.render(&ChatInput { messages, add_generation_prompt: generate, ..ChatInput::default() })
                };
                // Some templates refuse a system role, others pass over it: it is then said with the first turn.
                let messages = match render(&messages, true) {
                    Ok(text) if text.contains(conversation.system.trim()) => messages,
                    _ => without_system(messages),
                };
                let fault = |error| self.fault(format!("its chat template failed: {error}"));
                let text = render(&messages, true).map_err(fault)?;
                let whole = [&messages[..], &[json!({"role": "assistant", "content": ANSWER})]].concat();
                (text, render(&whole, false).map_err(fault)?)
            }
            None => {
                let text = plain(conversation, after);
                let answered = format!("{text} {ANSWER}\n");
                (text, answered)
            }
        };
        let Some((before, rest)) = text.split_once(INPUT).filter(|(_, rest)| !rest.contains(INPUT)) else {
            return Err(self.fault("its chat template does not say the user's text exactly once"));
        };
        let (lead, end) = match answered.strip_prefix(&*text).and_then(|rest| rest.split_once(ANSWER)) {
            Some((lead, end)) => (lead.to_owned(), self.encode(end, true)?),
            None => (String::new(), self.encode(answered.split_once(ANSWER).map_or("", |(_, end)| end), true)?),
        };
        let eog = self.tokenizer.eog();
        let end = match end.iter().position(|id| eog.contains(id)) {
            Some(at) => end[..=at].to_vec(),
            None if self.template.is_none() => end,
            None => eog.first().map(|id| vec![*id]).unwrap_or_default(),
        };
        let mut prefix = self.encode(before, true)?;
        if self.template.is_none() && self.tokenizer.add_bos() {
            prefix.splice(0..0, self.tokenizer.bos());
        }
        let input_lead = if self.template.is_none() { " " } else { "" };
        Ok(Frame { prefix, suffix: self.encode(rest, true)?, input_lead, answer_lead: lead, end })
    }

    fn trie(&self, frame: &Frame, labels: &[String]) -> Result<LabelTrie, TaskError> {
        let tokens = |label: &String| {
            Ok([self.encode(&format!("{}{label}", frame.answer_lead), false)?, frame.end.clone()].concat())
        };
        let tokens = labels.iter().map(tokens).collect::<Result<Vec<_>, TaskError>>()?;
        LabelTrie::new(&tokens).map_err(|error| self.fault(error.to_string()))
    }

    /// The trie without what the model thinks of the labels where there is no content.
    fn fair_trie(&self, frame: &Frame, labels: &[String]) -> Result<Arc<LabelTrie>, TaskError> {
        let trie = Arc::new(self.trie(frame, labels)?);
        let mut prior = vec![0.0; labels.len()];
        for text in CONTENT_FREE {
            let (prompt, _) = self.prompt(frame, text)?;
            let request = LabelRequest { prompt, labels: Arc::clone(&trie), explore: Explore::ALL, cache_salt: None };
            let scores = self.submit(|| self.engine.label(request.clone())).map(LabelHandle::blocking_wait);
            let scores = scores.map_err(|e| self.fault(e.to_string()))?.map_err(|e| self.fault(e.to_string()))?;
            for (label, logprob) in scores.found {
                prior[label] += libm::exp(logprob) / CONTENT_FREE.len() as f64;
            }
        }
        let prior: Vec<f64> = prior.iter().map(|p| libm::log(p.max(1e-12))).collect();
        Ok(Arc::new(LabelTrie::clone(&trie).without_prior(&prior)))
    }

    /// A row's prompt, and whether its input reads like special tokens.
    fn prompt(&self, frame: &Frame, input: &str) -> Result<(Vec<u32>, bool), TaskError> {
        let text = format!("{}{}", frame.input_lead, input.trim());
        let ids = self.encode(&text, false)?;
        let is_special = text.contains(['<', '[']) && self.encode(&text, true)? != ids;
        Ok(([&frame.prefix[..], &ids, &frame.suffix].concat(), is_special))
    }

    /// Queues a request, waiting while the queue is half full: the other half is for those who do not wait.
    fn submit<T>(&self, queue: impl Fn() -> Result<T, SubmitError>) -> Result<T, SubmitError> {
        let most = self.engine.config().queue_len.div_ceil(2);
        loop {
            let outcome = match self.engine.stats().waiting < most || !self.engine.is_ready() {
                true => queue(),
                false => Err(SubmitError::QueueFull { retry_after: QUEUE_PAUSE }),
            };
            match outcome {
                Err(SubmitError::QueueFull { .. }) => std::thread::sleep(QUEUE_PAUSE),
                other => return other,
            }
        }
    }
}

fn messages(conversation: &Conversation, after: &str) -> Vec<Value> {
    let mut messages = vec![json!({"role": "system", "content": conversation.system})];
    for (input, answer) in &conversation.turns {
        messages.push(json!({"role": "user", "content": input}));
        messages.push(json!({"role": "assistant", "content": answer}));
    }
    messages.push(json!({"role": "user", "content": format!("{INPUT}{after}")}));
    messages
}

fn without_system(mut messages: Vec<Value>) -> Vec<Value> {
    let system = messages.remove(0);
    if let (Some(system), Some(first)) = (system["content"].as_str(), messages.first_mut()) {
        let content = format!("{system}\n\n{}", first["content"].as_str().unwrap_or_default());
        first["content"] = Value::String(content);
    }
    messages
}

/// The conversation as a text that a base model goes on with.
fn plain(conversation: &Conversation, after: &str) -> String {
    let name = conversation.answer_name;
    let turns = conversation.turns.iter().map(|(input, answer)| format!("Text: {input}\n{name}: {answer}\n\n"));
    format!("{}\n\n{}Text:{INPUT}{after}\n{name}:", conversation.system, turns.collect::<String>())
}

impl LanguageModel for LocalModel {
    fn id(&self) -> &str {
        &self.id
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn bind(&self, conversation: &Conversation, wanted: &Wanted) -> Result<Box<dyn Answerer>, TaskError> {
        let model = self.clone();
        match wanted {
            Wanted::Label { labels, mass } => {
                let frame = self.frame(conversation, "")?;
                let labels = self.fair_trie(&frame, labels)?;
                let explore = if *mass > 0.0 { Explore { n_best: usize::MAX, mass: *mass } } else { Explore::BEST };
                Ok(Box::new(OneLabel { model, frame, labels, explore }))
            }
            Wanted::EachLabel { labels } => {
                let answers = ["yes".to_owned(), "no".to_owned()];
                let questions = labels.iter().map(|label| {
                    let frame = self.frame(&asking(conversation, label), &question(label))?;
                    let trie = self.fair_trie(&frame, &answers)?;
                    Ok((frame, trie))
                });
                Ok(Box::new(EachLabel { questions: questions.collect::<Result<_, TaskError>>()?, model }))
            }
            Wanted::Json { schema, max_tokens } => {
                let frame = self.frame(conversation, "")?;
                let grammar = self.engine.compile_grammar(&GrammarSource::JsonSchema(schema.clone()));
                let grammar = grammar.map_err(|error| self.fault(format!("fields.schema: {error}")))?;
                Ok(Box::new(Json { model, frame, grammar, max_tokens: *max_tokens }))
            }
        }
    }
}

fn question(label: &str) -> String {
    format!("\n\nDoes the label \"{label}\" apply to this text? Answer yes or no.")
}

/// The conversation with its examples turned into questions about one label.
fn asking(conversation: &Conversation, label: &str) -> Conversation {
    let turn = |(input, answer): &(String, String)| {
        let applies = answer_labels(answer).any(|named| named == label);
        (format!("{input}{}", question(label)), if applies { "yes" } else { "no" }.to_owned())
    };
    Conversation { turns: conversation.turns.iter().map(turn).collect(), ..conversation.clone() }
}

fn row_error(error: TaskError) -> RowError {
    RowError::Model { why: error.to_string(), retry: false }
}

fn submit_error(error: SubmitError) -> RowError {
    match error {
        SubmitError::TooLong { prompt, max } => RowError::TooLong { tokens: prompt, max },
        error => RowError::Model { why: error.to_string(), retry: false },
    }
}

fn run_error(error: GenerateError) -> RowError {
    RowError::Model { why: error.to_string(), retry: matches!(error, GenerateError::EngineFailed { .. }) }
}

fn usage(scores: &LabelScores) -> Usage {
    let LabelScores { prompt_tokens, cached_tokens, searched_tokens, .. } = *scores;
    Usage { prompt_tokens, cached_tokens, completion_tokens: searched_tokens }
}

struct OneLabel {
    model: LocalModel,
    frame: Frame,
    labels: Arc<LabelTrie>,
    explore: Explore,
}

impl Answerer for OneLabel {
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>> {
        let submit = |input: &String| {
            let (prompt, special) = self.model.prompt(&self.frame, input).map_err(row_error)?;
            let request =
                LabelRequest { prompt, labels: Arc::clone(&self.labels), explore: self.explore, cache_salt: None };
            let handle = self.model.submit(|| self.model.engine.label(request.clone())).map_err(submit_error)?;
            Ok((handle, special))
        };
        let handles: Vec<_> = inputs.iter().map(submit).collect();
        let wait = |handle: Result<(LabelHandle, bool), RowError>| {
            let (handle, has_special_tokens) = handle?;
            let scores = handle.blocking_wait().map_err(run_error)?;
            let value = RawValue::Labels(
                scores.found.iter().map(|&(label, logprob)| (label, Some(libm::exp(logprob)))).collect(),
            );
            Ok(Raw { value, latency: scores.timings.total(), usage: usage(&scores), has_special_tokens })
        };
        handles.into_iter().map(wait).collect()
    }
}

struct EachLabel {
    model: LocalModel,
    questions: Vec<(Frame, Arc<LabelTrie>)>,
}

impl EachLabel {
    fn submit(&self, input: &str) -> Result<(Vec<LabelHandle>, bool), RowError> {
        let mut has_special_tokens = false;
        let ask = |(frame, trie): &(Frame, Arc<LabelTrie>)| {
            let (prompt, special) = self.model.prompt(frame, input).map_err(row_error)?;
            has_special_tokens |= special;
            let request = LabelRequest { prompt, labels: Arc::clone(trie), explore: Explore::BEST, cache_salt: None };
            self.model.submit(|| self.model.engine.label(request.clone())).map_err(submit_error)
        };
        let handles = self.questions.iter().map(ask).collect::<Result<_, _>>()?;
        Ok((handles, has_special_tokens))
    }
}

impl Answerer for EachLabel {
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>> {
        let started = Instant::now();
        let handles: Vec<_> = inputs.iter().map(|input| self.submit(input)).collect();
        let wait = |handles: Result<(Vec<LabelHandle>, bool), RowError>| {
            let (handles, has_special_tokens) = handles?;
            let mut total = Usage::default();
            let mut labels = Vec::new();
            for handle in handles {
                let scores = handle.blocking_wait().map_err(run_error)?;
                let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage(&scores);
                total.prompt_tokens += prompt_tokens;
                total.cached_tokens += cached_tokens;
                total.completion_tokens += completion_tokens;
                let (answer, logprob) = scores.found.first().copied().unwrap_or((1, 0.0));
                let applies = answer == 0;
                labels.push((applies, Some(if applies { libm::exp(logprob) } else { 1.0 - libm::exp(logprob) })));
            }
            Ok(Raw { value: RawValue::EachLabel(labels), latency: started.elapsed(), usage: total, has_special_tokens })
        };
        handles.into_iter().map(wait).collect()
    }
}

struct Json {
    model: LocalModel,
    frame: Frame,
    grammar: Grammar,
    max_tokens: usize,
}

impl Json {
    fn submit(&self, input: &str) -> Result<(Generation, bool), RowError> {
        let (prompt, special) = self.model.prompt(&self.frame, input).map_err(row_error)?;
        let request = GenerateRequest {
            max_tokens: Some(self.max_tokens),
            sampling: SamplingParams::greedy(),
            logprobs: Some(0),
            logprobs_of: LogprobsOf::Allowed,
            grammar: Some(self.grammar.clone()),
            ..GenerateRequest::new(prompt)
        };
        let generation = self.model.submit(|| self.model.engine.generate(request.clone())).map_err(submit_error)?;
        Ok((generation, special))
    }

    /// Each token's bytes of the text, with its log-probability.
    fn pieces(&self, completion: &Completion) -> Vec<(Range<usize>, f32)> {
        let mut end = 0;
        let mut piece = |(id, logprob): (&u32, &bantam_engine::TokenLogprob)| {
            let start = end;
            end = (start + self.model.tokenizer.token_bytes(*id).map_or(0, <[u8]>::len)).min(completion.text.len());
            (start..end, logprob.logprob)
        };
        completion
            .tokens
            .iter()
            .zip(&completion.logprobs)
            .map(&mut piece)
            .filter(|(range, _)| !range.is_empty())
            .collect()
    }
}

impl Answerer for Json {
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>> {
        let handles: Vec<_> = inputs.iter().map(|input| self.submit(input)).collect();
        let wait = |handle: Result<(Generation, bool), RowError>| {
            let (generation, has_special_tokens) = handle?;
            let completion = generation.blocking_collect().map_err(run_error)?;
            let usage = Usage {
                prompt_tokens: completion.usage.prompt_tokens,
                cached_tokens: completion.usage.cached_tokens,
                completion_tokens: completion.usage.completion_tokens,
            };
            if completion.finish == FinishReason::Length {
                return Err(RowError::Cut { tokens: usage.completion_tokens });
            }
            let pieces = self.pieces(&completion);
            let value = RawValue::Json { text: completion.text, pieces };
            Ok(Raw { value, latency: completion.timings.total(), usage, has_special_tokens })
        };
        handles.into_iter().map(wait).collect()
    }
}
