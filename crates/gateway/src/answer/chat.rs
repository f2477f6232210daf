//! Chat answers.

use bantam_formats::Tokenizer;
use bantam_types::openai::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatLogprobs, ChatResponse, ChatTokenLogprob, Delta, FinishReason,
    FunctionCall, FunctionDelta, ReplyMessage, ToolCall, ToolCallDelta, TopLogprob, Usage,
};

use super::calls::{CallReader, CallStyle, Found};
use super::choices::DrawnToken;
use super::format::{Answer, Format, Head, NoUsage, StreamEvent, finish_reason, finite};
use crate::prepare::Prepared;

/// The format of `/v1/chat/completions`.
pub(crate) struct ChatFormat {
    /// Whether log probabilities were asked for.
    logprobs: bool,
    style: CallStyle,
    /// Per choice of a stream.
    readers: Vec<CallReader>,
}

const ROLE: &str = "assistant";
const FUNCTION: &str = "function";

impl ChatFormat {
    pub(crate) fn new(prepared: &Prepared) -> Self {
        let readers = (0..prepared.n).map(|_| CallReader::new(prepared.calls)).collect();
        ChatFormat { logprobs: prepared.shows_logprobs, style: prepared.calls, readers }
    }
}

fn call_id() -> String {
    format!("call_{}", uuid::Uuid::now_v7().simple())
}

/// What was found, as a delta; empty where nothing is certain yet.
fn delta(found: Found) -> Delta {
    let Found { content, name, arguments } = found;
    let call = (name.is_some() || !arguments.is_empty()).then(|| {
        let (id, kind) = (name.is_some().then(call_id), name.is_some().then(|| FUNCTION.into()));
        vec![ToolCallDelta { index: 0, id, kind, function: FunctionDelta { name, arguments } }]
    });
    Delta { role: None, content: (!content.is_empty()).then_some(content), tool_calls: call }
}

impl Format for ChatFormat {
    const ID_PREFIX: &'static str = "chatcmpl";
    type Chunk = ChatChunk;
    type Whole = ChatResponse;

    fn chunk(&mut self, head: &Head, index: usize, event: StreamEvent, usage: NoUsage) -> Option<ChatChunk> {
        let choice = match event {
            StreamEvent::Open => {
                let content = (self.style != CallStyle::Bare).then(String::new);
                let delta = Delta { role: Some(ROLE.into()), content, tool_calls: None };
                ChatChunkChoice { index, delta, logprobs: None, finish_reason: None }
            }
            StreamEvent::Piece(piece) => {
                let logprobs = self.logprobs.then(|| logprobs(&head.model.tokenizer, piece.tokens));
                let delta = delta(self.readers[index].push(&piece.text));
                if delta == Delta::default() && logprobs.is_none() {
                    return None;
                }
                ChatChunkChoice { index, delta, logprobs, finish_reason: None }
            }
            StreamEvent::Close(reason) => {
                let (rest, is_call) = self.readers[index].finish();
                let reason = if is_call { FinishReason::ToolCalls } else { finish_reason(reason) };
                ChatChunkChoice { index, delta: delta(rest), logprobs: None, finish_reason: Some(reason) }
            }
        };
        Some(chunk(head, vec![choice], usage))
    }

    fn usage_chunk(&self, head: &Head, usage: Usage) -> ChatChunk {
        chunk(head, Vec::new(), Some(Some(usage)))
    }

    fn whole(&mut self, head: &Head, answers: Vec<Answer>, usage: Usage) -> ChatResponse {
        let choice = |(index, answer): (usize, Answer)| {
            let mut reader = CallReader::new(self.style);
            let found = reader.push(&answer.text);
            let (rest, is_call) = reader.finish();
            let content = found.content + &rest.content;
            let tool_calls = found.name.map(|name| {
                let function = FunctionCall { name, arguments: found.arguments + &rest.arguments };
                vec![ToolCall { id: call_id(), kind: FUNCTION.into(), function }]
            });
            let content = (tool_calls.is_none() || !content.is_empty()).then_some(content);
            let finish = answer.finish.map_or(FinishReason::Length, finish_reason);
            ChatChoice {
                index,
                message: ReplyMessage { role: ROLE.into(), content, tool_calls, refusal: None },
                logprobs: self.logprobs.then(|| logprobs(&head.model.tokenizer, answer.tokens)),
                finish_reason: if is_call { FinishReason::ToolCalls } else { finish },
            }
        };
        ChatResponse {
            id: head.id.clone(),
            object: "chat.completion".into(),
            created: head.created,
            model: head.name.clone(),
            system_fingerprint: head.fingerprint.clone(),
            choices: answers.into_iter().enumerate().map(choice).collect(),
            usage,
        }
    }
}

fn chunk(head: &Head, choices: Vec<ChatChunkChoice>, usage: NoUsage) -> ChatChunk {
    ChatChunk {
        id: head.id.clone(),
        object: "chat.completion.chunk".into(),
        created: head.created,
        model: head.name.clone(),
        system_fingerprint: head.fingerprint.clone(),
        choices,
        usage,
    }
}

fn logprobs(tokenizer: &Tokenizer, tokens: Vec<DrawnToken>) -> ChatLogprobs {
    let alternative = |(id, logprob): (u32, f32)| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default().to_vec();
        TopLogprob { token: String::from_utf8_lossy(&bytes).into_owned(), logprob: finite(logprob), bytes: Some(bytes) }
    };
    let token = |drawn: DrawnToken| {
        let TopLogprob { token, logprob, bytes } = alternative((drawn.id, drawn.logprob));
        ChatTokenLogprob { token, logprob, bytes, top_logprobs: drawn.top.into_iter().map(alternative).collect() }
    };
    ChatLogprobs { content: Some(tokens.into_iter().map(token).collect()), refusal: None }
}
