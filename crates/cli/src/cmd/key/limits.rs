//! Rates and budgets as flags.

use bantam_ledger::{Amount, Budget, Limits, Period};
use clap::Args;

/// The flags. 0 takes a limit away.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Dollars a day; 0 takes the limit away, here and below
    #[arg(long, value_name = "DOLLARS")]
    daily_budget: Option<bantam_types::NanoDollars>,
    /// Dollars a month
    #[arg(long, value_name = "DOLLARS")]
    monthly_budget: Option<bantam_types::NanoDollars>,
    /// Tokens a day
    #[arg(long, value_name = "N")]
    daily_tokens: Option<u64>,
    /// Tokens a month
    #[arg(long, value_name = "N")]
    monthly_tokens: Option<u64>,
    /// Requests a minute
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// Tokens a minute
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
}

impl LimitArgs {
    pub(super) fn is_given(&self) -> bool {
        self.requests_per_minute.is_some()
            || self.tokens_per_minute.is_some()
            || self.budgets().iter().any(|(_, given)| given.is_some())
    }

    fn budgets(&self) -> [(Budget, Option<bool>); 4] {
        let money = |period, given: Option<bantam_types::NanoDollars>| {
            (Budget { period, amount: Amount::Money(given.unwrap_or_default()) }, given.map(|amount| amount.0 != 0))
        };
        let tokens = |period, given: Option<u64>| {
            (Budget { period, amount: Amount::Tokens(given.unwrap_or_default()) }, given.map(|amount| amount != 0))
        };
        [
            money(Period::Day, self.daily_budget),
            money(Period::Month, self.monthly_budget),
            tokens(Period::Day, self.daily_tokens),
            tokens(Period::Month, self.monthly_tokens),
        ]
    }

    /// The limits with what is given in place of what was.
    pub(super) fn apply(&self, held: Option<&Limits>) -> Limits {
        let mut limits = held.cloned().unwrap_or_default();
        if let Some(rate) = self.requests_per_minute {
            limits.requests_per_minute = (rate > 0).then_some(rate);
        }
        if let Some(rate) = self.tokens_per_minute {
            limits.tokens_per_minute = (rate > 0).then_some(rate);
        }
        let kind = |budget: &Budget| (budget.period, matches!(budget.amount, Amount::Money(_)));
        for (budget, given) in self.budgets() {
            let Some(stays) = given else { continue };
            limits.budgets.retain(|held| kind(held) != kind(&budget));
            if stays {
                limits.budgets.push(budget);
            }
        }
        limits
    }
}

/// `$10.00 a day`.
pub(super) fn budget_text(budget: &Budget) -> String {
    let amount = match budget.amount {
        Amount::Money(money) => money.to_string(),
        Amount::Tokens(tokens) => format!("{tokens} tokens"),
    };
    match budget.period {
        Period::Day => format!("{amount} a day"),
        Period::Month => format!("{amount} a month"),
    }
}

/// A number of the kind that a budget counts.
pub(super) fn amount_text(kind: Amount, number: i64) -> String {
    match kind {
        Amount::Money(_) => bantam_types::NanoDollars(number).to_string(),
        Amount::Tokens(_) => format!("{number} tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_takes_a_limit_away_and_the_rest_stays() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            limits: LimitArgs,
        }
        let read = |args: &[&str]| <Line as clap::Parser>::parse_from([&["x"], args].concat()).limits;
        let held =
            read(&["--daily-budget", "10", "--monthly-tokens", "500", "--requests-per-minute", "60"]).apply(None);
        assert_eq!(held.budgets.iter().map(budget_text).collect::<Vec<_>>(), ["$10.00 a day", "500 tokens a month"]);
        let changed = read(&["--daily-budget", "0", "--monthly-budget", "2.5"]).apply(Some(&held));
        assert_eq!(
            changed.budgets.iter().map(budget_text).collect::<Vec<_>>(),
            ["500 tokens a month", "$2.50 a month"]
        );
        assert_eq!(changed.requests_per_minute, Some(60));
        assert!(!read(&[]).is_given() && read(&["--daily-budget", "0"]).is_given());
    }
}
