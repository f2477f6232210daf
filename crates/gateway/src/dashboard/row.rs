//! A request as a line of a table.

use bantam_ledger::keys::KeyId;
use bantam_ledger::{Ledger, Recorded, Settled};

use serde_json::Value;

use super::format;
use super::recent::LOCAL;

pub(super) struct Row {
    pub(super) id: String,
    /// When it arrived, as machines read it.
    pub(super) iso: String,
    pub(super) day: String,
    pub(super) clock: String,
    pub(super) surface: String,
    pub(super) asked: String,
    pub(super) route: String,
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) is_local: bool,
    pub(super) key: String,
    pub(super) status: Status,
    pub(super) latency: String,
    pub(super) tokens: String,
    pub(super) cost: String,
    pub(super) saving: String,
}

/// How a request ended: in words, and by the style sheet's name for it.
pub(super) struct Status {
    pub(super) text: String,
    pub(super) class: &'static str,
}

impl Status {
    pub(super) fn of(request: &Recorded) -> Self {
        let entry = &request.entry;
        let error = entry.error.as_deref();
        let text = match entry.settled {
            Settled::Abandoned => "abandoned".to_owned(),
            Settled::Interrupted => "interrupted".to_owned(),
            _ => error.map_or_else(|| entry.status.to_string(), |error| format!("{} {error}", entry.status)),
        };
        let class = match entry.status {
            _ if super::recent::failed(request) && entry.status < 400 => "bad",
            0..=399 => "good",
            400..=499 => "soft",
            _ => "bad",
        };
        Self { text, class }
    }
}

/// The name of a key, or its id where it has none; empty for requests without one.
pub(super) fn key_name(ledger: &Ledger, key: Option<&KeyId>) -> String {
    let Some(id) = key else { return String::new() };
    match ledger.key(id) {
        Some(record) if !record.name.is_empty() => record.name.clone(),
        _ => id.to_string(),
    }
}

impl Row {
    pub(super) fn of(ledger: &Ledger, request: &Recorded) -> Self {
        let entry = &request.entry;
        let saved = entry.counterfactual.map(|without| format::saving(without.minus(entry.cost), without));
        let (input, output) = (format::count(entry.tokens.input), format::count(entry.tokens.output));
        let moment = format::moment(entry.arrived);
        let text = |text: &Option<String>| text.as_deref().map(format::visible).unwrap_or_default();
        Self {
            id: request.id.to_string(),
            iso: entry.arrived.to_string(),
            day: moment.get(..10).unwrap_or_default().to_owned(),
            clock: format::clock(entry.arrived),
            surface: entry.surface.clone(),
            asked: format::visible(&entry.asked),
            route: text(&entry.route),
            provider: text(&entry.provider),
            model: text(&entry.model),
            is_local: entry.provider.as_deref() == Some(LOCAL),
            key: key_name(ledger, entry.key.as_ref()),
            status: Status::of(request),
            latency: format::micros(entry.latency_us),
            tokens: format!("{input} / {output}"),
            cost: match entry.decision.get("unpriced").and_then(Value::as_bool) {
                Some(true) if entry.cost.0 == 0 => "no price".to_owned(),
                _ => format::money(entry.cost),
            },
            saving: saved.unwrap_or_default(),
        }
    }
}
