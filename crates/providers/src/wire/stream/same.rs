//! Streams whose client speaks the server's API: events pass as they are, save for what the client did not ask for.

use serde_json::Value;

use super::Outcome;
use crate::wire::fault::event_error;
use crate::wire::{AnswerOptions, Api, SseEvent, WireError};

/// The event that ends a stream.
pub(super) fn end_event(api: Api) -> &'static str {
    match api {
        Api::Messages => "message_stop",
        Api::Responses => "response.completed",
        _ => "[DONE]",
    }
}

#[derive(Debug)]
pub(super) struct Same {
    api: Api,
    options: AnswerOptions,
}

impl Same {
    pub(super) fn new(api: Api, options: AnswerOptions) -> Self {
        Self { api, options }
    }

    pub(super) fn push(&mut self, event: &SseEvent, out: &mut Vec<SseEvent>) -> Result<Outcome, WireError> {
        if event.data.starts_with("[DONE]") {
            // Some servers end the other streams so as well; their own end event says whether they are whole.
            if matches!(self.api, Api::Chat | Api::Completions) {
                out.push(event.clone());
                return Ok(Outcome::Complete);
            }
            return Ok(Outcome::Open);
        }
        if !self.must_read(event) {
            out.push(event.clone());
            return Ok(Outcome::Open);
        }
        let mut value: Value = serde_json::from_str(&event.data)
            .map_err(|e| WireError::answer("data", format!("an event is not valid JSON: {e}")))?;
        if let Some(error) = event_error(&value) {
            out.push(event.clone());
            return Ok(Outcome::Failed(error));
        }
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let outcome = match (self.api, kind) {
            (Api::Messages, "message_stop") | (Api::Responses, "response.completed" | "response.incomplete") => {
                Outcome::Complete
            }
            (Api::Responses, "response.failed") => Outcome::Failed(crate::wire::fault::from_event(&value["response"])),
            _ => Outcome::Open,
        };
        let mut changed = self.rename(&mut value);
        if self.api == Api::Chat && !self.options.include_usage && value.get("usage").is_some() {
            if value.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty) {
                return Ok(outcome);
            }
            if let Some(chunk) = value.as_object_mut() {
                chunk.shift_remove("usage");
                changed = true;
            }
        }
        let data = if changed { value.to_string() } else { event.data.clone() };
        out.push(SseEvent { event: event.event.clone(), data });
        Ok(outcome)
    }

    /// Whether an event must be looked into. Words that stand inside a text only cost a look.
    fn must_read(&self, event: &SseEvent) -> bool {
        let data = &event.data;
        let has = |word: &str| data.contains(word);
        let renamed = self.options.model.is_some() && has("\"model\"");
        renamed
            || has("\"error\"")
            || match self.api {
                Api::Messages => has("message_stop"),
                Api::Responses => has("response.completed") || has("response.incomplete") || has("response.failed"),
                _ => !self.options.include_usage && has("\"usage\""),
            }
    }

    fn rename(&self, value: &mut Value) -> bool {
        let Some(model) = &self.options.model else { return false };
        let holder = match self.api {
            Api::Messages => value.get_mut("message"),
            Api::Responses => value.get_mut("response"),
            _ => Some(value),
        };
        match holder.and_then(|h| h.get_mut("model")) {
            Some(slot) => {
                *slot = model.clone().into();
                true
            }
            None => false,
        }
    }
}
