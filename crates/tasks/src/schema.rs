//! The schema of a task's output: one validator for examples, answers and what a remote model says.

use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

/// Deepest nesting of a schema.
const MAX_DEPTH: usize = 32;

/// A JSON Schema of an object, compiled. Nothing is ever fetched for it.
#[derive(Debug, Clone)]
pub struct OutputSchema {
    value: Value,
    validator: Arc<Validator>,
}

impl OutputSchema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// What is wrong with it and what would be right, as a text that follows the name of its key.
    pub fn new(value: Value) -> Result<Self, String> {
        if value.get("type").and_then(Value::as_str) != Some("object")
            || !value.get("properties").is_some_and(Value::is_object)
        {
            return Err("must be of \"type\": \"object\" with \"properties\"".to_owned());
        }
        walk(&value, "", 0)?;
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
        let validator = options.build(&value).map_err(|error| format!("is no valid JSON Schema: {error}"))?;
        Ok(OutputSchema { value, validator: Arc::new(validator) })
    }

    /// The schema itself.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The names of the object's fields, in the schema's order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.value["properties"].as_object().into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    /// Whether the schema names this field.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.value["properties"].get(field).is_some()
    }

    /// Whether a value is valid.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn validate(&self, value: &Value) -> Result<(), String> {
        match self.validator.iter_errors(value).next() {
            None => Ok(()),
            Some(error) => {
                let path = error.instance_path().to_string();
                let at = if path.is_empty() { String::new() } else { format!(" at {path}") };
                Err(format!("{error}{at}"))
            }
        }
    }
}

/// References must stay inside the schema, and nesting within what validators and grammars recurse into.
fn walk(value: &Value, path: &str, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nests more than {MAX_DEPTH} levels deep at {path}"));
    }
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, inner)| {
            if (key == "$ref" || key == "$dynamicRef")
                && let Value::String(target) = inner
                && !target.starts_with('#')
            {
                return Err(format!(
                    "'{key}' at {path} points to '{target}', outside the schema; put it under '$defs'"
                ));
            }
            walk(inner, &format!("{path}/{key}"), depth + 1)
        }),
        Value::Array(list) => {
            list.iter().enumerate().try_for_each(|(i, inner)| walk(inner, &format!("{path}/{i}"), depth + 1))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: Value) -> String {
        OutputSchema::new(schema).unwrap_err()
    }

    #[test]
    fn only_objects_that_stand_alone_are_taken() {
        assert!(refused(json!({ "type": "array" })).contains("object"));
        assert!(refused(json!({ "type": "object" })).contains("properties"));
        let remote = json!({ "type": "object", "properties": { "a": { "$ref": "https://example.com/a.json" } } });
        assert!(refused(remote).contains("outside the schema"));
        let deep = (0..40).fold(json!({}), |inner, _| json!({ "type": "object", "properties": { "a": inner } }));
        assert!(refused(deep).contains("levels deep"));
        assert!(
            refused(json!({ "type": "object", "properties": { "a": { "type": "nonsense" } } }))
                .contains("valid JSON Schema")
        );
        let recursive =
            json!({ "type": "object", "properties": { "next": { "$ref": "#" }, "n": { "type": "integer" } } });
        let schema = OutputSchema::new(recursive).unwrap();
        assert!(schema.validate(&json!({ "next": { "next": {}, "n": 1 } })).is_ok());
        assert!(schema.validate(&json!({ "next": { "n": "x" } })).unwrap_err().contains("/next/n"));
    }
}
