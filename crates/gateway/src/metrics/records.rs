//! The ledger and its budgets.

use std::time::Duration;

use bantam_ledger::{Amount, BudgetUse, Ledger, Period, Timestamp};
use bantam_types::NanoDollars;

use super::text::{Family, Kind, Text};

/// Keys whose budgets are shown, the newest first.
const MOST_KEYS: usize = 200;

/// Longest time that the budgets are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whose budget it is that holds for all together.
const OVERALL: &str = "all";

const ENTRIES: Family =
    Family { name: "bantam_ledger_entries_total", kind: Kind::Counter, help: "Entries committed by this process" };
const COMMITS: Family =
    Family { name: "bantam_ledger_commits_total", kind: Kind::Counter, help: "Transactions of the ledger" };
const FAULTS: Family = Family {
    name: "bantam_ledger_faults_total",
    kind: Kind::Counter,
    help: "Transactions that the ledger's store did not take",
};
const UP: Family = Family {
    name: "bantam_ledger_up",
    kind: Kind::Gauge,
    help: "Whether the ledger takes entries; while it does not, requests are refused",
};
const OPEN: Family =
    Family { name: "bantam_ledger_open_requests", kind: Kind::Gauge, help: "Requests that have begun and not ended" };

pub(super) fn write(text: &mut Text, ledger: &Ledger) {
    let counts = ledger.counts();
    text.family(ENTRIES, [([], counts.entries)]);
    text.family(COMMITS, [([], counts.commits)]);
    text.family(FAULTS, [([], counts.faults)]);
    text.family(UP, [([], u8::from(ledger.fault().is_none()))]);
    text.family(OPEN, [([], ledger.open_requests())]);
}

/// One figure of a budget, in money and in tokens.
struct Figure {
    dollars: Family,
    tokens: Family,
    value: fn(&BudgetUse) -> i64,
}

const fn figure(names: [&'static str; 2], help: &'static str, value: fn(&BudgetUse) -> i64) -> Figure {
    let [dollars, tokens] = names;
    let kind = Kind::Gauge;
    Figure { dollars: Family { name: dollars, kind, help }, tokens: Family { name: tokens, kind, help }, value }
}

const FIGURES: [Figure; 3] = [
    figure(["bantam_budget_limit_dollars", "bantam_budget_limit_tokens"], "A key's budget for a period", |used| {
        match used.budget.amount {
            Amount::Money(limit) => limit.0,
            Amount::Tokens(limit) => i64::try_from(limit).unwrap_or(i64::MAX),
        }
    }),
    figure(
        ["bantam_budget_spent_dollars", "bantam_budget_spent_tokens"],
        "Spent of a key's budget in this period",
        |used| used.spent,
    ),
    figure(
        ["bantam_budget_reserved_dollars", "bantam_budget_reserved_tokens"],
        "Reserved of a key's budget by open requests",
        |used| used.reserved,
    ),
];

/// Writes the budgets of keys and of all together. A store that does not answer in time leaves them out.
pub(super) async fn write_budgets(text: &mut Text, ledger: &Ledger) {
    let Ok(Some(budgets)) = tokio::time::timeout(PATIENCE, budgets(ledger)).await else { return };
    let periods = |period| match period {
        Period::Day => "day",
        Period::Month => "month",
    };
    for Figure { dollars, tokens, value } in &FIGURES {
        let rows =
            || budgets.iter().map(|(key, used)| ([("key", &**key), ("period", periods(used.budget.period))], used));
        let money = |used: &BudgetUse| matches!(used.budget.amount, Amount::Money(_));
        let of = rows().filter(|(_, used)| money(used));
        text.family(*dollars, of.map(|(labels, used)| (labels, NanoDollars(value(used)).dollars())));
        let of = rows().filter(|(_, used)| !money(used));
        text.family(*tokens, of.map(|(labels, used)| (labels, value(used))));
    }
}

async fn budgets(ledger: &Ledger) -> Option<Vec<(String, BudgetUse)>> {
    let overall = ledger.budgets(None).await.ok()?;
    let mut all: Vec<_> = overall.into_iter().map(|used| (OVERALL.to_owned(), used)).collect();
    let now = Timestamp::now();
    let keys = ledger.keys();
    let limited = keys.iter().rev().filter(|key| key.is_valid(now) && !key.limits.budgets.is_empty());
    for key in limited.take(MOST_KEYS) {
        let used = ledger.budgets(Some(&key.id)).await.ok()?;
        all.extend(used.into_iter().map(|used| (key.id.to_string(), used)));
    }
    Some(all)
}
