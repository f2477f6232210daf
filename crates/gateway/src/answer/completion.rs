//! Completion answers.

use std::collections::BTreeMap;
use std::fmt::Write;

use bantam_formats::Tokenizer;
use bantam_types::openai::{CompletionChoice, CompletionLogprobs, CompletionResponse, FinishReason, Usage};

use super::choices::DrawnToken;
use super::format::{Answer, Format, Head, NoUsage, StreamEvent, finish_reason, finite};
use crate::prepare::Prepared;

/// The format of `/v1/completions`.
pub(crate) struct CompletionFormat {
    /// Whether log probabilities were asked for.
    logprobs: bool,
    /// Per choice: the prompt's text, if it is to come before the answer.
    echo: Vec<Option<String>>,
    /// Per choice: characters sent so far.
    sent: Vec<usize>,
}

impl CompletionFormat {
    /// Takes what is to be echoed from the prompts.
    pub(crate) fn new(prepared: &mut Prepared) -> Self {
        let n = prepared.n;
        let echo: Vec<_> = prepared.prompts.iter_mut().flat_map(|p| vec![p.echo.take(); n]).collect();
        Self { logprobs: prepared.shows_logprobs, sent: vec![0; echo.len()], echo }
    }
}

impl Format for CompletionFormat {
    const ID_PREFIX: &'static str = "cmpl";
    type Chunk = CompletionResponse;
    type Whole = CompletionResponse;

    fn chunk(&mut self, head: &Head, index: usize, event: StreamEvent, usage: NoUsage) -> Option<CompletionResponse> {
        let choice = match event {
            StreamEvent::Open => {
                let text = self.echo[index].take()?;
                self.sent[index] += text.chars().count();
                CompletionChoice { index, text, logprobs: None, finish_reason: None }
            }
            StreamEvent::Piece(piece) => {
                let offset = self.sent[index];
                self.sent[index] += piece.text.chars().count();
                let logprobs = self.logprobs.then(|| logprobs(&head.model.tokenizer, piece.tokens, offset));
                CompletionChoice { index, text: piece.text, logprobs, finish_reason: None }
            }
            StreamEvent::Close(reason) => CompletionChoice {
                index,
                text: String::new(),
                logprobs: None,
                finish_reason: Some(finish_reason(reason)),
            },
        };
        Some(response(head, vec![choice], usage))
    }

    fn usage_chunk(&self, head: &Head, usage: Usage) -> CompletionResponse {
        response(head, Vec::new(), Some(Some(usage)))
    }

    fn whole(&mut self, head: &Head, answers: Vec<Answer>, usage: Usage) -> CompletionResponse {
        let choice = |(index, answer): (usize, Answer)| {
            let echo = self.echo[index].take().unwrap_or_default();
            let offset = echo.chars().count();
            CompletionChoice {
                index,
                logprobs: self.logprobs.then(|| logprobs(&head.model.tokenizer, answer.tokens, offset)),
                text: echo + &answer.text,
                finish_reason: Some(answer.finish.map_or(FinishReason::Length, finish_reason)),
            }
        };
        let choices = answers.into_iter().enumerate().map(choice).collect();
        response(head, choices, Some(Some(usage)))
    }
}

fn response(head: &Head, choices: Vec<CompletionChoice>, usage: NoUsage) -> CompletionResponse {
    CompletionResponse {
        id: head.id.clone(),
        object: "text_completion".into(),
        created: head.created,
        model: head.name.clone(),
        system_fingerprint: head.fingerprint.clone(),
        choices,
        usage,
    }
}

/// `offset` is where the first of the tokens starts in the text, in characters.
fn logprobs(tokenizer: &Tokenizer, tokens: Vec<DrawnToken>, mut offset: usize) -> CompletionLogprobs {
    let mut all = CompletionLogprobs::default();
    for drawn in tokens {
        let bytes = tokenizer.token_bytes(drawn.id).unwrap_or_default();
        all.text_offset.push(offset);
        // A byte that continues a character adds none.
        offset += bytes.iter().filter(|&&b| b & 0xc0 != 0x80).count();
        all.tokens.push(token_text(bytes));
        all.token_logprobs.push(Some(finite(drawn.logprob)));
        let alternative = |(id, logprob)| (token_text(tokenizer.token_bytes(id).unwrap_or_default()), finite(logprob));
        let top: BTreeMap<String, f32> = drawn.top.into_iter().map(alternative).collect();
        all.top_logprobs.push((!top.is_empty()).then_some(top));
    }
    all
}

/// A token's text; one that is not whole UTF-8 is written out in bytes, because texts are the keys of a map here and
/// two of those must not fall together.
fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().fold("bytes:".to_string(), |mut text, b| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{b:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::token_text;

    #[test]
    fn tokens_that_are_not_text_are_told_apart() {
        assert_eq!(token_text("né".as_bytes()), "né");
        assert_eq!(token_text(b"\xe2\x80"), "bytes:\\xe2\\x80");
        assert_ne!(token_text(b"\xe2"), token_text(b"\xe3"));
    }
}
