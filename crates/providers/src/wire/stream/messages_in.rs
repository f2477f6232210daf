//! Events of Anthropic's messages.

use serde_json::{Map, Value};

use super::sequence::{Key, Sequence, Step};
use crate::wire::answer::{Finish, Kind};
use crate::wire::fields::Fields;
use crate::wire::probe::Usage;
use crate::wire::response::messages::read_block;
use crate::wire::usage::merge;
use crate::wire::{Api, WireError};

#[derive(Debug, Default)]
pub(super) struct MessagesReader {
    begun: bool,
    counts: Map<String, Value>,
    /// Blocks that did not end, by the server's number, each with the input that it began with.
    open: Vec<(u64, Key, String)>,
    finish: Option<Finish>,
}

/// Most blocks that are open at a time.
const MAX_OPEN: usize = 64;

impl MessagesReader {
    /// Reads one event; true at the last.
    pub(super) fn read(&mut self, event: Value, out: &mut Sequence) -> Result<bool, WireError> {
        let mut event = Fields::body(event)?;
        let kind = event.required_text("type")?;
        if !self.begun && matches!(kind.as_str(), "content_block_start" | "message_delta" | "message_stop") {
            return Err(event.invalid("type", format!("{kind} came before message_start")));
        }
        match kind.as_str() {
            "message_start" if !std::mem::replace(&mut self.begun, true) => {
                let mut message = event.required_object("message")?;
                merge(&mut self.counts, message.take("usage").as_ref());
                let (id, model) = (message.text("id")?, message.text("model")?);
                out.steps.push(Step::Begin { id, model, created: None, usage: self.usage() });
            }
            "content_block_start" => self.start(event, out)?,
            "content_block_delta" => self.delta(event, out)?,
            "content_block_stop" => {
                let index = index(&mut event)?;
                let Some(at) = self.open.iter().position(|(i, ..)| *i == index) else { return Ok(false) };
                let (_, key, input) = self.open.remove(at);
                if let Some(block) = out.block(key)
                    && block.text.is_empty()
                {
                    out.push(key, &input, Vec::new())?;
                }
                out.close(key);
            }
            "message_delta" => {
                merge(&mut self.counts, event.take("usage").as_ref());
                let mut delta = event.required_object("delta")?;
                let stop = delta.take("stop_sequence");
                if let Some(reason) = delta.text("stop_reason")? {
                    self.finish = Some(Finish::of_messages(&reason, stop.as_ref())?);
                }
            }
            "message_stop" => {
                let finish = self
                    .finish
                    .take()
                    .ok_or(WireError::Truncated { expected: "a message_delta with 'stop_reason'" })?;
                out.end(finish, self.usage())?;
                return Ok(true);
            }
            // Pings, and what newer servers may send.
            _ => {}
        }
        Ok(false)
    }

    fn usage(&self) -> Option<Usage> {
        if self.counts.is_empty() { None } else { Usage::read(Api::Messages, &Value::Object(self.counts.clone())) }
    }

    fn start(&mut self, mut event: Fields, out: &mut Sequence) -> Result<(), WireError> {
        let index = index(&mut event)?;
        let block = read_block("content_block", &event.required("content_block")?)?;
        if self.open.iter().any(|(i, ..)| *i == index) {
            // Sent twice.
            return Ok(());
        }
        if self.open.len() == MAX_OPEN {
            return Err(WireError::answer("index", format!("more than {MAX_OPEN} blocks are open")));
        }
        let is_call = matches!(block.kind, Kind::Call { .. });
        let key = out.open(block.kind);
        out.sign(key, block.signature);
        // A call begins with an empty input and gets it in deltas, or has it all here.
        let input = if is_call {
            block.text
        } else {
            out.push(key, &block.text, Vec::new())?;
            String::new()
        };
        self.open.push((index, key, input));
        Ok(())
    }

    fn delta(&mut self, mut event: Fields, out: &mut Sequence) -> Result<(), WireError> {
        let index = index(&mut event)?;
        let Some(&(_, key, _)) = self.open.iter().find(|(i, ..)| *i == index) else {
            return Err(event.invalid("index", format!("no block {index} is open")));
        };
        let mut delta = event.required_object("delta")?;
        let field = match delta.required_text("type")?.as_str() {
            "text_delta" => "text",
            "input_json_delta" => "partial_json",
            "thinking_delta" => "thinking",
            "signature_delta" => {
                let signature = delta.required_text("signature")?;
                out.sign(key, signature);
                return out.push(key, "", Vec::new());
            }
            // Citations, and what newer servers may send.
            _ => return Ok(()),
        };
        out.push(key, &delta.required_text(field)?, Vec::new())
    }
}

fn index(event: &mut Fields) -> Result<u64, WireError> {
    event
        .number("index")?
        .and_then(|n| n.as_u64())
        .ok_or_else(|| event.invalid("index", "expected the number of a block"))
}
