//! Operators on values, with Python's rules. Nothing here needs the interpreter.

use std::cmp::Ordering;

use super::ast::{ArithmeticOp, CompareOp};
use super::budget::{Budget, Eval, TextBuilder, failed};
use super::percent;
use super::text;
use super::value::{Seq, SeqKind, Value};

/// Longest text or list that `*` makes before the budget is even asked.
const MAX_REPEATED: i128 = 1 << 32;

pub(super) fn arithmetic(budget: &mut Budget, op: ArithmeticOp, left: &Value, right: &Value) -> Eval<Value> {
    match (op, left, right) {
        (_, Value::Undefined(message), _) | (_, _, Value::Undefined(message)) => failed(message.as_ref()),
        (ArithmeticOp::Add, Value::Str(a), Value::Str(b)) => {
            let mut out = TextBuilder::new(budget);
            out.push(a)?;
            out.push(b)?;
            Ok(out.value())
        }
        (ArithmeticOp::Add, Value::Seq(a), Value::Seq(b)) if a.kind == b.kind && is_list_or_tuple(a) => {
            budget.items(a.items.len() + b.items.len())?;
            budget.seq(a.kind, a.items.iter().chain(&b.items).cloned().collect())
        }
        (ArithmeticOp::Mul, Value::Str(text), n) | (ArithmeticOp::Mul, n, Value::Str(text)) if n.as_int().is_some() => {
            let n = n.as_int().unwrap_or(0).clamp(0, MAX_REPEATED) as usize;
            let mut out = TextBuilder::new(budget);
            out.push_repeated(text, n)?;
            Ok(out.value())
        }
        (ArithmeticOp::Mul, Value::Seq(seq), n) | (ArithmeticOp::Mul, n, Value::Seq(seq))
            if n.as_int().is_some() && is_list_or_tuple(seq) =>
        {
            let n = n.as_int().unwrap_or(0).clamp(0, MAX_REPEATED) as usize;
            let len = seq.items.len().saturating_mul(n);
            budget.items(len)?;
            budget.seq(seq.kind, seq.items.iter().cycle().take(len).cloned().collect())
        }
        (ArithmeticOp::Rem, Value::Str(format), args) => percent::format(budget, format, args),
        _ => match (left.as_int(), right.as_int()) {
            (Some(a), Some(b)) => integer(op, a, b),
            _ => match (left.as_float(), right.as_float()) {
                (Some(a), Some(b)) => float(op, a, b),
                _ => {
                    failed(format!("`{}` does not work on {} and {}", op.symbol(), left.type_name(), right.type_name()))
                }
            },
        },
    }
}

fn is_list_or_tuple(seq: &Seq) -> bool {
    matches!(seq.kind, SeqKind::List | SeqKind::Tuple)
}

fn integer(op: ArithmeticOp, a: i128, b: i128) -> Eval<Value> {
    if b == 0 && matches!(op, ArithmeticOp::Div | ArithmeticOp::FloorDiv | ArithmeticOp::Rem) {
        return failed("division by zero");
    }
    let result = match op {
        ArithmeticOp::Add => a.checked_add(b),
        ArithmeticOp::Sub => a.checked_sub(b),
        ArithmeticOp::Mul => a.checked_mul(b),
        ArithmeticOp::Div => return Ok(Value::Float(a as f64 / b as f64)),
        ArithmeticOp::FloorDiv => a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
        ArithmeticOp::Rem => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
        ArithmeticOp::Pow if b < 0 => return float(op, a as f64, b as f64),
        ArithmeticOp::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    match result {
        Some(value) => Ok(Value::Int(value)),
        None => failed("an integer grows too large"),
    }
}

fn float(op: ArithmeticOp, a: f64, b: f64) -> Eval<Value> {
    if b == 0.0 && matches!(op, ArithmeticOp::Div | ArithmeticOp::FloorDiv | ArithmeticOp::Rem) {
        return failed("division by zero");
    }
    Ok(Value::Float(match op {
        ArithmeticOp::Add => a + b,
        ArithmeticOp::Sub => a - b,
        ArithmeticOp::Mul => a * b,
        ArithmeticOp::Div => a / b,
        ArithmeticOp::FloorDiv => (a / b).floor(),
        ArithmeticOp::Rem => a - b * (a / b).floor(),
        ArithmeticOp::Pow if a == 0.0 && b < 0.0 => return failed("zero cannot be raised to a negative power"),
        ArithmeticOp::Pow => a.powf(b),
    }))
}

pub(super) fn negative(value: &Value) -> Eval<Value> {
    match value {
        Value::Float(x) => Ok(Value::Float(-x)),
        Value::Undefined(message) => failed(message.as_ref()),
        other => match other.as_int().and_then(i128::checked_neg) {
            Some(i) => Ok(Value::Int(i)),
            None => failed(format!("`-` does not work on {}", other.type_name())),
        },
    }
}

pub(super) fn compare(budget: &mut Budget, op: CompareOp, left: &Value, right: &Value) -> Eval<bool> {
    Ok(match op {
        CompareOp::Eq => equal(budget, left, right)?,
        CompareOp::Ne => !equal(budget, left, right)?,
        CompareOp::In => contains(budget, right, left)?,
        CompareOp::NotIn => !contains(budget, right, left)?,
        CompareOp::Lt => order(budget, left, right)? == Some(Ordering::Less),
        CompareOp::Gt => order(budget, left, right)? == Some(Ordering::Greater),
        CompareOp::Le => matches!(order(budget, left, right)?, Some(Ordering::Less | Ordering::Equal)),
        CompareOp::Ge => matches!(order(budget, left, right)?, Some(Ordering::Greater | Ordering::Equal)),
    })
}

/// Python's `==`: numbers by value, containers by content, a list never equals a tuple.
pub(super) fn equal(budget: &mut Budget, left: &Value, right: &Value) -> Eval<bool> {
    budget.steps(1)?;
    Ok(match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(a), Value::Str(b)) => {
            budget.scan(a.len().min(b.len()))?;
            a == b
        }
        (Value::Seq(a), Value::Seq(b)) => {
            let same_kind = std::mem::discriminant(&a.kind) == std::mem::discriminant(&b.kind);
            if matches!(a.kind, SeqKind::Generator | SeqKind::DictValues) {
                return Ok(std::ptr::eq(a.as_ref(), b.as_ref()));
            }
            if !same_kind || a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(budget, a, b)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                match dict_get(budget, &b.entries, key)? {
                    Some(other) if equal(budget, value, &other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Object(a), Value::Object(b)) | (Value::Loop(a), Value::Loop(b)) => a == b,
        (Value::Macro(a), Value::Macro(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => match (left.as_int(), right.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((left.as_float(), right.as_float()), (Some(a), Some(b)) if a == b),
        },
    })
}

/// Python's ordering of two values of one kind; `None` when they are numbers that cannot be ordered (NaN).
pub(super) fn order(budget: &mut Budget, left: &Value, right: &Value) -> Eval<Option<Ordering>> {
    budget.steps(1)?;
    match (left, right) {
        (Value::Undefined(message), _) | (_, Value::Undefined(message)) => failed(message.as_ref()),
        (Value::Str(a), Value::Str(b)) => {
            budget.scan(a.len().min(b.len()))?;
            // UTF-8 orders as code points do.
            Ok(Some(a.cmp(b)))
        }
        (Value::Seq(a), Value::Seq(b)) if a.kind == b.kind && is_list_or_tuple(a) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(budget, a, b)? {
                    return order(budget, a, b);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ => match (left.as_int(), right.as_int()) {
            (Some(a), Some(b)) => Ok(Some(a.cmp(&b))),
            _ => match (left.as_float(), right.as_float()) {
                (Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
                _ => failed(format!("cannot order {} and {}", left.type_name(), right.type_name())),
            },
        },
    }
}

/// `item in container`
pub(super) fn contains(budget: &mut Budget, container: &Value, item: &Value) -> Eval<bool> {
    match container {
        Value::Undefined(_) => Ok(false),
        Value::Str(text) => match item {
            Value::Str(part) => {
                budget.scan(text.len())?;
                Ok(text.contains(&**part))
            }
            other => failed(format!("`in` a str needs a str, not {}", other.type_name())),
        },
        Value::Seq(seq) => {
            for candidate in &seq.items {
                if equal(budget, candidate, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Dict(dict) => {
            check_hashable(item)?;
            Ok(dict_get(budget, &dict.entries, item)?.is_some())
        }
        other => failed(format!("`in` does not work on {}", other.type_name())),
    }
}

/// Refuses what Python cannot use as a dictionary key.
pub(super) fn check_hashable(key: &Value) -> Eval<()> {
    match key {
        Value::Dict(_) => failed("a dict cannot be a key"),
        Value::Seq(seq) if seq.kind == SeqKind::List => failed("a list cannot be a key"),
        Value::Seq(seq) => seq.items.iter().try_for_each(check_hashable),
        _ => Ok(()),
    }
}

pub(super) fn dict_get(budget: &mut Budget, entries: &[(Value, Value)], key: &Value) -> Eval<Option<Value>> {
    for (candidate, value) in entries {
        if equal(budget, candidate, key)? {
            return Ok(Some(value.clone()));
        }
    }
    Ok(None)
}

/// Sets a key, keeping its place when it is there.
pub(super) fn dict_set(budget: &mut Budget, entries: &mut Vec<(Value, Value)>, key: Value, value: Value) -> Eval<()> {
    check_hashable(&key)?;
    budget.items(2)?;
    for (candidate, old) in entries.iter_mut() {
        if equal(budget, candidate, &key)? {
            *old = value;
            return Ok(());
        }
    }
    entries.push((key, value));
    Ok(())
}

/// What iterating over a value gives.
pub(super) fn iterate(budget: &mut Budget, value: &Value) -> Eval<Vec<Value>> {
    match value {
        Value::Undefined(_) => Ok(Vec::new()),
        Value::Seq(seq) => {
            budget.items(seq.items.len())?;
            Ok(seq.items.clone())
        }
        Value::Dict(dict) => {
            budget.items(dict.entries.len())?;
            Ok(dict.entries.iter().map(|(key, _)| key.clone()).collect())
        }
        Value::Str(text) => {
            budget.items(text.len())?;
            Ok(text.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]))).collect())
        }
        other => failed(format!("{} cannot be iterated over", other.type_name())),
    }
}

/// Python's `len`.
pub(super) fn length(budget: &mut Budget, value: &Value) -> Eval<usize> {
    match value {
        Value::Undefined(_) => Ok(0),
        Value::Str(text) => {
            budget.scan(text.len())?;
            Ok(text.chars().count())
        }
        Value::Seq(seq) if seq.kind != SeqKind::Generator => Ok(seq.items.len()),
        Value::Dict(dict) => Ok(dict.entries.len()),
        other => failed(format!("{} has no length", other.type_name())),
    }
}

/// `str(value)` as a new text.
pub(super) fn to_text(budget: &mut Budget, value: &Value) -> Eval<String> {
    let mut out = TextBuilder::new(budget);
    text::push_str(&mut out, value)?;
    Ok(out.finish())
}

/// Bounds of a slice; each absent or an integer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) start: Option<i128>,
    pub(super) stop: Option<i128>,
    pub(super) step: Option<i128>,
}

impl Bounds {
    /// The indices that a slice of `len` items takes, in order.
    fn indices(self, len: usize) -> Eval<impl Iterator<Item = usize>> {
        let len = len as i128;
        let step = self.step.unwrap_or(1);
        if step == 0 {
            return failed("a slice cannot have step zero");
        }
        let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
        let place = |bound: Option<i128>, default: i128| match bound {
            None => default,
            Some(index) if index < 0 => index.saturating_add(len).clamp(low, high),
            Some(index) => index.clamp(low, high),
        };
        let start = place(self.start, if step > 0 { 0 } else { len - 1 });
        let stop = place(self.stop, if step > 0 { len } else { -1 });
        let mut at = start;
        Ok(std::iter::from_fn(move || {
            let more = if step > 0 { at < stop } else { at > stop };
            let current = usize::try_from(at).ok().filter(|_| more)?;
            at = at.saturating_add(step);
            Some(current)
        }))
    }
}

pub(super) fn slice(budget: &mut Budget, value: &Value, bounds: Bounds) -> Eval<Value> {
    match value {
        Value::Undefined(message) => failed(message.as_ref()),
        Value::Str(text) => {
            budget.items(text.len() / 8)?;
            let chars: Vec<char> = text.chars().collect();
            let taken: String = bounds.indices(chars.len())?.filter_map(|index| chars.get(index)).collect();
            budget.text(taken)
        }
        Value::Seq(seq) if is_list_or_tuple(seq) || matches!(seq.kind, SeqKind::Range { .. }) => {
            budget.items(seq.items.len())?;
            let kind = if seq.kind == SeqKind::Tuple { SeqKind::Tuple } else { SeqKind::List };
            let items = bounds.indices(seq.items.len())?.filter_map(|index| seq.items.get(index).cloned()).collect();
            budget.seq(kind, items)
        }
        other => failed(format!("{} cannot be sliced", other.type_name())),
    }
}

/// The item at `index`, from the end when negative.
pub(super) fn item_at(items: &[Value], index: i128) -> Option<&Value> {
    let index = if index < 0 { index.checked_add(items.len() as i128)? } else { index };
    items.get(usize::try_from(index).ok()?)
}
