//! What may be spent, and how fast.

use bantam_types::NanoDollars;
use serde::{Deserialize, Serialize};

/// Rates and budgets of one key, or of everything together. Whatever is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests admitted in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens reserved in a minute: prompt tokens and the most that may be generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Budgets; each must have room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
}

impl Limits {
    /// Whether any of the budgets is of money.
    #[must_use]
    pub fn has_money_budget(&self) -> bool {
        self.budgets.iter().any(|budget| matches!(budget.amount, Amount::Money(_)))
    }
}

/// An amount for a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// When it starts anew.
    pub period: Period,
    /// How much.
    pub amount: Amount,
}

/// Money or tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Nano-dollars.
    Money(NanoDollars),
    /// Tokens, prompts' and answers'.
    Tokens(u64),
}

/// The period of a budget, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first to the last of a month.
    Month,
}
