//! The conversation in, and `tojson` out. The filter writes what Python's `json.dumps` writes, as Hugging Face replaces
//! Jinja's own filter, which escapes for HTML.

use serde_json::Value as Json;

use super::budget::{Budget, Eval, TextBuilder, failed};
use super::text::float_repr;
use super::value::{SeqKind, Value};

/// A JSON value as a template sees it. Depth is limited by the budget.
pub(super) fn from_json(budget: &mut Budget, json: &Json) -> Eval<Value> {
    from_json_at(budget, json, 0)
}

fn from_json_at(budget: &mut Budget, json: &Json, depth: u32) -> Eval<Value> {
    // The depth of what is built is checked when it is, which is after the recursion.
    if depth > 200 {
        return failed("the conversation is nested too deeply");
    }
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(number) => match number.as_i128() {
            Some(i) => Value::Int(i),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => budget.text(text)?,
        Json::Array(items) => {
            let items = items.iter().map(|item| from_json_at(budget, item, depth + 1)).collect::<Eval<_>>()?;
            budget.list(items)?
        }
        Json::Object(map) => {
            let entries =
                map.iter().map(|(key, value)| Ok((budget.text(key)?, from_json_at(budget, value, depth + 1)?)));
            let entries = entries.collect::<Eval<_>>()?;
            budget.dict(entries)?
        }
    })
}

/// Bytes of text in a JSON value, as a measure of its size.
pub(super) fn json_size(json: &Json) -> u64 {
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => 8 + text.len() as u64,
        Json::Array(items) => 8 + items.iter().map(json_size).sum::<u64>(),
        Json::Object(map) => 8 + map.iter().map(|(key, value)| 8 + key.len() as u64 + json_size(value)).sum::<u64>(),
    }
}

/// How `tojson` writes.
#[derive(Debug)]
pub(super) struct JsonStyle {
    pub(super) ensure_ascii: bool,
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
}

/// Python's `json.dumps`.
pub(super) fn push_json(out: &mut TextBuilder<'_>, value: &Value, style: &JsonStyle, level: usize) -> Eval<()> {
    out.budget.steps(1)?;
    match value {
        Value::None => out.push("null"),
        Value::Bool(b) => out.push(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push(&i.to_string()),
        Value::Float(x) => out.push(&json_float(*x)),
        Value::Str(text) => push_json_str(out, text, style.ensure_ascii),
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            if seq.items.is_empty() {
                return out.push("[]");
            }
            out.push("[")?;
            for (index, item) in seq.items.iter().enumerate() {
                push_separator(out, style, index, level + 1)?;
                push_json(out, item, style, level + 1)?;
            }
            push_newline(out, style, level)?;
            out.push("]")
        }
        Value::Dict(dict) => {
            if dict.entries.is_empty() {
                return out.push("{}");
            }
            let mut entries = Vec::with_capacity(dict.entries.len());
            for (key, value) in &dict.entries {
                entries.push((json_key(key)?, value));
            }
            if style.sort_keys {
                out.budget.steps(entries.len() as u64 * 8)?;
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            out.push("{")?;
            for (index, (key, value)) in entries.into_iter().enumerate() {
                push_separator(out, style, index, level + 1)?;
                push_json_str(out, &key, style.ensure_ascii)?;
                out.push(&style.key_separator)?;
                push_json(out, value, style, level + 1)?;
            }
            push_newline(out, style, level)?;
            out.push("}")
        }
        other => failed(format!("{} cannot be written as JSON", other.type_name())),
    }
}

fn push_separator(out: &mut TextBuilder<'_>, style: &JsonStyle, index: usize, level: usize) -> Eval<()> {
    if index > 0 {
        out.push(&style.item_separator)?;
    }
    push_newline(out, style, level)
}

fn push_newline(out: &mut TextBuilder<'_>, style: &JsonStyle, level: usize) -> Eval<()> {
    let Some(indent) = &style.indent else { return Ok(()) };
    out.push("\n")?;
    out.push_repeated(indent, level)
}

fn json_float(x: f64) -> String {
    if x.is_nan() {
        "NaN".into()
    } else if x.is_infinite() {
        if x > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        float_repr(x)
    }
}

fn json_key(key: &Value) -> Eval<String> {
    Ok(match key {
        Value::Str(text) => text.to_string(),
        Value::None => "null".into(),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::Int(i) => i.to_string(),
        Value::Float(x) => json_float(*x),
        other => return failed(format!("a {} cannot be a key in JSON", other.type_name())),
    })
}

fn push_json_str(out: &mut TextBuilder<'_>, text: &str, ensure_ascii: bool) -> Eval<()> {
    out.budget.bytes(text.len())?;
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\x0c' => json.push_str("\\f"),
            '\x08' => json.push_str("\\b"),
            c if c < ' ' || (ensure_ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    json.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => json.push(c),
        }
    }
    json.push('"');
    out.push(&json)
}
