use bantam_stats::StatsError;

use crate::prices::{PriceError, Unpriced};

/// Costs that cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// A file is not TOML, or has an unknown, missing or mistyped key.
    #[error("{origin}: {why}")]
    Syntax {
        /// The file, or what stands for it.
        origin: String,
        /// What the parser says, with the place.
        why: String,
    },
    /// A value cannot work.
    #[error("{field}: {why}")]
    Field {
        /// The key, such as `requests_per_day`.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A hosted model has no price.
    #[error(transparent)]
    Unpriced(#[from] Unpriced),
    /// A price list or a price cannot be used.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// No row has this name.
    #[error("there is nothing called `{name}` to compare with; there are {known}")]
    NoOffer {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Nothing that is run on one's own machines can do the work.
    #[error("none of the machines can do this work:\n{why}")]
    NoneFits {
        /// Each with its reason.
        why: String,
    },
    /// An interval cannot be computed.
    #[error(transparent)]
    Stats(#[from] StatsError),
}

impl CostError {
    pub(super) fn field(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field { field: field.into(), why: why.into() }
    }
}
