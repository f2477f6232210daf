/// A price list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// It is longer than any price list.
    #[error("the price list has {bytes} bytes; at most {max} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It has more models than any price list.
    #[error("the price list has more than {max} models")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// It is not JSON, or not an object of objects.
    #[error("the price list cannot be read: {why}")]
    Syntax {
        /// What the parser says, with the place.
        why: String,
    },
    /// A value cannot be a price.
    #[error("the price list, `{model}`, {field}: {why}")]
    Field {
        /// The model.
        model: String,
        /// The key, such as `input_cost_per_token`.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

/// There is no price for a model's tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// No list has it.
    #[error("no price list has `{model}`; give its price in [[prices.models]]")]
    Unknown {
        /// The model, with its provider where one was named.
        model: String,
    },
    /// It is paid for in another unit, such as images or seconds.
    #[error("`{model}` is not priced by tokens in the price list; give a price in [[prices.models]]")]
    NotByToken {
        /// The list's name for it.
        model: String,
    },
    /// The list says 0, as LiteLLM's does for servers of one's own and what is billed in other ways.
    #[error("`{model}` stands in the price list at 0, which no machine costs; give its price in [[prices.models]]")]
    Zero {
        /// The list's name for it.
        model: String,
    },
}
