//! What of JSON Schema is taken.
//!
//! The grammar engine ignores keywords that it does not know, and says of those it knows and cannot enforce only that
//! there is one. So a schema is walked here first, as far as its references reach: what cannot be enforced is refused
//! by name and place, what cannot matter is taken out, and references are followed as deeply as the grammar engine
//! will follow them, so that its recursion is bounded.

use std::collections::HashSet;

use llguidance::JsonCompileOptions;
use serde_json::Value;

use super::error::GrammarError;

/// Levels of a schema, references followed.
const MAX_DEPTH: usize = 256;

/// Assertions and applicators of any draft that are not enforced.
const UNSUPPORTED: [&str; 19] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$recursiveRef",
    "$recursiveAnchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "divisibleBy",
];

/// Formats of strings that are enforced.
const FORMATS: [&str; 11] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown"];

/// Bounds of numbers beyond this are moved to it where that allows less and not more: the grammar engine computes with
/// 64 bits.
const MAX_BOUND: f64 = 9.2e18;

/// Largest number, its decimal point taken out, whose multiples are told by digits.
const MAX_MULTIPLE: f64 = 20_000.0;

/// A change to make at a place in the schema: another value for a keyword, or none.
struct Edit {
    pointer: String,
    keyword: &'static str,
    value: Option<Value>,
}

struct Walk<'a> {
    root: &'a Value,
    /// What the schema calls itself: references that begin with it stay inside.
    id: Option<&'a str>,
    /// References that have been followed.
    seen: HashSet<String>,
    edits: Vec<Edit>,
}

/// Where the walk is, for machines (a JSON pointer) and for people.
#[derive(Clone, Default)]
struct Place {
    pointer: String,
    path: String,
    /// Where the innermost schema with an `$id` around it is: local references begin there.
    base: String,
}

impl Place {
    fn key(&self, key: &str) -> Place {
        let dot = if self.path.is_empty() { "" } else { "." };
        let (pointer, path) = (format!("{}/{}", self.pointer, escape(key)), format!("{}{dot}{key}", self.path));
        Place { pointer, path, base: self.base.clone() }
    }

    fn index(&self, index: usize) -> Place {
        let (pointer, path) = (format!("{}/{index}", self.pointer), format!("{}[{index}]", self.path));
        Place { pointer, path, base: self.base.clone() }
    }

    fn malformed(&self, why: impl Into<String>) -> GrammarError {
        GrammarError::Malformed { path: self.path.clone(), why: why.into() }
    }

    fn unsupported(&self, keyword: &str, why: impl Into<String>) -> GrammarError {
        GrammarError::UnsupportedKeyword { path: self.path.clone(), keyword: keyword.to_owned(), why: why.into() }
    }
}

/// Checks a schema and gives it as the grammar engine is to read it.
pub(super) fn prepare(schema: &Value) -> Result<Value, GrammarError> {
    let id = schema.get("$id").or_else(|| schema.get("id")).and_then(Value::as_str);
    let id = id.map(|id| id.trim_end_matches('#')).filter(|id| !id.is_empty());
    let mut walk = Walk { root: schema, id, seen: HashSet::new(), edits: Vec::new() };
    walk.schema(schema, &Place::default(), 0)?;
    let edits = walk.edits;
    let mut schema = match schema {
        Value::Bool(true) => Value::Object(serde_json::Map::new()),
        Value::Bool(false) => return Err(GrammarError::Empty),
        other => other.clone(),
    };
    for edit in edits {
        let Some(object) = schema.pointer_mut(&edit.pointer).and_then(Value::as_object_mut) else { continue };
        match edit.value {
            Some(value) => drop(object.insert(edit.keyword.into(), value)),
            // The order of the other keywords stays.
            None => drop(object.shift_remove(edit.keyword)),
        }
    }
    let options = JsonCompileOptions {
        item_separator: ", ".into(),
        key_separator: ": ".into(),
        whitespace_flexible: false,
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(schema)
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Value, at: &Place, depth: usize) -> Result<(), GrammarError> {
        if depth > MAX_DEPTH {
            return Err(GrammarError::TooDeep { path: at.path.clone(), max: MAX_DEPTH });
        }
        let object = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(object) => object,
            _ => return Err(at.malformed("a schema must be an object, true or false")),
        };
        let has_id = object.get("$id").and_then(Value::as_str).is_some_and(|id| !id.starts_with('#'));
        let at = &if has_id { Place { base: at.pointer.clone(), ..at.clone() } } else { at.clone() };
        for (keyword, value) in object {
            if let Some(&keyword) = UNSUPPORTED.iter().find(|name| *name == keyword) {
                if !is_harmless(keyword, value) {
                    return Err(at.unsupported(keyword, ""));
                }
                self.edit(at, keyword, None);
                continue;
            }
            let place = at.key(keyword);
            match keyword.as_str() {
                "additionalProperties" | "additionalItems" => self.schema(value, &place, depth + 1)?,
                "items" if !value.is_array() => self.schema(value, &place, depth + 1)?,
                "items" | "prefixItems" | "allOf" | "anyOf" | "oneOf" => {
                    let list = value.as_array().ok_or_else(|| place.malformed("must be an array of schemas"))?;
                    for (index, schema) in list.iter().enumerate() {
                        self.schema(schema, &place.index(index), depth + 1)?;
                    }
                }
                "properties" | "patternProperties" => {
                    let map = value.as_object().ok_or_else(|| place.malformed("must be an object of schemas"))?;
                    for (name, schema) in map {
                        self.schema(schema, &place.key(name), depth + 1)?;
                    }
                }
                "$ref" => {
                    let reference = value.as_str().ok_or_else(|| place.malformed("must be a string"))?;
                    self.reference(reference, at, depth)?;
                }
                "format" => self.format(object, value, at)?,
                "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" => self.bound(keyword, value, at)?,
                "multipleOf" => check_multiple(value, at)?,
                "minProperties" => check_min_properties(object, value, at)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn reference(&mut self, reference: &str, at: &Place, depth: usize) -> Result<(), GrammarError> {
        let remote =
            || GrammarError::RemoteRef { path: at.path.clone(), reference: reference.chars().take(200).collect() };
        let (base, local) = match self.id.and_then(|id| reference.strip_prefix(id)) {
            Some(local) => ("", local),
            None => (at.base.as_str(), reference),
        };
        let pointer = match local {
            "" | "#" | "#/" => "",
            local => local.strip_prefix('#').filter(|rest| rest.starts_with('/')).ok_or_else(remote)?,
        };
        let decoded = format!("{base}{}", percent_decoded(pointer));
        let dangling =
            || GrammarError::DanglingRef { path: at.path.clone(), reference: reference.chars().take(200).collect() };
        let target = self.root.pointer(&decoded).ok_or_else(dangling)?;
        let plain = format!("#{decoded}");
        // The grammar engine splits at every slash and decodes nothing.
        if decoded.contains('~') {
            return Err(at.unsupported("$ref", "the name it points to has '/' or '~' in it"));
        }
        if plain != reference {
            self.edit(at, "$ref", Some(Value::String(plain)));
        }
        if !self.seen.insert(decoded.clone()) {
            return Ok(());
        }
        let path = decoded.trim_start_matches('/').replace('/', ".");
        self.schema(target, &Place { pointer: decoded, path, base: at.base.clone() }, depth + 1)
    }

    fn edit(&mut self, at: &Place, keyword: &'static str, value: Option<Value>) {
        self.edits.push(Edit { pointer: at.pointer.clone(), keyword, value });
    }

    fn bound(&mut self, keyword: &str, value: &Value, at: &Place) -> Result<(), GrammarError> {
        let Some(bound) = value.as_f64().filter(|bound| bound.abs() > MAX_BOUND) else { return Ok(()) };
        let keyword = match (keyword, bound < 0.0) {
            ("minimum", true) => "minimum",
            ("exclusiveMinimum", true) => "exclusiveMinimum",
            ("maximum", false) => "maximum",
            ("exclusiveMaximum", false) => "exclusiveMaximum",
            _ => return Err(at.unsupported(keyword, format!("with a number beyond {MAX_BOUND:e}"))),
        };
        self.edit(at, keyword, Some(Value::from(bound.clamp(-MAX_BOUND, MAX_BOUND))));
        Ok(())
    }

    /// `format` says something of strings only.
    fn format(
        &mut self,
        object: &serde_json::Map<String, Value>,
        value: &Value,
        at: &Place,
    ) -> Result<(), GrammarError> {
        let may_be_string = match object.get("type") {
            None => true,
            Some(Value::Array(types)) => types.iter().any(|t| t == "string"),
            Some(one) => one == "string",
        };
        if !may_be_string {
            self.edit(at, "format", None);
            return Ok(());
        }
        match value.as_str() {
            Some(name) if FORMATS.contains(&name) => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(50).collect();
                Err(at.unsupported("format", format!("'{name}' is not among {}", FORMATS[..10].join(", "))))
            }
            None => Err(at.key("format").malformed("must be a string")),
        }
    }
}

fn check_multiple(value: &Value, at: &Place) -> Result<(), GrammarError> {
    let Some(number) = value.as_f64() else { return Err(at.key("multipleOf").malformed("must be a number")) };
    // Digits of the shortest decimal that is this number, as it is written without its point.
    let digits: String = format!("{number}").chars().filter(char::is_ascii_digit).collect();
    match digits.parse::<f64>() {
        Ok(coefficient) if coefficient > 0.0 && coefficient <= MAX_MULTIPLE => Ok(()),
        _ => {
            Err(at
                .unsupported("multipleOf", format!("with a number that has no digits, or digits above {MAX_MULTIPLE}")))
        }
    }
}

/// Names may be repeated in what a grammar lets through; it can count only those it knows.
fn check_min_properties(
    object: &serde_json::Map<String, Value>,
    value: &Value,
    at: &Place,
) -> Result<(), GrammarError> {
    let required = object.get("required").and_then(Value::as_array);
    let required: HashSet<_> = required.into_iter().flatten().filter_map(Value::as_str).collect();
    if value.as_u64().is_some_and(|n| n > required.len() as u64 + 1) {
        return Err(at.unsupported("minProperties", "above one more than what 'required' lists"));
    }
    Ok(())
}

/// The keyword asks for nothing here.
fn is_harmless(keyword: &str, value: &Value) -> bool {
    match keyword {
        "uniqueItems" => value == false,
        "dependencies" | "dependentRequired" | "dependentSchemas" => value.as_object().is_some_and(|o| o.is_empty()),
        "unevaluatedItems" | "unevaluatedProperties" => value == true,
        _ => false,
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A fragment without its percent signs; one that is not an escape stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
