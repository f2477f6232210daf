//! What a template may spend. Chat templates come with model files that strangers made, and a short loop can ask for
//! any amount of time or memory, so every evaluation step and every byte made is paid for from here.

use super::value::{Dict, Method, Seq, SeqKind, Value};

/// Limits on the rendering of one conversation. Both grow with the conversation, so that long ones are not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Evaluation steps; one is some tens of nanoseconds.
    pub max_steps: u64,
    /// Bytes of text and containers made while rendering, the output included, whether or not they are still in use.
    pub max_bytes: u64,
}

impl Default for TemplateLimits {
    fn default() -> TemplateLimits {
        TemplateLimits { max_steps: 4_000_000, max_bytes: 64 << 20 }
    }
}

/// How much steps and bytes grow per byte of the conversation.
const STEPS_PER_INPUT_BYTE: u64 = 8;
const BYTES_PER_INPUT_BYTE: u64 = 16;
/// Work on text that counts as one step.
const BYTES_PER_STEP: u64 = 64;
/// What a value takes in a container, with some allowance for the container.
const BYTES_PER_ITEM: usize = 48;
/// Python's own JSON reader and recursion limit stop at a few hundred as well.
const MAX_DEPTH: u16 = 200;

/// Why evaluation stopped; the line is known further up.
#[derive(Debug)]
pub(super) enum Fault {
    Raised(String),
    Failed(String),
    Limit { what: &'static str, limit: u64 },
}

/// Result of an evaluation step. The fault is boxed because results are everywhere and faults are rare.
pub(super) type Eval<T> = Result<T, Box<Fault>>;

/// A failure with this message.
pub(super) fn failed<T>(message: impl Into<String>) -> Eval<T> {
    Err(Box::new(Fault::Failed(message.into())))
}

#[derive(Debug)]
pub(super) struct Budget {
    steps: u64,
    bytes: u64,
    limits: TemplateLimits,
}

impl Budget {
    pub(super) fn new(limits: TemplateLimits) -> Budget {
        Budget { steps: limits.max_steps, bytes: limits.max_bytes, limits }
    }

    /// Allows for `n_bytes` more of input.
    pub(super) fn grow(&mut self, n_bytes: u64) {
        self.steps = self.steps.saturating_add(n_bytes.saturating_mul(STEPS_PER_INPUT_BYTE));
        self.bytes = self.bytes.saturating_add(n_bytes.saturating_mul(BYTES_PER_INPUT_BYTE));
    }

    pub(super) fn steps(&mut self, n: u64) -> Eval<()> {
        match self.steps.checked_sub(n) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Box::new(Fault::Limit { what: "evaluation steps", limit: self.limits.max_steps })),
        }
    }

    /// Pays for looking through `n` bytes.
    pub(super) fn scan(&mut self, n: usize) -> Eval<()> {
        self.steps(1 + n as u64 / BYTES_PER_STEP)
    }

    /// Pays for making `n` bytes.
    pub(super) fn bytes(&mut self, n: usize) -> Eval<()> {
        match self.bytes.checked_sub(n as u64) {
            Some(left) => self.bytes = left,
            None => return Err(Box::new(Fault::Limit { what: "bytes", limit: self.limits.max_bytes })),
        }
        self.scan(n)
    }

    /// Pays for room for `n` values before they are made.
    pub(super) fn items(&mut self, n: usize) -> Eval<()> {
        self.steps(n as u64)?;
        self.bytes(n.saturating_mul(BYTES_PER_ITEM))
    }

    /// A text that is no larger than a small multiple of what exists already.
    pub(super) fn text(&mut self, text: impl AsRef<str>) -> Eval<Value> {
        let text = text.as_ref();
        self.bytes(text.len() + BYTES_PER_ITEM)?;
        Ok(Value::Str(text.into()))
    }

    pub(super) fn seq(&mut self, kind: SeqKind, items: Vec<Value>) -> Eval<Value> {
        self.items(items.len() + 1)?;
        let depth = check_depth(items.iter())?;
        Ok(Value::Seq(Seq { kind, items, depth }.into()))
    }

    pub(super) fn list(&mut self, items: Vec<Value>) -> Eval<Value> {
        self.seq(SeqKind::List, items)
    }

    pub(super) fn dict(&mut self, entries: Vec<(Value, Value)>) -> Eval<Value> {
        self.items(entries.len().saturating_mul(2) + 1)?;
        let depth = check_depth(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Value::Dict(Dict { entries, depth }.into()))
    }

    /// A method taken from its value, which it holds, so that it counts as a level of nesting.
    pub(super) fn method(&mut self, receiver: Value, name: &'static str) -> Eval<Value> {
        self.items(1)?;
        check_depth(std::iter::once(&receiver))?;
        Ok(Value::Method(Method { receiver, name }.into()))
    }
}

fn check_depth<'a>(items: impl Iterator<Item = &'a Value>) -> Eval<u16> {
    let depth = items.map(Value::depth).max().unwrap_or(0) + 1;
    if depth > MAX_DEPTH {
        return Err(Box::new(Fault::Limit { what: "levels of nesting", limit: u64::from(MAX_DEPTH) }));
    }
    Ok(depth)
}

/// Text in the making, paid for as it grows.
pub(super) struct TextBuilder<'b> {
    text: String,
    pub(super) budget: &'b mut Budget,
}

impl<'b> TextBuilder<'b> {
    pub(super) fn new(budget: &'b mut Budget) -> TextBuilder<'b> {
        TextBuilder { text: String::new(), budget }
    }

    pub(super) fn push(&mut self, text: &str) -> Eval<()> {
        self.budget.bytes(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn push_char(&mut self, c: char) -> Eval<()> {
        self.push(c.encode_utf8(&mut [0; 4]))
    }

    /// `n` times `text`, refused before it is made when it is too long.
    pub(super) fn push_repeated(&mut self, text: &str, n: usize) -> Eval<()> {
        self.budget.bytes(text.len().saturating_mul(n))?;
        self.text.extend(std::iter::repeat_n(text, n));
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn value(self) -> Value {
        Value::Str(self.text.into())
    }
}
