//! The work to be done, and how one plans for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CostError;
use super::report::CostRow;

/// Days in a month, on average.
pub const DAYS_PER_MONTH: f64 = 365.0 / 12.0;
/// Hours in a month, on average.
pub const HOURS_PER_MONTH: f64 = 24.0 * DAYS_PER_MONTH;
const HOUR: i64 = 3_600_000_000;
/// Most requests a day that are believed: 100,000 a second.
const MAX_REQUESTS: f64 = 8.64e9;

/// What is asked, on average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Requests in a day.
    pub requests_per_day: f64,
    /// Tokens of a prompt.
    pub input_tokens: f64,
    /// Tokens of an answer.
    pub output_tokens: f64,
    /// Share of the prompts' tokens that stand at the beginning of earlier prompts, too, and are not computed again.
    #[serde(default)]
    pub cached_share: f64,
    /// How many times as many requests as on average the busiest hour has.
    #[serde(default = "default_peak")]
    pub peak_factor: f64,
    /// Seconds after which an answer must be complete; absent if a day later will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_s: Option<f64>,
    /// Share of the requests that a small model passes on to the baseline, because its answer is not sure enough.
    #[serde(default)]
    pub escalated_share: f64,
}

fn default_peak() -> f64 {
    4.0
}

/// How one plans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Share of a machine's measured speed that the busiest hour may use; the rest keeps queues short.
    pub peak_utilisation: f64,
    /// The same for work that may wait.
    pub batch_utilisation: f64,
    /// Machines beyond those that are needed, so that one may fail.
    pub spare_machines: u32,
    /// Hours of work to set up machines of one's own.
    pub setup_hours: f64,
    /// Hours of work that they take each month.
    pub upkeep_hours: f64,
    /// What an hour of work costs, in dollars.
    pub work_hour_dollars: f64,
    /// What fine-tuning costs once, in dollars: labels, machines, trials.
    pub tuning_dollars: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            peak_utilisation: 0.7,
            batch_utilisation: 0.9,
            spare_machines: 0,
            setup_hours: 16.0,
            upkeep_hours: 2.0,
            work_hour_dollars: 80.0,
            tuning_dollars: 0.0,
        }
    }
}

impl Plan {
    /// What machines of one's own cost once.
    #[must_use]
    pub fn one_off_dollars(&self) -> f64 {
        self.setup_hours * self.work_hour_dollars + self.tuning_dollars
    }

    /// What they cost each month beside themselves.
    #[must_use]
    pub fn upkeep_dollars(&self) -> f64 {
        self.upkeep_hours * self.work_hour_dollars
    }
}

/// Work and plan, as a file has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What is asked.
    pub workload: Workload,
    /// How one plans.
    #[serde(default)]
    pub plan: Plan,
}

impl Scenario {
    /// Reads and checks a file's text; `origin` names it in errors.
    ///
    /// # Errors
    /// If it is not TOML, has an unknown, missing or mistyped key, or a value that cannot work.
    pub fn parse(text: &str, origin: &str) -> Result<Self, CostError> {
        let syntax = |e: toml::de::Error| CostError::Syntax { origin: origin.to_owned(), why: e.to_string() };
        let scenario: Self = toml::from_str(text).map_err(syntax)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`CostError::Field`], for the first that cannot work.
    pub fn check(&self) -> Result<(), CostError> {
        let (w, p) = (&self.workload, &self.plan);
        let within = |field: &str, value: f64, low: f64, high: f64| {
            let why = || format!("{value} cannot be; give a number from {low} to {high}");
            if (low..=high).contains(&value) { Ok(()) } else { Err(CostError::field(field, why())) }
        };
        within("requests_per_day", w.requests_per_day, 1.0, MAX_REQUESTS)?;
        within("input_tokens", w.input_tokens, 1.0, 1e7)?;
        within("output_tokens", w.output_tokens, 0.0, 1e7)?;
        within("cached_share", w.cached_share, 0.0, 1.0)?;
        within("peak_factor", w.peak_factor, 1.0, 24.0)?;
        w.latency_s.map_or(Ok(()), |s| within("latency_s", s, 1e-3, 86_400.0))?;
        within("escalated_share", w.escalated_share, 0.0, 1.0)?;
        within("peak_utilisation", p.peak_utilisation, 0.01, 1.0)?;
        within("batch_utilisation", p.batch_utilisation, 0.01, 1.0)?;
        within("spare_machines", f64::from(p.spare_machines), 0.0, 1000.0)?;
        within("setup_hours", p.setup_hours, 0.0, 1e5)?;
        within("upkeep_hours", p.upkeep_hours, 0.0, 1e5)?;
        within("work_hour_dollars", p.work_hour_dollars, 0.0, 1e4)?;
        within("tuning_dollars", p.tuning_dollars, 0.0, 1e9)
    }
}

impl Workload {
    /// So many requests with such prompts and answers, and everything else as usual.
    #[must_use]
    pub fn new(requests_per_day: f64, input_tokens: f64, output_tokens: f64) -> Self {
        Self {
            requests_per_day,
            input_tokens,
            output_tokens,
            cached_share: 0.0,
            peak_factor: default_peak(),
            latency_s: None,
            escalated_share: 0.0,
        }
    }
}

/// Least hours between the first and the last recorded request for a workload: an hour has no busiest one, and minutes say nothing of a day.
pub const MIN_HOURS: f64 = 2.0;

/// Requests that were recorded, on the way to being a workload. Those that failed are counted, and left out.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Requests by hour since 1970.
    hours: BTreeMap<i64, u64>,
    seen: Seen,
    input: f64,
    cached: f64,
    output: f64,
}

/// What a workload was taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The first and last request that did not fail, in microseconds since 1970 UTC.
    pub between: Option<(i64, i64)>,
    /// Requests that did not fail.
    pub requests: u64,
    /// Requests that did, which are left out.
    pub failed: u64,
}

impl Seen {
    /// Hours from the first request to the last.
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.between.map_or(0.0, |(first, last)| last.saturating_sub(first) as f64 / HOUR as f64)
    }
}

impl Recording {
    /// One more request.
    pub fn add(&mut self, row: &CostRow) {
        if row.failed {
            self.seen.failed += 1;
            return;
        }
        let at = row.at_micros;
        self.seen.requests += 1;
        self.seen.between = Some(self.seen.between.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        *self.hours.entry(at.div_euclid(HOUR)).or_default() += 1;
        self.input += row.tokens.input as f64;
        self.cached += row.tokens.cached.min(row.tokens.input) as f64;
        self.output += row.tokens.output as f64;
    }

    /// What has been added.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        self.seen
    }

    /// The work, at the rate from the first request to the last, with the busiest hour of the clock. Nothing where those are less than
    /// [`MIN_HOURS`] apart, or no prompt has tokens.
    #[must_use]
    pub fn workload(&self) -> Option<Workload> {
        let (span, requests) = (self.seen.hours(), self.seen.requests as f64);
        if span < MIN_HOURS || self.input <= 0.0 {
            return None;
        }
        // Both ends of the span are requests: one of them counts.
        let per_hour = (requests - 1.0) / span;
        let busiest = self.hours.values().copied().max().unwrap_or(0) as f64;
        let mean = |tokens: f64| tokens / requests;
        Some(Workload {
            cached_share: self.cached / self.input,
            peak_factor: (busiest / per_hour).clamp(1.0, 24.0),
            ..Workload::new((per_hour * 24.0).clamp(1.0, MAX_REQUESTS), mean(self.input).max(1.0), mean(self.output))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TokenCounts;

    #[test]
    fn recorded_work_has_its_own_averages_and_busiest_hour() {
        let row = |minute: i64| CostRow {
            at_micros: minute * HOUR / 60,
            tokens: TokenCounts { input: 100, cached: 25, output: 7, ..TokenCounts::default() },
            ..CostRow::default()
        };
        let recorded = |minutes: &[i64]| {
            let mut recording = Recording::default();
            minutes.iter().for_each(|minute| recording.add(&row(*minute)));
            // Left out, whenever they came.
            [-600, 0, 600].iter().for_each(|minute| recording.add(&CostRow { failed: true, ..row(*minute) }));
            assert_eq!((recording.seen().requests, recording.seen().failed), (minutes.len() as u64, 3));
            recording.workload()
        };
        // 8 gaps in 4 hours; the busiest hour of the clock has 6.
        let work = recorded(&[30, 150, 151, 152, 153, 154, 155, 200, 270]).unwrap();
        assert_eq!((work.requests_per_day, work.peak_factor), (48.0, 3.0));
        assert_eq!((work.input_tokens, work.output_tokens, work.cached_share), (100.0, 7.0, 0.25));
        Scenario { workload: work, plan: Plan::default() }.check().unwrap();
        // Minutes are no hours, though they may be of two.
        assert_eq!(recorded(&[58, 59, 60, 61]), None);
        assert_eq!(recorded(&[0, 119]), None);
        assert_eq!(recorded(&[]), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text =
            "[workload]\nrequests_per_day = 10\ninput_tokens = 5\noutput_tokens = 5\n[plan]\nspare_machines = 2\n";
        let scenario = Scenario::parse(text, "w.toml").unwrap();
        assert_eq!((scenario.workload.peak_factor, scenario.plan.spare_machines), (4.0, 2));
        assert_eq!(Scenario::parse(&toml::to_string(&scenario).unwrap(), "again").unwrap(), scenario);
    }
}
