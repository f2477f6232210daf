//! A look at bodies and events for whoever keeps account of them: nothing is changed, nothing can fail.

use serde_json::{Map, Value};

use super::{Api, SseEvent};

pub use super::said::Said;
pub use super::usage::Usage;
use super::usage::merge;

/// What a request asks for, as far as limits and budgets care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The model's name.
    pub model: Option<String>,
    /// Whether the answer is to come in pieces.
    pub stream: bool,
    /// Most tokens to generate per answer.
    pub max_tokens: Option<u64>,
    /// How many answers.
    pub n: u64,
    /// Whether tools were offered.
    pub tools: bool,
    /// Whom the client says it asks for.
    pub user: Option<String>,
}

impl Asked {
    /// Looks at a client's request.
    #[must_use]
    pub fn of(api: Api, body: &Value) -> Self {
        let number = |key: &str| body.get(key).and_then(Value::as_u64);
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Self {
            model: text("/model"),
            stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
            max_tokens: match api {
                Api::Responses => number("max_output_tokens"),
                Api::Chat => number("max_completion_tokens").or_else(|| number("max_tokens")),
                Api::Completions | Api::Messages => number("max_tokens"),
                Api::Embeddings => None,
            },
            n: number("n").unwrap_or(1).max(1),
            tools: body.get("tools").and_then(Value::as_array).is_some_and(|t| !t.is_empty()),
            user: match api {
                Api::Messages => text("/metadata/user_id"),
                _ => text("/safety_identifier").or_else(|| text("/user")),
            },
        }
    }
}

/// Shows the log-probabilities of an answer's tokens, or of those that one event of a stream brings, where its server tells them.
pub fn for_each_logprob(api: Api, answer: &Value, visit: &mut dyn FnMut(f64)) {
    fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
        list.and_then(Value::as_array).into_iter().flatten()
    }
    let of_token = |token: &Value| token.get("logprob").and_then(Value::as_f64);
    let choices = || items(answer.get("choices"));
    match api {
        Api::Chat => {
            choices().flat_map(|c| items(c.pointer("/logprobs/content"))).filter_map(of_token).for_each(visit);
        }
        Api::Completions => {
            let of_choices = choices().flat_map(|c| items(c.pointer("/logprobs/token_logprobs")));
            of_choices.filter_map(Value::as_f64).for_each(visit);
        }
        Api::Responses if answer.get("type").is_some_and(|t| t == "response.output_text.delta") => {
            items(answer.get("logprobs")).filter_map(of_token).for_each(visit);
        }
        Api::Responses => {
            let parts = items(answer.get("output")).flat_map(|item| items(item.get("content")));
            parts.flat_map(|part| items(part.get("logprobs"))).filter_map(of_token).for_each(visit);
        }
        Api::Messages | Api::Embeddings => {}
    }
}

/// What an answer says of itself; a stream's events add up to the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// The model's name, as the server gives it.
    pub model: Option<String>,
    /// The answer's id, as the server gives it.
    pub id: Option<String>,
    /// Why the first answer ended, in the server's words.
    pub finish: Option<String>,
    /// Anthropic's counts so far.
    counts: Map<String, Value>,
    usage: Option<Usage>,
}

impl Probe {
    /// The tokens that the server counted; absent if it did not say.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Looks at a whole answer.
    pub fn body(&mut self, api: Api, body: &Value) {
        self.look(api, body);
        let finish = match api {
            Api::Chat | Api::Completions => body.pointer("/choices/0/finish_reason"),
            Api::Messages => body.get("stop_reason"),
            Api::Responses => body.pointer("/incomplete_details/reason").or_else(|| body.get("status")),
            Api::Embeddings => None,
        };
        set(&mut self.finish, finish);
    }

    /// Looks at the JSON of one event of a stream.
    pub fn event(&mut self, api: Api, event: &Value) {
        match api {
            Api::Messages => match event.get("type").and_then(Value::as_str) {
                Some("message_start") => {
                    if let Some(message) = event.get("message") {
                        self.look(api, message);
                    }
                }
                Some("message_delta") => {
                    set(&mut self.finish, event.pointer("/delta/stop_reason"));
                    self.count(api, event.get("usage"));
                }
                _ => {}
            },
            Api::Responses => {
                if let Some(response) = event.get("response") {
                    self.body(api, response);
                }
            }
            Api::Chat | Api::Completions | Api::Embeddings => self.body(api, event),
        }
    }

    /// Looks at one event of a stream, reading it only if it can tell something new.
    pub fn raw_event(&mut self, api: Api, event: &SseEvent) {
        let telling = match api {
            Api::Messages | Api::Responses => event.data.contains("\"usage\""),
            _ => {
                self.id.is_none() || event.data.contains("\"usage\"") || !event.data.contains("\"finish_reason\":null")
            }
        };
        if telling && let Ok(value) = serde_json::from_str(&event.data) {
            self.event(api, &value);
        }
    }

    fn look(&mut self, api: Api, body: &Value) {
        set(&mut self.model, body.get("model"));
        set(&mut self.id, body.get("id"));
        self.count(api, body.get("usage"));
    }

    fn count(&mut self, api: Api, usage: Option<&Value>) {
        let Some(usage) = usage.filter(|u| u.is_object()) else { return };
        if api == Api::Messages {
            merge(&mut self.counts, Some(usage));
            self.usage = Usage::read(api, &Value::Object(self.counts.clone()));
        } else {
            self.usage = Usage::read(api, usage);
        }
    }
}

fn set(slot: &mut Option<String>, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str)
        && slot.as_deref() != Some(text)
    {
        *slot = Some(text.to_owned());
    }
}
