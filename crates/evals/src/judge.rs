//! From a task's results to judged rows: what counts as right for one label, several, a path and fields.

use bantam_stats::split::normalise;
use bantam_tasks::{Mode, Output, RowError, Task, TaskResult};
use serde_json::{Map, Value};

use crate::quality::{ConfidenceKind, Judged, Judgements, Kind, Prediction};

/// Numbers that differ by no more than this share of the larger are the same value.
const TOLERANCE: f64 = 1e-6;

/// Sets a task's results beside the right answers.
#[derive(Debug, Clone)]
pub struct Judge {
    kind: Kind,
    labels: Vec<String>,
    out_of_scope: Option<usize>,
    mode: Option<Mode>,
}

/// A row that was run.
#[derive(Debug, Clone, Copy)]
pub struct Ran<'a> {
    /// The number by which the row is found in the data file.
    pub row: usize,
    /// The right answer, one that the task's file would take as an example's.
    pub truth: &'a Value,
    /// What came out.
    pub outcome: &'a Result<TaskResult, RowError>,
}

impl Judge {
    /// The judge of a task.
    #[must_use]
    pub fn new(task: &Task) -> Self {
        match &task.output {
            Output::Fields(fields) => {
                let labels = fields.schema.fields().map(str::to_owned).collect();
                Self { kind: Kind::Fields, labels, out_of_scope: None, mode: None }
            }
            Output::Classify(classify) => {
                let mut labels: Vec<String> = classify.names().map(str::to_owned).collect();
                let out_of_scope = classify.none.as_deref().and_then(|none| classify.index(none));
                if classify.mode == Mode::Path {
                    // A path may be answered in part: its beginnings are answers too.
                    for end in classify.labels.iter().map(|label| label.name.as_str()) {
                        let beginnings = end.match_indices('/').map(|(at, _)| &end[..at]);
                        for beginning in beginnings {
                            if !labels.iter().any(|label| label == beginning) {
                                labels.push(beginning.to_owned());
                            }
                        }
                    }
                }
                let kind = if classify.mode == Mode::Many { Kind::Multi } else { Kind::Single };
                Self { kind, labels, out_of_scope, mode: Some(classify.mode) }
            }
        }
    }

    /// The names that figures speak of: labels, with the beginnings of paths, or fields.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Judges a row. A path that was answered in part is judged as far as it goes; of fields, texts are the same whatever
    /// their white space and letter case, and empty ones are absent.
    #[must_use]
    pub fn row(&self, ran: Ran<'_>) -> Judged {
        let result = ran.outcome.as_ref().ok();
        let value = result.map_or(&Value::Null, |result| &result.value);
        let confidence = result.and_then(|result| result.confidence).map(|p| p.clamp(0.0, 1.0));
        let (truth, predicted) = self.sides(ran.truth, value);
        Judged {
            row: ran.row,
            truth,
            predicted: predicted.map(|predicted| Prediction { confidence, ..predicted }),
            latency: result.map(|result| result.latency_ms / 1e3),
        }
    }

    /// The indices of a true answer, and another answer beside it: nothing where it is no answer of the task.
    #[must_use]
    pub fn sides(&self, truth: &Value, value: &Value) -> (Vec<usize>, Option<Prediction>) {
        let of = |labels: Vec<usize>| Prediction { labels, ..Prediction::default() };
        match self.mode {
            None => self.fields(truth, value),
            Some(Mode::Many) => {
                let listed = value.as_array().map(|_| of(self.listed(value)));
                (self.listed(truth), listed)
            }
            Some(mode) => {
                let predicted = value.as_str().and_then(|name| self.index(name));
                let mut name = truth.as_str().unwrap_or_default();
                if let (Mode::Path, Some(answered)) = (mode, value.as_str())
                    && name.strip_prefix(answered).is_some_and(|rest| rest.starts_with('/'))
                {
                    name = answered;
                }
                (self.index(name).into_iter().collect(), predicted.map(|label| of(vec![label])))
            }
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| label == name)
    }

    fn listed(&self, names: &Value) -> Vec<usize> {
        let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut labels: Vec<usize> = names.filter_map(|name| self.index(name)).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    fn fields(&self, truth: &Value, value: &Value) -> (Vec<usize>, Option<Prediction>) {
        let empty = Map::new();
        let truth = truth.as_object().unwrap_or(&empty);
        let given = |object: &Map<String, Value>| -> Vec<usize> {
            let has = |name: &str| object.get(name).is_some_and(|value| !is_absent(value));
            (0..self.labels.len()).filter(|&field| has(&self.labels[field])).collect()
        };
        let predicted = value.as_object().map(|object| {
            let is_wrong = |field: &usize| {
                let name = &self.labels[*field];
                let (a, b) = (truth.get(name), object.get(name));
                let both = a.zip(b).filter(|(a, b)| !is_absent(a) && !is_absent(b));
                both.is_some_and(|(a, b)| !same(a, b))
            };
            let labels = given(object);
            let wrong_values = labels.iter().copied().filter(is_wrong).collect();
            Prediction { labels, wrong_values, confidence: None }
        });
        (given(truth), predicted)
    }

    /// The rows as the figures take them; a threshold, targets and a wall time are for the caller to add.
    #[must_use]
    pub fn judgements<'a>(&'a self, rows: &'a [Judged], confidence: ConfidenceKind) -> Judgements<'a> {
        Judgements {
            kind: self.kind,
            labels: &self.labels,
            out_of_scope: self.out_of_scope,
            confidence,
            threshold: None,
            targets: &[],
            rows,
            wall_seconds: None,
        }
    }
}

/// Where the confidences of results come from.
pub fn confidence_kind<'a>(mut results: impl Iterator<Item = &'a TaskResult>) -> ConfidenceKind {
    match results.all(|result| result.calibrated || result.confidence.is_none()) {
        true => ConfidenceKind::Calibrated,
        false => ConfidenceKind::Raw,
    }
}

fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => normalise(a) == normalise(b),
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn judge(output: &str) -> Judge {
        let text = format!("name = \"t\"\n{output}");
        Judge::new(&Task::parse(&text, Path::new("t.toml"), Path::new(".")).unwrap())
    }

    fn is_right(judge: &Judge, truth: Value, value: Value) -> bool {
        let (truth, predicted) = judge.sides(&truth, &value);
        Judged { row: 0, truth, predicted, latency: None }.is_right()
    }

    #[test]
    fn one_label_is_right_or_not() {
        let judge = judge("kind = \"classify\"\n[classify]\nlabels = [\"a\", \"b\"]\nnone = \"other\"\n");
        assert!(is_right(&judge, json!("a"), json!("a")) && is_right(&judge, json!("other"), json!("other")));
        assert!(!is_right(&judge, json!("a"), json!("b")) && !is_right(&judge, json!("a"), Value::Null));
        assert_eq!(judge.out_of_scope, Some(2));
        assert_eq!(judge.sides(&json!("a"), &json!("nonsense")).1, None);
    }

    #[test]
    fn a_path_is_judged_as_far_as_it_goes() {
        let judge = judge("kind = \"classify\"\n[classify]\nmode = \"path\"\nlabels = [\"x/a\", \"x/b\", \"y\"]\n");
        assert_eq!(judge.labels(), ["x/a", "x/b", "y", "x"]);
        assert!(is_right(&judge, json!("x/a"), json!("x/a")) && is_right(&judge, json!("x/a"), json!("x")));
        assert!(!is_right(&judge, json!("x/a"), json!("x/b")) && !is_right(&judge, json!("y"), json!("x")));
    }

    #[test]
    fn several_labels_are_right_together() {
        let judge = judge("kind = \"classify\"\n[classify]\nmode = \"many\"\nlabels = [\"a\", \"b\"]\n");
        assert!(is_right(&judge, json!(["b", "a"]), json!(["a", "b"])) && is_right(&judge, json!([]), json!([])));
        assert!(!is_right(&judge, json!(["a"]), json!(["a", "b"])) && !is_right(&judge, json!([]), Value::Null));
    }

    #[test]
    fn fields_are_judged_by_value() {
        let judge = judge(
            "kind = \"fields\"\n[fields.schema]\ntype = \"object\"\n[fields.schema.properties]\n\
             name = { type = \"string\" }\nsum = { type = \"number\" }\n",
        );
        let truth = json!({"name": "Ann  Lee", "sum": 3});
        assert!(is_right(&judge, truth.clone(), json!({"name": "ann lee", "sum": 3.0})));
        assert!(is_right(&judge, json!({"name": ""}), json!({"sum": null})));
        let (labels, predicted) = judge.sides(&truth, &json!({"name": "Bob", "sum": 3}));
        assert_eq!((labels, predicted.unwrap().wrong_values), (vec![0, 1], vec![0]));
        assert!(!is_right(&judge, truth, json!({"name": "Ann Lee"})));
    }
}
