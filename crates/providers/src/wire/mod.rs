//! Translation between the APIs of clients and of upstream servers.
//!
//! A client may speak one API and the server that answers it another. [`request`] turns a client's body into the
//! server's, [`response`] turns the answer back, and [`Stream`] does so for an answer that comes in pieces. The pivot
//! is OpenAI chat: every other API is translated to it or from it, and a pair that has neither end there goes through
//! it. Bodies stay [`serde_json::Value`]s, because a field that neither API describes here is passed on: the server
//! decides about it. What the other API cannot express is refused by name; `docs/apis.md` lists that, and the
//! few hints that are dropped.
//!
//! Nothing here does input or output, and every function gives the same result for the same input.

mod answer;
mod api;
mod error;
mod fault;
mod fields;
mod ids;
mod options;
pub mod probe;
mod request;
mod response;
pub mod rewrite;
mod said;
mod sse;
mod stream;
pub mod texts;
mod thinking;
mod usage;

pub use api::Api;
pub use error::WireError;
pub use fault::{ApiFault, UpstreamError, error_body, error_event, event_error, upstream_error};
pub use options::AnswerOptions;
pub use request::{DEFAULT_MAX_TOKENS, ask_for_usage, request};
pub use response::response;
pub use sse::{MAX_EVENT_BYTES, SseEvent, SseParser};
pub use stream::{MAX_ANSWER_BYTES, Outcome, Stream};
