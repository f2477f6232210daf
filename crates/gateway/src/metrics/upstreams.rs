//! What is known of servers elsewhere.

use bantam_providers::{BreakerState, TargetSnapshot, Totals};

use super::text::{Family, Kind, Text};

const ATTEMPTS: Family = Family {
    name: "bantam_upstream_attempts_total",
    kind: Kind::Counter,
    help: "Attempts at a target that ended: succeeded (2xx), rejected (4xx), limited (429), failed (5xx), fault (no answer, or one that broke off), cancelled",
};
const FAULTS: Family = Family {
    name: "bantam_upstream_faults_total",
    kind: Kind::Counter,
    help: "Attempts without a whole answer, by what went wrong",
};
const RETRIES: Family = Family {
    name: "bantam_upstream_retries_total",
    kind: Kind::Counter,
    help: "Attempts that repeated one that had failed at the same target",
};
const IN_FLIGHT: Family = Family {
    name: "bantam_upstream_in_flight",
    kind: Kind::Gauge,
    help: "Attempts that run, streams that are read included",
};
const WAITING: Family =
    Family { name: "bantam_upstream_waiting", kind: Kind::Gauge, help: "Requests waiting for a place at a target" };
const BREAKER: Family = Family {
    name: "bantam_upstream_breaker",
    kind: Kind::Gauge,
    help: "1 for the state that a target's breaker is in",
};
const HEALTHY: Family = Family {
    name: "bantam_upstream_healthy",
    kind: Kind::Gauge,
    help: "Whether a target answers its health check; 1 where it has none",
};

type Count = fn(&Totals) -> u64;

/// What becomes of attempts.
const OUTCOMES: [(&str, Count); 6] = [
    ("succeeded", |t| t.succeeded),
    ("rejected", |t| t.rejected),
    ("limited", |t| t.limited),
    ("failed", |t| t.failed),
    ("fault", |t| t.faults),
    ("cancelled", |t| t.cancelled),
];

const STATES: [(&str, BreakerState); 3] =
    [("closed", BreakerState::Closed), ("open", BreakerState::Open), ("half_open", BreakerState::HalfOpen)];

pub(super) fn write(text: &mut Text, targets: &[TargetSnapshot]) {
    let attempts = targets.iter().flat_map(|t| {
        OUTCOMES.iter().map(move |(outcome, of)| ([("target", &*t.name), ("outcome", *outcome)], of(&t.totals)))
    });
    text.family(ATTEMPTS, attempts);
    let faults = targets
        .iter()
        .flat_map(|t| t.fault_kinds.iter().map(move |(kind, count)| ([("target", &*t.name), ("kind", *kind)], *count)));
    text.family(FAULTS, faults);
    text.family(RETRIES, targets.iter().map(|t| ([("target", &*t.name)], t.totals.retries)));
    text.family(IN_FLIGHT, targets.iter().map(|t| ([("target", &*t.name)], t.in_flight)));
    text.family(WAITING, targets.iter().map(|t| ([("target", &*t.name)], t.waiting)));
    let breakers = targets.iter().flat_map(|t| {
        STATES
            .iter()
            .map(move |(name, state)| ([("target", &*t.name), ("state", *name)], u8::from(t.breaker == *state)))
    });
    text.family(BREAKER, breakers);
    text.family(HEALTHY, targets.iter().map(|t| ([("target", &*t.name)], u8::from(t.healthy))));
}
