//! Putting back what pseudonyms stand for, in whole answers and in streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use bantam_pii::{Place as Within, Pseudonyms, Restorer};
use bantam_providers::wire::texts::{Extent, Kind, Part, for_each_text};
use bantam_providers::wire::{Api, SseEvent};
use serde_json::Value;

/// Restores a whole answer.
pub(crate) fn whole(pseudonyms: &Pseudonyms, api: Api, answer: &mut Value) {
    for_each_text(answer, Part::Answer(api), &mut |place, text| {
        if may_change(place.kind) {
            *text = Restorer::whole(pseudonyms, within(place.kind, place.extent), text);
        }
    });
}

/// Restores a stream.
pub(crate) struct Restoring {
    pseudonyms: Arc<Pseudonyms>,
    api: Api,
    /// By what kind of text it is and which of them.
    texts: BTreeMap<(u8, u64), Text>,
}

/// One of a stream's texts.
struct Text {
    restorer: Restorer<Arc<Pseudonyms>>,
    /// The last event that had a piece of it: what is left at its end goes out in one like it.
    last: Value,
}

impl Restoring {
    pub(crate) fn new(pseudonyms: Arc<Pseudonyms>, api: Api) -> Self {
        Self { pseudonyms, api, texts: BTreeMap::new() }
    }

    /// The events that an event becomes.
    pub(crate) fn push(&mut self, event: SseEvent) -> Vec<SseEvent> {
        let Ok(mut value) = serde_json::from_str::<Value>(&event.data) else {
            // `[DONE]`
            let mut out = self.finish();
            out.push(event);
            return out;
        };
        if value.get("type").and_then(Value::as_str) == Some("ping") {
            return vec![event];
        }
        let original = value.clone();
        let (pseudonyms, texts) = (&self.pseudonyms, &mut self.texts);
        let mut pieces = 0;
        for_each_text(&mut value, Part::Event(self.api), &mut |place, text| {
            if !may_change(place.kind) {
                return;
            }
            let within = within(place.kind, place.extent);
            if place.extent == Extent::Whole {
                *text = Restorer::whole(&**pseudonyms, within, text);
                return;
            }
            pieces += 1;
            let entry = texts
                .entry((place.kind as u8, place.slot))
                .or_insert_with(|| Text { restorer: Restorer::new(Arc::clone(pseudonyms), within), last: Value::Null });
            entry.last.clone_from(&original);
            *text = entry.restorer.push(text);
        });
        let mut out = if pieces == 0 { self.finish() } else { Vec::new() };
        out.push(SseEvent { event: event.event, data: value.to_string() });
        out
    }

    /// What was held back, when the texts have ended.
    fn finish(&mut self) -> Vec<SseEvent> {
        let mut out = Vec::new();
        for ((kind, slot), mut text) in std::mem::take(&mut self.texts) {
            let rest = text.restorer.finish();
            if rest.is_empty() {
                continue;
            }
            for_each_text(&mut text.last, Part::Event(self.api), &mut |place, piece| {
                let same = (place.kind as u8, place.slot) == (kind, slot);
                *piece = if same { rest.clone() } else { String::new() };
            });
            let name = text.last.get("type").and_then(Value::as_str).map(str::to_owned);
            let event = name.filter(|_| matches!(self.api, Api::Messages | Api::Responses));
            out.push(SseEvent { event, data: text.last.to_string() });
        }
        out
    }
}

/// What a server signed must stay as it is.
fn may_change(kind: Kind) -> bool {
    kind != Kind::SignedReasoning
}

fn within(kind: Kind, extent: Extent) -> Within {
    if extent == Extent::JsonDelta || kind == Kind::ToolArguments { Within::Json } else { Within::Text }
}
