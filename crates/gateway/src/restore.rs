//! Putting back what pseudonyms stand for, in whole answers and in streams.

use std::sync::Arc;

use bantam_pii::{Place as Within, Pseudonyms, Restorer};
use bantam_providers::wire::Api;
use bantam_providers::wire::rewrite::{Pieces, Rewriter};
use bantam_providers::wire::texts::{Extent, Kind, Part, Place, for_each_text};
use serde_json::Value;

/// Restores a whole answer.
pub(crate) fn whole(pseudonyms: &Pseudonyms, api: Api, answer: &mut Value) {
    for_each_text(answer, Part::Answer(api), &mut |place, text| {
        if may_change(place.kind) {
            // Arguments are shown as the strings in them.
            *text = Restorer::whole(pseudonyms, Within::Text, text);
        }
    });
}

/// Restores a stream in its client's API.
pub(crate) type Restoring = Rewriter<Text, Box<dyn FnMut(Place) -> Option<Text> + Send>>;

/// Restores the texts of a stream.
pub(crate) fn stream(pseudonyms: Arc<Pseudonyms>, api: Api) -> Restoring {
    let make = move |place: Place| {
        let within = if place.extent == Extent::JsonDelta { Within::Json } else { Within::Text };
        may_change(place.kind).then(|| Text(Restorer::new(Arc::clone(&pseudonyms), within)))
    };
    Rewriter::new(api, Box::new(make))
}

/// One of a stream's texts.
pub(crate) struct Text(Restorer<Arc<Pseudonyms>>);

impl Pieces for Text {
    fn push(&mut self, piece: &str) -> String {
        self.0.push(piece)
    }

    fn finish(&mut self) -> String {
        self.0.finish()
    }
}

/// What a server wants back unchanged must stay as it is.
fn may_change(kind: Kind) -> bool {
    !matches!(kind, Kind::SignedReasoning | Kind::Reasoning)
}
