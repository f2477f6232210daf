//! What a task is, for people and programs.

use bantam_tasks::{Mode, Output, Task};
use serde_json::{Value, json};

/// What comes out of a task, in a few words.
pub(crate) fn describe(task: &Task) -> String {
    match &task.output {
        Output::Classify(classify) => {
            let n = classify.labels.len();
            let how = match classify.mode {
                Mode::One => "one of",
                Mode::Many => "any of",
                Mode::Path => "a path among",
            };
            let none = if classify.none.is_some() { ", or none" } else { "" };
            format!("{how} {n} labels{none}")
        }
        Output::Fields(fields) => format!("fields {}", fields.schema.fields().collect::<Vec<_>>().join(", ")),
    }
}

/// A task as JSON.
pub(crate) fn to_json(task: &Task) -> Value {
    let mut value = json!(task.summary());
    value["model"] = json!(task.model);
    value["server"] = json!(task.server);
    value["output"] = json!(describe(task));
    value["fitted"] = json!(task.fitted.is_file());
    value
}
