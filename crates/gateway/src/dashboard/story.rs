//! One request, from its arrival to what was thought of its answer.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use bantam_ledger::query::{FeedbackGiven, Story, Text};
use bantam_ledger::{Attempt, Part, Rating, RequestEntry, Settled};
use uuid::Uuid;

use super::cache::patiently;
use super::failure::Failure;
use super::reasons::{Reason, reasons};
use super::requests;
use super::row::Row;
use super::viewer::Viewer;
use super::{Frame, format, render};

/// Bytes of a body that are shown.
const SHOWN: usize = 64 << 10;

/// Units that the pictures of attempts are wide.
const WIDTH: f64 = 100.0;

#[derive(Template)]
#[template(path = "dashboard/story.html")]
struct Page {
    frame: Frame,
    row: Row,
    settled: &'static str,
    /// Names and what they have, in groups.
    facts: Vec<(&'static str, Vec<(&'static str, String)>)>,
    reasons: Vec<Reason>,
    attempts: Vec<AttemptRow>,
    total: String,
    /// Where in the pictures the first token came.
    first_token: Option<f64>,
    texts: Vec<Kept>,
    erased: Option<String>,
    feedback: Vec<Opinion>,
    cost: Vec<(&'static str, String)>,
    place: Vec<(&'static str, String)>,
}

struct AttemptRow {
    who: String,
    outcome: String,
    class: &'static str,
    latency: String,
    tokens: String,
    cost: String,
    /// Its place in the picture.
    start: f64,
    length: f64,
}

/// A text that was kept.
struct Kept {
    name: &'static str,
    text: String,
    note: String,
}

struct Opinion {
    at: String,
    rating: &'static str,
    accepted: &'static str,
    correction: Option<Kept>,
}

fn kept(name: &'static str, text: &Text) -> Kept {
    match text {
        Text::Plain(bytes) => {
            let whole = bytes.len() <= SHOWN;
            let parsed = if whole { serde_json::from_slice::<serde_json::Value>(bytes).ok() } else { None };
            // Indented, where it is JSON and that does not make it long.
            let indented =
                parsed.and_then(|json| serde_json::to_string_pretty(&json).ok()).filter(|t| t.len() <= 4 * SHOWN);
            let text =
                indented.unwrap_or_else(|| String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned());
            let text = format::visible(&text);
            let size = format!("{} bytes", format::count(bytes.len() as u64));
            let note = if whole {
                size
            } else {
                format!("{size}, of which the first {} are shown", format::count(SHOWN as u64))
            };
            Kept { name, text, note }
        }
        Text::Locked { key } => Kept {
            name,
            text: String::new(),
            note: format!("encrypted with key {key}, which this server has not been given"),
        },
    }
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Subject => "End user",
        Part::Request => "Request",
        Part::Response => "Answer",
        Part::Replay => "What computing the answer again needs",
        Part::Correction => "Correction",
    }
}

fn opinion(given: &FeedbackGiven) -> Opinion {
    Opinion {
        at: format::moment(given.at),
        rating: match given.entry.rating {
            Some(Rating::Good) => "good",
            Some(Rating::Neutral) => "neutral",
            Some(Rating::Bad) => "bad",
            None => "–",
        },
        accepted: match given.entry.accepted {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        },
        correction: given.correction.as_ref().map(|text| kept("Correction", text)),
    }
}

/// Attempts are made one after another: each begins where the one before has ended.
fn attempts(entry: &RequestEntry) -> Vec<AttemptRow> {
    let taken = entry.attempts.iter().fold(0u64, |sum, attempt| sum.saturating_add(attempt.latency_us));
    let whole = entry.latency_us.max(taken).max(1) as f64;
    let mut passed = 0u64;
    let row = |attempt: &Attempt| {
        let start = passed as f64 / whole * WIDTH;
        passed = passed.saturating_add(attempt.latency_us);
        let worked = attempt.error.is_none() && attempt.status.is_some_and(|status| status < 400);
        let (status, error) = (attempt.status.map(|status| status.to_string()), attempt.error.as_deref());
        AttemptRow {
            who: format!("{}/{}", attempt.provider, attempt.model),
            outcome: match (status, error) {
                (Some(status), Some(error)) => format!("{status} {error}"),
                (Some(status), None) => status,
                (None, Some(error)) => error.to_owned(),
                (None, None) => "no answer".to_owned(),
            },
            class: if worked { "good" } else { "bad" },
            latency: format::micros(attempt.latency_us),
            tokens: format!("{} / {}", format::count(attempt.tokens.input), format::count(attempt.tokens.output)),
            cost: format::money(attempt.cost),
            start,
            // What is shorter than can be seen is seen all the same.
            length: (attempt.latency_us as f64 / whole * WIDTH).max(0.6).min(WIDTH - start.min(WIDTH - 0.6)),
        }
    };
    entry.attempts.iter().map(row).collect()
}

fn facts(story: &Story, row: &Row) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let entry = &story.recorded.entry;
    let or_none = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    let digest = |text: &Option<String>| text.as_deref().map_or("–".to_owned(), str::to_owned);
    let tokens = &entry.tokens;
    vec![
        (
            "Asked",
            vec![
                ("Arrived (UTC)", format::moment(entry.arrived)),
                ("API", entry.surface.clone()),
                ("Model asked for", or_none(&row.asked)),
                ("Route", or_none(&row.route)),
                ("Key", or_none(&row.key)),
                ("End user", story.subject.as_deref().map_or("–".to_owned(), format::visible)),
                ("Stream", if entry.streamed { "yes" } else { "no" }.to_owned()),
            ],
        ),
        (
            "Answered",
            vec![
                (
                    "By",
                    if row.provider.is_empty() {
                        "nobody".to_owned()
                    } else {
                        format!("{} / {}", row.provider, row.model)
                    },
                ),
                ("Digest of the model", digest(&entry.model_digest)),
                ("Digest of the adapter", digest(&entry.adapter_digest)),
                ("First token after", entry.first_token_us.map_or("–".to_owned(), format::micros)),
                ("Ended after", format::micros(entry.latency_us)),
                ("Why it ended", entry.stop.clone().unwrap_or_else(|| "–".to_owned())),
            ],
        ),
        (
            "Tokens",
            vec![
                ("Prompt", format::count(tokens.input)),
                ("of which from a cache", format::count(tokens.cached)),
                ("of which put into a cache", format::count(tokens.cache_written)),
                ("Answer", format::count(tokens.output)),
                ("of which reasoning", format::count(tokens.reasoning)),
                ("Charged to budgets", format::count(entry.charged_tokens)),
                ("Reserved before", format::count(entry.reserved_tokens)),
            ],
        ),
    ]
}

fn cost(entry: &RequestEntry) -> Vec<(&'static str, String)> {
    let without = entry.counterfactual;
    vec![
        ("Cost", format::money(entry.cost)),
        ("Without routing", without.map_or("not known".to_owned(), format::money)),
        ("Saving", without.map_or("–".to_owned(), |without| format::saving(without.minus(entry.cost), without))),
        ("Reserved before", format::money(entry.reserved_cost)),
    ]
}

pub(super) async fn page(viewer: Viewer, Path(id): Path<String>) -> Result<Response, Failure> {
    let ledger = viewer.ledger()?;
    let unknown = || Failure::NotFound { why: "There is no such request in the ledger.".to_owned() };
    let id: Uuid = id.parse().map_err(|_| unknown())?;
    let reading = ledger.reading();
    let story = patiently(reading.story(id)).await?;
    let (entry, receipt) = (&story.recorded.entry, &story.recorded.receipt);
    let row = Row::of(ledger, &story.recorded);
    let whole =
        entry.attempts.iter().map(|a| a.latency_us).fold(0u64, u64::saturating_add).max(entry.latency_us).max(1);
    Ok(render(&Page {
        frame: viewer.frame("A request", requests::PATH),
        settled: match entry.settled {
            Settled::Finished => "Its outcome was reported.",
            Settled::Refused => "It was not admitted: nothing was asked of a model.",
            Settled::Abandoned => "Nobody reported an outcome; it was charged with what was reserved.",
            Settled::Interrupted => {
                "The process died before its outcome was known; it was charged with what was reserved."
            }
        },
        facts: facts(&story, &row),
        reasons: reasons(&entry.decision),
        attempts: attempts(entry),
        total: format::micros(whole),
        first_token: entry.first_token_us.map(|first| (first as f64 / whole as f64 * WIDTH).min(WIDTH)),
        texts: story.bodies.iter().map(|(part, text)| kept(part_name(*part), text)).collect(),
        erased: story.erased.map(|(chain, seq)| format!("entry {seq} of chain {chain}")),
        feedback: story.feedback.iter().map(opinion).collect(),
        cost: cost(entry),
        place: vec![
            ("Entry", format!("{} of chain {}", format::count(receipt.seq), receipt.chain)),
            ("Written (UTC)", format::moment(receipt.at)),
            ("Hash", receipt.hash.to_string()),
        ],
        row,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn attempts_follow_each_other_within_the_picture() {
        let json = serde_json::json!({
            "v": 1, "settled": "finished", "arrived": 0, "day": 0, "surface": "chat", "asked": "m", "status": 200,
            "tokens": {"input": 0, "cached": 0, "cache_written": 0, "output": 0, "reasoning": 0}, "charged_tokens": 0,
            "latency_us": 1000, "reserved_cost": 0, "reserved_tokens": 0, "cost": 0, "streamed": false,
        });
        let mut entry: RequestEntry = serde_json::from_value(json).unwrap();
        assert!(attempts(&entry).is_empty());
        let attempt = |latency_us, status| Attempt { latency_us, status, ..Attempt::default() };
        entry.attempts = vec![attempt(250, Some(503)), attempt(0, None), attempt(700, Some(200))];
        let rows = attempts(&entry);
        assert_eq!((rows[0].start, rows[0].length, rows[0].class), (0.0, 25.0, "bad"));
        assert_eq!((rows[1].start, &*rows[1].outcome), (25.0, "no answer"));
        assert_eq!((rows[2].start, rows[2].length, rows[2].class), (25.0, 70.0, "good"));
        // Attempts that took longer than the whole, by another clock.
        entry.attempts = vec![attempt(u64::MAX, None), attempt(u64::MAX, None)];
        for row in attempts(&entry) {
            assert!(row.start + row.length <= WIDTH + 1.0, "{} {}", row.start, row.length);
        }
    }

    #[test]
    fn bodies_are_shown_as_text_up_to_a_bound() {
        let long = kept("Request", &Text::Plain(vec![b'x'; SHOWN + 1]));
        assert_eq!(long.text.len(), SHOWN);
        assert!(long.note.contains("of which the first"));
        assert_eq!(kept("Request", &Text::Plain(b"{\"a\":[1]}".to_vec())).text, "{\n  \"a\": [\n    1\n  ]\n}");
        assert!(kept("Answer", &Text::Plain(vec![0xff, b'a'])).text.ends_with('a'));
        assert!(kept("Answer", &Text::Locked { key: "k1".into() }).note.contains("k1"));
    }
}
