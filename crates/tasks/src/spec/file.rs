//! The shape of a task file on disk, and its way to a checked [`Task`].

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::check::{Check, RawCheck};
use super::{
    Accept, Classify, Example, Fields, Label, MAX_EXAMPLES, MAX_LABELS, Mode, Otherwise, Output, Task, file_hash, hash,
    read_bounded,
};
use crate::error::TaskError;
use crate::schema::OutputSchema;

/// What `bantam task new` writes.
pub const TEMPLATE: &str = include_str!("template.toml");

/// What `bantam task new --kind fields` writes.
pub const FIELDS_TEMPLATE: &str = include_str!("fields_template.toml");

/// Longest name of a label, in characters.
const MAX_LABEL_CHARS: usize = 120;
/// Most input columns.
const MAX_INPUTS: usize = 16;
/// Tokens of an answer where the file does not say.
const DEFAULT_MAX_TOKENS: usize = 512;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    kind: Kind,
    #[serde(default)]
    description: String,
    #[serde(default)]
    instructions: String,
    #[serde(default = "default_input")]
    input: Vec<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    candidates: Vec<String>,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    api_key_env: Option<String>,
    #[serde(default)]
    classify: Option<ClassifyFile>,
    #[serde(default)]
    fields: Option<FieldsFile>,
    #[serde(default)]
    examples: Vec<ExampleFile>,
    #[serde(default)]
    checks: Vec<RawCheck>,
    #[serde(default)]
    accept: Option<AcceptFile>,
}

fn default_input() -> Vec<String> {
    vec!["text".to_owned()]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Classify,
    Fields,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassifyFile {
    #[serde(default)]
    mode: Mode,
    labels: Vec<LabelFile>,
    #[serde(default)]
    none: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a label is a text, or a table with its name and, if you like, a description")]
enum LabelFile {
    Name(String),
    Described(DescribedLabel),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedLabel {
    name: String,
    #[serde(default)]
    description: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldsFile {
    /// A table, or the name of a JSON file beside the task.
    schema: Value,
    #[serde(default)]
    max_tokens: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleFile {
    input: ExampleInput,
    answer: Value,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an example's input is a text, or a table with a text for each input column")]
enum ExampleInput {
    Text(String),
    Columns(BTreeMap<String, String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptFile {
    confidence: f64,
    #[serde(default)]
    otherwise: Option<Otherwise>,
}

pub(super) fn parse(text: &str, path: &Path, dir: &Path) -> Result<Task, TaskError> {
    let syntax = |why: String| TaskError::Syntax { path: path.to_owned(), why };
    let file: TaskFile = toml::from_str(text).map_err(|error| syntax(error.to_string().trim_end().to_owned()))?;
    let reader = Reader { name: file.name.clone(), dir };
    reader.name()?;
    reader.input(&file.input)?;
    let output = reader.output(file.kind, file.classify, file.fields)?;
    let examples = reader.examples(file.examples, &file.input, &output)?;
    let checked = json!(file.checks);
    let checks = reader.checks(file.checks, &output)?;
    let accept = reader.accept(file.accept)?;
    let instructions = file.instructions.trim().to_owned();
    if file.server.is_none() && file.api_key_env.is_some() {
        return Err(reader.field("api_key_env", "is the key of a server, and 'server' is not given"));
    }
    if file.model.is_some() && !file.candidates.is_empty() {
        return Err(
            reader.field("candidates", "are to choose the model from, and 'model' says it already; leave one out")
        );
    }
    if let Some(server) = &file.server {
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(reader.field("server", "must be a URL such as http://127.0.0.1:8000/v1"));
        }
        if file.model.is_none() {
            return Err(reader.field("model", "is what the server calls the model, and is missing"));
        }
    }
    let fitted = dir.join(format!("{}.fit.json", file.name));
    let fitted_hash = if fitted.is_file() { file_hash(&fitted)? } else { String::new() };
    let definition = json!({
        "name": file.name, "instructions": instructions, "input": file.input, "output": output_value(&output),
        "examples": examples.iter().map(|example| json!([example.input, example.answer])).collect::<Vec<_>>(),
    })
    .to_string();
    let accepted =
        json!({"confidence": accept.confidence, "otherwise": accept.otherwise, "checks": checked}).to_string();
    Ok(Task {
        name: file.name,
        description: file.description,
        instructions,
        input: file.input,
        model: file.model,
        candidates: file.candidates,
        server: file.server,
        api_key_env: file.api_key_env,
        output,
        examples,
        checks,
        accept,
        fitted,
        definition: hash(&[definition.as_bytes()]),
        hash: hash(&[definition.as_bytes(), accepted.as_bytes(), fitted_hash.as_bytes()]),
    })
}

/// What comes out of a task, for its hash.
fn output_value(output: &Output) -> Value {
    match output {
        Output::Classify(Classify { mode, labels, none }) => json!({"mode": mode, "labels": labels, "none": none}),
        Output::Fields(Fields { schema, max_tokens }) => json!({"schema": schema.value(), "max_tokens": max_tokens}),
    }
}

struct Reader<'a> {
    name: String,
    dir: &'a Path,
}

impl Reader<'_> {
    fn field(&self, field: impl Into<String>, why: impl Into<String>) -> TaskError {
        TaskError::Field { task: self.name.clone(), field: field.into(), why: why.into() }
    }

    fn name(&self) -> Result<(), TaskError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts = self.name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts && self.name.chars().all(plain) && self.name.len() <= 64 {
            return Ok(());
        }
        Err(self.field("name", "must be up to 64 lower-case letters, digits and dashes, and not begin with a dash"))
    }

    fn input(&self, input: &[String]) -> Result<(), TaskError> {
        if input.is_empty() || input.len() > MAX_INPUTS {
            return Err(self.field("input", format!("must name 1 to {MAX_INPUTS} columns")));
        }
        for (i, column) in input.iter().enumerate() {
            if column.trim().is_empty() || input[..i].contains(column) {
                return Err(self.field(format!("input[{i}]"), "is empty or there twice"));
            }
        }
        Ok(())
    }

    fn output(
        &self,
        kind: Kind,
        classify: Option<ClassifyFile>,
        fields: Option<FieldsFile>,
    ) -> Result<Output, TaskError> {
        match (kind, classify, fields) {
            (Kind::Classify, Some(classify), None) => self.classify(classify).map(Output::Classify),
            (Kind::Fields, None, Some(fields)) => self.fields(fields),
            (Kind::Classify, _, _) => {
                Err(self.field("kind", "'classify' goes with a table [classify], and no [fields]"))
            }
            (Kind::Fields, _, _) => Err(self.field("kind", "'fields' goes with a table [fields], and no [classify]")),
        }
    }

    fn classify(&self, file: ClassifyFile) -> Result<Classify, TaskError> {
        let mode = file.mode;
        let labels: Vec<Label> = file
            .labels
            .into_iter()
            .map(|label| match label {
                LabelFile::Name(name) => Label { name, description: String::new() },
                LabelFile::Described(DescribedLabel { name, description }) => Label { name, description },
            })
            .collect();
        let least = if mode == Mode::Many || file.none.is_some() { 1 } else { 2 };
        if labels.len() < least || labels.len() > MAX_LABELS {
            let why = format!("must be {least} to {MAX_LABELS} labels, and are {}", labels.len());
            return Err(self.field("classify.labels", why));
        }
        for (i, label) in labels.iter().enumerate() {
            let at = format!("classify.labels[{i}]");
            self.label_name(&at, &label.name)?;
            if let Some(j) = labels[..i].iter().position(|other| same(&other.name, &label.name)) {
                return Err(self.field(at, format!("'{}' is the same label as classify.labels[{j}]", label.name)));
            }
            if mode == Mode::Path {
                let parts: Vec<&str> = label.name.split('/').collect();
                if parts.iter().any(|part| part.trim().is_empty()) {
                    return Err(self.field(at, format!("'{}' is no path such as billing/refund", label.name)));
                }
                if let Some(j) = labels.iter().position(|other| is_beginning(&label.name, &other.name)) {
                    let why = format!(
                        "'{}' is the beginning of classify.labels[{j}]; only the ends of paths are labels",
                        label.name
                    );
                    return Err(self.field(at, why));
                }
            }
        }
        if let Some(none) = &file.none {
            self.label_name("classify.none", none)?;
            if labels.iter().any(|label| same(&label.name, none) || is_beginning(none, &label.name)) {
                return Err(
                    self.field("classify.none", format!("'{none}' is one of the labels, or the beginning of one"))
                );
            }
            if mode == Mode::Many {
                return Err(
                    self.field("classify.none", "with mode = \"many\", an empty list is the answer for none of them")
                );
            }
        }
        Ok(Classify { mode, labels, none: file.none })
    }

    fn label_name(&self, at: &str, name: &str) -> Result<(), TaskError> {
        let n_chars = name.chars().count();
        if name.trim().is_empty() || name != name.trim() || name.chars().any(char::is_control) {
            return Err(self.field(at, "must not be empty, begin or end with a space, or have control characters"));
        }
        if n_chars > MAX_LABEL_CHARS {
            return Err(self.field(at, format!("has {n_chars} characters; {MAX_LABEL_CHARS} are the most")));
        }
        Ok(())
    }

    fn fields(&self, file: FieldsFile) -> Result<Output, TaskError> {
        let schema = match file.schema {
            Value::String(name) => {
                let path = self.dir.join(&name);
                let text = read_bounded(&path)?;
                serde_json::from_str(&text)
                    .map_err(|error| TaskError::Syntax { path: path.clone(), why: format!("is not JSON: {error}") })?
            }
            schema => schema,
        };
        let schema = OutputSchema::new(schema).map_err(|why| self.field("fields.schema", why))?;
        let max_tokens = file.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        if max_tokens == 0 {
            return Err(self.field("fields.max_tokens", "must be at least 1"));
        }
        Ok(Output::Fields(Fields { schema, max_tokens }))
    }

    fn examples(&self, files: Vec<ExampleFile>, input: &[String], output: &Output) -> Result<Vec<Example>, TaskError> {
        if files.len() > MAX_EXAMPLES {
            let why = format!("are {}, and {MAX_EXAMPLES} the most; give more with `bantam task fit`", files.len());
            return Err(self.field("examples", why));
        }
        let convert = |(i, file): (usize, ExampleFile)| {
            let at = format!("examples[{i}]");
            let input = match file.input {
                ExampleInput::Text(text) if input.len() == 1 => vec![text],
                ExampleInput::Text(_) => {
                    return Err(self
                        .field(format!("{at}.input"), format!("must be a table of the columns {}", input.join(", "))));
                }
                ExampleInput::Columns(mut columns) => {
                    let taken =
                        input.iter().map(|column| columns.remove(column).ok_or(column)).collect::<Result<Vec<_>, _>>();
                    let taken = taken
                        .map_err(|column| self.field(format!("{at}.input"), format!("lacks the column '{column}'")))?;
                    if let Some(extra) = columns.keys().next() {
                        return Err(self
                            .field(format!("{at}.input"), format!("'{extra}' is not among the task's input columns")));
                    }
                    taken
                }
            };
            check_answer(&file.answer, output).map_err(|why| self.field(format!("{at}.answer"), why))?;
            Ok(Example { input, answer: file.answer })
        };
        files.into_iter().enumerate().map(convert).collect()
    }

    fn checks(&self, files: Vec<RawCheck>, output: &Output) -> Result<Vec<Check>, TaskError> {
        let schema = match output {
            Output::Fields(fields) => &fields.schema,
            Output::Classify(_) if files.is_empty() => return Ok(Vec::new()),
            Output::Classify(_) => return Err(self.field("checks", "are for tasks of kind 'fields'")),
        };
        let files = files.into_iter().enumerate();
        files.map(|(i, raw)| Check::new(raw, schema).map_err(|why| self.field(format!("checks[{i}]"), why))).collect()
    }

    fn accept(&self, file: Option<AcceptFile>) -> Result<Accept, TaskError> {
        let AcceptFile { confidence, otherwise } = file.unwrap_or(AcceptFile { confidence: 0.0, otherwise: None });
        if !(0.0..=1.0).contains(&confidence) {
            return Err(self.field("accept.confidence", format!("must be between 0 and 1, is {confidence}")));
        }
        Ok(Accept { confidence, otherwise: otherwise.unwrap_or(Otherwise::Review) })
    }
}

/// Names that people would take for one label.
fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// Whether a name is the beginning of a path.
fn is_beginning(name: &str, path: &str) -> bool {
    path.to_lowercase().starts_with(&format!("{}/", name.to_lowercase()))
}

/// Whether a value may be the answer of a task.
pub(crate) fn check_answer(answer: &Value, output: &Output) -> Result<(), String> {
    match output {
        Output::Fields(fields) => fields.schema.validate(answer),
        Output::Classify(classify) => {
            let known = |name: &str| match classify.index(name) {
                Some(_) => Ok(()),
                None => Err(format!("'{name}' is none of the labels")),
            };
            match (classify.mode, answer) {
                (Mode::One | Mode::Path, Value::String(name)) => known(name),
                (Mode::One | Mode::Path, _) => Err("must be a label".to_owned()),
                (Mode::Many, Value::Array(names)) => names.iter().try_for_each(|name| match name {
                    Value::String(name) => known(name),
                    _ => Err("must be a list of labels".to_owned()),
                }),
                (Mode::Many, _) => Err("must be a list of labels, [] for none".to_owned()),
            }
        }
    }
}
