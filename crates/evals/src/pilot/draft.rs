//! The task file of a pilot, in the variants that are tried.

use std::path::Path;

use bantam_stats::split;
use bantam_tasks::{MAX_EXAMPLES, Otherwise, Task};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::PilotError;
use super::columns::{Columns, Target};
use super::rows::Rows;

/// Longest text of an example, in bytes.
const MAX_EXAMPLE_BYTES: usize = 400;
/// All examples together, in bytes: about 600 tokens, which also small contexts have to spare.
const MAX_EXAMPLES_BYTES: usize = 2_400;
/// Examples of a task without labels.
const FIELDS_EXAMPLES: usize = 3;

/// What is the same in all variants.
pub(super) struct Draft<'a> {
    pub(super) name: &'a str,
    pub(super) columns: &'a Columns,
    pub(super) rows: &'a Rows,
}

/// What differs between them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Variant<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) server: Option<&'a str>,
    pub(super) api_key_env: Option<&'a str>,
    /// Rows by index.
    pub(super) examples: &'a [usize],
    pub(super) accept: Option<(f64, Otherwise)>,
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    kind: &'a str,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_env: Option<&'a str>,
    input: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    accept: Option<Accept>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classify: Option<Classify<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Fields>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<Example<'a>>,
}

#[derive(Serialize)]
struct Accept {
    confidence: f64,
    otherwise: Otherwise,
}

#[derive(Serialize)]
struct Classify<'a> {
    labels: &'a [String],
}

#[derive(Serialize)]
struct Fields {
    schema: Value,
}

#[derive(Serialize)]
struct Example<'a> {
    input: &'a str,
    answer: &'a Value,
}

impl Draft<'_> {
    /// The file's text.
    pub(super) fn text(&self, variant: &Variant<'_>) -> Result<String, PilotError> {
        let (kind, classify, fields) = match &self.columns.target {
            Target::Label(_) => ("classify", Some(Classify { labels: &self.rows.labels }), None),
            Target::Fields(names) => ("fields", None, Some(Fields { schema: schema(names, self.rows) })),
        };
        let examples = variant.examples.iter().filter_map(|&i| self.rows.rows.get(i));
        let file = File {
            name: self.name,
            kind,
            description: format!("Written by bantam pilot from {} labelled rows.", self.rows.rows.len()),
            model: variant.model,
            server: variant.server,
            api_key_env: variant.api_key_env,
            input: [&self.columns.text],
            accept: variant.accept.map(|(confidence, otherwise)| Accept { confidence, otherwise }),
            classify,
            fields,
            examples: examples.map(|row| Example { input: &row.text, answer: &row.answer }).collect(),
        };
        toml::to_string(&file).map_err(|error| PilotError::Draft { why: error.to_string() })
    }

    /// The task that the file makes in a directory.
    pub(super) fn task(&self, variant: &Variant<'_>, dir: &Path) -> Result<Task, PilotError> {
        Ok(Task::parse(&self.text(variant)?, &dir.join(format!("{}.toml", self.name)), dir)?)
    }
}

/// Texts; those that every row has are required.
fn schema(names: &[String], rows: &Rows) -> Value {
    let properties: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({"type": "string"}))).collect();
    let is_always = |name: &&String| rows.rows.iter().all(|row| row.answer.get(name.as_str()).is_some());
    let required: Vec<&String> = names.iter().filter(is_always).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Examples for a prompt: a short text of each label, those of frequent labels first, as far as they fit; for fields, some
/// short texts. Which ones is decided by hash, so it is the same in every run.
pub(super) fn examples(rows: &Rows, train: &[usize]) -> Vec<usize> {
    let mut fitting: Vec<usize> =
        train.iter().copied().filter(|&i| rows.rows[i].text.len() <= MAX_EXAMPLE_BYTES).collect();
    fitting.sort_by_cached_key(|&i| (split::hash(&rows.rows[i].text, "bantam-pilot-examples"), i));
    let is_of = |i: usize, label: &String| rows.rows[i].answer == **label;
    let mut chosen: Vec<usize> = match rows.labels.is_empty() {
        true => fitting.into_iter().take(FIELDS_EXAMPLES).collect(),
        false => {
            let mut labels: Vec<(usize, &String)> =
                rows.labels.iter().map(|label| (train.iter().filter(|&&i| is_of(i, label)).count(), label)).collect();
            labels.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
            labels.iter().filter_map(|(_, label)| fitting.iter().copied().find(|&i| is_of(i, label))).collect()
        }
    };
    chosen.truncate(MAX_EXAMPLES);
    let mut bytes = 0;
    chosen.retain(|&i| {
        bytes += rows.rows[i].text.len() + rows.rows[i].answer.to_string().len();
        bytes <= MAX_EXAMPLES_BYTES
    });
    chosen
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::rows::{Counts, Recorded, Row};
    use super::*;

    fn rows(texts: &[(&str, Value)], labels: &[&str]) -> Rows {
        let row = |(i, (text, answer)): (usize, &(&str, Value))| Row {
            line: i as u64 + 2,
            text: (*text).to_owned(),
            answer: answer.clone(),
            llm: Recorded::default(),
        };
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Rows { rows: texts.iter().enumerate().map(row).collect(), labels, counts: Counts::default() }
    }

    fn columns(target: Target) -> Columns {
        Columns { text: "the \"text\"".into(), target, llm_answer: None, llm_latency_ms: None, llm_cost: None }
    }

    #[test]
    fn odd_labels_and_texts_come_back_from_the_file() {
        let odd = ["'''\"\"\"", "[a] = #b", "naïve ✓ 請求", "back\\slash \u{7f}?"];
        let texts: Vec<(&str, Value)> =
            odd.iter().map(|label| ("line\nbreak \"quoted\" \\ tab\t", (*label).into())).collect();
        let rows = rows(&texts, &odd[..3]);
        let columns = columns(Target::Label("l".into()));
        let draft = Draft { name: "odd", columns: &columns, rows: &rows };
        let variant = Variant {
            model: Some("m"),
            examples: &[0, 1, 2],
            accept: Some((0.512_345_678_9, Otherwise::Escalate)),
            ..Variant::default()
        };
        let task = draft.task(&variant, Path::new(".")).unwrap();
        assert_eq!(task.label_names(), odd[..3]);
        assert_eq!((task.examples[0].input[0].as_str(), task.accept.confidence), (texts[0].0, 0.512_345_678_9));
        assert_eq!(task.input, ["the \"text\""]);
        let with_control = [odd[0].to_owned(), odd[3].to_owned()];
        let rows = Rows { labels: with_control.to_vec(), ..rows.clone() };
        let error = Draft { rows: &rows, ..draft }.task(&Variant::default(), Path::new(".")).unwrap_err();
        assert!(error.to_string().contains("control characters"), "{error}");
    }

    #[test]
    fn fields_may_be_absent() {
        let rows = rows(&[("a", json!({"name": "x"})), ("b", json!({"name": "y", "sum": "3"}))], &[]);
        let columns = columns(Target::Fields(vec!["name".into(), "sum".into()]));
        let draft = Draft { name: "f", columns: &columns, rows: &rows };
        let variant = Variant { examples: &[0, 1], ..Variant::default() };
        assert_eq!(draft.task(&variant, Path::new(".")).unwrap().examples.len(), 2);
        assert_eq!(schema(&["name".into(), "sum".into()], &rows)["required"], json!(["name"]));
    }

    #[test]
    fn examples_are_short_of_frequent_labels_first_and_within_their_budget() {
        let long = "x".repeat(1_000);
        let names: Vec<String> = (0..60).map(|i| format!("label {i:02}")).collect();
        let mut texts: Vec<(String, Value)> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let n = if i == 7 { 5 } else { 2 };
            texts.extend((0..n).map(|k| (format!("{name} text {k} {}", "y".repeat(60)), Value::from(name.as_str()))));
            texts.push((long.clone(), name.as_str().into()));
        }
        let texts: Vec<(&str, Value)> = texts.iter().map(|(text, answer)| (text.as_str(), answer.clone())).collect();
        let rows = rows(&texts, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let train: Vec<usize> = (0..rows.rows.len()).collect();
        let chosen = examples(&rows, &train);
        assert_eq!(rows.rows[chosen[0]].answer, "label 07");
        assert!(
            chosen.len() > 10 && chosen.iter().map(|&i| rows.rows[i].text.len()).sum::<usize>() <= MAX_EXAMPLES_BYTES
        );
        let mut labels: Vec<String> = chosen.iter().map(|&i| rows.rows[i].answer.to_string()).collect();
        labels.sort();
        labels.dedup();
        assert_eq!(labels.len(), chosen.len());
    }
}
