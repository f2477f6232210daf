//! What chat and completion requests share, and how both are read.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// Why a request body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON at all (or nested too deeply).
    #[error("the body is not valid JSON: {message}")]
    Syntax {
        /// What the JSON reader said, with line and column.
        message: String,
    },
    /// JSON, but a field has the wrong type or is missing.
    #[error("invalid value for '{path}': {message}")]
    Field {
        /// Where, such as `messages[0].content`; `.` for the body itself.
        path: String,
        /// What was found and what was expected.
        message: String,
    },
}

/// A request body made of the [`Common`] fields and those of its own.
pub trait WireRequest: Sized {
    /// The fields that only this request has.
    type Own: DeserializeOwned;
    /// Puts the two halves together.
    fn from_parts(common: Common, own: Self::Own) -> Self;
    /// The shared half.
    fn common(&self) -> &Common;
}

/// Reads a request body. Fields that no type names are ignored.
///
/// # Errors
/// [`ParseError::Syntax`] if the bytes are not JSON, [`ParseError::Field`] if a field has the wrong type.
pub fn parse<R: WireRequest>(body: &[u8]) -> Result<R, ParseError> {
    read_value(&parse_object(body)?)
}

/// Reads a request body that has been read as JSON.
///
/// # Errors
/// [`ParseError::Field`].
pub fn read_value<R: WireRequest>(body: &Value) -> Result<R, ParseError> {
    Ok(R::from_parts(view(body)?, view(body)?))
}

/// Reads a request body that has been read as JSON and has none of the [`Common`] fields.
///
/// # Errors
/// [`ParseError::Field`].
pub fn read_fields<T: DeserializeOwned>(body: &Value) -> Result<T, ParseError> {
    view(body)
}

/// Reads a request body that has none of the [`Common`] fields.
///
/// # Errors
/// As [`parse`].
pub fn parse_fields<T: DeserializeOwned>(body: &[u8]) -> Result<T, ParseError> {
    view(&parse_object(body)?)
}

/// Reads a request body as JSON.
///
/// # Errors
/// [`ParseError::Syntax`] if the bytes are not JSON, [`ParseError::Field`] if they are no object.
pub fn parse_object(body: &[u8]) -> Result<Value, ParseError> {
    let value: Value = serde_json::from_slice(body).map_err(|e| ParseError::Syntax { message: e.to_string() })?;
    if !value.is_object() {
        return Err(ParseError::Field { path: ".".into(), message: "the body must be a JSON object".into() });
    }
    Ok(value)
}

fn view<T: DeserializeOwned>(value: &Value) -> Result<T, ParseError> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let message = e.inner().to_string();
        // A missing field is reported at the object that lacks it; clients want the field itself.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let path = match (e.path().to_string().as_str(), missing) {
            (".", Some(field)) => field.to_string(),
            (at, Some(field)) => format!("{at}.{field}"),
            (at, None) => at.to_string(),
        };
        ParseError::Field { path, message }
    })
}

/// Fields that `/v1/chat/completions` and `/v1/completions` share, ours included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    /// Name of the model; required, but checked by the server so that its error can name what it serves.
    pub model: Option<String>,
    /// Whether to answer with server-sent events.
    pub stream: Option<bool>,
    /// Options of the stream.
    pub stream_options: Option<StreamOptions>,
    /// How many answers to give per prompt.
    pub n: Option<i64>,
    /// Upper bound on generated tokens.
    pub max_tokens: Option<i64>,
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Extension: sample among the k most likely tokens; 0 or -1 is off.
    pub top_k: Option<i64>,
    /// Extension: drop tokens less likely than this share of the likeliest.
    pub min_p: Option<f64>,
    /// Extension: divide the logits of tokens already seen by this.
    pub repetition_penalty: Option<f64>,
    /// Subtracted once from the logit of a token that was generated before.
    pub presence_penalty: Option<f64>,
    /// Subtracted per earlier occurrence.
    pub frequency_penalty: Option<f64>,
    /// Token id (as text) to a value added to its logit.
    pub logit_bias: Option<Map<String, Value>>,
    /// Makes sampling repeatable.
    pub seed: Option<Number>,
    /// Strings that end the answer.
    pub stop: Option<OneOrMany>,
    /// Extension: token ids that end the answer.
    pub stop_token_ids: Option<Vec<i64>>,
    /// Extension, as vLLM has it: what the answer must follow, by one of `json`, `json_object`, `regex`, `choice` and
    /// `grammar`.
    pub structured_outputs: Option<Value>,
    /// Extension: do not stop where the model would end its turn.
    pub ignore_eos: Option<bool>,
}

/// `stream_options`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamOptions {
    /// Whether a last chunk carries the usage.
    pub include_usage: Option<bool>,
}

/// A string or a list of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One string.
    One(String),
    /// A list, possibly empty.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The strings as a list.
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(s) => vec![s],
            Self::Many(v) => v,
        }
    }
}

// Written out instead of `#[serde(untagged)]`, which would lose the path of the element at fault.
impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }
            fn visit_str<E>(self, s: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(s.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(V)
    }
}
