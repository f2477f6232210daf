//! What grammars are made from.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{error::GrammarError, schema};

/// Longest JSON Schema, in bytes of its shortest spelling.
pub const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Longest regular expression, in bytes.
pub const MAX_REGEX_BYTES: usize = 16 << 10;
/// Longest Lark grammar, in bytes.
pub const MAX_GRAMMAR_BYTES: usize = 64 << 10;
/// Most texts to choose from.
pub const MAX_CHOICES: usize = 4096;

/// Brackets that may be open at one time in a Lark grammar.
const MAX_NESTING: usize = 128;

/// What an answer must follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrammarSource {
    /// JSON that is valid under a schema (Draft 4 to 2020-12; properties come in the order in which it lists them).
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// A text that a regular expression matches as a whole (without look-around and back-references).
    Regex(String),
    /// A grammar in `llguidance`'s variant of Lark.
    Lark(String),
    /// One of several texts.
    Choice(Vec<String>),
    /// Any text without `open` in it, or such a text, `open`, JSON that is valid under `schema`, and `close`.
    TextOrJson {
        /// What announces JSON.
        open: String,
        /// What comes after it.
        close: String,
        /// What it must be valid under.
        schema: Value,
    },
}

impl GrammarSource {
    /// All that a grammar depends on, as text. Objects are written in the order of their keys, which is part of it.
    pub(super) fn key(&self) -> Result<String, GrammarError> {
        let limited = |what, text: String, max| match text.len() {
            size if size > max => Err(GrammarError::TooLarge { what, size, max }),
            _ => Ok(text),
        };
        let schema = |schema: &Value| limited("schema", schema.to_string(), MAX_SCHEMA_BYTES);
        match self {
            GrammarSource::JsonSchema(value) => Ok(format!("json {}", schema(value)?)),
            GrammarSource::JsonObject => Ok("object".to_owned()),
            GrammarSource::Regex(regex) => Ok(format!("regex {}", limited("regex", regex.clone(), MAX_REGEX_BYTES)?)),
            GrammarSource::Lark(text) => Ok(format!("lark {}", limited("grammar", text.clone(), MAX_GRAMMAR_BYTES)?)),
            GrammarSource::Choice(texts) => {
                Ok(format!("choice {}", limited("choice", json!(texts).to_string(), MAX_GRAMMAR_BYTES)?))
            }
            GrammarSource::TextOrJson { open, close, schema: value } => {
                Ok(format!("call {} {}", json!([open, close]), schema(value)?))
            }
        }
    }

    pub(super) fn to_llguidance(&self) -> Result<TopLevelGrammar, GrammarError> {
        let grammar = match self {
            GrammarSource::JsonSchema(value) => GrammarWithLexer::from_json_schema(schema::prepare(value)?),
            GrammarSource::JsonObject => {
                GrammarWithLexer::from_json_schema(schema::prepare(&json!({ "type": "object" }))?)
            }
            GrammarSource::Regex(regex) => GrammarWithLexer::from_regex(regex),
            GrammarSource::Lark(text) => {
                check_nesting(text)?;
                GrammarWithLexer::from_lark(text.clone())
            }
            GrammarSource::Choice(texts) => GrammarWithLexer::from_lark(choice(texts)?),
            GrammarSource::TextOrJson { open, close, schema: value } => {
                GrammarWithLexer::from_lark(text_or_json(open, close, &schema::prepare(value)?))
            }
        };
        Ok(TopLevelGrammar::from_grammar(grammar))
    }
}

fn choice(texts: &[String]) -> Result<String, GrammarError> {
    let malformed = |why: &str| Err(GrammarError::Malformed { path: String::new(), why: why.to_owned() });
    if texts.is_empty() {
        return malformed("there must be at least one text to choose");
    }
    if texts.len() > MAX_CHOICES {
        return malformed(&format!("at most {MAX_CHOICES} texts can be chosen from, there are {}", texts.len()));
    }
    if texts.iter().any(String::is_empty) {
        return malformed("a text to choose must not be empty");
    }
    let texts: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
    Ok(format!("start: CHOICE\nCHOICE: {}", texts.join(" | ")))
}

/// The text before a call is one lexeme that ends as soon as `open` is complete; text without a call never has it.
fn text_or_json(open: &str, close: &str, schema: &Value) -> String {
    let (open, close) = (json!(open), json!(close));
    format!(
        "start: TEXT | opened %json {schema} {close}\nopened[lazy]: ANY {open}\n\
         ANY: /(?s:.*)/\nTEXT: ANY & ~(ANY {open} ANY)"
    )
}

/// Parsers of Lark recurse into brackets. Those in strings and regular expressions do not count.
fn check_nesting(lark: &str) -> Result<(), GrammarError> {
    let (mut open, mut quote, mut escaped) = (0usize, None, false);
    for byte in lark.bytes() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            // Neither goes on past its line; a slash may also be a comment's.
            (Some(_), b'\n') => quote = None,
            (Some(q), b) if b == q => quote = None,
            (None, b'"' | b'/') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => open += 1,
            (None, b')' | b']' | b'}') => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_NESTING {
            let why = format!("more than {MAX_NESTING} brackets are open at one time");
            return Err(GrammarError::Malformed { path: String::new(), why });
        }
    }
    Ok(())
}
