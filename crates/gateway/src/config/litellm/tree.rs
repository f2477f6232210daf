use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{ImportError, Note};

/// The file as a tree. YAML's aliases and merge keys are resolved, under limits on what they may grow to.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, ImportError> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| ImportError::Yaml { why: e.to_string().trim_end().to_owned() })?;
    match value {
        Value::Object(root) => Ok(root),
        Value::Null => Ok(Map::new()),
        _ => Err(ImportError::Yaml { why: "it is no mapping; LiteLLM's begins with keys such as model_list".into() }),
    }
}

/// Notes, one for all keys of a kind of which the same is to be said.
#[derive(Default)]
pub(super) struct Notes {
    notes: Vec<Note>,
    by_kind: HashMap<(String, String), usize>,
}

impl Notes {
    pub(super) fn add(&mut self, key: impl Into<String>, what: impl Into<String>) {
        let (key, what) = (key.into(), what.into());
        // `model_list[3].x` is of the kind `model_list[].x`.
        let kind: String = key.chars().filter(|c| !c.is_ascii_digit()).collect();
        match self.by_kind.get(&(kind.clone(), what.clone())).and_then(|at| self.notes.get_mut(*at)) {
            Some(note) => note.more += 1,
            None => {
                self.by_kind.insert((kind, what.clone()), self.notes.len());
                self.notes.push(Note { key, what, more: 0 });
            }
        }
    }

    pub(super) fn done(self) -> Vec<Note> {
        self.notes
    }
}

/// A mapping of which keys are taken one by one, so that what is left is known.
pub(super) struct Table {
    /// Where it stands.
    pub(super) at: String,
    keys: Map<String, Value>,
}

impl Table {
    pub(super) fn new(at: impl Into<String>, keys: Map<String, Value>) -> Self {
        Self { at: at.into(), keys }
    }

    /// The full name of a key.
    pub(super) fn path(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) }
    }

    /// A key's value, which counts as read from now on; null is nothing.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.shift_remove(key).filter(|value| !value.is_null())
    }

    fn fault(&self, key: &str, expected: &str) -> ImportError {
        ImportError::Shape { key: self.path(key), why: format!("is no {expected}") }
    }

    /// A text; numbers are texts, too, for YAML has no quotes around many of either.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, ImportError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.fault(key, "text")),
        }
    }

    /// A number that is not negative; LiteLLM lets them be quoted and have underscores.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>, ImportError> {
        let read = match self.take(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.replace('_', "").trim().parse().ok(),
            Some(_) => None,
        };
        match read.filter(|number: &f64| *number >= 0.0 && number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(key, "number of at least 0")),
        }
    }

    pub(super) fn table(&mut self, key: &str) -> Result<Option<Table>, ImportError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(keys)) => Ok(Some(Table::new(self.path(key), keys))),
            Some(_) => Err(self.fault(key, "mapping")),
        }
    }

    pub(super) fn list(&mut self, key: &str) -> Result<Vec<Value>, ImportError> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.fault(key, "list")),
        }
    }

    /// Puts in what is not there.
    pub(super) fn fill(&mut self, keys: &Map<String, Value>) {
        for (key, value) in keys {
            self.keys.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }

    /// Keys that nobody took yet, with their full names.
    pub(super) fn names(&self) -> Vec<(String, String)> {
        self.keys.keys().map(|key| (key.clone(), self.path(key))).collect()
    }

    /// What nobody took.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, String)> {
        let at = self.at;
        self.keys.into_iter().filter(|(_, value)| !value.is_null()).map(move |(key, _)| {
            let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            (key, path)
        })
    }
}
