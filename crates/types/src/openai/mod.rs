//! The OpenAI API as it looks on the wire.
//!
//! Requests are read with [`parse`]: first as JSON (so that syntax errors carry a position), then as the typed
//! view (so that a wrong type carries the path of its field). Numbers are kept wide (`i64`, `f64`) and unchecked:
//! which values make sense is the server's decision, and its message is better than "expected u32".

mod chat;
mod completion;
mod embedding;
mod error;
mod model;
mod request;
mod usage;

pub use chat::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatFields, ChatLogprobs, ChatRequest, ChatResponse, ChatTokenLogprob,
    Content, ContentPart, Delta, FunctionCall, FunctionDelta, Message, ReplyMessage, ToolCall, ToolCallDelta,
    TopLogprob,
};
pub use completion::{
    CompletionChoice, CompletionFields, CompletionLogprobs, CompletionRequest, CompletionResponse, Prompt,
};
pub use embedding::{EmbeddingObject, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector};
pub use error::{ErrorBody, ErrorObject};
pub use model::{ModelList, ModelObject};
pub use request::{
    Common, OneOrMany, ParseError, StreamOptions, WireRequest, parse, parse_fields, parse_object, read_fields,
    read_value,
};
pub use usage::{CompletionTokensDetails, FinishReason, PromptTokensDetails, Usage};
