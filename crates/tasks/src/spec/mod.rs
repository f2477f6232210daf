//! Task files: what a task is, read strictly and checked before anything runs.

mod check;
mod file;
mod summary;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use check::{Check, Failed, Rule};
pub use file::{FIELDS_TEMPLATE, TEMPLATE};
pub use summary::TaskSummary;

use crate::error::{RowError, TaskError};
use crate::schema::OutputSchema;
use crate::table::text_of;

/// Most labels of a task.
pub const MAX_LABELS: usize = 200;
/// Most examples in a task file.
pub const MAX_EXAMPLES: usize = 64;
/// Largest task file or schema file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A checked task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Lower-case letters, digits and dashes.
    pub name: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// What the models that generate are told.
    pub instructions: String,
    /// Columns that make up the input.
    pub input: Vec<String>,
    /// What answers: an encoder or a generating model, by catalogue name or path, or what a server calls it.
    pub model: Option<String>,
    /// Instead of a model: those that `bantam task fit` chooses from, the cheapest first.
    pub candidates: Vec<String>,
    /// Base URL of an OpenAI-compatible server that has the model.
    pub server: Option<String>,
    /// Environment variable with the server's key.
    pub api_key_env: Option<String>,
    /// What comes out.
    pub output: Output,
    /// Inputs with their right answers.
    pub examples: Vec<Example>,
    /// What an answer must pass.
    pub checks: Vec<Check>,
    /// When an answer is taken without a look.
    pub accept: Accept,
    /// The file that `bantam task fit` writes.
    pub fitted: PathBuf,
    /// SHA-256, in hex, of what a fit is for: name, instructions, input, output and examples.
    pub definition: String,
    /// SHA-256, in hex, of all that decides an answer but the model: the definition, checks, the rule of acceptance, and what was fitted.
    pub hash: String,
}

/// What comes out of a task.
#[derive(Debug, Clone)]
pub enum Output {
    /// One label, or several.
    Classify(Classify),
    /// A JSON value of a schema.
    Fields(Fields),
}

/// Labels and how they are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classify {
    /// How many labels an answer has.
    pub mode: Mode,
    /// The labels.
    pub labels: Vec<Label>,
    /// What stands for none of the labels: the text is out of scope.
    pub none: Option<String>,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// What is answered.
    pub name: String,
    /// What it means, for models that generate.
    pub description: String,
}

/// How many labels an answer has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Exactly one.
    #[default]
    One,
    /// Any number.
    Many,
    /// One, whose name is a path such as `billing/refund`: where the end of it is not sure enough, its beginning is answered.
    Path,
}

/// A JSON value of a schema.
#[derive(Debug, Clone)]
pub struct Fields {
    /// Its schema.
    pub schema: OutputSchema,
    /// Most tokens of an answer.
    pub max_tokens: usize,
}

/// An input with its right answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// One text per input column.
    pub input: Vec<String>,
    /// A label, a list of labels, or a value of the schema.
    pub answer: Value,
}

/// When an answer is taken without a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accept {
    /// Least confidence.
    pub confidence: f64,
    /// What becomes of the others.
    pub otherwise: Otherwise,
}

/// What becomes of an answer that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// Somebody looks at it.
    Review,
    /// A larger model is asked.
    Escalate,
    /// There is no answer.
    Refuse,
}

impl Task {
    /// Reads a task file.
    ///
    /// # Errors
    /// [`TaskError`] names the file and key.
    pub fn open(path: &Path) -> Result<Task, TaskError> {
        let text = read_bounded(path)?;
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        Task::parse(&text, path, dir)
    }

    /// Reads a task from text; `path` names it in errors, and files it names are looked for in `dir`.
    ///
    /// # Errors
    /// As [`Task::open`].
    pub fn parse(text: &str, path: &Path, dir: &Path) -> Result<Task, TaskError> {
        file::parse(text, path, dir)
    }

    /// All tasks of a directory, by name. A directory that is not there has none.
    ///
    /// # Errors
    /// The first file that cannot be used, or two tasks of one name.
    pub fn open_dir(dir: &Path) -> Result<Vec<Task>, TaskError> {
        let mut paths = Vec::new();
        if dir.is_dir() {
            for entry in fs_err::read_dir(dir)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        let mut tasks: Vec<Task> = Vec::new();
        for path in paths {
            let task = Task::open(&path)?;
            if tasks.iter().any(|other| other.name == task.name) {
                let why = format!("{} has the same name", path.display());
                return Err(TaskError::Field { task: task.name, field: "name".into(), why });
            }
            tasks.push(task);
        }
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tasks)
    }

    /// The labels, if it has any, [`Classify::none`] last.
    #[must_use]
    pub fn label_names(&self) -> Vec<&str> {
        match &self.output {
            Output::Classify(classify) => classify.names().collect(),
            Output::Fields(_) => Vec::new(),
        }
    }

    /// The right answer that a table's field holds: a label, labels between separators, or JSON.
    ///
    /// # Errors
    /// [`RowError::Input`] if that is no answer of this task.
    pub fn answer_from(&self, value: &Value, separator: &str) -> Result<Value, RowError> {
        let text = text_of(value);
        let invalid = |why: String| RowError::Input { field: "answer".to_owned(), why };
        let answer = match &self.output {
            Output::Classify(Classify { mode: Mode::Many, .. }) if !value.is_array() => {
                text.split(separator).map(str::trim).filter(|label| !label.is_empty()).map(Value::from).collect()
            }
            Output::Classify(Classify { mode: Mode::Many, .. }) => value.clone(),
            Output::Classify(_) => Value::from(text.trim()),
            Output::Fields(_) if value.is_object() => value.clone(),
            Output::Fields(_) => {
                serde_json::from_str(&text).map_err(|error| invalid(format!("is no JSON: {error}")))?
            }
        };
        file::check_answer(&answer, &self.output).map_err(invalid)?;
        Ok(answer)
    }

    /// The object that columns named like the fields make; numbers are read as such where the schema says so.
    #[must_use]
    pub fn answer_from_fields(&self, columns: &serde_json::Map<String, Value>) -> Value {
        let Output::Fields(fields) = &self.output else { return Value::Null };
        let typed = |name: &str| {
            let value = columns.get(name)?;
            let text = text_of(value);
            if !value.is_string() {
                return Some(value.clone());
            }
            let kind = fields.schema.value()["properties"][name]["type"].clone();
            let wants =
                |wanted: &str| kind == wanted || kind.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == wanted));
            match text.trim() {
                "" => None,
                text if wants("number") || wants("integer") || wants("boolean") => {
                    Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
                }
                text => Some(Value::from(text)),
            }
        };
        Value::Object(fields.schema.fields().filter_map(|name| Some((name.to_owned(), typed(name)?))).collect())
    }
}

impl Classify {
    /// All names that an answer may have, [`Classify::none`] last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| &*label.name).chain(self.none.as_deref())
    }

    /// The index of a name among [`Classify::names`].
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names().position(|known| known == name)
    }
}

/// SHA-256 of parts, in hex.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(hasher)
}

/// SHA-256 of a file's content, in hex.
pub(crate) fn file_hash(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = fs_err::File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hasher)),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_bounded(path: &Path) -> Result<String, TaskError> {
    let size = fs_err::metadata(path)?.len();
    if size > MAX_FILE_BYTES {
        let why = format!("has {size} bytes, more than the {MAX_FILE_BYTES} that are read");
        return Err(TaskError::Syntax { path: path.to_owned(), why });
    }
    let bytes = fs_err::read(path)?;
    String::from_utf8(bytes)
        .map_err(|error| TaskError::Syntax { path: path.to_owned(), why: format!("is not UTF-8: {error}") })
}
