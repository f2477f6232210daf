//! Keys: who may ask, and what they have used.

use std::collections::BTreeSet;
use std::time::Duration;

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use bantam_ledger::keys::{KeyId, KeyRecord, NewKey, Scope, Secret};
use bantam_ledger::query::{Group, Sums};
use bantam_ledger::{Amount, Budget, Limits, Period, Timestamp};
use bantam_types::NanoDollars;
use serde::Deserialize;

use super::failure::Failure;
use super::range::Range;
use super::viewer::{Sent, Viewer};
use super::{Frame, format, render};
use crate::routes::MAX_GRACE;

pub(super) const PATH: &str = "/dashboard/keys";

/// Keys that are listed.
const LISTED: usize = 200;

#[derive(Template)]
#[template(path = "dashboard/keys.html")]
struct Page {
    frame: Frame,
    /// A key that has just been made, to be shown this once.
    made: Option<Made>,
    keys: Vec<KeyRow>,
    /// How many there are.
    all: usize,
}

struct Made {
    name: String,
    id: String,
    secret: String,
    /// Whether it takes the place of another.
    rotated: bool,
}

struct KeyRow {
    id: String,
    name: String,
    scopes: String,
    models: String,
    limits: String,
    created: String,
    state: String,
    valid: bool,
    requests: String,
    failed: String,
    tokens: String,
    cost: String,
}

impl KeyRow {
    fn of(key: &KeyRecord, used: Option<&Sums>) -> Self {
        let valid = key.is_valid(Timestamp::now());
        let names = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            scopes: key.scopes.iter().map(|scope| scope_name(*scope)).collect::<Vec<_>>().join(", "),
            models: if key.models.is_empty() { "all".to_owned() } else { names(&key.models) },
            limits: limits(&key.limits),
            created: format::moment(key.created),
            state: match (key.revoked, key.expires) {
                (Some(at), _) => format!("revoked {}", format::moment(at)),
                (None, Some(at)) if !valid => format!("ended {}", format::moment(at)),
                (None, Some(at)) => format!("good until {}", format::moment(at)),
                (None, None) => "good".to_owned(),
            },
            valid,
            requests: format::count(used.map_or(0, |sums| sums.requests)),
            failed: used.map_or("–".to_owned(), |sums| format::share(sums.failed, sums.requests)),
            tokens: format::count(used.map_or(0, |sums| sums.tokens.charged())),
            cost: format::money(used.map_or(NanoDollars::ZERO, |sums| sums.cost)),
        }
    }
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Inference => "inference",
        Scope::Reports => "reports",
        Scope::Admin => "admin",
    }
}

/// Limits in words.
fn limits(limits: &Limits) -> String {
    let mut said = Vec::new();
    said.extend(limits.requests_per_minute.map(|n| format!("{} requests a minute", format::count(n.into()))));
    said.extend(limits.tokens_per_minute.map(|n| format!("{} tokens a minute", format::count(n))));
    said.extend(limits.budgets.iter().map(|budget| {
        let amount = match budget.amount {
            Amount::Money(money) => format::money(money),
            Amount::Tokens(tokens) => format!("{} tokens", format::count(tokens)),
        };
        let period = match budget.period {
            Period::Day => "day",
            Period::Month => "month",
        };
        format!("{amount} a {period}")
    }));
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// The form of a new key. What is empty is not limited.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct New {
    name: String,
    inference: String,
    reports: String,
    admin: String,
    models: String,
    requests_per_minute: String,
    tokens_per_minute: String,
    dollars_per_day: String,
    dollars_per_month: String,
    tokens_per_day: String,
    tokens_per_month: String,
    days: String,
}

fn number<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<Option<T>, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Failure::Field { field, why: "is a whole number, or empty".to_owned() })
}

fn dollars(field: &'static str, text: &str) -> Result<Option<NanoDollars>, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let amount: NanoDollars =
        text.parse().map_err(|e: bantam_types::ParseMoneyError| Failure::Field { field, why: e.to_string() })?;
    if amount.0 < 0 {
        return Err(Failure::Field { field, why: "cannot be negative".to_owned() });
    }
    Ok(Some(amount))
}

impl New {
    fn key(&self) -> Result<NewKey, Failure> {
        if self.name.trim().is_empty() {
            return Err(Failure::Field { field: "name", why: "say whose key it is, or what for".to_owned() });
        }
        let scopes =
            [(Scope::Inference, &self.inference), (Scope::Reports, &self.reports), (Scope::Admin, &self.admin)];
        let scopes: BTreeSet<Scope> =
            scopes.into_iter().filter(|(_, on)| !on.is_empty()).map(|(scope, _)| scope).collect();
        if scopes.is_empty() {
            return Err(Failure::Field { field: "scopes", why: "choose at least one".to_owned() });
        }
        let models = self.models.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
        let money = |period, amount: Option<NanoDollars>| amount.map(|of| Budget { period, amount: Amount::Money(of) });
        let tokens = |period, amount: Option<u64>| amount.map(|of| Budget { period, amount: Amount::Tokens(of) });
        let budgets = [
            money(Period::Day, dollars("dollars a day", &self.dollars_per_day)?),
            money(Period::Month, dollars("dollars a month", &self.dollars_per_month)?),
            tokens(Period::Day, number("tokens a day", &self.tokens_per_day)?),
            tokens(Period::Month, number("tokens a month", &self.tokens_per_month)?),
        ];
        let day = |days: u32| Timestamp::now().plus(Duration::from_secs(u64::from(days) * 86_400));
        Ok(NewKey {
            name: self.name.trim().to_owned(),
            scopes,
            models: models.collect(),
            limits: Limits {
                requests_per_minute: number("requests a minute", &self.requests_per_minute)?,
                tokens_per_minute: number("tokens a minute", &self.tokens_per_minute)?,
                budgets: budgets.into_iter().flatten().collect(),
            },
            expires: number("days", &self.days)?.map(day),
            ..NewKey::default()
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Rotate {
    hours: String,
}

pub(super) async fn page(viewer: Viewer) -> Result<Response, Failure> {
    list(&viewer, None).await
}

async fn list(viewer: &Viewer, made: Option<Made>) -> Result<Response, Failure> {
    let keys = viewer.ledger()?.keys();
    let used = viewer.shared.sums(&viewer.app, Range::Month, Group::Key).await?;
    let of = |key: &KeyRecord| used.iter().find(|sums| sums.group == key.id.as_str());
    Ok(render(&Page {
        frame: viewer.frame("Keys", PATH),
        made,
        all: keys.len(),
        keys: keys.iter().rev().take(LISTED).map(|key| KeyRow::of(key, of(key))).collect(),
    }))
}

/// The list without what the last form did, for who loads that page again.
pub(super) async fn list_again() -> Redirect {
    Redirect::to(PATH)
}

fn made(key: &KeyRecord, secret: &Secret, rotated: bool) -> Option<Made> {
    Some(Made { name: key.name.clone(), id: key.id.to_string(), secret: secret.reveal().to_owned(), rotated })
}

pub(super) async fn create(Sent { viewer, form }: Sent<New>) -> Result<Response, Failure> {
    let new = form.key()?;
    let (key, secret) = viewer.ledger()?.create_key(new).await?;
    tracing::info!(key = %key.id, "a key was made in the dashboard");
    list(&viewer, made(&key, &secret, false)).await
}

pub(super) async fn rotate(Path(id): Path<String>, Sent { viewer, form }: Sent<Rotate>) -> Result<Response, Failure> {
    let hours: u64 = number("hours", &form.hours)?.unwrap_or(0);
    let grace = Duration::from_secs(hours.saturating_mul(3_600));
    if grace > MAX_GRACE {
        let why = format!("at most {}", MAX_GRACE.as_secs() / 3_600);
        return Err(Failure::Field { field: "hours", why });
    }
    let (key, secret) = viewer.ledger()?.rotate_key(&KeyId::from(&*id), grace).await?;
    tracing::info!(key = %key.id, "a key was rotated in the dashboard");
    list(&viewer, made(&key, &secret, true)).await
}

pub(super) async fn revoke(Path(id): Path<String>, Sent { viewer, form: () }: Sent<()>) -> Result<Response, Failure> {
    let key = viewer.ledger()?.revoke_key(&KeyId::from(&*id)).await?;
    tracing::info!(key = %key.id, "a key was revoked in the dashboard");
    Ok(list_again().await.into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_form_becomes_a_key() {
        let form = New {
            name: " app ".into(),
            inference: "on".into(),
            models: "a, b,,".into(),
            dollars_per_day: "2.50".into(),
            tokens_per_month: "1000".into(),
            ..New::default()
        };
        let key = form.key().ok().unwrap();
        assert_eq!((&*key.name, key.scopes.len(), key.models.len()), ("app", 1, 2));
        assert_eq!(limits(&key.limits), "$2.50 a day, 1,000 tokens a month");
        assert_eq!((key.expires, limits(&Limits::default())), (None, "none".to_owned()));
    }

    #[test]
    fn wrong_fields_are_named() {
        let good = || New { name: "app".into(), inference: "on".into(), ..New::default() };
        let wrong = [
            ("name", New { name: " ".into(), ..good() }),
            ("scopes", New { inference: String::new(), ..good() }),
            ("dollars a day", New { dollars_per_day: "much".into(), ..good() }),
            ("dollars a day", New { dollars_per_day: "-1".into(), ..good() }),
            ("tokens a minute", New { tokens_per_minute: "-1".into(), ..good() }),
            ("days", New { days: "1e9".into(), ..good() }),
        ];
        for (field, form) in wrong {
            assert!(form.key().err().unwrap().to_string().starts_with(field), "{field}");
        }
    }
}
