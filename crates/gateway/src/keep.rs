//! Bodies as they are kept on record.

use std::collections::BTreeMap;

use bantam_pii::{Anonymiser, Detectors, Operator, Options, Pseudonyms};
use bantam_providers::wire::texts::{Extent, Part, for_each_text};
use bantam_providers::wire::{Api, SseParser};
use serde_json::{Value, json};

use crate::app::App;
use crate::config::Bodies;
use crate::flow::Asked;

/// A request as it is kept, if it is.
pub(crate) fn request(app: &App, asked: &Asked) -> Option<Vec<u8>> {
    match app.bodies {
        Bodies::None => None,
        Bodies::Encrypted => Some(asked.bytes.to_vec()),
        Bodies::Redacted => redacted(&app.detectors, asked.body.clone(), Part::Request(asked.api)),
    }
}

/// A whole answer as it is kept.
pub(crate) fn answer(app: &App, api: Api, body: &[u8]) -> Option<Vec<u8>> {
    match app.bodies {
        Bodies::None => None,
        Bodies::Encrypted => Some(body.to_vec()),
        Bodies::Redacted => redacted(&app.detectors, serde_json::from_slice(body).ok()?, Part::Answer(api)),
    }
}

/// A stream as it is kept: with its events, or, where something is to be taken out that may be spread over several, its texts put together.
pub(crate) fn events(app: &App, api: Api, sent: &[u8]) -> Option<Vec<u8>> {
    match app.bodies {
        Bodies::None => None,
        Bodies::Encrypted => Some(sent.to_vec()),
        Bodies::Redacted => {
            let mut events = Vec::new();
            SseParser::default().push(sent, &mut events).ok()?;
            let mut texts: BTreeMap<(u8, u64), String> = BTreeMap::new();
            for mut event in events.iter().filter_map(|event| serde_json::from_str::<Value>(&event.data).ok()) {
                for_each_text(&mut event, Part::Event(api), &mut |place, text| {
                    if place.extent != Extent::Whole {
                        texts.entry((place.kind as u8, place.slot)).or_default().push_str(text);
                    }
                });
            }
            let texts: Option<Vec<String>> = texts.values().map(|text| replaced(&app.detectors, text)).collect();
            serde_json::to_vec(&json!({"texts": texts?})).ok()
        }
    }
}

/// A body without what was found in it; nothing if it could not be looked through.
fn redacted(detectors: &Detectors, mut body: Value, part: Part) -> Option<Vec<u8>> {
    let mut all = true;
    for_each_text(&mut body, part, &mut |_, text| match replaced(detectors, text) {
        Some(clean) => *text = clean,
        None => all = false,
    });
    all.then(|| serde_json::to_vec(&body).ok())?
}

fn replaced(detectors: &Detectors, text: &str) -> Option<String> {
    let findings = detectors.detect(text, &Options::default()).ok()?;
    let replace = Anonymiser::all(Operator::Replace { with: None });
    Some(replace.apply(text, &findings, &mut Pseudonyms::new()).ok()?.text)
}
