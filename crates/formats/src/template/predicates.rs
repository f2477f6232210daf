//! Jinja's tests: what may follow `is`.

use super::args::CallArgs;
use super::ast::CompareOp;
use super::budget::{Eval, failed};
use super::interpreter::{Interpreter, Object};
use super::ops;
use super::value::{SeqKind, Value, shown};

impl Interpreter<'_> {
    /// `value is name(args)`
    pub(super) fn test(&mut self, name: &str, value: &Value, args: CallArgs) -> Eval<bool> {
        if let Some(op) = comparison(name) {
            let [other] = args.bind(name, ["other"], 1)?;
            return ops::compare(&mut self.budget, op, value, &other.unwrap_or(Value::None));
        }
        if name == "divisibleby" {
            let [divisor] = args.bind(name, ["num"], 1)?;
            let divisor = divisor.unwrap_or(Value::None);
            let rest = ops::arithmetic(&mut self.budget, super::ast::ArithmeticOp::Rem, value, &divisor)?;
            return ops::equal(&mut self.budget, &rest, &Value::Int(0));
        }
        if name == "sameas" {
            let [other] = args.bind(name, ["other"], 1)?;
            return Ok(same(value, &other.unwrap_or(Value::None)));
        }
        let [] = args.bind(name, [], 0)?;
        Ok(match name {
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "string" => matches!(value, Value::Str(_)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "sequence" => match value {
                Value::Str(_) | Value::Dict(_) | Value::Undefined(_) => true,
                Value::Seq(seq) => matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Range { .. }),
                _ => false,
            },
            "iterable" => {
                matches!(value, Value::Str(_) | Value::Dict(_) | Value::Seq(_) | Value::Undefined(_) | Value::Loop(_))
            }
            "callable" => match value {
                Value::Object(index) => matches!(self.objects.get(*index), Some(Object::Joiner { .. })),
                // Undefined values have a `__call__`, which raises.
                Value::Undefined(_) | Value::Loop(_) => true,
                other => other.callable(),
            },
            "odd" | "even" => {
                let two = Value::Int(2);
                let rest = ops::arithmetic(&mut self.budget, super::ast::ArithmeticOp::Rem, value, &two)?;
                ops::equal(&mut self.budget, &rest, &Value::Int(i128::from(name == "odd")))?
            }
            "upper" | "lower" => {
                let text = ops::to_text(&mut self.budget, value)?;
                let has_case = text.chars().any(|c| c.is_lowercase() || c.is_uppercase());
                let other = if name == "upper" { char::is_lowercase } else { char::is_uppercase };
                has_case && !text.chars().any(other)
            }
            "escaped" => false,
            "filter" | "test" => return failed(format!("the test `{name}` is not supported")),
            other => return failed(format!("there is no test named `{}`", shown(other))),
        })
    }
}

fn comparison(name: &str) -> Option<CompareOp> {
    Some(match name {
        "eq" | "equalto" | "==" => CompareOp::Eq,
        "ne" | "!=" => CompareOp::Ne,
        "lt" | "lessthan" | "<" => CompareOp::Lt,
        "le" | "<=" => CompareOp::Le,
        "gt" | "greaterthan" | ">" => CompareOp::Gt,
        "ge" | ">=" => CompareOp::Ge,
        "in" => CompareOp::In,
        _ => return None,
    })
}

/// Python's `is`, as far as a template can rely on it.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::Seq(a), Value::Seq(b)) => std::ptr::eq(a.as_ref(), b.as_ref()),
        (Value::Dict(a), Value::Dict(b)) => std::ptr::eq(a.as_ref(), b.as_ref()),
        (Value::Object(a), Value::Object(b)) => a == b,
        _ => false,
    }
}
