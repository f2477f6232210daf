//! Typed tasks over small models.
//!
//! A [`Task`] is a named definition: what goes in, what comes out, and when an answer is good enough. A [`Runner`] binds it to a model
//! (one that generates, ours or a server's, or an encoder with a fitted head) and answers rows with a value, a confidence and a verdict,
//! never with text that the caller must parse. Nothing above [`model`] knows which kind of model answered.

pub mod batch;
mod error;
pub mod fit;
mod json;
pub mod model;
pub mod prompt;
mod result;
mod runner;
mod schema;
mod spec;
pub mod table;

pub use error::{RowError, TaskError};
pub use result::{Alternative, TaskResult, Verdict};
pub use runner::Runner;
pub use schema::OutputSchema;
pub use spec::{
    Accept, Check, Classify, Example, FIELDS_TEMPLATE, Failed, Fields, Label, MAX_EXAMPLES, MAX_LABELS, Mode,
    Otherwise, Output, Rule, TEMPLATE, Task, TaskSummary,
};
