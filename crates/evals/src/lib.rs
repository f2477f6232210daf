//! Measurements of a model's quality and speed, each with the rule by which it was taken, and what shows them: pictures
//! and reports. A [`pilot`] sets all that could answer a table side by side.

mod bench;
pub mod judge;
mod perplexity;
pub mod pilot;
pub mod quality;
pub mod report;
pub mod routing;
pub mod svg;
mod text;

pub use bench::{
    Bench, BenchError, CLASSIFY_CLIENTS, MAX_REQUESTS, MAX_STREAMS, Measured, OWN_PROMPT, SHARED_PROMPT, STREAM_PROMPT,
    Share, Work, kv_pages,
};
pub use perplexity::{Perplexity, PerplexityConfig, PerplexityError, perplexity};
