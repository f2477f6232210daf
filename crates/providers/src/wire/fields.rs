//! Objects taken apart field by field, so that what is wrong has a path and what nobody took is not lost.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::WireError;

/// Names a value for an error message.
pub(super) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn expected(path: &str, what: &str, found: &Value) -> WireError {
    WireError::field(path, format!("expected {what}, found {}", describe(found)))
}

/// An object, the place where it stands, and those of its fields that nobody took yet. A field that is null is absent.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The body itself.
    pub(super) fn body(value: Value) -> Result<Self, WireError> {
        match value {
            Value::Object(map) => Ok(Self { path: String::new(), map }),
            other => Err(expected(".", "a JSON object", &other)),
        }
    }

    pub(super) fn at(path: String, value: Value) -> Result<Self, WireError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(expected(&path, "an object", &other)),
        }
    }

    /// Where a field of this object stands.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|v| !v.is_null())
    }

    /// The `type` of an object, left where it is.
    pub(super) fn kind(&self) -> Option<&str> {
        self.map.get("type").and_then(Value::as_str)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|v| !v.is_null())
    }

    pub(super) fn required(&mut self, key: &str) -> Result<Value, WireError> {
        self.take(key).ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> WireError {
        WireError::field(self.path(key), "the field is missing")
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, WireError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(expected(&self.path(key), "a string", &other)),
        }
    }

    pub(super) fn required_text(&mut self, key: &str) -> Result<String, WireError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, WireError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(b)),
            Some(other) => Err(expected(&self.path(key), "a boolean", &other)),
        }
    }

    pub(super) fn number(&mut self, key: &str) -> Result<Option<serde_json::Number>, WireError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Number(n)) => Ok(Some(n)),
            Some(other) => Err(expected(&self.path(key), "a number", &other)),
        }
    }

    pub(super) fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, WireError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(expected(&self.path(key), "an array", &other)),
        }
    }

    /// The objects of a list, each with its place.
    pub(super) fn objects(&mut self, key: &str) -> Result<Option<Vec<Fields>>, WireError> {
        let Some(list) = self.list(key)? else { return Ok(None) };
        objects(&self.path(key), list).map(Some)
    }

    pub(super) fn required_objects(&mut self, key: &str) -> Result<Vec<Fields>, WireError> {
        self.objects(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Fields>, WireError> {
        self.take(key).map(|value| Fields::at(self.path(key), value)).transpose()
    }

    pub(super) fn required_object(&mut self, key: &str) -> Result<Fields, WireError> {
        self.object(key)?.ok_or_else(|| self.missing(key))
    }

    /// Forgets hints that the other API has no place for.
    pub(super) fn drop(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.remove(*key);
        }
    }

    /// Refuses a field that asks for what the other API cannot do.
    pub(super) fn refuse(&mut self, key: &str, why: &str) -> Result<(), WireError> {
        match self.take(key) {
            None => Ok(()),
            Some(_) => Err(WireError::unsupported(self.path(key), why)),
        }
    }

    /// Refuses a field unless it has the value that asks for nothing.
    pub(super) fn refuse_unless(&mut self, key: &str, idle: &Value, why: &str) -> Result<(), WireError> {
        match self.take(key) {
            Some(value) if !same(&value, idle) => Err(WireError::unsupported(self.path(key), why)),
            _ => Ok(()),
        }
    }

    /// The refusal of something that stands at a field.
    pub(super) fn unsupported(&self, key: &str, why: impl Into<String>) -> WireError {
        WireError::unsupported(self.path(key), why)
    }

    /// The refusal of the value of a field.
    pub(super) fn invalid(&self, key: &str, why: impl Into<String>) -> WireError {
        WireError::field(self.path(key), why)
    }

    /// Moves a field to `out`, under another name.
    pub(super) fn rename(&mut self, from: &str, to: &str, out: &mut Map<String, Value>) {
        if let Some(value) = self.take(from) {
            out.insert(to.to_owned(), value);
        }
    }

    /// Moves fields that both APIs have to `out`.
    pub(super) fn keep(&mut self, keys: &[&str], out: &mut Map<String, Value>) {
        for key in keys {
            self.rename(key, key, out);
        }
    }

    /// Passes on what neither API describes here; the server decides about it.
    pub(super) fn pass_rest(self, out: &mut Map<String, Value>) {
        for (key, value) in self.map {
            if !value.is_null() && !out.contains_key(&key) {
                out.insert(key, value);
            }
        }
    }
}

/// The objects of a list that stands at `path`.
pub(super) fn objects(path: &str, list: Vec<Value>) -> Result<Vec<Fields>, WireError> {
    let mut at = String::new();
    list.into_iter()
        .enumerate()
        .map(|(i, value)| {
            at.clear();
            let _ = write!(at, "{path}[{i}]");
            Fields::at(at.clone(), value)
        })
        .collect()
}

/// Equal, where 0 and 0.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64())
}
