//! Rows of outcomes: JSON objects, one a line.
//!
//! | field | meaning |
//! |---|---|
//! | `prompt` or `messages` | what was asked: a text, or messages as in a chat request |
//! | `small_correct`, `large_correct` | whether the model's answer was right: true or false |
//! | `small_score`, `large_score` | in place of those: how good it was, from 0 to 1 |
//! | `small_cost`, `large_cost` | what the answer cost, in any one unit |
//! | `small_mean_logprob`, `small_min_logprob`, `small_tokens` | of the small model's answer: log-probabilities, length |
//! | `small_margin` | between its two likeliest labels, from 0 to 1 |
//! | `small_check` | `passed` or `failed`: a schema, a unit test, a rule |
//!
//! At least one outcome must be there; other fields are let pass.

use std::io::BufRead;

use bantam_stats::head::pair::Outcome;
use bantam_types::openai::Message;
use serde::Deserialize;

use crate::cascade::{Check, SmallAnswer};
use crate::error::RouteError;
use crate::prompt::{Asked, Structure};

/// The longest line.
const MAX_LINE: usize = 4 << 20;
/// From this score on an answer counts as right.
pub const RIGHT: f32 = 0.5;

/// What was asked and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The prompt, as the encoder and the words of the head see it, bounded.
    pub text: String,
    /// How the request is built.
    pub structure: Structure,
    /// How the models did.
    pub outcome: Outcome,
    /// What their answers cost.
    pub costs: Option<Costs>,
    /// What the small model's answer shows of itself, if anything is known.
    pub answer: Option<SmallAnswer>,
}

/// What answers cost, in any one unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// The small model's.
    pub small: f64,
    /// The large model's.
    pub large: f64,
}

impl Row {
    /// A row from a request and what came of it; readers of other sources make theirs with this.
    #[must_use]
    pub fn new(asked: &Asked<'_>, outcome: Outcome) -> Self {
        Self { text: asked.text.clone().into_owned(), structure: asked.structure(), outcome, costs: None, answer: None }
    }

    /// Whether both models were tried.
    #[must_use]
    pub fn is_pair(&self) -> bool {
        self.outcome.gain().is_some()
    }

    /// Whether the small model's answer is a loss: it is wrong where the large model's is right.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        self.outcome.small.is_some_and(|score| score < RIGHT) && self.outcome.large.is_some_and(|score| score >= RIGHT)
    }
}

#[derive(Deserialize)]
struct Line {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    small_correct: Option<bool>,
    large_correct: Option<bool>,
    small_score: Option<f32>,
    large_score: Option<f32>,
    small_cost: Option<f64>,
    large_cost: Option<f64>,
    small_mean_logprob: Option<f64>,
    small_min_logprob: Option<f64>,
    small_tokens: Option<u64>,
    small_margin: Option<f64>,
    small_check: Option<Check>,
}

/// The rows of a JSONL file, one by one; empty lines are passed over.
pub fn read(reader: impl BufRead) -> impl Iterator<Item = Result<Row, RouteError>> {
    let mut lines = BoundedLines { reader, line: 0, over: false };
    std::iter::from_fn(move || {
        loop {
            let bytes = match lines.next()? {
                Ok(bytes) => bytes,
                Err(problem) => return Some(Err(RouteError::Row { line: lines.line, problem })),
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Some(parse(&bytes).map_err(|problem| RouteError::Row { line: lines.line, problem }));
        }
    })
}

struct BoundedLines<R> {
    reader: R,
    line: usize,
    over: bool,
}

impl<R: BufRead> Iterator for BoundedLines<R> {
    type Item = Result<Vec<u8>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        self.line += 1;
        let mut bytes = Vec::new();
        let limit = (MAX_LINE + 1) as u64;
        let read = std::io::Read::take(&mut self.reader, limit).read_until(b'\n', &mut bytes);
        let fault = match read {
            Ok(0) => {
                self.over = true;
                return None;
            }
            Ok(n) if n > MAX_LINE => format!("is longer than {MAX_LINE} bytes"),
            Ok(_) => return Some(Ok(bytes)),
            Err(error) => format!("cannot be read: {error}"),
        };
        self.over = true;
        Some(Err(fault))
    }
}

fn parse(bytes: &[u8]) -> Result<Row, String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let asked = match (&line.prompt, &line.messages) {
        (Some(prompt), None) => Asked::prompt(prompt),
        (None, Some(messages)) => Asked::messages(messages),
        _ => return Err("give `prompt` or `messages`, one of the two".into()),
    };
    if asked.text.trim().is_empty() {
        return Err("`prompt` is empty".into());
    }
    let score = |name: &str, correct: Option<bool>, score: Option<f32>| match (correct, score) {
        (Some(_), Some(_)) => Err(format!("give `{name}_correct` or `{name}_score`, not both")),
        (Some(correct), None) => Ok(Some(f32::from(u8::from(correct)))),
        (None, Some(score)) if (0.0..=1.0).contains(&score) => Ok(Some(score)),
        (None, Some(score)) => Err(format!("`{name}_score` is {score}, but it must be from 0 to 1")),
        (None, None) => Ok(None),
    };
    let outcome = Outcome {
        small: score("small", line.small_correct, line.small_score)?,
        large: score("large", line.large_correct, line.large_score)?,
    };
    if outcome == Outcome::default() {
        return Err("has no outcome: give `small_correct`, `large_correct` or both".into());
    }
    let costs = match (line.small_cost, line.large_cost) {
        (None, None) => None,
        (Some(small), Some(large)) if small >= 0.0 && large >= 0.0 && small.is_finite() && large.is_finite() => {
            Some(Costs { small, large })
        }
        _ => return Err("give `small_cost` and `large_cost`, both from 0 up, or neither".into()),
    };
    let answer = SmallAnswer {
        mean_logprob: line.small_mean_logprob,
        min_logprob: line.small_min_logprob,
        tokens: line.small_tokens,
        margin: line.small_margin,
        check: line.small_check,
    };
    answer.check_finite().map_err(|field| format!("`small_{field}` is not a finite number"))?;
    Ok(Row { costs, answer: answer.is_known().then_some(answer), ..Row::new(&asked, outcome) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Result<Row, String>> {
        read(text.as_bytes()).map(|row| row.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn rows_are_read_and_faults_named() {
        let rows = all(concat!(
            "{\"prompt\": \"p\", \"small_correct\": true, \"large_score\": 0.25, \"more\": 1}\n\n",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"m\"}], \"large_correct\": false, \"small_cost\": 1, \"large_cost\": 2}\n",
            "{\"prompt\": \"p\", \"small_correct\": false, \"large_correct\": true, \"small_mean_logprob\": -0.5, \"small_check\": \"failed\"}\n",
        ));
        let rows: Vec<Row> = rows.into_iter().map(Result::unwrap).collect();
        assert_eq!(rows[0].outcome, Outcome { small: Some(1.0), large: Some(0.25) });
        assert_eq!((&*rows[1].text, rows[1].is_pair(), rows[1].costs.unwrap().large), ("m", false, 2.0));
        assert!(rows[2].is_loss() && rows[2].answer.unwrap().check == Some(Check::Failed) && rows[0].answer.is_none());
        for (line, said) in [
            ("{}", "`prompt` or `messages`"),
            ("{\"prompt\": \"p\"}", "no outcome"),
            ("{\"prompt\": \" \", \"small_correct\": true}", "`prompt` is empty"),
            ("{\"prompt\": \"p\", \"small_score\": 2}", "`small_score` is 2"),
            ("{\"prompt\": \"p\", \"small_score\": 1, \"small_correct\": true}", "not both"),
            ("{\"prompt\": \"p\", \"small_correct\": true, \"small_cost\": 1}", "or neither"),
            ("{\"prompt\": \"p\", \"small_correct\": true, \"small_check\": \"maybe\"}", "unknown variant"),
            ("nonsense", "line 2: expected"),
        ] {
            let found = all(&format!("\n{line}\n"));
            let error = found[0].as_ref().unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let endless = std::io::BufReader::new(std::io::repeat(b' '));
        let mut rows = read(endless);
        assert!(rows.next().unwrap().unwrap_err().to_string().contains("longer than"));
        assert!(rows.next().is_none());
    }
}
