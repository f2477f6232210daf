//! What an answer of typed fields must pass beyond its schema.

use regex_automata::meta::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::OutputSchema;

/// Memory that a compiled expression may take, in bytes.
const REGEX_BYTES: usize = 1 << 20;

/// Numbers that differ by no more than this share of the larger are equal: sums of rounded amounts are not exact.
const TOLERANCE: f64 = 1e-6;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCheck {
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    required: Option<bool>,
    #[serde(default)]
    regex: Option<String>,
    #[serde(default)]
    range: Option<[f64; 2]>,
    #[serde(default)]
    one_of: Option<Vec<Value>>,
    #[serde(default)]
    rule: Option<String>,
}

/// One check.
#[derive(Debug, Clone)]
pub enum Check {
    /// Of one field.
    Field {
        /// Its name.
        field: String,
        /// What holds of it.
        rule: Rule,
    },
    /// Between fields, such as `net + tax == total`.
    Relation(Relation),
}

/// What holds of a field. An absent or null field passes all but the first.
#[derive(Debug, Clone)]
pub enum Rule {
    /// It is there, and no empty text or list.
    Required,
    /// The expression matches somewhere in its text.
    Regex {
        /// As written.
        pattern: String,
        /// Compiled.
        regex: Box<Regex>,
    },
    /// It is a number within these bounds.
    Range(f64, f64),
    /// It is one of these.
    OneOf(Vec<Value>),
}

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The field, or the relation as written.
    pub check: String,
    /// What is wrong.
    pub why: String,
}

impl Check {
    pub(super) fn new(raw: RawCheck, schema: &OutputSchema) -> Result<Check, String> {
        let RawCheck { field, required, regex, range, one_of, rule } = raw;
        let given = [required.is_some(), regex.is_some(), range.is_some(), one_of.is_some(), rule.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err("must have one of required, regex, range, one_of and rule".to_owned());
        }
        if let Some(rule) = rule {
            if field.is_some() {
                return Err("'rule' is between fields; leave out 'field'".to_owned());
            }
            return Relation::parse(&rule, schema).map(Check::Relation);
        }
        let field = field.ok_or("lacks 'field'")?;
        if !schema.has(&field) {
            return Err(format!("'{field}' is not among the schema's properties"));
        }
        let rule = match (required, regex, range, one_of) {
            (Some(true), ..) => Rule::Required,
            (Some(false), ..) => return Err("required = false checks nothing; leave it out".to_owned()),
            (_, Some(pattern), ..) => {
                let config = Regex::config().nfa_size_limit(Some(REGEX_BYTES)).hybrid_cache_capacity(REGEX_BYTES);
                let regex = Regex::builder().configure(config).build(&pattern);
                let regex = Box::new(regex.map_err(|error| format!("regex: {error}"))?);
                Rule::Regex { pattern, regex }
            }
            (.., Some([low, high]), _) if low <= high => Rule::Range(low, high),
            (.., Some([low, high]), _) => return Err(format!("range: {low} is above {high}")),
            (.., Some(values)) if !values.is_empty() => Rule::OneOf(values),
            _ => return Err("one_of must not be empty".to_owned()),
        };
        Ok(Check::Field { field, rule })
    }

    /// Applies the check to an object.
    pub(crate) fn run(&self, object: &Value) -> Option<Failed> {
        match self {
            Check::Field { field, rule } => {
                let why = rule.fault(object.get(field).unwrap_or(&Value::Null))?;
                Some(Failed { check: field.clone(), why })
            }
            Check::Relation(relation) => relation.fault(object).map(|why| Failed { check: relation.text.clone(), why }),
        }
    }
}

impl Rule {
    fn fault(&self, value: &Value) -> Option<String> {
        let is_absent = value.is_null();
        match self {
            Rule::Required => match value {
                Value::Null => Some("is missing".to_owned()),
                Value::String(text) if text.trim().is_empty() => Some("is empty".to_owned()),
                Value::Array(list) if list.is_empty() => Some("is empty".to_owned()),
                _ => None,
            },
            _ if is_absent => None,
            Rule::Regex { pattern, regex } => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (!regex.is_match(&text)).then(|| format!("'{text}' does not match {pattern}"))
            }
            Rule::Range(low, high) => match value.as_f64() {
                Some(x) if (*low..=*high).contains(&x) => None,
                _ => Some(format!("{value} is not between {low} and {high}")),
            },
            Rule::OneOf(values) => {
                (!values.contains(value)).then(|| format!("{value} is not among the values allowed"))
            }
        }
    }
}

/// Two sides of fields and numbers, added or subtracted, and how they compare.
#[derive(Debug, Clone)]
pub struct Relation {
    text: String,
    left: Vec<Term>,
    op: Comparison,
    right: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    is_negative: bool,
    operand: Operand,
}

#[derive(Debug, Clone)]
enum Operand {
    Field(String),
    Number(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

/// Longer ones first.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl Relation {
    fn parse(text: &str, schema: &OutputSchema) -> Result<Relation, String> {
        let found = COMPARISONS.iter().find_map(|(sign, op)| Some((text.split_once(sign)?, *op)));
        let ((left, right), op) = found.ok_or_else(|| format!("'{text}' has none of <, <=, ==, !=, >=, >"))?;
        let side = |side: &str| -> Result<Vec<Term>, String> {
            let mut terms = Vec::new();
            let mut is_negative = false;
            let mut expects_term = true;
            for word in side.split_whitespace() {
                match (expects_term, word) {
                    (false, "+" | "-") => is_negative = word == "-",
                    (true, word) if schema.has(word) => {
                        terms.push(Term { is_negative, operand: Operand::Field(word.to_owned()) });
                    }
                    (true, word) => match word.parse() {
                        Ok(number) => terms.push(Term { is_negative, operand: Operand::Number(number) }),
                        Err(_) => return Err(format!("'{word}' in '{text}' is neither a field nor a number")),
                    },
                    (false, _) => return Err(format!("'{word}' in '{text}' stands where + or - would")),
                }
                expects_term = !expects_term;
            }
            if expects_term {
                return Err(format!("'{text}' lacks a field or number"));
            }
            Ok(terms)
        };
        Ok(Relation { text: text.trim().to_owned(), left: side(left)?, op, right: side(right)? })
    }

    fn fault(&self, object: &Value) -> Option<String> {
        // Two plain texts compare as texts, which is right for ISO dates.
        if let ([Term { operand: Operand::Field(a), .. }], [Term { operand: Operand::Field(b), .. }]) =
            (&self.left[..], &self.right[..])
            && let (Some(Value::String(a)), Some(Value::String(b))) = (object.get(a), object.get(b))
        {
            return (!self.op.holds(a.cmp(b))).then(|| format!("'{a}' and '{b}'"));
        }
        let value = |side: &[Term]| -> Option<f64> {
            side.iter()
                .map(|term| {
                    let x = match &term.operand {
                        Operand::Number(x) => *x,
                        Operand::Field(field) => object.get(field)?.as_f64()?,
                    };
                    Some(if term.is_negative { -x } else { x })
                })
                .sum()
        };
        // A field that is absent is for `required` to find.
        let (left, right) = (value(&self.left)?, value(&self.right)?);
        let near = (left - right).abs() <= TOLERANCE * left.abs().max(right.abs());
        let order = if near { std::cmp::Ordering::Equal } else { left.total_cmp(&right) };
        (!self.op.holds(order)).then(|| format!("{left} and {right}"))
    }
}

impl Comparison {
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::GreaterOrEqual => order.is_ge(),
            Comparison::Greater => order.is_gt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(raw: Value) -> Result<Check, String> {
        let schema = json!({ "type": "object", "properties": { "net": { "type": "number" }, "tax": { "type": "number" },
            "total": { "type": "number" }, "id": { "type": "string" }, "from": { "type": "string" }, "to": { "type": "string" } } });
        Check::new(serde_json::from_value(raw).unwrap(), &OutputSchema::new(schema).unwrap())
    }

    fn fault(raw: Value, object: Value) -> Option<String> {
        check(raw).unwrap().run(&object).map(|failed| failed.why)
    }

    #[test]
    fn each_kind_finds_what_it_is_for_and_lets_absent_fields_pass() {
        let required = json!({ "field": "id", "required": true });
        assert!(
            fault(required.clone(), json!({})).is_some() && fault(required.clone(), json!({ "id": " " })).is_some()
        );
        assert_eq!(fault(required, json!({ "id": "x" })), None);
        let regex = json!({ "field": "id", "regex": "^[A-Z]{2}[0-9]+$" });
        assert_eq!(fault(regex.clone(), json!({ "id": "AB12" })), None);
        assert_eq!(fault(regex.clone(), json!({})), None);
        assert!(fault(regex, json!({ "id": "ab12" })).is_some());
        let range = json!({ "field": "tax", "range": [0, 100] });
        assert_eq!(fault(range.clone(), json!({ "tax": 100 })), None);
        assert!(
            fault(range.clone(), json!({ "tax": -0.5 })).is_some() && fault(range, json!({ "tax": "x" })).is_some()
        );
        let one_of = json!({ "field": "id", "one_of": ["a", "b"] });
        assert!(fault(one_of.clone(), json!({ "id": "c" })).is_some());
        assert_eq!(fault(one_of, json!({ "id": "b" })), None);
    }

    #[test]
    fn relations_add_up_and_compare() {
        let sum = json!({ "rule": "net + tax == total" });
        assert_eq!(fault(sum.clone(), json!({ "net": 0.1, "tax": 0.2, "total": 0.3 })), None);
        assert!(fault(sum.clone(), json!({ "net": 1, "tax": 2, "total": 4 })).is_some());
        assert_eq!(fault(sum, json!({ "net": 1, "total": 4 })), None);
        let dates = json!({ "rule": "from <= to" });
        assert_eq!(fault(dates.clone(), json!({ "from": "2026-01-02", "to": "2026-01-10" })), None);
        assert!(fault(dates, json!({ "from": "2026-02-02", "to": "2026-01-10" })).is_some());
        assert!(fault(json!({ "rule": "total - tax > 5" }), json!({ "total": 10, "tax": 6 })).is_some());
    }

    #[test]
    fn checks_that_cannot_work_say_why() {
        for (raw, why) in [
            (json!({}), "one of required"),
            (json!({ "field": "id", "required": true, "regex": "x" }), "one of required"),
            (json!({ "required": true }), "lacks 'field'"),
            (json!({ "field": "nope", "required": true }), "not among"),
            (json!({ "field": "id", "regex": "(" }), "regex"),
            (json!({ "field": "id", "regex": "(a{1000}){1000}" }), "regex"),
            (json!({ "field": "tax", "range": [2, 1] }), "above"),
            (json!({ "field": "id", "one_of": [] }), "empty"),
            (json!({ "rule": "net = total" }), "none of <"),
            (json!({ "rule": "net + == total" }), "lacks"),
            (json!({ "rule": "net + gross == total" }), "neither"),
            (json!({ "rule": "net tax == total" }), "stands where"),
        ] {
            let error = check(raw.clone()).unwrap_err();
            assert!(error.contains(why), "{raw}: {error}");
        }
    }
}
