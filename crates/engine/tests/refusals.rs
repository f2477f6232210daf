//! Grammars that are refused, and hostile ones: every one of them is a typed error or something that can be followed,
//! within bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use bantam_engine::{Engine, GenerateRequest, GrammarError, GrammarSource, SamplingParams};
use common::{Toy, config, engine};
use serde_json::{Value, json};

fn json_engine() -> Engine {
    Toy::new(64).json().start(config())
}

fn refusal(engine: &Engine, schema: Value) -> GrammarError {
    match engine.compile_grammar(&GrammarSource::JsonSchema(schema.clone())) {
        Err(error) => error,
        Ok(_) => panic!("accepted: {schema}"),
    }
}

fn nested(n: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(n), close.repeat(n))
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name_and_place() {
    let engine = json_engine();
    for (schema, message) in [
        (
            json!({ "type": "object", "properties": { "x": { "type": "array", "uniqueItems": true } } }),
            "properties.x: the keyword 'uniqueItems' is not supported",
        ),
        (json!({ "items": { "anyOf": [{}, { "not": {} }] } }), "items.anyOf[1]: the keyword 'not' is not supported"),
        (json!({ "if": {} }), "the keyword 'if' is not supported"),
        (
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "contains": {} }, "b": { "not": {} } } }),
            "$defs.a: the keyword 'contains' is not supported",
        ),
        (
            json!({ "properties": { "x": { "$ref": "https://example.com/x.json" } } }),
            "properties.x: '$ref' points to 'https://example.com/x.json', outside the schema; put it under '$defs' and point there",
        ),
        (
            json!({ "$ref": "file:///etc/passwd" }),
            "'$ref' points to 'file:///etc/passwd', outside the schema; put it under '$defs' and point there",
        ),
        (json!({ "$ref": "#/$defs/nobody" }), "'$ref' points to '#/$defs/nobody', which is not in the schema"),
        (json!({ "$ref": 5 }), "$ref: must be a string"),
        (json!({ "properties": [] }), "properties: must be an object of schemas"),
        (json!({ "anyOf": {} }), "anyOf: must be an array of schemas"),
        (json!({ "properties": { "x": 5 } }), "properties.x: a schema must be an object, true or false"),
        (json!(5), "a schema must be an object, true or false"),
        (json!("x"), "a schema must be an object, true or false"),
        (json!(false), "nothing can be written that follows the grammar"),
        (
            json!({ "type": "string", "format": "color" }),
            "the keyword 'format' is not supported ('color' is not among date-time, time, date, duration, email, hostname, ipv4, ipv6, uuid, uri)",
        ),
        (
            json!({ "minProperties": 3, "required": ["a"] }),
            "the keyword 'minProperties' is not supported (above one more than what 'required' lists)",
        ),
        (
            json!({ "oneOf": [{ "type": "object" }, { "type": "object", "required": ["a"] }] }),
            "the keyword 'oneOf' is not supported (where more than one of its schemas may hold at one time; use 'anyOf', or give each a property with another 'const')",
        ),
    ] {
        assert_eq!(refusal(&engine, schema.clone()).to_string(), message, "{schema}");
    }
    for (schema, part) in [
        (json!({ "type": "wizard" }), "wizard"),
        (json!({ "type": 5 }), "type must be"),
        (json!({ "type": "integer", "minimum": 5, "maximum": 4 }), "minimum"),
        (json!({ "type": "string", "pattern": "(" }), "unclosed group"),
        (json!({ "type": "string", "pattern": "(?=a)b" }), "look"),
        (json!({ "type": "object", "required": ["x"], "additionalProperties": false }), "'x' is unsatisfiable"),
        (json!({ "type": "array", "minItems": -1 }), "minItems"),
        (json!({ "enum": [] }), "anyOf"),
        (json!({ "type": "integer", "multipleOf": 0 }), "multipleOf"),
        (json!({ "type": "integer", "multipleOf": 999_999_937 }), "multipleOf"),
        (json!({ "type": "number", "multipleOf": 1e-300 }), "multipleOf"),
        (json!({ "type": "integer", "minimum": 1e300 }), "minimum"),
        (json!({ "$ref": "#" }), "nothing can be written"),
    ] {
        let message = refusal(&engine, schema.clone()).to_string();
        assert!(message.contains(part) && message.len() < 600 && !message.contains('<'), "{schema}: {message}");
    }
}

#[test]
fn what_cannot_matter_is_let_pass() {
    let engine = json_engine();
    for schema in [
        json!({ "type": "array", "items": { "type": "null" }, "uniqueItems": false, "maxItems": 2 }),
        json!({ "type": "integer", "format": "int32", "maximum": 9, "minimum": 0 }),
        json!({ "const": 1, "unevaluatedProperties": true, "dependencies": {} }),
        json!({ "const": 1, "title": "a", "description": "b", "examples": [2], "nullable": true, "x-order": 3 }),
        json!({ "const": 1, "$defs": { "unused": { "not": {} } } }),
        json!({ "$id": "https://example.com/s", "$ref": "https://example.com/s#/definitions/a%20b", "definitions": { "a b": { "const": true } } }),
        json!({ "$defs": { "0": {
            "$id": "a", "properties": { "x": { "$ref": "#/$defs/y" } }, "required": ["x"], "type": "object", "$defs": { "y": { "const": 1 } }
        } }, "$ref": "#/$defs/0" }),
        json!(true),
    ] {
        let grammar = engine.compile_grammar(&GrammarSource::JsonSchema(schema.clone()));
        let request = GenerateRequest {
            grammar: Some(grammar.unwrap_or_else(|error| panic!("{schema}: {error}"))),
            max_tokens: Some(200),
            sampling: SamplingParams { seed: Some(1), ..SamplingParams::default() },
            ..GenerateRequest::new(vec![2, 3])
        };
        engine.generate(request).unwrap().blocking_collect().unwrap();
    }
}

#[test]
fn other_sources_are_checked_too() {
    let engine = json_engine();
    let refused = |source: GrammarSource| engine.compile_grammar(&source).unwrap_err();
    let regex = |text: &str| refused(GrammarSource::Regex(text.into()));
    assert!(matches!(regex("(a"), GrammarError::Invalid { .. }));
    assert!(matches!(regex("a(?=b)"), GrammarError::Invalid { .. }));
    assert!(matches!(regex(""), GrammarError::Empty), "{:?}", regex(""));
    assert!(matches!(regex(&"a".repeat(20_000)), GrammarError::TooLarge { what: "regex", size: 20_000, .. }));
    let lark = |text: &str| refused(GrammarSource::Lark(text.into()));
    assert!(matches!(lark("begin: \"a\""), GrammarError::Invalid { .. }));
    assert!(matches!(lark("start: \"a"), GrammarError::Invalid { .. }));
    assert!(matches!(lark(""), GrammarError::Invalid { .. }));
    assert!(matches!(lark(&nested(200, "(", "\"a\"", ")")), GrammarError::Malformed { .. }));
    assert!(matches!(lark(&" ".repeat(70_000)), GrammarError::TooLarge { what: "grammar", .. }));
    for texts in [vec![], vec![String::new()], vec!["x".to_owned(); 5000]] {
        assert!(matches!(refused(GrammarSource::Choice(texts)), GrammarError::Malformed { .. }));
    }
    // Text of every kind goes through the quoting of choices.
    let odd = ["a\"b\\c", "/x/", "a\nb", "é\u{1F600}\u{0}", "%json {}", "[a-z]*"].map(str::to_owned).to_vec();
    engine.compile_grammar(&GrammarSource::Choice(odd)).unwrap();
}

#[test]
fn hostile_schemas_take_bounded_time_and_stack() {
    let engine = json_engine();
    let large = json!({ "enum": (0..400_000).map(|i| format!("value {i}")).collect::<Vec<_>>() });
    assert!(matches!(refusal(&engine, large), GrammarError::TooLarge { what: "schema", .. }));
    let mut deep = json!({});
    for _ in 0..1000 {
        deep = json!({ "items": deep });
    }
    assert!(matches!(refusal(&engine, deep), GrammarError::TooDeep { .. }));
    let chain: serde_json::Map<String, Value> =
        (0..5000).map(|i| (format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", i + 1) }))).collect();
    assert!(matches!(refusal(&engine, json!({ "$ref": "#/$defs/d0", "$defs": chain })), GrammarError::TooDeep { .. }));
    let exponential = |keyword: &str| {
        let mut schema = json!({ "type": "object" });
        for i in 0..30 {
            let name = format!("p{i}");
            schema = json!({ keyword: [schema, { "anyOf": [
                { "properties": { name.clone(): { "type": "string" } } }, { "properties": { name: { "type": "null" } } }
            ] }] });
        }
        schema
    };
    let doubled = json!({ "$ref": "#/$defs/a0", "$defs": (0..40).map(|i| {
        let next = json!({ "$ref": format!("#/$defs/a{}", i + 1) });
        (format!("a{i}"), if i == 39 { json!({ "type": "null" }) } else { json!({ "type": "array", "prefixItems": [next, next] }) })
    }).collect::<serde_json::Map<_, _>>() });
    let optional: serde_json::Map<String, Value> =
        (0..3000).map(|i| (format!("k{i}"), json!({ "type": "string" }))).collect();
    for schema in [
        exponential("allOf"),
        exponential("anyOf"),
        doubled,
        json!({ "type": "object", "properties": optional, "minProperties": 1 }),
        json!({ "type": "array", "minItems": 1_000_000_000_000u64 }),
        json!({ "type": "array", "maxItems": 1_000_000_000_000u64 }),
        json!({ "type": "string", "minLength": 1_000_000_000_000u64 }),
        json!({ "type": "string", "maxLength": 1_000_000_000u64 }),
        json!({ "type": "object", "maxProperties": 1_000_000_000u64 }),
        json!({ "type": "string", "pattern": "^(a{1,1000}){1,1000}$" }),
        json!({ "type": "string", "pattern": "(a|b|ab)*c{500}(d|e)*f{500}" }),
        json!({ "type": "string", "pattern": nested(240, "(", "a", ")*") }),
        json!({ "type": "string", "pattern": "[\\s\\S]{1,100000}x[\\s\\S]{1,100000}" }),
        json!({ "type": "number", "multipleOf": 1e-300 }),
        json!({ "type": "number", "multipleOf": 0.000_001, "minimum": -1e300, "maximum": 1e300 }),
        json!({ "type": "integer", "multipleOf": 999_999_937 }),
        json!({ "type": "integer", "multipleOf": 0 }),
        json!({ "type": "integer", "minimum": -1e308, "maximum": 1e308 }),
        json!({ "const": "x".repeat(200_000) }),
        json!({ "enum": (0..20_000).map(|i| format!("{i}")).collect::<Vec<_>>() }),
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "anyOf": [{ "$ref": "#" }, { "type": "null" }] }),
        json!({ "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "allOf": [{ "$ref": "#/$defs/a" }] } }, "$ref": "#/$defs/a" }),
        json!({ "patternProperties": { "^a+$": {}, "^(a|b)+$": {}, "(a*)*b": {} } }),
        json!({ "x-guidance": { "lenient": true, "whitespace_flexible": true }, "not": {} }),
    ] {
        let start = Instant::now();
        let compiled = engine.compile_grammar(&GrammarSource::JsonSchema(schema.clone()));
        let compiling = start.elapsed();
        let shown: String = schema.to_string().chars().take(80).collect();
        assert!(compiling < Duration::from_secs(20), "{shown} took {compiling:?}");
        let Ok(grammar) = compiled else { continue };
        let request = GenerateRequest {
            grammar: Some(grammar),
            max_tokens: Some(30),
            sampling: SamplingParams { seed: Some(1), ..SamplingParams::default() },
            ..GenerateRequest::new(vec![2, 3])
        };
        let start = Instant::now();
        // An answer, or the error that it takes too much.
        drop(engine.generate(request).unwrap().blocking_collect());
        assert!(start.elapsed() < Duration::from_secs(20), "{shown}");
    }
}

#[test]
fn a_model_whose_tokens_spell_no_json_is_no_reason_to_panic() {
    let engine = engine(64, config());
    assert!(engine.compile_grammar(&GrammarSource::JsonObject).is_err());
    engine.compile_grammar(&GrammarSource::Regex("[a-z]+".into())).unwrap();
}
