//! Measurements of a model's quality, each with the rule by which it was taken.

mod perplexity;

pub use perplexity::{Perplexity, PerplexityConfig, PerplexityError, perplexity};
