//! What was spent, what it would have been without routing, and the difference with its interval.

use std::collections::{BTreeMap, BTreeSet};

use bantam_stats::intervals::{Bootstrap, BootstrapConfig, bootstrap};
use bantam_types::NanoDollars;
use serde::Serialize;

use super::CostError;
use crate::{Recorded, Settled, TokenCounts};

const HOUR: i64 = 3_600_000_000;
/// Parts that requests are dealt into for the bootstrap, so that memory does not grow with their number.
const PARTS: usize = 128;
/// Least parts with requests for an interval.
const MIN_PARTS: usize = 20;
/// Most groups that are told apart.
const MAX_GROUPS: usize = 5_000;
/// What stands for the groups beyond, and for those without a name.
const OTHERS: &str = "(others)";
const NONE: &str = "(none)";

/// A request as the report needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostRow {
    /// When it arrived, in microseconds since 1970 UTC.
    pub at_micros: i64,
    /// The model or route that was asked for.
    pub asked: String,
    /// The route that took it.
    pub route: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Whose key it came with.
    pub key: Option<String>,
    /// What it cost, as far as prices are known.
    pub cost: NanoDollars,
    /// Whether a model answered that has no price.
    pub unpriced: bool,
    /// Whether it was answered with a status of 400 or more, or by nobody.
    pub failed: bool,
    /// What it would have cost without routing; nothing where that has no price.
    pub counterfactual: Option<NanoDollars>,
    /// Its tokens.
    pub tokens: TokenCounts,
}

impl From<&Recorded> for CostRow {
    fn from(recorded: &Recorded) -> Self {
        let entry = &recorded.entry;
        Self {
            at_micros: entry.arrived.0,
            asked: entry.asked.clone(),
            route: entry.route.clone(),
            model: entry.model.clone(),
            key: entry.key.as_ref().map(|key| key.as_str().to_owned()),
            cost: entry.cost,
            unpriced: entry.decision.get("unpriced").and_then(serde_json::Value::as_bool).unwrap_or(false),
            failed: entry.status >= 400 || matches!(entry.settled, Settled::Abandoned | Settled::Interrupted),
            counterfactual: entry.counterfactual,
            tokens: entry.tokens,
        }
    }
}

/// What rows are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// Day, UTC.
    Day,
    /// What was asked for: a model, a route, or `auto`.
    Asked,
    /// Route.
    Route,
    /// Model that answered.
    Model,
    /// Key.
    Key,
}

/// Costs put together.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// By what.
    pub by: GroupBy,
    /// The first and last request, in microseconds since 1970 UTC.
    pub between: Option<(i64, i64)>,
    /// Everything.
    pub total: Group,
    /// Days in order, anything else the dearest first.
    pub groups: Vec<Group>,
}

/// Some requests together.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Which.
    pub name: String,
    /// How many.
    pub requests: u64,
    /// Their tokens.
    pub tokens: TokenCounts,
    /// What they cost, exactly, as far as prices are known.
    pub cost: NanoDollars,
    /// Those of them that a model without a price answered: what that cost is not in `cost`.
    pub unpriced: u64,
    /// Those of them whose price without routing is known. Only they count in what follows.
    pub compared: u64,
    /// What these did cost.
    pub compared_cost: NanoDollars,
    /// What these would have cost without routing.
    pub counterfactual: NanoDollars,
    /// How much less they did cost: the difference of the two.
    pub saved: NanoDollars,
    /// The share of the counterfactual that was saved.
    pub saving: Option<Saving>,
}

/// A share saved, and how far it may be chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Saving {
    /// The share, exact for what was recorded.
    pub share: f64,
    /// Where it lies with 95% confidence for traffic like this: percentile bootstrap; nothing for too little traffic.
    pub interval: Option<(f64, f64)>,
    /// What was drawn anew.
    pub resampled: Resampled,
}

/// What the bootstrap draws anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampled {
    /// Whole hours, for requests of an hour have much in common.
    Hours,
    /// Requests, where there are too few hours.
    Requests,
    /// Nothing: there are too few of them, too.
    Nothing,
}

/// Costs on the way into a report, one request after the other: memory does not grow with their number.
pub struct Reporter {
    by: GroupBy,
    between: Option<(i64, i64)>,
    total: Sums,
    groups: BTreeMap<String, Sums>,
}

impl Reporter {
    /// No requests yet.
    #[must_use]
    pub fn new(by: GroupBy) -> Self {
        Self { by, between: None, total: Sums::default(), groups: BTreeMap::new() }
    }

    /// One more.
    pub fn add(&mut self, row: &CostRow) {
        let at = row.at_micros;
        self.between = Some(self.between.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        let name = name(row, self.by);
        let is_room = self.groups.len() < MAX_GROUPS || self.groups.contains_key(&name);
        self.groups.entry(if is_room { name } else { OTHERS.to_owned() }).or_default().add(row);
        self.total.add(row);
    }

    /// All of them together.
    ///
    /// # Errors
    /// Those of the bootstrap, which sums of requests do not have.
    pub fn report(self) -> Result<Report, CostError> {
        let groups = self.groups.into_iter().map(|(name, sums)| sums.group(name));
        let mut groups = groups.collect::<Result<Vec<_>, _>>()?;
        if self.by != GroupBy::Day {
            groups.sort_by(|a, b| b.cost.cmp(&a.cost).then_with(|| a.name.cmp(&b.name)));
        }
        Ok(Report { by: self.by, between: self.between, total: self.total.group("all".to_owned())?, groups })
    }
}

fn name(row: &CostRow, by: GroupBy) -> String {
    let named = |name: &Option<String>| name.clone().unwrap_or_else(|| NONE.to_owned());
    match by {
        GroupBy::Day => day(row.at_micros),
        GroupBy::Asked if row.asked.is_empty() => NONE.to_owned(),
        GroupBy::Asked => row.asked.clone(),
        GroupBy::Route => named(&row.route),
        GroupBy::Model => named(&row.model),
        GroupBy::Key => named(&row.key),
    }
}

/// `2026-11-21`; a moment outside the calendar is none.
fn day(at_micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(at_micros);
    time.map_or_else(|| NONE.to_owned(), |time| time.format("%Y-%m-%d").to_string())
}

/// Sums of some requests, and the same dealt into parts in two ways.
#[derive(Default)]
struct Sums {
    requests: u64,
    tokens: TokenCounts,
    cost: NanoDollars,
    unpriced: u64,
    compared: u64,
    /// Cost and counterfactual of those compared.
    both: [i128; 2],
    hours: BTreeSet<i64>,
    by_hour: Vec<[i128; 2]>,
    by_request: Vec<[i128; 2]>,
}

impl Sums {
    fn add(&mut self, row: &CostRow) {
        self.requests += 1;
        let (sum, more) = (&mut self.tokens, &row.tokens);
        for (sum, more) in [
            (&mut sum.input, more.input),
            (&mut sum.cached, more.cached),
            (&mut sum.cache_written, more.cache_written),
            (&mut sum.output, more.output),
            (&mut sum.reasoning, more.reasoning),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.cost = self.cost.plus(row.cost);
        self.unpriced += u64::from(row.unpriced);
        let Some(counterfactual) = row.counterfactual else { return };
        let pair = [i128::from(row.cost.0), i128::from(counterfactual.0)];
        let hour = row.at_micros.div_euclid(HOUR);
        if self.by_hour.is_empty() {
            self.by_hour = vec![[0; 2]; PARTS];
            self.by_request = vec![[0; 2]; PARTS];
        }
        // Enough to know whether there are enough.
        if self.hours.len() < MIN_PARTS {
            self.hours.insert(hour.rem_euclid(PARTS as i64));
        }
        let parts = [
            &mut self.both,
            &mut self.by_hour[hour.rem_euclid(PARTS as i64) as usize],
            &mut self.by_request[(self.compared % PARTS as u64) as usize],
        ];
        for part in parts {
            part[0] += pair[0];
            part[1] += pair[1];
        }
        self.compared += 1;
    }

    fn group(self, name: String) -> Result<Group, CostError> {
        let nanos = |sum: i128| NanoDollars(i64::try_from(sum).unwrap_or(i64::MAX));
        let saving = self.saving()?;
        Ok(Group {
            name,
            requests: self.requests,
            tokens: self.tokens,
            cost: self.cost,
            unpriced: self.unpriced,
            compared: self.compared,
            compared_cost: nanos(self.both[0]),
            counterfactual: nanos(self.both[1]),
            saved: nanos(self.both[1] - self.both[0]),
            saving,
        })
    }

    fn saving(&self) -> Result<Option<Saving>, CostError> {
        let share = |sums: &[i128; 2]| (sums[1] - sums[0]) as f64 / sums[1] as f64;
        if self.both[1] <= 0 {
            return Ok(None);
        }
        let (parts, resampled) = if self.hours.len() >= MIN_PARTS {
            (&self.by_hour, Resampled::Hours)
        } else if self.compared >= MIN_PARTS as u64 {
            (&self.by_request, Resampled::Requests)
        } else {
            return Ok(Some(Saving { share: share(&self.both), interval: None, resampled: Resampled::Nothing }));
        };
        let parts: Vec<&[i128; 2]> = parts.iter().filter(|part| part[1] > 0).collect();
        let Bootstrap { interval, .. } = bootstrap(parts.len(), &BootstrapConfig::default(), |drawn| {
            let sum = drawn.iter().fold([0; 2], |sum, at| [sum[0] + parts[*at][0], sum[1] + parts[*at][1]]);
            share(&sum)
        })?;
        Ok(Some(Saving { share: share(&self.both), interval: Some((interval.lower, interval.upper)), resampled }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 24 * HOUR;

    fn report(rows: impl IntoIterator<Item = CostRow>, by: GroupBy) -> Result<Report, CostError> {
        let mut reporter = Reporter::new(by);
        rows.into_iter().for_each(|row| reporter.add(&row));
        reporter.report()
    }

    fn row(at_micros: i64, cost: i64, counterfactual: Option<i64>) -> CostRow {
        let tokens = TokenCounts { input: 10, output: 2, ..TokenCounts::default() };
        let counterfactual = counterfactual.map(NanoDollars);
        CostRow { at_micros, cost: NanoDollars(cost), counterfactual, tokens, ..CostRow::default() }
    }

    #[test]
    fn sums_are_exact_and_what_has_no_counterfactual_saves_nothing() {
        let rows = (0..100).map(|i| CostRow {
            asked: if i % 5 == 0 { "auto" } else { "gpt" }.to_owned(),
            route: (i % 2 == 0).then(|| "auto".to_owned()),
            unpriced: i % 4 == 3,
            ..row(i * DAY / 10, 10, (i % 4 != 3).then_some(40))
        });
        let found = report(rows.clone(), GroupBy::Route).unwrap();
        assert_eq!((found.total.requests, found.total.cost.0, found.total.compared), (100, 1000, 75));
        assert_eq!(
            (found.total.unpriced, found.total.compared_cost.0),
            (25, 750),
            "only those compared are set against"
        );
        assert_eq!((found.total.counterfactual.0, found.total.saved.0), (3000, 2250));
        assert_eq!(found.total.saving.unwrap().share, 0.75);
        assert_eq!(found.total.tokens, TokenCounts { input: 1000, output: 200, ..TokenCounts::default() });
        let names: Vec<&str> = found.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, [NONE, "auto"]);
        let asked = report(rows.clone(), GroupBy::Asked).unwrap().groups;
        let asked: Vec<_> = asked.iter().map(|group| (group.name.as_str(), group.requests)).collect();
        assert_eq!(asked, [("gpt", 80), ("auto", 20)]);
        let days = report(rows, GroupBy::Day).unwrap().groups;
        assert_eq!((days.len(), days[0].name.as_str(), days[9].name.as_str()), (10, "1970-01-01", "1970-01-10"));
        let nothing = report([row(0, 5, None)], GroupBy::Key).unwrap();
        assert_eq!((nothing.total.saving, nothing.total.cost.0), (None, 5));
        assert!(report([], GroupBy::Key).unwrap().groups.is_empty());
    }

    /// Requests of an hour are alike here: drawing single requests would promise too much.
    #[test]
    fn intervals_widen_with_what_hours_have_in_common() {
        let cheap = |hour: i64| hour * 7 % 10 < 6;
        let rows = (0..24 * 60_i64).map(|i| row(i * HOUR / 10, if cheap(i / 10) { 10 } else { 100 }, Some(100)));
        let saving = report(rows.clone(), GroupBy::Key).unwrap().total.saving.unwrap();
        let (low, high) = saving.interval.unwrap();
        assert_eq!(saving.resampled, Resampled::Hours);
        assert!(low < saving.share && saving.share < high);
        let within_an_hour = report(rows.map(|row| CostRow { at_micros: 0, ..row }), GroupBy::Key).unwrap();
        let alone = within_an_hour.total.saving.unwrap();
        assert_eq!((alone.resampled, alone.share), (Resampled::Requests, saving.share));
        let (alone_low, alone_high) = alone.interval.unwrap();
        assert!(alone_high - alone_low < 0.6 * (high - low), "{saving:?} {alone:?}");
        assert_eq!(report([row(0, 1, Some(2))], GroupBy::Key).unwrap().total.saving.unwrap().interval, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Groups add up to the whole, whatever the rows, and an interval lies around its share.
        #[test]
        fn groups_add_up(rows in proptest::collection::vec((0..40 * DAY, 0_i64..1000, proptest::option::of(0_i64..5000), 0..4_u8), 0..300)) {
            let rows = rows.into_iter().map(|(at, cost, counterfactual, key)| CostRow { key: Some(key.to_string()), ..row(at, cost, counterfactual) });
            let found = report(rows, GroupBy::Key).unwrap();
            prop_assert_eq!(found.groups.iter().map(|g| g.requests).sum::<u64>(), found.total.requests);
            prop_assert_eq!(found.groups.iter().map(|g| g.cost).sum::<NanoDollars>(), found.total.cost);
            prop_assert_eq!(found.groups.iter().map(|g| g.saved.0).sum::<i64>(), found.total.saved.0);
            if let Some((low, high)) = found.total.saving.and_then(|saving| saving.interval) {
                prop_assert!(low <= high && high <= 1.0);
            }
        }
    }
}
