//! Perplexity and comparisons with other engines.
