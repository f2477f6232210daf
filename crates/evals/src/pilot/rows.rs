//! The labelled rows of a table.

use std::collections::{BTreeMap, HashMap};

use bantam_stats::split;
use bantam_tasks::table::{Table, text_of};
use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::{Columns, Target};
use super::{MIN_ROWS, PilotError};

/// A labelled row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The line on which it begins.
    pub(super) line: u64,
    pub(super) text: String,
    /// A label, or an object of the fields.
    pub(super) answer: Value,
    pub(super) llm: Recorded,
}

/// What the table tells of the LLM of today.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Recorded {
    pub(super) answer: Option<Value>,
    /// Seconds.
    pub(super) latency: Option<f64>,
    /// US dollars.
    pub(super) cost: Option<f64>,
}

/// What became of the lines of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Lines of the table that are rows.
    pub rows: usize,
    /// Those without a label or without any field.
    pub unlabelled: usize,
    /// Those without a text.
    pub empty: usize,
    /// Those that are broken, and the first with what is wrong.
    pub broken: usize,
    /// The first of those, and why.
    pub first_broken: Option<String>,
    /// Those left out because there are more than the limit.
    pub over_limit: usize,
    /// Labels that were the same but for letter case and white space.
    pub respelled: usize,
}

impl Counts {
    /// Why rows cannot be used, as the end of a sentence.
    pub(super) fn left_out(&self) -> String {
        let first = self.first_broken.as_deref().unwrap_or_default();
        let reasons = [
            (self.unlabelled, "have no label".to_owned()),
            (self.empty, "have no text".to_owned()),
            (self.broken, format!("are broken, the first {first}")),
        ];
        let told: Vec<String> =
            reasons.into_iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!("{n} {why}")).collect();
        if told.is_empty() { String::new() } else { format!(" (of {} rows {})", self.rows, told.join("; ")) }
    }
}

/// A table as a pilot takes it.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    pub(super) labels: Vec<String>,
    pub(super) counts: Counts,
}

impl Rows {
    pub(super) fn read(table: &Table, columns: &Columns, limit: usize) -> Result<Self, PilotError> {
        let mut counts = Counts::default();
        let mut rows = Vec::new();
        for row in table.rows()? {
            let row = row?;
            counts.rows += 1;
            let fields = match &row.fields {
                Ok(fields) => fields,
                Err(why) => {
                    counts.broken += 1;
                    counts.first_broken.get_or_insert_with(|| format!("line {}: {why}", row.line));
                    continue;
                }
            };
            let text = fields.get(&columns.text).map(text_of).unwrap_or_default();
            let Some(answer) = answer(fields, &columns.target) else {
                counts.unlabelled += 1;
                continue;
            };
            if text.trim().is_empty() {
                counts.empty += 1;
                continue;
            }
            // A file whose line ends are none of a text file's has them all on one line.
            let line = rows.last().map_or(row.line, |last: &Row| row.line.max(last.line + 1));
            rows.push(Row { line, text, answer, llm: recorded(fields, columns) });
        }
        if rows.len() > limit {
            counts.over_limit = rows.len() - limit;
            rows.sort_by_cached_key(|row| (split::hash(&row.text, "bantam-pilot-limit"), row.line));
            rows.truncate(limit);
            rows.sort_by_key(|row| row.line);
        }
        if rows.len() < MIN_ROWS {
            return Err(PilotError::TooFew {
                rows: rows.len(),
                path: table.path().to_owned(),
                left_out: counts.left_out(),
            });
        }
        let labels = match &columns.target {
            Target::Label(column) => {
                let labels = respell(&mut rows, &mut counts);
                check_labels(column, &labels, rows.len())?;
                labels
            }
            Target::Fields(_) => Vec::new(),
        };
        Ok(Self { rows, labels, counts })
    }
}

fn check_labels(column: &str, labels: &[String], rows: usize) -> Result<(), PilotError> {
    match labels {
        [only] => Err(PilotError::OneLabel { column: column.to_owned(), label: only.clone(), rows }),
        labels if labels.len() > bantam_tasks::MAX_LABELS => {
            Err(PilotError::ManyLabels { column: column.to_owned(), labels: labels.len() })
        }
        _ => Ok(()),
    }
}

fn answer(fields: &Map<String, Value>, target: &Target) -> Option<Value> {
    match target {
        Target::Label(column) => spelled(&text_of(fields.get(column)?)).map(Value::from),
        Target::Fields(names) => {
            let given = |name: &String| Some((name.clone(), Value::from(spelled(&text_of(fields.get(name)?))?)));
            let values: Map<String, Value> = names.iter().filter_map(given).collect();
            (!values.is_empty()).then_some(Value::Object(values))
        }
    }
}

/// White space as in a name: none around it, one space inside. Nothing of nothing.
fn spelled(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn recorded(fields: &Map<String, Value>, columns: &Columns) -> Recorded {
    let get = |column: &Option<String>| fields.get(column.as_ref()?).map(text_of);
    let number = |column: &Option<String>| {
        let value: f64 = get(column)?.trim().parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some(value)
    };
    let answer = get(&columns.llm_answer).and_then(|text| match columns.target {
        Target::Label(_) => spelled(&text).map(Value::from),
        // What is no JSON is an answer all the same, and a wrong one.
        Target::Fields(_) => spelled(&text).map(|text| serde_json::from_str(&text).unwrap_or(Value::from(text))),
    });
    Recorded { answer, latency: number(&columns.llm_latency_ms).map(|ms| ms / 1e3), cost: number(&columns.llm_cost) }
}

/// Gives labels that people would take for one the spelling that most rows have; returns them in order.
fn respell(rows: &mut [Row], counts: &mut Counts) -> Vec<String> {
    let mut spellings: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for name in rows.iter().filter_map(|row| row.answer.as_str()) {
        *spellings.entry(name.to_lowercase()).or_default().entry(name.to_owned()).or_default() += 1;
    }
    let mut chosen: HashMap<String, String> = HashMap::new();
    for (key, names) in spellings {
        counts.respelled += names.len() - 1;
        let most = names.into_iter().rev().max_by_key(|(_, n)| *n);
        chosen.extend(most.map(|(name, _)| (key, name)));
    }
    for row in rows {
        let answers = std::iter::once(&mut row.answer).chain(row.llm.answer.as_mut());
        for answer in answers {
            if let Some(name) = answer.as_str().and_then(|name| chosen.get(&name.to_lowercase())) {
                *answer = Value::from(name.as_str());
            }
        }
    }
    let mut labels: Vec<String> = chosen.into_values().collect();
    labels.sort();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, limit: usize) -> Result<Rows, PilotError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, content).unwrap();
        let table = Table::open(&path).unwrap();
        let columns = Columns::find(&table, &super::super::Wanted::default()).unwrap();
        Rows::read(&table, &columns, limit)
    }

    fn table(n: usize, label: fn(usize) -> String) -> String {
        (0..n).fold("text,label,llm_answer,llm_cost\n".to_owned(), |t, i| t + &format!("text {i},{},A,0.5\n", label(i)))
    }

    #[test]
    fn rows_that_cannot_be_used_are_counted() {
        let content = table(40, |i| ["a", "b"][i % 2].to_owned()) + ",a,,\ntext x,,,\ntext y\n";
        let rows = read(&content, usize::MAX).unwrap();
        assert_eq!((rows.rows.len(), rows.rows[0].line), (40, 2));
        let Counts { rows: n, unlabelled, empty, broken, first_broken, .. } = rows.counts;
        assert_eq!((n, unlabelled, empty, broken), (43, 1, 1, 1));
        assert!(first_broken.unwrap().starts_with("line 44: has 1 fields"));
        assert_eq!(rows.rows[0].llm, Recorded { answer: Some("a".into()), latency: None, cost: Some(0.5) });
    }

    #[test]
    fn spellings_of_one_label_are_one() {
        let rows = read(&table(40, |i| ["Refund", "refund", " Refund ", "b"][i % 4].to_owned()), usize::MAX).unwrap();
        assert_eq!((rows.labels, rows.counts.respelled), (vec!["Refund".to_owned(), "b".to_owned()], 1));
        assert!(rows.rows.iter().all(|row| row.answer == "Refund" || row.answer == "b"));
    }

    #[test]
    fn tables_that_cannot_work_say_why() {
        let refused = |content: &str| read(content, usize::MAX).unwrap_err().to_string();
        assert!(refused(&table(3, |i| format!("l{}", i % 2))).contains("3 labelled rows"));
        assert!(refused(&table(30, |_| "a".into())).contains("'a'"));
        let many = table(500, |i| format!("l{i}"));
        assert!(refused(&many).contains("500 different labels") && refused(&many).contains("--label"));
    }

    #[test]
    fn a_limit_takes_the_same_rows_every_time_and_keeps_their_order() {
        let content = table(200, |i| ["a", "b"][i % 2].to_owned());
        let (rows, again) = (read(&content, 50).unwrap(), read(&content, 50).unwrap());
        assert_eq!((rows.rows.len(), rows.counts.over_limit), (50, 150));
        assert_eq!(rows.rows, again.rows);
        assert!(rows.rows.is_sorted_by_key(|row| row.line));
    }
}
