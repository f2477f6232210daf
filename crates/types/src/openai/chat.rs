//! `POST /v1/chat/completions`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Common, FinishReason, Usage, WireRequest};

/// A chat request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// Fields shared with completions.
    pub common: Common,
    /// The rest.
    pub own: ChatFields,
}

impl WireRequest for ChatRequest {
    type Own = ChatFields;
    fn from_parts(common: Common, own: ChatFields) -> Self {
        Self { common, own }
    }
    fn common(&self) -> &Common {
        &self.common
    }
}

/// The fields only a chat request has. Those typed as [`Value`] are features a server may not have: they are read
/// so that it can say so by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatFields {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The newer name of `max_tokens`.
    #[serde(default)]
    pub max_completion_tokens: Option<i64>,
    /// Whether to return log probabilities of the answer's tokens.
    #[serde(default)]
    pub logprobs: Option<bool>,
    /// How many alternatives to list per token.
    #[serde(default)]
    pub top_logprobs: Option<i64>,
    /// Tools the model may call.
    #[serde(default)]
    pub tools: Option<Value>,
    /// Which tool it must call.
    #[serde(default)]
    pub tool_choice: Option<Value>,
    /// Whether the model may call several tools in one answer.
    #[serde(default)]
    pub parallel_tool_calls: Option<bool>,
    /// The older name of `tools`.
    #[serde(default)]
    pub functions: Option<Value>,
    /// The older name of `tool_choice`.
    #[serde(default)]
    pub function_call: Option<Value>,
    /// The shape the answer must have.
    #[serde(default)]
    pub response_format: Option<Value>,
    /// Kinds of output wanted.
    #[serde(default)]
    pub modalities: Option<Value>,
    /// Options of spoken output.
    #[serde(default)]
    pub audio: Option<Value>,
    /// Options of searching the web.
    #[serde(default)]
    pub web_search_options: Option<Value>,
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What it says; absent in an assistant message that only calls tools.
    #[serde(default)]
    pub content: Option<Content>,
    /// Everything else: `name`, `tool_calls`, `tool_call_id` and whatever a chat template may read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// A list of parts.
    Parts(Vec<ContentPart>),
}

/// One part of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContentPart {
    /// `text`, `image_url`, `input_audio`, `file`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The fields of the other kinds.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

// Written out instead of `#[serde(untagged)]`, which would lose the path of the part at fault.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or an array of content parts")
            }
            fn visit_str<E>(self, s: &str) -> Result<Content, E> {
                Ok(Content::Text(s.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Content, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Content::Parts)
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The answer to a chat request that did not ask for a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatResponse {
    /// Unique, starts with `chatcmpl-`.
    pub id: Arc<str>,
    /// Always `chat.completion`.
    pub object: Cow<'static, str>,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that answered.
    pub model: Arc<str>,
    /// The exact model file and arithmetic that answered.
    pub system_fingerprint: Arc<str>,
    /// The answers, in order of index.
    pub choices: Vec<ChatChoice>,
    /// Tokens read and written.
    pub usage: Usage,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChoice {
    /// Which of the `n` it is.
    pub index: usize,
    /// The answer.
    pub message: ReplyMessage,
    /// Log probabilities, if asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyMessage {
    /// Always `assistant`.
    pub role: Cow<'static, str>,
    /// The text; absent where it only calls a tool.
    pub content: Option<String>,
    /// The tools it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// Always absent: a local model has no separate channel for refusing.
    #[serde(default)]
    pub refusal: Option<String>,
}

/// A tool that the model calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the tool's answer refers to.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The call.
    pub function: FunctionCall,
}

/// Name and arguments of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// One of the names in `tools`.
    pub name: String,
    /// A JSON object, as text.
    pub arguments: String,
}

/// What to append to a call; `id`, `type` and `name` come in the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of the answer.
    pub index: usize,
    /// What the tool's answer refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Cow<'static, str>>,
    /// The call.
    pub function: FunctionDelta,
}

/// Part of [`ToolCallDelta`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionDelta {
    /// One of the names in `tools`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' text.
    pub arguments: String,
}

/// Log probabilities of an answer, or of the part of it in one chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatLogprobs {
    /// One entry per token.
    pub content: Option<Vec<ChatTokenLogprob>>,
    /// Always absent.
    #[serde(default)]
    pub refusal: Option<Vec<ChatTokenLogprob>>,
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatTokenLogprob {
    /// Its text, with U+FFFD where it is not whole UTF-8.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its exact bytes.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this position.
    pub top_logprobs: Vec<TopLogprob>,
}

/// An alternative at one position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// Its text, with U+FFFD where it is not whole UTF-8.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its exact bytes.
    pub bytes: Option<Vec<u8>>,
}

/// One event of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The same in all chunks of an answer.
    pub id: Arc<str>,
    /// Always `chat.completion.chunk`.
    pub object: Cow<'static, str>,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that answers.
    pub model: Arc<str>,
    /// The exact model file and arithmetic that answers.
    pub system_fingerprint: Arc<str>,
    /// What is new; empty in the chunk that carries the usage.
    pub choices: Vec<ChatChunkChoice>,
    /// Absent unless the client asked for usage; then `null` in all but the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// What is new in one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChunkChoice {
    /// Which of the `n` it is.
    pub index: usize,
    /// What to append.
    pub delta: Delta,
    /// Log probabilities of the tokens in this chunk, if asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// Why the answer ended, in its last chunk.
    pub finish_reason: Option<FinishReason>,
}

/// What to append to an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// `assistant`, in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'static, str>>,
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallDelta>>,
}
