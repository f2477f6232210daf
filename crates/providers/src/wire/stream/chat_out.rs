//! Chunks of OpenAI's chat for a client.

use serde_json::{Map, Value, json};

use super::sequence::Step;
use crate::wire::answer::{Finish, Kind};
use crate::wire::{AnswerOptions, SseEvent, ids};

#[derive(Debug)]
pub(super) struct ChatWriter {
    options: AnswerOptions,
    id: String,
    model: String,
    created: u64,
    calls: usize,
    open: Option<Kind>,
}

impl ChatWriter {
    pub(super) fn new(options: AnswerOptions) -> Self {
        Self { id: String::new(), model: String::new(), created: options.created, calls: 0, open: None, options }
    }

    pub(super) fn write(&mut self, step: Step, out: &mut Vec<SseEvent>) {
        match step {
            Step::Begin { id, model, created, .. } => {
                self.id = ids::answer("chatcmpl-", id.as_deref(), &self.options.id);
                self.model = self.options.model_or(model);
                self.created = created.unwrap_or(self.options.created);
                out.push(self.delta(json!({"role": "assistant", "content": "", "refusal": null})));
            }
            Step::Open(kind) => {
                match &kind {
                    Kind::Call { id, name } => {
                        out.push(self.delta(json!({"tool_calls": [{
                            "index": self.calls, "id": id, "type": "function",
                            "function": {"name": name, "arguments": ""},
                        }]})));
                        self.calls += 1;
                    }
                    Kind::Redacted { data } => {
                        out.push(self.delta(json!({"thinking_blocks": [{"type": "redacted_thinking", "data": data}]})));
                    }
                    _ => {}
                }
                self.open = Some(kind);
            }
            Step::Piece { text, .. } => {
                let delta = match &self.open {
                    Some(Kind::Text) => json!({"content": text}),
                    Some(Kind::Refusal) => json!({"refusal": text}),
                    Some(Kind::Thinking) => json!({"reasoning_content": text}),
                    Some(Kind::Call { .. }) => json!({"tool_calls": [{
                        "index": self.calls.saturating_sub(1), "function": {"arguments": text},
                    }]}),
                    Some(Kind::Redacted { .. }) | None => return,
                };
                out.push(self.delta(delta));
            }
            Step::Close(block) => {
                if !block.signature.is_empty() {
                    out.push(self.delta(json!({"thinking_blocks": [{
                        "type": "thinking", "thinking": block.text, "signature": block.signature,
                    }]})));
                }
                self.open = None;
            }
            Step::End { finish, usage } => {
                let mut choice = choice(json!({}), finish.to_chat().into());
                if let Finish::StopSequence(stop) = finish {
                    choice.insert("stop_reason".into(), stop.into());
                }
                let last = self.chunk(json!([choice]), Value::Null);
                out.push(last);
                if self.options.include_usage
                    && let Some(usage) = usage
                {
                    out.push(self.chunk(json!([]), usage.to_chat()));
                }
                out.push(SseEvent::data("[DONE]"));
            }
        }
    }

    fn delta(&self, delta: Value) -> SseEvent {
        self.chunk(json!([choice(delta, Value::Null)]), Value::Null)
    }

    fn chunk(&self, choices: Value, usage: Value) -> SseEvent {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.options.include_usage {
            chunk["usage"] = usage;
        }
        SseEvent::data(chunk.to_string())
    }
}

fn choice(delta: Value, finish_reason: Value) -> Map<String, Value> {
    let mut choice = Map::new();
    choice.insert("index".into(), 0.into());
    choice.insert("delta".into(), delta);
    choice.insert("logprobs".into(), Value::Null);
    choice.insert("finish_reason".into(), finish_reason);
    choice
}
