//! A model behind an OpenAI-compatible server, which the task names: nothing else is ever contacted.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};

use super::{Answerer, LanguageModel, Raw, RawValue, Usage, Wanted};
use crate::error::{RowError, TaskError};
use crate::json::value_spans;
use crate::prompt::{Conversation, answer_labels};

/// Largest answer of a server, in bytes.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Tokens of an answer that is labels.
const LABEL_TOKENS: usize = 512;
/// Pauses before a request is sent again.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

/// Longest pause that a server can ask for.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Most characters of what a server says of a failure.
const MAX_REASON_CHARS: usize = 200;

/// How a server is reached.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// Up to and including `/v1`.
    pub base_url: String,
    /// What the server calls the model.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Requests at one time.
    pub concurrency: usize,
    /// Of one request.
    pub timeout: Duration,
}

/// A model behind a server.
#[derive(Clone)]
pub struct RemoteModel {
    config: Arc<RemoteConfig>,
    client: Client,
}

impl std::fmt::Debug for RemoteModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the key.
        f.debug_struct("RemoteModel")
            .field("base_url", &self.config.base_url)
            .field("model", &self.config.model)
            .finish()
    }
}

impl RemoteModel {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`TaskError::Model`] if no client can be made.
    pub fn new(config: RemoteConfig) -> Result<Self, TaskError> {
        // reqwest is built without a provider of cryptography. If there is one already, that will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fault = |error: reqwest::Error| TaskError::Model { model: config.model.clone(), why: error.to_string() };
        let client = Client::builder().timeout(config.timeout).redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(fault)?;
        Ok(RemoteModel { config: Arc::new(config), client })
    }
}

impl LanguageModel for RemoteModel {
    fn id(&self) -> &str {
        &self.config.model
    }

    fn fingerprint(&self) -> String {
        format!("{} at {}", self.config.model, self.config.base_url)
    }

    fn bind(&self, conversation: &Conversation, wanted: &Wanted) -> Result<Box<dyn Answerer>, TaskError> {
        let (schema, max_tokens) = match wanted {
            Wanted::Label { labels, .. } => {
                let label = json!({"type": "string", "enum": labels});
                (object("label", label), LABEL_TOKENS)
            }
            Wanted::EachLabel { labels } => {
                let list = json!({"type": "array", "items": {"type": "string", "enum": labels}});
                (object("labels", list), LABEL_TOKENS)
            }
            Wanted::Json { schema, max_tokens } => (schema.clone(), *max_tokens),
        };
        let mut messages = vec![json!({"role": "system", "content": conversation.system})];
        for (input, answer) in &conversation.turns {
            let answer = match wanted {
                Wanted::Label { .. } => json!({"label": answer}).to_string(),
                Wanted::EachLabel { .. } => json!({"labels": answer_labels(answer).collect::<Vec<_>>()}).to_string(),
                Wanted::Json { .. } => answer.clone(),
            };
            messages.push(json!({"role": "user", "content": input}));
            messages.push(json!({"role": "assistant", "content": answer}));
        }
        Ok(Box::new(Bound { model: self.clone(), wanted: wanted.clone(), messages, schema, max_tokens }))
    }
}

fn object(field: &str, of: Value) -> Value {
    json!({"type": "object", "properties": {field: of}, "required": [field], "additionalProperties": false})
}

/// A request without a reply.
struct Failure {
    why: String,
    retry: bool,
    /// How long the server asks to wait.
    wait: Option<Duration>,
}

impl Failure {
    /// One that would be the same again.
    fn last(why: String) -> Self {
        Failure { why, retry: false, wait: None }
    }
}

struct Bound {
    model: RemoteModel,
    wanted: Wanted,
    messages: Vec<Value>,
    schema: Value,
    max_tokens: usize,
}

impl Answerer for Bound {
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>> {
        let next = AtomicUsize::new(0);
        let outcomes: Vec<Mutex<Option<Result<Raw, RowError>>>> = inputs.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..self.model.config.concurrency.clamp(1, inputs.len().max(1)) {
                scope.spawn(|| {
                    while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < inputs.len()) {
                        *outcomes[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(self.one(&inputs[i]));
                    }
                });
            }
        });
        let outcome = |outcome: Mutex<Option<_>>| outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.into_iter().map(|o| outcome(o).unwrap_or(Err(RowError::Stopped))).collect()
    }
}

impl Bound {
    fn one(&self, input: &str) -> Result<Raw, RowError> {
        let started = Instant::now();
        let messages = [&self.messages[..], &[json!({"role": "user", "content": input})]].concat();
        let body = json!({
            "model": self.model.config.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens, "logprobs": true,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": self.schema}},
        });
        let mut pauses = PAUSES.iter();
        let reply = loop {
            let failure = match self.send(&body) {
                Ok(reply) => break reply,
                Err(failure) => failure,
            };
            match pauses.next() {
                Some(pause) if failure.retry => {
                    std::thread::sleep(failure.wait.map_or(*pause, |wait| wait.max(*pause)))
                }
                _ => return Err(RowError::Model { why: failure.why, retry: failure.retry }),
            }
        };
        let choice = &reply["choices"][0];
        let count = |field: &str| reply["usage"][field].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let usage = Usage {
            prompt_tokens: count("prompt_tokens"),
            cached_tokens: 0,
            completion_tokens: count("completion_tokens"),
        };
        if choice["finish_reason"] == "length" {
            return Err(RowError::Cut { tokens: usage.completion_tokens });
        }
        let Some(text) = choice["message"]["content"].as_str() else {
            return Err(RowError::Invalid { why: "it has no text".to_owned() });
        };
        let pieces = pieces(text, &choice["logprobs"]["content"]);
        let value = self.value(text, pieces)?;
        Ok(Raw { value, latency: started.elapsed(), usage, has_special_tokens: false })
    }

    fn send(&self, body: &Value) -> Result<Value, Failure> {
        let RemoteConfig { base_url, api_key, .. } = &*self.model.config;
        let mut request =
            self.model.client.post(format!("{}/chat/completions", base_url.trim_end_matches('/'))).json(body);
        if let Some(key) = api_key {
            request = request.bearer_auth(key);
        }
        // A server that cannot be reached or is slow may be back soon.
        let fault = |error: reqwest::Error| Failure { why: causes(&error.without_url()), retry: true, wait: None };
        let response = request.send().map_err(fault)?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
        let text = read(response)?;
        if !status.is_success() {
            if matches!(status.as_u16(), 401..=403) {
                // Its words may quote the key.
                return Err(Failure::last(format!("the server refuses this program's key or account ({status})")));
            }
            let said: Value = serde_json::from_str(&text).unwrap_or_default();
            let why = said["error"]["message"].as_str().unwrap_or(&text);
            let why = api_key.as_ref().map_or_else(|| why.to_owned(), |key| why.replace(&**key, "[struck out]"));
            let why: String = why.chars().take(MAX_REASON_CHARS).collect();
            let retry = status.is_server_error() || status.as_u16() == 429;
            return Err(Failure { why: format!("the server answered {status}: {why}"), retry, wait });
        }
        let fault = |error| Failure::last(format!("the server's answer is no JSON: {error}"));
        serde_json::from_str(&text).map_err(fault)
    }

    fn value(&self, text: &str, pieces: Vec<(Range<usize>, f32)>) -> Result<RawValue, RowError> {
        let invalid = |why: String| RowError::Invalid { why };
        let parsed = || serde_json::from_str::<Value>(text).map_err(|error| invalid(error.to_string()));
        match &self.wanted {
            Wanted::Json { .. } => Ok(RawValue::Json { text: text.to_owned(), pieces }),
            Wanted::Label { labels, .. } => {
                let parsed = parsed()?;
                let named = parsed["label"].as_str().ok_or_else(|| invalid("it has no label".to_owned()))?;
                let label = labels.iter().position(|label| label == named);
                let label = label.ok_or_else(|| invalid(format!("'{named}' is none of the labels")))?;
                let probability = value_spans(text).remove("label").and_then(|span| probability(&span, &pieces));
                Ok(RawValue::Labels(vec![(label, probability)]))
            }
            Wanted::EachLabel { labels } => {
                let parsed = parsed()?;
                let named = parsed["labels"].as_array().ok_or_else(|| invalid("it has no labels".to_owned()))?;
                if let Some(other) = named.iter().find(|name| !labels.iter().any(|label| name.as_str() == Some(label)))
                {
                    return Err(invalid(format!("{other} is none of the labels")));
                }
                let applies = |label: &String| named.iter().any(|name| name.as_str() == Some(label));
                Ok(RawValue::EachLabel(labels.iter().map(|label| (applies(label), None)).collect()))
            }
        }
    }
}

/// The probability of the tokens in a span; nothing if the server gave none.
fn probability(span: &Range<usize>, pieces: &[(Range<usize>, f32)]) -> Option<f64> {
    let inside = pieces.iter().filter(|(piece, _)| piece.start < span.end && piece.end > span.start);
    let logprobs: Vec<f64> = inside.map(|(_, logprob)| f64::from(*logprob)).collect();
    (!logprobs.is_empty()).then(|| libm::exp(logprobs.iter().sum()))
}

/// The server's tokens by the bytes that they take of the text; none if they are not the text's.
fn pieces(text: &str, logprobs: &Value) -> Vec<(Range<usize>, f32)> {
    let mut rest = text.as_bytes();
    let mut pieces = Vec::new();
    for token in logprobs.as_array().into_iter().flatten() {
        let listed = token["bytes"].as_array().map(|bytes| bytes.iter().filter_map(Value::as_u64).collect::<Vec<_>>());
        let said = || token["token"].as_str().map(|token| token.bytes().map(u64::from).collect());
        let (Some(bytes), Some(logprob)) = (listed.or_else(said), token["logprob"].as_f64()) else { return Vec::new() };
        // What ends an answer may follow its text.
        let n = bytes.len().min(rest.len());
        if rest.iter().zip(&bytes).any(|(a, b)| u64::from(*a) != *b) {
            return Vec::new();
        }
        let start = text.len() - rest.len();
        rest = &rest[n..];
        if n > 0 {
            pieces.push((start..start + n, logprob.min(0.0) as f32));
        }
    }
    if rest.is_empty() { pieces } else { Vec::new() }
}

/// An error with what led to it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

fn read(response: Response) -> Result<String, Failure> {
    let mut text = String::new();
    let mut bounded = response.take(MAX_ANSWER_BYTES + 1);
    let fault = |error: std::io::Error| Failure {
        why: format!("the server's answer cannot be read: {}", causes(&error)),
        retry: true,
        wait: None,
    };
    bounded.read_to_string(&mut text).map_err(fault)?;
    if text.len() as u64 > MAX_ANSWER_BYTES {
        return Err(Failure::last(format!("the server's answer is longer than {MAX_ANSWER_BYTES} bytes")));
    }
    Ok(text)
}
