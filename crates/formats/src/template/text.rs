//! Values as text, the way Python's `str` and `repr` write them: `True`, `None`, `1.0`, `['a', "it's"]`.

use std::fmt::Write as _;

use super::budget::{Eval, TextBuilder};
use super::value::{SeqKind, Value};

/// White space as Python's `str.isspace` and `\s` see it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Python's `str(value)`.
pub(super) fn push_str(out: &mut TextBuilder<'_>, value: &Value) -> Eval<()> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Str(text) => out.push(text),
        other => push_repr(out, other),
    }
}

/// Python's `repr(value)`.
pub(super) fn push_repr(out: &mut TextBuilder<'_>, value: &Value) -> Eval<()> {
    out.budget.steps(1)?;
    match value {
        Value::Undefined(_) => out.push("Undefined"),
        Value::None => out.push("None"),
        Value::Bool(true) => out.push("True"),
        Value::Bool(false) => out.push("False"),
        Value::Int(i) => out.push(&i.to_string()),
        Value::Float(x) => out.push(&float_repr(*x)),
        Value::Str(text) => push_str_repr(out, text),
        Value::Seq(seq) => match seq.kind {
            SeqKind::List => push_items(out, "[", &seq.items, "]"),
            SeqKind::Tuple if seq.items.len() == 1 => push_items(out, "(", &seq.items, ",)"),
            SeqKind::Tuple => push_items(out, "(", &seq.items, ")"),
            SeqKind::Range { start, stop, step: 1 } => out.push(&format!("range({start}, {stop})")),
            SeqKind::Range { start, stop, step } => out.push(&format!("range({start}, {stop}, {step})")),
            SeqKind::Generator => out.push("<generator object>"),
            SeqKind::DictKeys => push_items(out, "dict_keys([", &seq.items, "])"),
            SeqKind::DictValues => push_items(out, "dict_values([", &seq.items, "])"),
            SeqKind::DictItems => push_items(out, "dict_items([", &seq.items, "])"),
        },
        Value::Dict(dict) => {
            out.push("{")?;
            for (index, (key, value)) in dict.entries.iter().enumerate() {
                if index > 0 {
                    out.push(", ")?;
                }
                push_repr(out, key)?;
                out.push(": ")?;
                push_repr(out, value)?;
            }
            out.push("}")
        }
        Value::Object(_) => out.push("<Namespace>"),
        Value::Loop(_) => out.push("<LoopContext>"),
        Value::Macro(_) => out.push("<Macro>"),
        Value::Function(_) => out.push("<function>"),
        Value::Method(_) => out.push("<built-in method>"),
    }
}

fn push_items(out: &mut TextBuilder<'_>, open: &str, items: &[Value], close: &str) -> Eval<()> {
    out.push(open)?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(", ")?;
        }
        push_repr(out, item)?;
    }
    out.push(close)
}

fn push_str_repr(out: &mut TextBuilder<'_>, text: &str) -> Eval<()> {
    out.budget.bytes(text.len())?;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut repr = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            '\\' => repr.push_str("\\\\"),
            c if c == quote => {
                repr.push('\\');
                repr.push(c);
            }
            c if is_printable(c) => repr.push(c),
            c => {
                let code = c as u32;
                // Writing to a string cannot fail.
                let _ = match code {
                    0..=0xff => write!(repr, "\\x{code:02x}"),
                    0x100..=0xffff => write!(repr, "\\u{code:04x}"),
                    _ => write!(repr, "\\U{code:08x}"),
                };
            }
        }
    }
    repr.push(quote);
    out.push(&repr)
}

/// Python's `str.isprintable` for one character. The standard library's debug escapes use the same categories, except
/// that they also escape a combining character at the start of a text.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let mut bytes = [0; 5];
    bytes[0] = b'a';
    let len = 1 + c.encode_utf8(&mut bytes[1..]).len();
    let text = std::str::from_utf8(&bytes[..len]).unwrap_or_default();
    !text.escape_debug().any(|escaped| escaped == '\\')
}

/// Python's `repr` of a float: the shortest digits that read back as the same number, with an exponent from 1e16 on
/// and below 1e-4.
pub(super) fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}
