//! The first page: what happens now, what it cost, and whether all is well.

use askama::Template;
use axum::extract::Query;
use axum::response::Response;
use bantam_ledger::keys::KeyId;
use bantam_ledger::{Amount, BudgetUse, Ledger, Period, Timestamp};
use bantam_providers::{BreakerState, TargetSnapshot};
use bantam_types::NanoDollars;
use serde::Deserialize;

use super::audit::Verdict;
use super::cache::patiently;
use super::chart::{Chart, charts};
use super::failure::Failure;
use super::range::Range;
use super::recent::{Recent, Tile};
use super::row::Row;
use super::viewer::Viewer;
use super::{Dashboard, Frame, HOME, format, render};
use crate::app::App;

/// Requests of the table of the last ones.
const LAST: usize = 15;

/// Keys whose budgets are shown.
const KEYS: usize = 50;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    range: String,
}

#[derive(Template)]
#[template(path = "dashboard/overview.html")]
struct Page {
    frame: Frame,
    has_ledger: bool,
    fault: Option<String>,
    now: Now,
    ranges: [(&'static str, &'static str, bool); 4],
    charts: Vec<Chart>,
    total: String,
    budgets: Vec<BudgetRow>,
    upstreams: Vec<UpstreamRow>,
    audit: Option<Verdict>,
}

/// What is sent again when something happens.
#[derive(Template)]
#[template(path = "dashboard/now.html")]
pub(super) struct Now {
    tiles: Vec<Tile>,
    sentence: String,
    /// Requests that are being answered, and places for them.
    running: usize,
    places: usize,
    rows: Vec<Row>,
}

impl Now {
    pub(super) async fn of(app: &App, shared: &Dashboard) -> Result<Self, Failure> {
        let recent = shared.recent(app).await?;
        let rows = app.ledger.as_ref().map(|ledger| recent.0.iter().take(LAST).map(|r| Row::of(ledger, r)).collect());
        let tiles = recent.tiles(Timestamp::now());
        let places = app.config.limits.concurrent_requests;
        Ok(Self {
            sentence: Recent::sentence(&tiles),
            tiles,
            running: places.saturating_sub(app.requests.available_permits()),
            places,
            rows: rows.unwrap_or_default(),
        })
    }
}

struct BudgetRow {
    /// Nothing for all keys together.
    key: Option<(String, String)>,
    period: &'static str,
    used: String,
    reserved: String,
    amount: String,
    percent: String,
    bar: Bar,
}

/// A bar of 100 units: what is spent, and after it what is reserved.
struct Bar {
    spent: f64,
    reserved: f64,
    class: &'static str,
}

impl BudgetRow {
    fn of(key: Option<(String, String)>, used: &BudgetUse) -> Self {
        let shown = |amount: i64| match used.budget.amount {
            Amount::Money(_) => format::money(NanoDollars(amount)),
            Amount::Tokens(_) => format!("{} tokens", format::count(u64::try_from(amount).unwrap_or(0))),
        };
        let whole = match used.budget.amount {
            Amount::Money(money) => money.0,
            Amount::Tokens(tokens) => i64::try_from(tokens).unwrap_or(i64::MAX),
        };
        let share = |part: i64| if whole > 0 { part as f64 / whole as f64 } else { 1.0 };
        let spent = share(used.spent).clamp(0.0, 1.0);
        let class = match spent {
            s if s >= 1.0 => "bad",
            s if s >= 0.8 => "warn",
            _ => "good",
        };
        Self {
            key,
            period: match used.budget.period {
                Period::Day => "day",
                Period::Month => "month",
            },
            used: shown(used.spent),
            reserved: shown(used.reserved),
            amount: shown(whole),
            percent: format::percent(share(used.spent)),
            bar: Bar {
                spent: spent * 100.0,
                reserved: (share(used.reserved) * 100.0).clamp(0.0, 100.0 - spent * 100.0),
                class,
            },
        }
    }
}

struct UpstreamRow {
    name: String,
    state: &'static str,
    class: &'static str,
    in_flight: String,
    waiting: String,
    attempts: String,
    failed: String,
    retries: String,
}

impl UpstreamRow {
    fn of(target: TargetSnapshot) -> Self {
        let totals = target.totals;
        let (state, class) = match target.breaker {
            BreakerState::Open => ("left alone after failures", "bad"),
            BreakerState::HalfOpen => ("tried again after failures", "warn"),
            BreakerState::Closed if !target.healthy => ("fails its health check", "bad"),
            BreakerState::Closed if !target.cooling.is_zero() => ("asked to be left alone for a while", "warn"),
            BreakerState::Closed => ("in use", "good"),
        };
        let failed = totals.failed.saturating_add(totals.faults).saturating_add(totals.limited);
        Self {
            name: target.name,
            state,
            class,
            in_flight: target.in_flight.to_string(),
            waiting: target.waiting.to_string(),
            attempts: format::count(totals.attempts),
            failed: format!("{} ({})", format::count(failed), format::share(failed, totals.attempts)),
            retries: format::count(totals.retries),
        }
    }
}

async fn budgets(ledger: &Ledger) -> Result<Vec<BudgetRow>, Failure> {
    let mut rows = Vec::new();
    let mut add = |key: Option<(String, String)>, used: Vec<BudgetUse>| {
        rows.extend(used.iter().map(|used| BudgetRow::of(key.clone(), used)));
    };
    add(None, patiently(ledger.budgets(None)).await?);
    let now = Timestamp::now();
    let keys = ledger.keys();
    let limited = keys.iter().rev().filter(|key| key.is_valid(now) && !key.limits.budgets.is_empty());
    for key in limited.take(KEYS) {
        let id: &KeyId = &key.id;
        add(Some((id.to_string(), key.name.clone())), patiently(ledger.budgets(Some(id))).await?);
    }
    Ok(rows)
}

pub(super) async fn page(viewer: Viewer, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let range = Range::of(&asked.range)?;
    let Viewer { app, shared, .. } = &viewer;
    let sums = shared.sums(app, range, range.slice().0).await?;
    let budgets = match &app.ledger {
        Some(ledger) => budgets(ledger).await?,
        None => Vec::new(),
    };
    let total = sums.iter().map(|sums| sums.cost).sum();
    Ok(render(&Page {
        frame: viewer.frame("Overview", HOME),
        has_ledger: app.ledger.is_some(),
        fault: app.ledger.as_ref().and_then(Ledger::fault).map(|fault| fault.to_string()),
        now: Now::of(app, shared).await?,
        ranges: range.choices(),
        charts: charts(range, &sums),
        total: format::money(total),
        budgets,
        upstreams: app.live().upstreams.snapshot().into_iter().map(UpstreamRow::of).collect(),
        audit: app.ledger.is_some().then(|| shared.verification.borrow().verdict()),
    }))
}
