//! What an answer must follow: `response_format` and `structured_outputs`.

use bantam_engine::{Grammar, GrammarError, GrammarSource};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::model::ServedModel;

/// A source, and the field it came from.
pub(super) struct Wanted {
    pub(super) param: String,
    pub(super) source: GrammarSource,
}

impl Wanted {
    pub(super) fn compile(self, model: &ServedModel) -> Result<Grammar, ApiError> {
        let Wanted { param, source } = self;
        model.engine.compile_grammar(&source).map_err(|error| fault(&error, &param))
    }
}

/// Blames the field, and the place in it.
pub(super) fn fault(error: &GrammarError, param: &str) -> ApiError {
    let dot = if error.path().is_empty() { "" } else { "." };
    ApiError::field(format!("{param}{dot}{}", error.path()), error.why())
}

/// OpenAI's field; `text` asks for nothing.
pub(super) fn response_format(value: Option<Value>) -> Result<Option<Wanted>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let Value::Object(mut format) = value else {
        return Err(ApiError::field("response_format", "must be an object with a 'type'"));
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Wanted { param: "response_format".into(), source: GrammarSource::JsonObject })),
        Some("json_schema") => json_schema(format.remove("json_schema")).map(Some),
        Some(other) => {
            let why = format!("'{other}' is none of text, json_object, json_schema");
            Err(ApiError::field("response_format.type", why))
        }
        None => Err(ApiError::field("response_format.type", "must be one of text, json_object, json_schema")),
    }
}

/// The schema is enforced whether or not `strict` says so: there is nothing that this server would enforce less.
fn json_schema(value: Option<Value>) -> Result<Wanted, ApiError> {
    let param = "response_format.json_schema";
    let Some(Value::Object(mut named)) = value else {
        return Err(ApiError::field(param, "must be an object with 'name' and 'schema'"));
    };
    match named.get("name") {
        Some(Value::String(name)) if is_name(name) => {}
        _ => return Err(ApiError::field(format!("{param}.name"), NAME)),
    }
    if !matches!(named.get("strict"), None | Some(Value::Null | Value::Bool(_))) {
        return Err(ApiError::field(format!("{param}.strict"), "must be true or false"));
    }
    let param = format!("{param}.schema");
    match named.remove("schema") {
        Some(schema @ Value::Object(_)) => Ok(Wanted { param, source: GrammarSource::JsonSchema(schema) }),
        _ => Err(ApiError::field(param, "must be a JSON Schema, which is an object")),
    }
}

/// vLLM's field: exactly one of its members says what to follow.
pub(super) fn structured_outputs(value: Option<Value>) -> Result<Option<Wanted>, ApiError> {
    let param = "structured_outputs";
    let members: Map<String, Value> = match value {
        None => return Ok(None),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(ApiError::field(param, "must be an object")),
    };
    let mut members: Vec<_> = members.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let (Some((name, value)), true) = (members.pop(), members.is_empty()) else {
        return Err(ApiError::field(param, "must have one of json, json_object, regex, choice, grammar, and only one"));
    };
    let param = format!("{param}.{name}");
    let source = match (name.as_str(), value) {
        // vLLM takes the schema as text too.
        ("json", Value::String(text)) => match serde_json::from_str(&text) {
            Ok(schema) => GrammarSource::JsonSchema(schema),
            Err(error) => return Err(ApiError::field(param, format!("is not JSON: {error}"))),
        },
        ("json", schema @ Value::Object(_)) => GrammarSource::JsonSchema(schema),
        ("json_object", Value::Bool(true)) => GrammarSource::JsonObject,
        ("json_object", Value::Bool(false)) => return Ok(None),
        ("regex", Value::String(regex)) => GrammarSource::Regex(regex),
        ("grammar", Value::String(grammar)) => GrammarSource::Lark(grammar),
        ("choice", Value::Array(texts)) => {
            let text = |(i, value)| match value {
                Value::String(text) => Ok(text),
                _ => Err(ApiError::field(format!("{param}[{i}]"), "must be a string")),
            };
            GrammarSource::Choice(texts.into_iter().enumerate().map(text).collect::<Result<_, _>>()?)
        }
        ("json", _) => return Err(ApiError::field(param, "must be a JSON Schema, which is an object")),
        ("json_object", _) => return Err(ApiError::field(param, "must be true or false")),
        ("regex" | "grammar", _) => return Err(ApiError::field(param, "must be a string")),
        ("choice", _) => return Err(ApiError::field(param, "must be an array of strings")),
        _ => {
            return Err(ApiError::unsupported(param, "this server knows json, json_object, regex, choice and grammar"));
        }
    };
    Ok(Some(Wanted { param, source }))
}

/// What names of schemas and functions must be.
pub(super) const NAME: &str = "must be 1 to 64 letters, digits, '_' or '-'";

pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
