//! What becomes of the requests of each route.
//!
//! A route's counters are found once, when the configuration is read: a request adds to them without a lock and without looking a name up in a
//! table that others write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bantam_ledger::Outcome;
use bantam_types::NanoDollars;
use metrics::{Counter, Histogram, Label};

use super::Metrics;
use super::text::{Family, Kind, Text};
use crate::observe::CLIENT_LEFT;

pub(super) const REQUESTS: &str = "bantam_route_requests_total";
pub(super) const ANSWERS: &str = "bantam_route_answers_total";
pub(super) const DURATION: &str = "bantam_route_request_duration_seconds";
pub(super) const FIRST_TOKEN: &str = "bantam_route_time_to_first_token_seconds";
pub(super) const INPUT: &str = "bantam_route_input_tokens_total";
pub(super) const CACHED: &str = "bantam_route_cached_input_tokens_total";
pub(super) const OUTPUT: &str = "bantam_route_output_tokens_total";

const COST: Family = Family { name: "bantam_cost_dollars_total", kind: Kind::Counter, help: "What answers cost" };
const COMPARED: Family = Family {
    name: "bantam_compared_cost_dollars_total",
    kind: Kind::Counter,
    help: "What those answers cost whose counterfactual cost is known",
};
const COUNTERFACTUAL: Family = Family {
    name: "bantam_counterfactual_cost_dollars_total",
    kind: Kind::Counter,
    help: "What the same tokens would have cost at the route's baseline; less the compared cost, it is the saving",
};

/// The route of requests for names that there are not.
const UNKNOWN: &str = "unknown";

/// What became of a request.
#[derive(Clone, Copy)]
enum End {
    Ok,
    /// The client asked for what cannot be.
    Invalid,
    /// The policy would not have it leave.
    Policy,
    OverBudget,
    /// A rate, a queue or a number of places was used up.
    Limited,
    /// Nobody elsewhere had a proper answer.
    Upstream,
    Error,
    ClientLeft,
}

/// In the order of [`End`].
const ENDS: [&str; 8] = ["ok", "invalid", "policy", "over_budget", "limited", "upstream", "error", "client_left"];

impl End {
    fn of(status: u16, error: Option<&str>) -> Self {
        match (status, error) {
            (_, None) => Self::Ok,
            (CLIENT_LEFT, _) => Self::ClientLeft,
            (_, Some("policy_refused" | "policy_local_only")) => Self::Policy,
            (_, Some("budget_exceeded")) => Self::OverBudget,
            (_, Some("rate_limit_exceeded" | "too_many_requests" | "queue_full")) => Self::Limited,
            (_, Some("upstream_invalid_request")) => Self::Invalid,
            (_, Some(code)) if code == "no_upstream" || code.starts_with("upstream_") => Self::Upstream,
            (400..=499, _) => Self::Invalid,
            _ => Self::Error,
        }
    }
}

/// Counters of one route, or of one task.
pub(crate) struct RouteMeasures {
    requests: [Counter; ENDS.len()],
    /// Given here, and elsewhere.
    answers: [Counter; 2],
    duration: Histogram,
    first_token: Histogram,
    input: Counter,
    cached: Counter,
    output: Counter,
    /// In nano-dollars.
    cost: AtomicU64,
    compared: AtomicU64,
    counterfactual: AtomicU64,
}

impl RouteMeasures {
    pub(super) fn new(metrics: &Metrics, route: &str) -> Self {
        let label = || Label::new("route", route.to_owned());
        let with = |name, value: &'static str| vec![label(), Label::new(name, value)];
        Self {
            requests: ENDS.map(|end| metrics.counter(REQUESTS, with("outcome", end))),
            answers: ["here", "elsewhere"].map(|by| metrics.counter(ANSWERS, with("by", by))),
            duration: metrics.histogram(DURATION, vec![label()]),
            first_token: metrics.histogram(FIRST_TOKEN, vec![label()]),
            input: metrics.counter(INPUT, vec![label()]),
            cached: metrics.counter(CACHED, vec![label()]),
            output: metrics.counter(OUTPUT, vec![label()]),
            cost: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            counterfactual: AtomicU64::new(0),
        }
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, outcome: &Outcome) {
        let end = End::of(outcome.status, outcome.error.as_deref());
        self.requests[end as usize].increment(1);
        if matches!(end, End::Ok) {
            self.duration.record(outcome.latency);
            self.answers[usize::from(outcome.provider.as_deref() != Some("local"))].increment(1);
        }
        if let Some(first) = outcome.first_token.filter(|_| outcome.streamed) {
            self.first_token.record(first);
        }
        self.input.increment(outcome.tokens.input);
        self.cached.increment(outcome.tokens.cached);
        self.output.increment(outcome.tokens.output);
        let add = |sum: &AtomicU64, cost: NanoDollars| {
            sum.fetch_add(u64::try_from(cost.0).unwrap_or(0), Ordering::Relaxed);
        };
        add(&self.cost, outcome.cost);
        if let Some(counterfactual) = outcome.counterfactual {
            add(&self.compared, outcome.cost);
            add(&self.counterfactual, counterfactual);
        }
    }
}

/// The counters of all names that may be asked for.
#[derive(Default)]
pub(crate) struct Measures {
    by_name: BTreeMap<String, Arc<RouteMeasures>>,
    unknown: Option<Arc<RouteMeasures>>,
}

impl Measures {
    /// Finds or makes the counters of these routes and tasks.
    pub(crate) fn new<'a>(metrics: &Metrics, names: impl Iterator<Item = &'a str>) -> Self {
        let by_name = names.map(|name| (name.to_owned(), metrics.route(name))).collect();
        Self { by_name, unknown: Some(metrics.route(UNKNOWN)) }
    }

    /// Those that a request for this name is counted by.
    pub(crate) fn of(&self, name: &str) -> Option<&Arc<RouteMeasures>> {
        self.by_name.get(name).or(self.unknown.as_ref())
    }
}

/// Writes what the answers of all routes cost.
pub(super) fn write_costs(text: &mut Text, routes: &BTreeMap<String, Arc<RouteMeasures>>) {
    type Sum = fn(&RouteMeasures) -> &AtomicU64;
    let mut write = |family: Family, of: Sum| {
        let dollars = |route: &RouteMeasures| {
            NanoDollars(i64::try_from(of(route).load(Ordering::Relaxed)).unwrap_or(i64::MAX)).dollars()
        };
        text.family(family, routes.iter().map(|(name, route)| ([("route", &**name)], dollars(route))));
    };
    write(COST, |route| &route.cost);
    write(COMPARED, |route| &route.compared);
    write(COUNTERFACTUAL, |route| &route.counterfactual);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_name() {
        for (status, error, name) in [
            (200, None, "ok"),
            (400, Some("invalid_value"), "invalid"),
            (400, Some("upstream_invalid_request"), "invalid"),
            (404, Some("model_not_found"), "invalid"),
            (403, Some("policy_local_only"), "policy"),
            (429, Some("budget_exceeded"), "over_budget"),
            (429, Some("queue_full"), "limited"),
            (429, Some("upstream_rate_limited"), "upstream"),
            (503, Some("no_upstream"), "upstream"),
            (503, Some("ledger_unavailable"), "error"),
            (504, Some("request_timeout"), "error"),
            (CLIENT_LEFT, Some("client_left"), "client_left"),
        ] {
            assert_eq!(ENDS[End::of(status, error) as usize], name, "{status} {error:?}");
        }
    }
}
