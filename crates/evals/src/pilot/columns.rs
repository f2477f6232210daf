//! Which column holds what, where nobody has said.

use std::collections::BTreeSet;

use bantam_tasks::MAX_LABELS;
use bantam_tasks::table::{Table, text_of};
use serde::Serialize;
use serde_json::{Map, Value};

use super::PilotError;

/// Rows that are looked at.
const SAMPLE: usize = 2_000;

const TEXT_NAMES: [&str; 12] = [
    "text",
    "message",
    "body",
    "content",
    "utterance",
    "question",
    "query",
    "ticket",
    "email",
    "description",
    "sentence",
    "input",
];
const LABEL_NAMES: [&str; 9] = ["label", "category", "intent", "class", "topic", "answer", "target", "gold", "type"];
const LLM_ANSWER_NAMES: [&str; 8] =
    ["llm_answer", "llm_label", "llm_category", "llm_prediction", "llm", "gpt_answer", "model_answer", "prediction"];
const LLM_LATENCY_NAMES: [&str; 4] = ["llm_latency_ms", "latency_ms", "llm_ms", "gpt_ms"];
const LLM_COST_NAMES: [&str; 5] = ["llm_cost", "llm_cost_usd", "cost_usd", "llm_usd", "gpt_usd"];

/// Columns by name, as far as somebody named them.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The text to answer.
    pub text: Option<String>,
    /// The right label.
    pub label: Option<String>,
    /// The right values, for a task of fields; then there is no label.
    pub fields: Vec<String>,
    /// What the LLM of today answered: a label, or a JSON object of the fields.
    pub llm_answer: Option<String>,
    /// How long it took, in milliseconds.
    pub llm_latency_ms: Option<String>,
    /// What it cost, in US dollars.
    pub llm_cost: Option<String>,
}

/// The columns of a pilot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Columns {
    /// The text to answer.
    pub text: String,
    /// The right label, or the right values.
    pub target: Target,
    /// What the LLM of today answered.
    pub llm_answer: Option<String>,
    /// How long it took, in milliseconds.
    pub llm_latency_ms: Option<String>,
    /// What it cost, in US dollars.
    pub llm_cost: Option<String>,
}

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The column with the label.
    Label(String),
    /// The columns with the fields' values, which have the fields' names.
    Fields(Vec<String>),
}

impl Columns {
    /// Finds the columns that are not named: first by usual names, then by what they hold.
    ///
    /// # Errors
    /// [`PilotError::Table`] for a column that is not there, [`PilotError::NoColumn`] where none fits.
    pub fn find(table: &Table, wanted: &Wanted) -> Result<Self, PilotError> {
        let named = [&wanted.text, &wanted.label, &wanted.llm_answer, &wanted.llm_latency_ms, &wanted.llm_cost];
        for column in named.into_iter().flatten().chain(&wanted.fields) {
            table.expect(column)?;
        }
        let sample: Vec<Map<String, Value>> =
            table.rows()?.take(SAMPLE).filter_map(|row| row.ok()?.fields.ok()).collect();
        let taken: Vec<&String> = named.into_iter().flatten().chain(&wanted.fields).collect();
        let mut free: Vec<&String> = table.columns().iter().filter(|column| !taken.contains(column)).collect();
        let llm_answer = take(&wanted.llm_answer, &LLM_ANSWER_NAMES, &mut free);
        let llm_latency_ms = take(&wanted.llm_latency_ms, &LLM_LATENCY_NAMES, &mut free);
        let llm_cost = take(&wanted.llm_cost, &LLM_COST_NAMES, &mut free);
        let text = take(&wanted.text, &TEXT_NAMES, &mut free);
        let label = match wanted.fields.is_empty() {
            true => take(&wanted.label, &LABEL_NAMES, &mut free),
            false => None,
        };
        let none = |what, option| PilotError::NoColumn { what, option, found: table.columns().to_vec() };
        let text = text.or_else(|| longest(&sample, &free)).ok_or_else(|| none("texts", "--text"))?;
        let target = match wanted.fields.is_empty() {
            false => Target::Fields(wanted.fields.clone()),
            true => {
                let free: Vec<&String> = free.into_iter().filter(|column| **column != text).collect();
                let label = label.or_else(|| fewest_values(&sample, &free));
                Target::Label(label.ok_or_else(|| none("labels", "--label"))?)
            }
        };
        Ok(Self { text, target, llm_answer, llm_latency_ms, llm_cost })
    }
}

/// The column that was named, otherwise the first free one of a usual name, which then is free no more.
fn take(given: &Option<String>, names: &[&str], free: &mut Vec<&String>) -> Option<String> {
    let found = given.clone().or_else(|| usual(names, free));
    free.retain(|column| Some(*column) != found.as_ref());
    found
}

/// The first of some names that a column has, whatever the letter case.
fn usual(names: &[&str], columns: &[&String]) -> Option<String> {
    names.iter().find_map(|name| columns.iter().find(|column| column.eq_ignore_ascii_case(name))).map(|c| (*c).clone())
}

/// The column with the most characters.
fn longest(sample: &[Map<String, Value>], columns: &[&String]) -> Option<String> {
    let length = |column: &String| -> usize {
        sample.iter().filter_map(|row| row.get(column)).map(|value| text_of(value).chars().count()).sum()
    };
    // The first of equals.
    columns.iter().rev().max_by_key(|column| length(column)).map(|column| (*column).clone())
}

/// The column with the fewest values that are more than one and come again.
fn fewest_values(sample: &[Map<String, Value>], columns: &[&String]) -> Option<String> {
    let distinct = |column: &String| {
        let values: Vec<String> = sample.iter().filter_map(|row| row.get(column)).map(text_of).collect();
        let given = values.iter().filter(|value| !value.trim().is_empty());
        let n = given.clone().collect::<BTreeSet<_>>().len();
        ((2..=MAX_LABELS).contains(&n) && n * 2 <= given.count()).then_some(n)
    };
    let counted = columns.iter().filter_map(|column| Some((distinct(column)?, *column)));
    counted.min_by_key(|(n, _)| *n).map(|(_, column)| column.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: &str, line: fn(usize) -> String, wanted: &Wanted) -> Result<Columns, PilotError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let lines: Vec<String> = (0..40).map(line).collect();
        std::fs::write(&path, format!("{header}\n{}\n", lines.join("\n"))).unwrap();
        Columns::find(&Table::open(&path).unwrap(), wanted)
    }

    #[test]
    fn usual_names_are_known() {
        let columns = found(
            "id,Message,Intent,llm_answer,llm_latency_ms,llm_cost",
            |i| format!("{i},text {i},a{},x,100,0.01", i % 3),
            &Wanted::default(),
        );
        let columns = columns.unwrap();
        assert_eq!((&*columns.text, &columns.target), ("Message", &Target::Label("Intent".into())));
        assert_eq!(columns.llm_answer.as_deref(), Some("llm_answer"));
        assert_eq!(columns.llm_cost.as_deref(), Some("llm_cost"));
    }

    #[test]
    fn unusual_names_are_known_by_what_they_hold() {
        let line = |i| format!("{i},q{},what somebody wrote number {i}", i % 4);
        let columns = found("nr,queue,said", line, &Wanted::default()).unwrap();
        assert_eq!((&*columns.text, &columns.target), ("said", &Target::Label("queue".into())));
        let wanted = Wanted { text: Some("queue".into()), label: Some("nr".into()), ..Wanted::default() };
        let columns = found("nr,queue,said", line, &wanted).unwrap();
        assert_eq!((&*columns.text, &columns.target), ("queue", &Target::Label("nr".into())));
    }

    #[test]
    fn a_column_that_is_not_there_is_told_with_those_that_are() {
        let missing = Wanted { label: Some("kind".into()), ..Wanted::default() };
        let error = found("text,label", |i| format!("{i},a"), &missing).unwrap_err().to_string();
        assert!(error.contains("'kind'") && error.contains("'text', 'label'"), "{error}");
        let error = found("text,note", |i| format!("text {i},note {i}"), &Wanted::default()).unwrap_err().to_string();
        assert!(error.contains("--label") && error.contains("'note'"), "{error}");
    }

    #[test]
    fn fields_are_no_text_and_need_no_label() {
        let wanted = Wanted { fields: vec!["name".into(), "sum".into()], ..Wanted::default() };
        let line = |i| format!("a long name of somebody {i},{i},short {i}");
        let columns = found("name,sum,note", line, &wanted).unwrap();
        assert_eq!((&*columns.text, columns.target), ("note", Target::Fields(wanted.fields)));
    }
}
