//! Events of Anthropic's messages for a client.

use serde_json::{Value, json};

use super::sequence::Step;
use crate::wire::answer::Kind;
use crate::wire::response::messages::opening;
use crate::wire::{AnswerOptions, SseEvent};

#[derive(Debug)]
pub(super) struct MessagesWriter {
    options: AnswerOptions,
    index: usize,
    open: Option<Kind>,
}

impl MessagesWriter {
    pub(super) fn new(options: AnswerOptions) -> Self {
        Self { options, index: 0, open: None }
    }

    pub(super) fn write(&mut self, step: Step, out: &mut Vec<SseEvent>) {
        match step {
            Step::Begin { id, model, usage, .. } => {
                let mut message = opening(id.as_deref(), model, &self.options);
                message.insert("usage".into(), usage.unwrap_or_default().to_messages());
                out.push(event(json!({"type": "message_start", "message": message})));
            }
            Step::Open(kind) => {
                let block = match &kind {
                    Kind::Text | Kind::Refusal => json!({"type": "text", "text": ""}),
                    Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
                    Kind::Redacted { data } => json!({"type": "redacted_thinking", "data": data}),
                    Kind::Call { id, name } => json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                };
                out.push(event(json!({"type": "content_block_start", "index": self.index, "content_block": block})));
                self.open = Some(kind);
            }
            Step::Piece { text, .. } => {
                let delta = match &self.open {
                    Some(Kind::Text | Kind::Refusal) => json!({"type": "text_delta", "text": text}),
                    Some(Kind::Thinking) => json!({"type": "thinking_delta", "thinking": text}),
                    Some(Kind::Call { .. }) => json!({"type": "input_json_delta", "partial_json": text}),
                    Some(Kind::Redacted { .. }) | None => return,
                };
                out.push(self.delta(delta));
            }
            Step::Close(block) => {
                if !block.signature.is_empty() {
                    out.push(self.delta(json!({"type": "signature_delta", "signature": block.signature})));
                }
                out.push(event(json!({"type": "content_block_stop", "index": self.index})));
                self.index += 1;
                self.open = None;
            }
            Step::End { finish, usage } => {
                let (reason, stop) = finish.to_messages();
                out.push(event(json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": reason, "stop_sequence": stop},
                    "usage": usage.unwrap_or_default().to_messages(),
                })));
                out.push(event(json!({"type": "message_stop"})));
            }
        }
    }

    fn delta(&self, delta: Value) -> SseEvent {
        event(json!({"type": "content_block_delta", "index": self.index, "delta": delta}))
    }
}

fn event(data: Value) -> SseEvent {
    SseEvent::named(data["type"].as_str().unwrap_or_default(), data.to_string())
}
