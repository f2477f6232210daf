//! Chat answers.

use bantam_formats::Tokenizer;
use bantam_types::openai::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatLogprobs, ChatResponse, ChatTokenLogprob, Delta, FinishReason,
    ReplyMessage, TopLogprob, Usage,
};

use super::choices::DrawnToken;
use super::format::{Answer, Format, Head, NoUsage, StreamEvent, finish_reason, finite};

/// The format of `/v1/chat/completions`.
pub(crate) struct ChatFormat {
    /// Whether log probabilities were asked for.
    pub(crate) logprobs: bool,
}

const ROLE: &str = "assistant";

impl Format for ChatFormat {
    const ID_PREFIX: &'static str = "chatcmpl";
    type Chunk = ChatChunk;
    type Whole = ChatResponse;

    fn chunk(&mut self, head: &Head, index: usize, event: StreamEvent, usage: NoUsage) -> Option<ChatChunk> {
        let choice = match event {
            StreamEvent::Open => {
                let delta = Delta { role: Some(ROLE.into()), content: Some(String::new()) };
                ChatChunkChoice { index, delta, logprobs: None, finish_reason: None }
            }
            StreamEvent::Piece(piece) => {
                let logprobs = self.logprobs.then(|| logprobs(&head.model.tokenizer, piece.tokens));
                let delta = Delta { role: None, content: Some(piece.text) };
                ChatChunkChoice { index, delta, logprobs, finish_reason: None }
            }
            StreamEvent::Close(reason) => ChatChunkChoice {
                index,
                delta: Delta::default(),
                logprobs: None,
                finish_reason: Some(finish_reason(reason)),
            },
        };
        Some(chunk(head, vec![choice], usage))
    }

    fn usage_chunk(&self, head: &Head, usage: Usage) -> ChatChunk {
        chunk(head, Vec::new(), Some(Some(usage)))
    }

    fn whole(&mut self, head: &Head, answers: Vec<Answer>, usage: Usage) -> ChatResponse {
        let choice = |(index, answer): (usize, Answer)| ChatChoice {
            index,
            message: ReplyMessage { role: ROLE.into(), content: Some(answer.text), refusal: None },
            logprobs: self.logprobs.then(|| logprobs(&head.model.tokenizer, answer.tokens)),
            finish_reason: answer.finish.map_or(FinishReason::Length, finish_reason),
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
