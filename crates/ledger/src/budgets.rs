//! Budgets: what was spent and reserved in this day and month, by key and by all together.

use std::collections::HashMap;

use bantam_types::NanoDollars;

use crate::error::OverBudget;
use crate::keys::KeyId;
use crate::limits::{Amount, Limits, Period};
use crate::rates::Payer;
use crate::request::Estimate;
use crate::time::Timestamp;

/// Money and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cost: i64,
    pub(crate) tokens: i64,
}

impl Amounts {
    pub(crate) fn of(cost: NanoDollars, tokens: u64) -> Self {
        Self { cost: cost.0, tokens: i64::try_from(tokens).unwrap_or(i64::MAX) }
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { cost: self.cost.saturating_add(other.cost), tokens: self.tokens.saturating_add(other.tokens) }
    }

    pub(crate) const fn minus(self, other: Self) -> Self {
        Self { cost: self.cost.saturating_sub(other.cost), tokens: self.tokens.saturating_sub(other.tokens) }
    }
}

/// What was spent and reserved in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) spent: Amounts,
    pub(crate) reserved: Amounts,
}

/// A day and its month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Periods {
    pub(crate) day: i64,
    pub(crate) month: i64,
}

impl Periods {
    pub(crate) fn of_day(day: i64) -> Self {
        Self { day, month: Timestamp::of_day(day).month() }
    }

    pub(crate) const fn get(&self, period: Period) -> i64 {
        match period {
            Period::Day => self.day,
            Period::Month => self.month,
        }
    }
}

/// The number a period has in the database.
pub(crate) const fn unit(period: Period) -> i64 {
    match period {
        Period::Day => 0,
        Period::Month => 1,
    }
}

/// The name of whose spending it is in the database.
pub(crate) fn scope(key: Option<&KeyId>) -> &str {
    key.map_or("", KeyId::as_str)
}

/// Whether one payer's budgets have room for an estimate.
pub(crate) fn check(
    (key, limits): Payer<'_>,
    estimate: Estimate,
    at: Timestamp,
    used: impl Fn(Period) -> Used,
) -> Result<(), OverBudget> {
    for budget in &limits.budgets {
        let used = used(budget.period);
        let total = used.spent.plus(used.reserved);
        let asked = Amounts::of(estimate.cost, estimate.tokens);
        let (fits, used, asked) = match budget.amount {
            Amount::Money(limit) => (
                total.cost.saturating_add(asked.cost) <= limit.0,
                Amount::Money(NanoDollars(total.cost)),
                Amount::Money(estimate.cost),
            ),
            Amount::Tokens(limit) => (
                u64::try_from(total.tokens.saturating_add(asked.tokens)).unwrap_or(0) <= limit,
                Amount::Tokens(u64::try_from(total.tokens).unwrap_or(0)),
                Amount::Tokens(estimate.tokens),
            ),
        };
        if !fits {
            let end = match budget.period {
                Period::Day => Timestamp::of_day(at.day() + 1),
                Period::Month => Timestamp::of_month(at.month() + 1).unwrap_or(at),
            };
            let retry_after = at.until(end);
            return Err(OverBudget {
                key: key.cloned(),
                period: budget.period,
                limit: budget.amount,
                used,
                asked,
                retry_after,
            });
        }
    }
    Ok(())
}

/// The state of one payer.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    day: (i64, Used),
    month: (i64, Used),
}

impl Account {
    /// What is known of a period; of one that is over, or has not begun, nothing is.
    fn period(&mut self, period: Period) -> &mut (i64, Used) {
        match period {
            Period::Day => &mut self.day,
            Period::Month => &mut self.month,
        }
    }

    fn change(&mut self, periods: Periods, change: impl Fn(&mut Used)) {
        for period in [Period::Day, Period::Month] {
            let number = periods.get(period);
            let held = self.period(period);
            if held.0 == number {
                change(&mut held.1);
            }
        }
    }
}

/// All budgets of a process that owns its ledger alone.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    accounts: HashMap<Option<KeyId>, Account>,
    /// The latest day anything was charged to: the days of budgets do not go backwards, whatever the clock does.
    day: i64,
}

impl Budgets {
    /// Takes up what was spent before.
    pub(crate) fn restore(&mut self, key: Option<KeyId>, period: Period, number: i64, spent: Amounts) {
        let account = self.accounts.entry(key).or_default();
        *account.period(period) = (number, Used { spent, reserved: Amounts::default() });
        if period == Period::Day {
            self.day = self.day.max(number);
        }
    }

    /// Reserves an estimate with all payers, or with none; says to which day it is charged.
    pub(crate) fn reserve(
        &mut self,
        payers: &[Payer<'_>],
        estimate: Estimate,
        at: Timestamp,
    ) -> Result<i64, OverBudget> {
        let day = at.day().max(self.day);
        let (periods, at) = (Periods::of_day(day), at.max(Timestamp::of_day(day)));
        self.day = day;
        for (key, _) in payers {
            let account = self.accounts.entry(key.cloned()).or_default();
            for period in [Period::Day, Period::Month] {
                let (held, number) = (account.period(period), periods.get(period));
                if held.0 != number {
                    *held = (number, Used::default());
                }
            }
        }
        for payer in payers {
            let account = self.accounts.get(&payer.0.cloned()).copied().unwrap_or_default();
            check(*payer, estimate, at, |period| match period {
                Period::Day => account.day.1,
                Period::Month => account.month.1,
            })?;
        }
        let amounts = Amounts::of(estimate.cost, estimate.tokens);
        for (key, _) in payers {
            if let Some(account) = self.accounts.get_mut(&key.cloned()) {
                account.change(periods, |used| used.reserved = used.reserved.plus(amounts));
            }
        }
        Ok(day)
    }

    /// Turns a reservation into what was spent.
    pub(crate) fn settle(&mut self, key: Option<&KeyId>, day: i64, reserved: Amounts, spent: Amounts) {
        let periods = Periods::of_day(day);
        let keys = [None, key.cloned()];
        for key in &keys[..=usize::from(key.is_some())] {
            if let Some(account) = self.accounts.get_mut(key) {
                account.change(periods, |used| {
                    used.reserved = used.reserved.minus(reserved);
                    used.spent = used.spent.plus(spent);
                });
            }
        }
    }

    /// What one payer has used in the periods of this day.
    pub(crate) fn used(&self, key: Option<&KeyId>, limits: &Limits, at: Timestamp) -> Vec<Used> {
        let periods = Periods::of_day(at.day().max(self.day));
        let mut account = self.accounts.get(&key.cloned()).copied().unwrap_or_default();
        let mut of = |period: Period| match *account.period(period) {
            (number, used) if number == periods.get(period) => used,
            _ => Used::default(),
        };
        limits.budgets.iter().map(|budget| of(budget.period)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Budget;

    const DAY: i64 = 86_400_000_000;

    fn money(period: Period, nanos: i64) -> Limits {
        Limits { budgets: vec![Budget { period, amount: Amount::Money(NanoDollars(nanos)) }], ..Limits::default() }
    }

    fn cost(nanos: i64) -> Estimate {
        Estimate { cost: NanoDollars(nanos), tokens: 0 }
    }

    #[test]
    fn a_day_ends_at_midnight_and_a_month_does_not() {
        let (day, month) = (money(Period::Day, 10), money(Period::Month, 15));
        let key = KeyId::from("k");
        let payers: [Payer<'_>; 2] = [(None, &month), (Some(&key), &day)];
        let mut budgets = Budgets::default();
        let noon = Timestamp(DAY / 2);
        budgets.reserve(&payers, cost(10), noon).unwrap();
        let over = budgets.reserve(&payers, cost(1), noon).unwrap_err();
        assert_eq!((over.key, over.period), (Some(key.clone()), Period::Day));
        assert_eq!(over.retry_after.as_secs(), 43_200);
        budgets.settle(Some(&key), 0, Amounts { cost: 10, tokens: 0 }, Amounts { cost: 8, tokens: 0 });
        budgets.reserve(&payers, cost(2), noon).unwrap();
        let tomorrow = Timestamp(DAY + 1);
        let over = budgets.reserve(&payers, cost(6), tomorrow).unwrap_err();
        assert_eq!((over.key, over.period, over.used), (None, Period::Month, Amount::Money(NanoDollars(10))));
        assert_eq!(budgets.reserve(&payers, cost(5), tomorrow), Ok(1));
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_second_day() {
        let day = money(Period::Day, 10);
        let payers: [Payer<'_>; 1] = [(None, &day)];
        let mut budgets = Budgets::default();
        assert_eq!(budgets.reserve(&payers, cost(10), Timestamp(DAY)), Ok(1));
        budgets.reserve(&payers, cost(1), Timestamp(0)).unwrap_err();
    }

    #[test]
    fn what_belongs_to_yesterday_does_not_weigh_on_today() {
        let day = money(Period::Day, 10);
        let payers: [Payer<'_>; 1] = [(None, &day)];
        let mut budgets = Budgets::default();
        budgets.reserve(&payers, cost(10), Timestamp(0)).unwrap();
        budgets.reserve(&payers, cost(4), Timestamp(DAY)).unwrap();
        budgets.settle(None, 0, Amounts { cost: 10, tokens: 0 }, Amounts { cost: 10, tokens: 0 });
        budgets.reserve(&payers, cost(6), Timestamp(DAY)).unwrap();
        budgets.reserve(&payers, cost(1), Timestamp(DAY)).unwrap_err();
    }
}
