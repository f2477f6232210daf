//! Texts of a streamed answer changed on their way, where a change may need to see more than one piece.
//!
//! A pseudonym can be cut between two events. Whoever puts names back holds such an end back until the next piece; when
//! the text ends with something held back, an event is made for it, a copy of the text's last one.

use serde_json::Value;

use super::texts::{Extent, Kind, Part, Place, for_each_text};
use super::{Api, SseEvent};

/// Most texts that are open at a time; of further ones nothing can be held back.
const MAX_OPEN: usize = 1024;

/// Changes one text that comes in pieces.
pub trait Pieces {
    /// Takes a piece and gives what can go out now.
    fn push(&mut self, piece: &str) -> String;
    /// Gives what was held back: the text ends here.
    fn finish(&mut self) -> String;
}

#[derive(Debug)]
struct Open<P> {
    place: Place,
    pieces: P,
    /// The last event that went on with the text.
    name: Option<String>,
    last: Value,
}

/// Changes the texts in the events of one streamed answer, in the API of its client.
#[derive(Debug)]
pub struct Rewriter<P, F> {
    api: Api,
    make: F,
    open: Vec<Open<P>>,
    /// The number of the next event of a Responses stream.
    number: u64,
}

impl<P: Pieces, F: FnMut(Place) -> Option<P>> Rewriter<P, F> {
    /// Changes each text by what `make` gives for it; texts for which it gives nothing stay as they are. Of what a
    /// model thought a stream cannot tell in time whether its server wants it back as it is.
    pub fn new(api: Api, make: F) -> Self {
        Self { api, make, open: Vec::new(), number: 0 }
    }

    /// Takes the next event and appends those to send.
    pub fn push(&mut self, event: SseEvent, out: &mut Vec<SseEvent>) {
        let Ok(mut value) = serde_json::from_str::<Value>(&event.data) else {
            // `[DONE]`
            self.finish(out);
            out.push(event);
            return;
        };
        let part = Part::Event(self.api);
        let mut touched = Vec::new();
        for_each_text(&mut value, part, &mut |place, _| touched.push(place));
        let ends = Ends::of(self.api, &value);
        self.flush(|place| ends.has(place) && !touched.contains(&place), out);
        let before = value.clone();
        for_each_text(&mut value, part, &mut |place, text| self.change(place, text, ends.has(place)));
        for open in self.open.iter_mut().filter(|open| touched.contains(&open.place)) {
            open.name.clone_from(&event.event);
            open.last = before.clone();
        }
        self.emit(event.event, value, out);
    }

    /// Appends what was held back: no event follows.
    pub fn finish(&mut self, out: &mut Vec<SseEvent>) {
        self.flush(|_| true, out);
    }

    fn change(&mut self, place: Place, text: &mut String, ends: bool) {
        let at = match self.open.iter().position(|open| open.place == place) {
            Some(at) => at,
            None => {
                let Some(mut pieces) = (self.make)(place) else { return };
                if place.extent == Extent::Whole || ends || self.open.len() == MAX_OPEN {
                    *text = pieces.push(text) + &pieces.finish();
                    return;
                }
                self.open.push(Open { place, pieces, name: None, last: Value::Null });
                self.open.len() - 1
            }
        };
        *text = self.open[at].pieces.push(text);
        if ends {
            *text += &self.open.swap_remove(at).pieces.finish();
        }
    }

    fn flush(&mut self, ends: impl Fn(Place) -> bool, out: &mut Vec<SseEvent>) {
        let (ended, open) = std::mem::take(&mut self.open).into_iter().partition(|open| ends(open.place));
        self.open = open;
        let ended: Vec<Open<P>> = ended;
        for mut text in ended {
            let mut tail = text.pieces.finish();
            if tail.is_empty() {
                continue;
            }
            for_each_text(&mut text.last, Part::Event(self.api), &mut |place, piece| {
                *piece = if place == text.place { std::mem::take(&mut tail) } else { String::new() };
            });
            for choice in text.last.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(logprobs) = choice.get_mut("logprobs") {
                    *logprobs = Value::Null;
                }
            }
            self.emit(text.name, text.last, out);
        }
    }

    fn emit(&mut self, name: Option<String>, mut value: Value, out: &mut Vec<SseEvent>) {
        // An event more moves the numbers of all that follow.
        if self.api == Api::Responses
            && let Some(number) = value.get_mut("sequence_number")
        {
            *number = self.number.into();
            self.number += 1;
        }
        out.push(SseEvent { event: name, data: value.to_string() });
    }
}

/// The texts that end with an event.
enum Ends {
    None,
    All,
    /// Those of these answers, blocks or items.
    Of(Vec<u64>, Api),
}

impl Ends {
    fn of(api: Api, event: &Value) -> Self {
        let number = |key: &str| event.get(key).and_then(Value::as_u64);
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        match api {
            _ if event.get("error").is_some_and(|e| !e.is_null()) => Self::All,
            Api::Messages => match kind {
                "content_block_stop" => Self::Of(number("index").into_iter().collect(), api),
                "message_delta" | "message_stop" => Self::All,
                _ => Self::None,
            },
            Api::Responses if kind.ends_with(".delta") => Self::None,
            Api::Responses => number("output_index").map_or(Self::All, |index| Self::Of(vec![index], api)),
            _ => {
                let choices = event.get("choices").and_then(Value::as_array).into_iter().flatten();
                let ended = choices.filter(|choice| choice.get("finish_reason").is_some_and(|f| !f.is_null()));
                Self::Of(ended.filter_map(|c| c.get("index").and_then(Value::as_u64).or(Some(0))).collect(), api)
            }
        }
    }

    fn has(&self, place: Place) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Of(ended, api) => {
                let group = match api {
                    Api::Messages => place.slot,
                    Api::Responses => place.slot >> 32,
                    _ if place.kind == Kind::ToolArguments => place.slot >> 32,
                    _ => place.slot,
                };
                ended.contains(&group)
            }
        }
    }
}
