//! Blocks in order, from a server that may mix them.
//!
//! A client gets one block after the other, as Anthropic's and OpenAI's own servers send them. Other servers interleave
//! the arguments of parallel calls, name a call after its first arguments, or send text between them. The block that
//! came first is open and streams; what belongs to later ones waits in them until the open one is whole.

use std::collections::VecDeque;

use serde_json::Value;

use super::MAX_ANSWER_BYTES;
use crate::wire::WireError;
use crate::wire::answer::{Block, Finish, Kind};
use crate::wire::probe::Usage;
use crate::wire::request::parse_arguments;
use crate::wire::response::broken_arguments;

/// What a stream's writer is told. Blocks come one after the other, counted from 0.
#[derive(Debug)]
pub(super) enum Step {
    /// The answer begins.
    Begin { id: Option<String>, model: Option<String>, created: Option<u64>, usage: Option<Usage> },
    /// A block begins.
    Open(Kind),
    /// The open block goes on.
    Piece { text: String, logprobs: Vec<Value> },
    /// The open block is whole, as it stands here.
    Close(Block),
    /// The answer is whole.
    End { finish: Finish, usage: Option<Usage> },
}

/// When a block is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// When the server says so.
    Said,
    /// When another has begun; a call only if its arguments are a JSON object by then.
    Next,
}

/// What a block and a token's log probabilities are reckoned at, whatever their text.
const BLOCK_BYTES: usize = 256;
const LOGPROB_BYTES: usize = 256;

/// Names a block for as long as the sequence lives.
pub(super) type Key = u64;

#[derive(Debug)]
struct Queued {
    key: Key,
    block: Block,
    /// Bytes of `block.text` that went out.
    sent: usize,
    /// Log probabilities that went out.
    sent_logprobs: usize,
    opened: bool,
    whole: bool,
    braces: Braces,
}

/// Whether a JSON object that comes in pieces has reached its end.
#[derive(Debug, Default)]
struct Braces {
    depth: usize,
    in_string: bool,
    escaped: bool,
    closed: bool,
}

impl Braces {
    fn scan(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if std::mem::take(&mut self.escaped) => {}
                b'\\' => self.escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                b'{' if !self.in_string => self.depth += 1,
                b'}' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    self.closed |= self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sequence {
    closing: Closing,
    blocks: VecDeque<Queued>,
    next: Key,
    bytes: usize,
    pub(super) steps: Vec<Step>,
    calls: bool,
    /// The first call that ended without being a JSON object.
    broken: Option<(Key, String)>,
}

impl Sequence {
    pub(super) fn new(closing: Closing) -> Self {
        Self { closing, blocks: VecDeque::new(), next: 0, bytes: 0, steps: Vec::new(), calls: false, broken: None }
    }

    /// Queues a block. A call may get its name later.
    pub(super) fn open(&mut self, kind: Kind) -> Key {
        self.calls |= matches!(kind, Kind::Call { .. });
        self.bytes = self.bytes.saturating_add(BLOCK_BYTES);
        if let Kind::Redacted { data } = &kind {
            self.bytes = self.bytes.saturating_add(data.len());
        }
        let key = self.next;
        self.next += 1;
        self.blocks.push_back(Queued {
            key,
            block: Block::new(kind, ""),
            sent: 0,
            sent_logprobs: 0,
            opened: false,
            whole: false,
            braces: Braces::default(),
        });
        self.advance();
        key
    }

    /// A block that did not go out whole yet.
    pub(super) fn block(&mut self, key: Key) -> Option<&mut Block> {
        self.blocks.iter_mut().find(|b| b.key == key).map(|b| &mut b.block)
    }

    /// Puts its server's seal on a block of thinking.
    pub(super) fn sign(&mut self, key: Key, signature: String) {
        self.bytes = self.bytes.saturating_add(signature.len());
        if let Some(block) = self.block(key) {
            block.signature = signature;
        }
    }

    /// Whether a block is the last that was begun and may go on.
    pub(super) fn is_last(&self, key: Key) -> bool {
        self.blocks.back().is_some_and(|b| b.key == key && !b.whole)
    }

    /// Goes on with a block.
    pub(super) fn push(&mut self, key: Key, text: &str, logprobs: Vec<Value>) -> Result<(), WireError> {
        self.bytes = self.bytes.saturating_add(text.len()).saturating_add(logprobs.len().saturating_mul(LOGPROB_BYTES));
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(WireError::TooLarge { what: "answer", limit: MAX_ANSWER_BYTES });
        }
        let Some(queued) = self.blocks.iter_mut().find(|b| b.key == key) else {
            return if text.trim().is_empty() {
                Ok(())
            } else {
                Err(WireError::answer("delta", "a part of a block came after the block was whole"))
            };
        };
        if matches!(queued.block.kind, Kind::Call { .. }) {
            queued.braces.scan(text);
        }
        queued.block.text.push_str(text);
        queued.block.logprobs.extend(logprobs);
        self.advance();
        Ok(())
    }

    /// Says that a block is whole.
    pub(super) fn close(&mut self, key: Key) {
        if let Some(queued) = self.blocks.iter_mut().find(|b| b.key == key) {
            queued.whole = true;
        }
        self.advance();
    }

    /// Says that the answer is whole.
    pub(super) fn end(&mut self, finish: Finish, usage: Option<Usage>) -> Result<(), WireError> {
        for queued in &mut self.blocks {
            queued.whole = true;
        }
        self.advance();
        if !self.blocks.is_empty() {
            return Err(WireError::answer("tool_calls", "a call has no name"));
        }
        if let Some((key, name)) = &self.broken
            && !(finish.may_cut() && key + 1 == self.next)
        {
            return Err(broken_arguments(name));
        }
        let finish = if self.calls { finish.with_calls() } else { finish };
        self.steps.push(Step::End { finish, usage });
        Ok(())
    }

    /// Sends what can go out now.
    fn advance(&mut self) {
        loop {
            let waiting = self.closing == Closing::Next && self.blocks.len() > 1;
            let Some(front) = self.blocks.front_mut() else { return };
            let text = &mut front.block.text;
            match &front.block.kind {
                Kind::Call { name, .. } if name.is_empty() => return,
                Kind::Call { .. } => {
                    front.whole |= waiting && front.braces.closed;
                    if front.whole && text.trim().is_empty() {
                        text.clear();
                        text.push_str("{}");
                        front.sent = 0;
                    }
                }
                _ => front.whole |= waiting,
            }
            if !std::mem::replace(&mut front.opened, true) {
                self.steps.push(Step::Open(front.block.kind.clone()));
            }
            if front.sent < front.block.text.len() || front.sent_logprobs < front.block.logprobs.len() {
                self.steps.push(Step::Piece {
                    text: front.block.text[front.sent..].to_owned(),
                    logprobs: front.block.logprobs[front.sent_logprobs..].to_vec(),
                });
                front.sent = front.block.text.len();
                front.sent_logprobs = front.block.logprobs.len();
            }
            if !front.whole {
                return;
            }
            if let Some(done) = self.blocks.pop_front() {
                if let Kind::Call { name, .. } = &done.block.kind
                    && self.broken.is_none()
                    && parse_arguments(&done.block.text).is_none()
                {
                    self.broken = Some((done.key, name.clone()));
                }
                self.steps.push(Step::Close(done.block));
            }
        }
    }
}
