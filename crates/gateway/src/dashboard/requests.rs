//! Finding requests.

use askama::Template;
use axum::extract::Query;
use axum::response::Response;
use bantam_ledger::keys::KeyId;
use bantam_ledger::query::Filter;
use bantam_ledger::{Settled, Timestamp};
use chrono::{NaiveDateTime, SubsecRound};
use serde::Deserialize;
use uuid::Uuid;

use super::cache::patiently;
use super::failure::Failure;
use super::range::Range;
use super::row::Row;
use super::viewer::Viewer;
use super::{Frame, download, format, render};

pub(super) const PATH: &str = "/dashboard/requests";

/// Requests on a page.
const ON_PAGE: usize = 50;

/// Keys to choose from.
const KEYS: usize = 200;

/// Longest name that is looked for; the ledger keeps no longer ones.
const LONGEST: usize = 256;

/// The form as it was sent. What is empty does not matter.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    range: String,
    from: String,
    to: String,
    key: String,
    route: String,
    model: String,
    provider: String,
    status: String,
    before: String,
}

/// Ways a request can have ended, as they stand in addresses and as people say them.
const STATUSES: [(&str, &str); 7] = [
    ("", "any"),
    ("400", "failed (400 and more)"),
    ("500", "server errors (500 and more)"),
    ("finished", "finished"),
    ("refused", "not admitted"),
    ("abandoned", "abandoned"),
    ("interrupted", "interrupted by a crash"),
];

#[derive(Template)]
#[template(path = "dashboard/requests.html")]
struct Page {
    frame: Frame,
    asked: Asked,
    ranges: [(&'static str, &'static str, bool); 4],
    statuses: [(&'static str, &'static str, bool); 7],
    keys: Vec<(String, String, bool)>,
    routes: Vec<String>,
    rows: Vec<Row>,
    /// The address of what comes after.
    older: Option<String>,
    /// The address of the first page, on later ones.
    newest: Option<String>,
    /// The addresses of files with all that were found, and how many requests they may have.
    files: [(&'static str, String); 2],
    most: String,
}

impl Asked {
    pub(super) fn filter(&self) -> Result<(Filter, Range), Failure> {
        let range = Range::of(&self.range)?;
        let name = |text: &str, field: &'static str| match text.len() {
            0 => Ok(None),
            1..=LONGEST => Ok(Some(text.to_owned())),
            _ => Err(Failure::Field { field, why: format!("at most {LONGEST} bytes") }),
        };
        let mut filter = Filter {
            from: Some(moment("from", &self.from)?.unwrap_or_else(|| range.start())),
            to: moment("to", &self.to)?,
            key: name(&self.key, "key")?.map(|key| KeyId::from(&*key)),
            route: name(&self.route, "route")?,
            model: name(&self.model, "model")?,
            provider: name(&self.provider, "provider")?,
            ..Filter::default()
        };
        match &*self.status {
            "" => {}
            "400" => filter.status_from = Some(400),
            "500" => filter.status_from = Some(500),
            "finished" => filter.settled = Some(Settled::Finished),
            "refused" => filter.settled = Some(Settled::Refused),
            "abandoned" => filter.settled = Some(Settled::Abandoned),
            "interrupted" => filter.settled = Some(Settled::Interrupted),
            _ => return Err(Failure::Field { field: "status", why: "is none of those to choose from".to_owned() }),
        }
        Ok((filter, range))
    }

    /// The address of the same question at another place, from another request on.
    fn address(&self, path: &str, before: &str) -> String {
        let fields = [
            ("range", &self.range),
            ("from", &self.from),
            ("to", &self.to),
            ("key", &self.key),
            ("route", &self.route),
            ("model", &self.model),
            ("provider", &self.provider),
            ("status", &self.status),
        ];
        let given = fields.into_iter().map(|(name, value)| (name, value.as_str())).chain([("before", before)]);
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(given.filter(|(_, value)| !value.is_empty()))
            .finish();
        format!("{path}?{query}")
    }
}

/// A day and time as browsers send them, UTC.
fn moment(field: &'static str, text: &str) -> Result<Option<Timestamp>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
        .into_iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let why = || Failure::Field { field, why: "is a day and a time (UTC) such as 2026-03-01T09:30".to_owned() };
    read.map(|at| Some(Timestamp(at.trunc_subsecs(0).and_utc().timestamp_micros()))).ok_or_else(why)
}

pub(super) async fn page(viewer: Viewer, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let ledger = viewer.ledger()?;
    let (filter, range) = asked.filter()?;
    let before = match &*asked.before {
        "" => None,
        id => Some(
            id.parse::<Uuid>()
                .map_err(|_| Failure::Field { field: "before", why: "is the id of a request".to_owned() })?,
        ),
    };
    let reading = ledger.reading();
    // One more than is shown tells whether there are more.
    let mut found = patiently(reading.requests(&filter, before, ON_PAGE as u32 + 1)).await?;
    let more = found.len() > ON_PAGE;
    found.truncate(ON_PAGE);
    let older = found.last().filter(|_| more).map(|last| asked.address(PATH, &last.id.to_string()));
    let keys = ledger.keys();
    let keys = keys.iter().rev().take(KEYS).map(|key| {
        let name = if key.name.is_empty() { key.id.to_string() } else { key.name.clone() };
        (key.id.to_string(), name, key.id.as_str() == asked.key)
    });
    Ok(render(&Page {
        frame: viewer.frame("Requests", PATH),
        ranges: range.choices(),
        statuses: STATUSES.map(|(name, words)| (name, words, name == asked.status)),
        keys: keys.collect(),
        routes: viewer.app.live().routes.names().map(str::to_owned).collect(),
        rows: found.iter().map(|request| Row::of(ledger, request)).collect(),
        older,
        files: [
            ("CSV", asked.address("/dashboard/requests.csv", "")),
            ("JSON lines", asked.address("/dashboard/requests.jsonl", "")),
        ],
        most: format::count(download::MOST as u64),
        newest: before.map(|_| asked.address(PATH, "")),
        asked,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_asked_becomes_a_filter_and_an_address() {
        let asked = Asked {
            from: "2026-03-01T09:30".into(),
            model: "a&b=<c>".into(),
            status: "500".into(),
            ..Asked::default()
        };
        let (filter, _) = asked.filter().ok().unwrap();
        assert_eq!(filter.from.unwrap().to_string(), "2026-03-01T09:30:00.000000Z");
        assert_eq!((filter.model.as_deref(), filter.status_from, filter.to), (Some("a&b=<c>"), Some(500), None));
        assert_eq!(
            asked.address(PATH, "x"),
            "/dashboard/requests?from=2026-03-01T09%3A30&model=a%26b%3D%3Cc%3E&status=500&before=x"
        );
    }

    #[test]
    fn what_cannot_be_asked_is_told_by_its_field() {
        let wrong = [
            ("from", Asked { from: "yesterday".into(), ..Asked::default() }),
            ("range", Asked { range: "year".into(), ..Asked::default() }),
            ("status", Asked { status: "'; drop".into(), ..Asked::default() }),
            ("model", Asked { model: "m".repeat(300), ..Asked::default() }),
        ];
        for (field, asked) in wrong {
            assert!(asked.filter().err().unwrap().to_string().starts_with(field), "{field}");
        }
    }
}
