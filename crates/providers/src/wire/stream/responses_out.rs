//! Events of OpenAI's responses for a client.

use serde_json::{Map, Value, json};

use super::sequence::Step;
use crate::wire::answer::{Block, Kind};
use crate::wire::response::responses::{close, frame, item, item_id, opening, part};
use crate::wire::{AnswerOptions, SseEvent, ids};

#[derive(Debug)]
pub(super) struct ResponsesWriter {
    options: AnswerOptions,
    response: Map<String, Value>,
    id: String,
    /// Whole items.
    output: Vec<Value>,
    open: Option<Kind>,
    item_id: String,
    number: u64,
}

impl ResponsesWriter {
    pub(super) fn new(options: AnswerOptions) -> Self {
        Self {
            options,
            response: Map::new(),
            id: String::new(),
            output: Vec::new(),
            open: None,
            item_id: String::new(),
            number: 0,
        }
    }

    pub(super) fn write(&mut self, step: Step, out: &mut Vec<SseEvent>) {
        match step {
            Step::Begin { id, model, created, .. } => {
                self.id = ids::answer("resp_", id.as_deref(), &self.options.id);
                let created = created.unwrap_or(self.options.created);
                self.response = frame(&self.id, self.options.model_or(model), created, &self.options);
                for kind in ["response.created", "response.in_progress"] {
                    let response = json!({"response": self.response});
                    self.emit(kind, response, out);
                }
            }
            Step::Open(kind) => self.open(kind, out),
            Step::Piece { text, logprobs } => self.piece(&text, &logprobs, out),
            Step::Close(block) => self.close(&block, out),
            Step::End { finish, usage } => {
                let output = std::mem::take(&mut self.output);
                close(&mut self.response, output, &finish, usage.map(|usage| usage.to_responses()));
                let kind = if self.response["status"] == "completed" { "completed" } else { "incomplete" };
                let response = json!({"response": self.response});
                self.emit(&format!("response.{kind}"), response, out);
            }
        }
    }

    fn open(&mut self, kind: Kind, out: &mut Vec<SseEvent>) {
        let index = self.output.len();
        self.item_id = item_id(&self.id, index, &kind);
        let item = opening(&self.id, index, &kind);
        self.emit("response.output_item.added", json!({"output_index": index, "item": item}), out);
        let empty = Block::new(kind.clone(), "");
        match kind {
            Kind::Text | Kind::Refusal => {
                self.item_event("response.content_part.added", json!({"content_index": 0, "part": part(&empty)}), out);
            }
            Kind::Thinking => self.item_event(
                "response.reasoning_summary_part.added",
                json!({"summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
                out,
            ),
            Kind::Redacted { .. } | Kind::Call { .. } => {}
        }
        self.open = Some(kind);
    }

    fn piece(&mut self, text: &str, logprobs: &[Value], out: &mut Vec<SseEvent>) {
        let (kind, fields) = match &self.open {
            Some(Kind::Text) => {
                ("response.output_text.delta", json!({"content_index": 0, "delta": text, "logprobs": logprobs}))
            }
            Some(Kind::Refusal) => ("response.refusal.delta", json!({"content_index": 0, "delta": text})),
            Some(Kind::Thinking) => {
                ("response.reasoning_summary_text.delta", json!({"summary_index": 0, "delta": text}))
            }
            Some(Kind::Call { .. }) => ("response.function_call_arguments.delta", json!({"delta": text})),
            Some(Kind::Redacted { .. }) | None => return,
        };
        self.item_event(kind, fields, out);
    }

    fn close(&mut self, block: &Block, out: &mut Vec<SseEvent>) {
        let index = self.output.len();
        match &block.kind {
            Kind::Text => {
                self.item_event(
                    "response.output_text.done",
                    json!({"content_index": 0, "text": block.text, "logprobs": block.logprobs}),
                    out,
                );
                self.item_event("response.content_part.done", json!({"content_index": 0, "part": part(block)}), out);
            }
            Kind::Refusal => {
                self.item_event("response.refusal.done", json!({"content_index": 0, "refusal": block.text}), out);
                self.item_event("response.content_part.done", json!({"content_index": 0, "part": part(block)}), out);
            }
            Kind::Thinking => {
                self.item_event(
                    "response.reasoning_summary_text.done",
                    json!({"summary_index": 0, "text": block.text}),
                    out,
                );
                self.item_event(
                    "response.reasoning_summary_part.done",
                    json!({"summary_index": 0, "part": {"type": "summary_text", "text": block.text}}),
                    out,
                );
            }
            Kind::Call { name, .. } => self.item_event(
                "response.function_call_arguments.done",
                json!({"name": name, "arguments": block.text}),
                out,
            ),
            Kind::Redacted { .. } => {}
        }
        let item = item(&self.id, index, block);
        self.emit("response.output_item.done", json!({"output_index": index, "item": item}), out);
        self.output.push(item);
        self.open = None;
    }

    /// An event about the open item.
    fn item_event(&mut self, kind: &str, mut fields: Value, out: &mut Vec<SseEvent>) {
        fields["item_id"] = self.item_id.as_str().into();
        fields["output_index"] = self.output.len().into();
        self.emit(kind, fields, out);
    }

    fn emit(&mut self, kind: &str, fields: Value, out: &mut Vec<SseEvent>) {
        let mut data = json!({"type": kind, "sequence_number": self.number});
        self.number += 1;
        if let (Some(data), Value::Object(fields)) = (data.as_object_mut(), fields) {
            data.extend(fields);
        }
        out.push(SseEvent::named(kind, data.to_string()));
    }
}
