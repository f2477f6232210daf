//! What a generating model is told of a task.

use serde_json::Value;

use crate::spec::{Classify, Mode, Output, Task};

/// Longest input of a row, in bytes, all columns together.
pub const MAX_INPUT_BYTES: usize = 1 << 20;

/// Between the labels of an answer that has several; no label has it.
const LABEL_SEPARATOR: &str = "\n";

/// A conversation that ends where a row's input comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// What the model is told first.
    pub system: String,
    /// Inputs with their answers, as earlier turns; several labels of one answer are on a line each.
    pub turns: Vec<(String, String)>,
    /// What precedes an answer where turns are written as plain text.
    pub answer_name: &'static str,
}

impl Conversation {
    /// The conversation of a task.
    #[must_use]
    pub fn new(task: &Task) -> Self {
        let (system, answer_name) = match &task.output {
            Output::Classify(classify) => {
                (classify_system(task, classify), if classify.mode == Mode::Many { "Labels" } else { "Label" })
            }
            Output::Fields(fields) => {
                let instructions = or(&task.instructions, "Read the text and fill in the fields.");
                let schema = fields.schema.value();
                (
                    format!("{instructions}\nAnswer with a JSON object of this schema, and nothing else:\n{schema}"),
                    "JSON",
                )
            }
        };
        let turns =
            task.examples.iter().map(|example| (input_text(task, &example.input), answer_text(&example.answer)));
        Conversation { system, turns: turns.collect(), answer_name }
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn classify_system(task: &Task, classify: &Classify) -> String {
    let mut system = or(&task.instructions, "Say which of the labels fits the text.").to_owned();
    system += match classify.mode {
        Mode::One | Mode::Path => "\nAnswer with one of these labels, and nothing else:",
        Mode::Many => "\nThe labels are:",
    };
    for label in &classify.labels {
        system += &format!("\n- {}", label.name);
        if !label.description.is_empty() {
            system += &format!(": {}", label.description);
        }
    }
    if let Some(none) = &classify.none {
        system += &format!("\n- {none}: none of the above");
    }
    system
}

/// A row's input as one text: the text itself, or its columns by name.
#[must_use]
pub fn input_text(task: &Task, input: &[String]) -> String {
    match (&task.input[..], input) {
        ([_], [text]) => text.trim().to_owned(),
        (names, texts) => {
            let lines = names.iter().zip(texts).map(|(name, text)| format!("{name}: {}", text.trim()));
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

/// The labels of an earlier turn's answer.
pub(crate) fn answer_labels(answer: &str) -> impl Iterator<Item = &str> {
    answer.split(LABEL_SEPARATOR).filter(|label| !label.is_empty())
}

/// An answer as a model would write it; several labels on a line each.
fn answer_text(answer: &Value) -> String {
    match answer {
        Value::String(label) => label.clone(),
        Value::Array(labels) => labels.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(LABEL_SEPARATOR),
        other => other.to_string(),
    }
}
