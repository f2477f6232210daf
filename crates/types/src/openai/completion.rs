//! `POST /v1/completions`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Common, FinishReason, Usage, WireRequest};

/// A completion request.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// Fields shared with chat.
    pub common: Common,
    /// The rest.
    pub own: CompletionFields,
}

impl WireRequest for CompletionRequest {
    type Own = CompletionFields;
    fn from_parts(common: Common, own: CompletionFields) -> Self {
        Self { common, own }
    }
    fn common(&self) -> &Common {
        &self.common
    }
}

/// The fields only a completion request has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionFields {
    /// What to continue.
    pub prompt: Prompt,
    /// How many alternatives to list per token.
    #[serde(default)]
    pub logprobs: Option<i64>,
    /// Whether the answer starts with the prompt.
    #[serde(default)]
    pub echo: Option<bool>,
    /// Text that comes after the gap to fill.
    #[serde(default)]
    pub suffix: Option<String>,
    /// Generate this many and return the best `n`.
    #[serde(default)]
    pub best_of: Option<i64>,
}

/// The prompt or prompts of a completion request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Prompt {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// One list of token ids.
    Tokens(Vec<i64>),
    /// Several lists of token ids.
    TokenLists(Vec<Vec<i64>>),
}

/// One element of a prompt array; all must be of the kind of the first.
enum Element {
    Text(String),
    Token(i64),
    Tokens(Vec<i64>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Element;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string, a token id or an array of token ids")
            }
            fn visit_str<E>(self, s: &str) -> Result<Element, E> {
                Ok(Element::Text(s.to_string()))
            }
            fn visit_i64<E>(self, id: i64) -> Result<Element, E> {
                Ok(Element::Token(id))
            }
            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Element, E> {
                i64::try_from(id).map(Element::Token).map_err(|_| E::custom("token id out of range"))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = seq.next_element()? {
                    ids.push(id);
                }
                Ok(Element::Tokens(ids))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Prompt;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string, an array of strings, an array of token ids or an array of those")
            }
            fn visit_str<E>(self, s: &str) -> Result<Prompt, E> {
                Ok(Prompt::Text(s.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Prompt, A::Error> {
                let mut prompt = match seq.next_element()? {
                    None => return Ok(Prompt::Texts(Vec::new())),
                    Some(Element::Text(s)) => Prompt::Texts(vec![s]),
                    Some(Element::Token(id)) => Prompt::Tokens(vec![id]),
                    Some(Element::Tokens(ids)) => Prompt::TokenLists(vec![ids]),
                };
                while let Some(element) = seq.next_element()? {
                    match (&mut prompt, element) {
                        (Prompt::Texts(list), Element::Text(s)) => list.push(s),
                        (Prompt::Tokens(list), Element::Token(id)) => list.push(id),
                        (Prompt::TokenLists(list), Element::Tokens(ids)) => list.push(ids),
                        _ => return Err(A::Error::custom("the elements of a prompt array must all be of one kind")),
                    }
                }
                Ok(prompt)
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The answer to a completion request, and one event of a streamed one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionResponse {
    /// Unique, starts with `cmpl-`.
    pub id: Arc<str>,
    /// Always `text_completion`.
    pub object: Cow<'static, str>,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that answered.
    pub model: Arc<str>,
    /// The exact model file and arithmetic that answered.
    pub system_fingerprint: Arc<str>,
    /// The answers, in order of index; in a stream, what is new.
    pub choices: Vec<CompletionChoice>,
    /// In a stream: absent unless the client asked for usage; then `null` in all but the last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// One answer, or what is new in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// `prompt number * n + answer number`.
    pub index: usize,
    /// The text.
    pub text: String,
    /// Log probabilities, if asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended; absent in all but the last event of a stream.
    pub finish_reason: Option<FinishReason>,
}

/// Log probabilities of a completion, one entry per token in each list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionLogprobs {
    /// The tokens' texts.
    pub tokens: Vec<String>,
    /// Their log probabilities; absent for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens at each position, by text.
    pub top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token starts in the text, in characters.
    pub text_offset: Vec<usize>,
}
