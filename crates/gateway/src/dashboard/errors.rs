//! What went wrong lately, and where.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::Query;
use axum::response::Response;
use bantam_ledger::query::Filter;
use bantam_ledger::{Recorded, Settled};
use serde::Deserialize;

use super::cache::patiently;
use super::failure::Failure;
use super::range::Range;
use super::row::{Row, Status};
use super::viewer::Viewer;
use super::{Frame, format, render};

pub(super) const PATH: &str = "/dashboard/errors";

/// Failed requests that are looked at.
const MOST: u32 = 1_000;

/// Failed requests that are listed one by one.
const LISTED: usize = 25;

/// Kinds of failure that are listed.
const KINDS: usize = 100;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    range: String,
}

#[derive(Template)]
#[template(path = "dashboard/errors.html")]
struct Page {
    frame: Frame,
    ranges: [(&'static str, &'static str, bool); 4],
    summary: String,
    kinds: Vec<Kind>,
    rows: Vec<Row>,
}

/// Failures of one kind.
struct Kind {
    error: String,
    /// The style sheet's name for it.
    class: &'static str,
    /// Who was asked, or the route where nobody was.
    place: String,
    count: String,
    last: String,
    id: String,
}

/// What a failure is called, and where it was: at who was asked last, or on the route.
fn kind(request: &Recorded) -> (String, String) {
    let entry = &request.entry;
    let error = match (entry.settled, &entry.error) {
        (Settled::Abandoned, _) => "abandoned".to_owned(),
        (Settled::Interrupted, _) => "interrupted".to_owned(),
        (_, Some(error)) => format!("{} {error}", entry.status),
        (_, None) => entry.status.to_string(),
    };
    let place = match entry.attempts.last() {
        Some(attempt) => format!("{}/{}", attempt.provider, attempt.model),
        None => entry.route.as_ref().map_or_else(|| "before routing".to_owned(), |route| format!("route {route}")),
    };
    (error, place)
}

/// Failures by kind, the most frequent first. They come the newest first.
fn kinds(failures: &[Recorded]) -> Vec<Kind> {
    let mut found: BTreeMap<(String, String), (u64, &Recorded)> = BTreeMap::new();
    for request in failures {
        found.entry(kind(request)).or_insert((0, request)).0 += 1;
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let row = |((error, place), (count, last)): ((String, String), (u64, &Recorded))| Kind {
        error,
        class: Status::of(last).class,
        place,
        count: format::count(count),
        last: format::moment(last.entry.arrived),
        id: last.id.to_string(),
    };
    found.into_iter().take(KINDS).map(row).collect()
}

pub(super) async fn page(viewer: Viewer, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let ledger = viewer.ledger()?;
    let range = Range::of(&asked.range)?;
    let reading = ledger.reading();
    let from = Filter { from: Some(range.start()), ..Filter::default() };
    // Whoever has no outcome has no status either.
    let filters = [
        Filter { status_from: Some(400), ..from.clone() },
        Filter { settled: Some(Settled::Abandoned), ..from.clone() },
        Filter { settled: Some(Settled::Interrupted), ..from },
    ];
    let mut failures = Vec::new();
    for filter in &filters {
        failures.extend(patiently(reading.requests(filter, None, MOST)).await?);
    }
    failures.sort_by_key(|request| std::cmp::Reverse(request.id));
    failures.dedup_by_key(|request| request.id);
    let cut = failures.len() >= MOST as usize;
    let count = format::count(failures.len() as u64);
    let summary = match failures.len() {
        0 => format!("No request failed in {}.", range.words()),
        _ if cut => {
            format!("In {}, at least {count} requests failed; the last ones are looked at here.", range.words())
        }
        _ => format!("In {}, {count} requests failed.", range.words()),
    };
    Ok(render(&Page {
        frame: viewer.frame("Errors", PATH),
        ranges: range.choices(),
        summary,
        kinds: kinds(&failures),
        rows: failures.iter().take(LISTED).map(|request| Row::of(ledger, request)).collect(),
    }))
}
