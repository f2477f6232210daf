//! What a task is, for programs that use it.

use serde::Serialize;
use serde_json::Value;

use super::{Mode, Otherwise, Output, Task};

/// What a task takes and gives, without how it is told to a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskSummary<'a> {
    /// The task's name.
    pub name: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// `classify` or `fields`.
    pub kind: &'static str,
    /// Columns that make up the input.
    pub input: &'a [String],
    /// How many labels an answer has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The labels, [`super::Classify::none`] last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<&'a str>,
    /// The schema of the fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<&'a Value>,
    /// How many examples it has.
    pub examples: usize,
    /// How many checks an answer must pass.
    pub checks: usize,
    /// Least confidence of an answer that is taken without a look.
    pub accept_confidence: f64,
    /// What becomes of the others.
    pub otherwise: Otherwise,
    /// [`Task::hash`].
    pub hash: &'a str,
}

impl Task {
    /// What the task takes and gives.
    #[must_use]
    pub fn summary(&self) -> TaskSummary<'_> {
        let (kind, mode, schema) = match &self.output {
            Output::Classify(classify) => ("classify", Some(classify.mode), None),
            Output::Fields(fields) => ("fields", None, Some(fields.schema.value())),
        };
        TaskSummary {
            name: &self.name,
            description: &self.description,
            kind,
            input: &self.input,
            mode,
            labels: self.label_names(),
            schema,
            examples: self.examples.len(),
            checks: self.checks.len(),
            accept_confidence: self.accept.confidence,
            otherwise: self.accept.otherwise,
            hash: &self.hash,
        }
    }
}
