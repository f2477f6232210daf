//! Chunks of OpenAI's chat, as its many imitators send them.

use serde_json::Value;

use super::sequence::{Key, Sequence, Step};
use crate::wire::answer::{Finish, Kind};
use crate::wire::fields::Fields;
use crate::wire::probe::Usage;
use crate::wire::response::chat::{read_content, read_logprobs, thinking_block};
use crate::wire::thinking::is_signed;
use crate::wire::{Api, WireError, ids};

/// A call as the server tells calls apart: some number them, some give all the same number and other ids.
#[derive(Debug)]
struct Call {
    index: u64,
    id: Option<String>,
    key: Key,
}

#[derive(Debug, Default)]
pub(super) struct ChatReader {
    begun: bool,
    /// What ids of calls are made from.
    stem: String,
    text: Option<Key>,
    calls: Vec<Call>,
    finish: Option<Finish>,
    usage: Option<Usage>,
}

/// Most calls in one answer: they are searched one by one.
const MAX_CALLS: usize = 1024;

impl ChatReader {
    pub(super) fn new(fallback_id: &str) -> Self {
        Self { stem: fallback_id.to_owned(), ..Self::default() }
    }

    pub(super) fn read(&mut self, chunk: Value, out: &mut Sequence) -> Result<(), WireError> {
        let mut chunk = Fields::body(chunk)?;
        if let Some(usage) = chunk.take("usage") {
            self.usage = Usage::read(Api::Chat, &usage).or(self.usage);
        }
        let mut choices = chunk.objects("choices")?.unwrap_or_default();
        let choice = choices.pop();
        if !choices.is_empty() {
            return Err(WireError::answer("choices", "expected one answer"));
        }
        if !std::mem::replace(&mut self.begun, true) {
            let (id, model) = (chunk.text("id")?, chunk.text("model")?);
            self.stem = ids::stem(id.as_deref(), &self.stem).to_owned();
            let created = chunk.number("created")?.and_then(|n| n.as_u64());
            out.steps.push(Step::Begin { id, model, created, usage: self.usage });
        }
        let Some(mut choice) = choice else { return Ok(()) };
        if choice.number("index")?.is_some_and(|i| i.as_u64() != Some(0)) {
            return Err(choice.invalid("index", "expected the only answer, 0"));
        }
        if let Some(delta) = choice.object("delta")? {
            let logprobs = match choice.object("logprobs")? {
                Some(mut logprobs) => read_logprobs(&mut logprobs)?,
                None => Vec::new(),
            };
            self.delta(delta, logprobs, out)?;
        }
        if let Some(reason) = choice.text("finish_reason")? {
            self.finish = Some(Finish::of_chat(&reason, choice.take("stop_reason").as_ref())?);
        }
        Ok(())
    }

    fn delta(&mut self, mut delta: Fields, mut logprobs: Vec<Value>, out: &mut Sequence) -> Result<(), WireError> {
        let thought = match delta.text("reasoning_content")? {
            Some(thought) => Some(thought),
            None => delta.take("reasoning").and_then(|r| Some(r.as_str()?.to_owned())),
        };
        let has_thought = thought.as_deref().is_some_and(|t| !t.is_empty());
        if let Some(thought) = thought {
            self.say(Kind::Thinking, &thought, Vec::new(), out)?;
        }
        for sealed in delta.list("thinking_blocks")?.unwrap_or_default().iter().filter(|b| is_signed(b)) {
            self.seal(sealed, out)?;
        }
        if let Some(content) = delta.take("content") {
            for block in read_content("choices[0].delta.content", content)? {
                if block.kind == Kind::Thinking && has_thought {
                    continue;
                }
                let logprobs = if block.kind == Kind::Text { std::mem::take(&mut logprobs) } else { Vec::new() };
                self.say(block.kind, &block.text, logprobs, out)?;
            }
        }
        if let Some(refusal) = delta.text("refusal")? {
            self.say(Kind::Refusal, &refusal, Vec::new(), out)?;
        }
        for call in delta.objects("tool_calls")?.unwrap_or_default() {
            self.call(call, out)?;
        }
        Ok(())
    }

    /// Goes on with the last block if it is of this kind, else begins one.
    fn say(&mut self, kind: Kind, text: &str, logprobs: Vec<Value>, out: &mut Sequence) -> Result<(), WireError> {
        if text.is_empty() && logprobs.is_empty() {
            return Ok(());
        }
        let going = self.text.filter(|key| out.is_last(*key) && out.block(*key).is_some_and(|b| b.kind == kind));
        let key = going.unwrap_or_else(|| out.open(kind));
        self.text = Some(key);
        out.push(key, text, logprobs)
    }

    /// Anthropic's seal on what was thought, after its text or with it.
    fn seal(&mut self, sealed: &Value, out: &mut Sequence) -> Result<(), WireError> {
        let sealed = thinking_block(sealed);
        let going = self.text.take().filter(|key| {
            sealed.kind == Kind::Thinking
                && out.is_last(*key)
                && out.block(*key).is_some_and(|b| b.kind == Kind::Thinking)
        });
        let key = match going {
            Some(key) => key,
            None => {
                let key = out.open(sealed.kind);
                out.push(key, &sealed.text, Vec::new())?;
                key
            }
        };
        out.sign(key, sealed.signature);
        out.push(key, "", Vec::new())?;
        out.close(key);
        Ok(())
    }

    fn call(&mut self, mut call: Fields, out: &mut Sequence) -> Result<(), WireError> {
        let id = call.text("id")?.filter(|id| !id.is_empty());
        let given = call.number("index")?.and_then(|n| n.as_u64());
        let index = given.unwrap_or_else(|| self.calls.last().map_or(0, |c| c.index));
        let mut function = call.object("function")?;
        let name = match &mut function {
            Some(function) => function.text("name")?.unwrap_or_default(),
            None => String::new(),
        };
        let known = self.calls.iter().rposition(|known| match (&id, &known.id) {
            (Some(id), Some(known_id)) => id == known_id && (given.is_none() || known.index == index),
            _ => known.index == index,
        });
        let key = match known {
            Some(at) => {
                let known = &mut self.calls[at];
                if id.is_some() {
                    known.id.clone_from(&id);
                }
                known.key
            }
            None if self.calls.len() == MAX_CALLS => {
                return Err(WireError::answer("choices[0].delta.tool_calls", format!("more than {MAX_CALLS} calls")));
            }
            None => {
                let made = id.clone().unwrap_or_else(|| ids::call(&self.stem, self.calls.len()));
                let key = out.open(Kind::Call { id: made, name: name.clone() });
                self.calls.push(Call { index, id: id.clone(), key });
                key
            }
        };
        if let Some(Kind::Call { id: old_id, name: old_name }) = out.block(key).map(|b| &mut b.kind) {
            if old_name.is_empty() {
                // The call went nowhere yet, so its id can still be the server's.
                old_name.clone_from(&name);
                if let Some(id) = id {
                    *old_id = id;
                }
            } else if !name.is_empty() && *old_name != name {
                return Err(WireError::answer(
                    "choices[0].delta.tool_calls",
                    format!("a call of '{old_name}' was named '{name}' later"),
                ));
            }
        }
        let arguments = match &mut function {
            Some(function) => match function.take("arguments") {
                Some(object @ Value::Object(_)) => object.to_string(),
                Some(Value::String(text)) => text,
                _ => String::new(),
            },
            None => String::new(),
        };
        out.push(key, &arguments, Vec::new())
    }

    pub(super) fn end(&mut self, out: &mut Sequence) -> Result<(), WireError> {
        let finish = self.finish.take().ok_or(WireError::Truncated { expected: "a chunk with 'finish_reason'" })?;
        out.end(finish, self.usage)
    }
}
