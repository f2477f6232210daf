//! `"%s is %d" % (name, n)` and the `format` filter: Python's printf-style formatting, as far as text and numbers go.

use super::budget::{Budget, Eval, TextBuilder, failed};
use super::ops;
use super::text::{push_repr, push_str};
use super::value::{SeqKind, Value};

#[derive(Debug, Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Wider or more precise than this is refused.
const MAX_WIDTH: usize = 1000;

/// Formats with one value, or a tuple of them, or a dictionary for `%(name)s`.
pub(super) fn format(budget: &mut Budget, format: &str, args: &Value) -> Eval<Value> {
    let single = std::slice::from_ref(args);
    let positional = match args {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => seq.items.as_slice(),
        _ => single,
    };
    let mut positional = positional.iter();
    let mut used_name = matches!(args, Value::Dict(_));
    let mut out = TextBuilder::new(budget);
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('%') {
        out.push(text)?;
        let mut tail = after;
        let mut named = None;
        if let Some(inner) = tail.strip_prefix('(') {
            let Some((name, after)) = inner.split_once(')') else { return failed("`%(` is not closed") };
            let Value::Dict(dict) = args else { return failed("`%(name)s` needs a dict") };
            let Some(value) = ops::dict_get(out.budget, &dict.entries, &Value::str(name))? else {
                return failed("`%(name)s` names a key that is missing");
            };
            named = Some(value);
            used_name = true;
            tail = after;
        }
        let (spec, after) = parse_spec(tail)?;
        let Some(conversion) = after.chars().next() else { return failed("a text ends in an incomplete `%` format") };
        rest = after.get(conversion.len_utf8()..).unwrap_or_default();
        if conversion == '%' {
            out.push("%")?;
            continue;
        }
        let Some(value) = named.or_else(|| positional.next().cloned()) else {
            return failed("there are fewer values than `%` formats");
        };
        push_converted(&mut out, conversion, &spec, &value)?;
    }
    out.push(rest)?;
    if positional.next().is_some() && !used_name {
        return failed("there are more values than `%` formats");
    }
    Ok(out.value())
}

fn parse_spec(text: &str) -> Eval<(Spec, &str)> {
    let mut spec = Spec::default();
    let mut rest = text;
    loop {
        match rest.as_bytes().first() {
            Some(b'-') => spec.left = true,
            Some(b'0') => spec.zero = true,
            Some(b'+') => spec.plus = true,
            Some(b' ' | b'#') => return failed("this `%` format is not supported"),
            _ => break,
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    let (width, after) = parse_digits(rest)?;
    spec.width = width.unwrap_or(0);
    rest = after;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = parse_digits(after)?;
        spec.precision = Some(precision.unwrap_or(0));
        rest = after;
    }
    Ok((spec, rest))
}

fn parse_digits(text: &str) -> Eval<(Option<usize>, &str)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(len);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse() {
        Ok(n) if n <= MAX_WIDTH => Ok((Some(n), rest)),
        _ => failed(format!("a `%` format is wider than {MAX_WIDTH}")),
    }
}

fn push_converted(out: &mut TextBuilder<'_>, conversion: char, spec: &Spec, value: &Value) -> Eval<()> {
    let mut text = TextBuilder::new(out.budget);
    let mut is_number = true;
    match conversion {
        's' | 'r' => {
            is_number = false;
            if conversion == 's' {
                push_str(&mut text, value)?
            } else {
                push_repr(&mut text, value)?
            }
            if let Some(precision) = spec.precision {
                let cut: String = text.finish().chars().take(precision).collect();
                text = TextBuilder::new(out.budget);
                text.push(&cut)?;
            }
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let truncated = match value {
                Value::Float(x) if x.is_finite() && "diu".contains(conversion) => Some(*x as i128),
                other => other.as_int(),
            };
            let Some(i) = truncated else { return failed(format!("`%{conversion}` needs an integer")) };
            let sign = if i < 0 {
                "-"
            } else if spec.plus {
                "+"
            } else {
                ""
            };
            let magnitude = i.unsigned_abs();
            let digits = match conversion {
                'x' => format!("{magnitude:x}"),
                'X' => format!("{magnitude:X}"),
                'o' => format!("{magnitude:o}"),
                _ => magnitude.to_string(),
            };
            let zeros = spec.precision.unwrap_or(0).saturating_sub(digits.len());
            text.push(&format!("{sign}{}{digits}", "0".repeat(zeros)))?;
        }
        'f' | 'F' => {
            let Some(x) = value.as_float() else { return failed("`%f` needs a number") };
            let sign = if spec.plus && x >= 0.0 { "+" } else { "" };
            let digits =
                if x.is_finite() { format!("{x:.*}", spec.precision.unwrap_or(6)) } else { super::text::float_repr(x) };
            text.push(&format!("{sign}{digits}"))?;
        }
        other => return failed(format!("the format `%{}` is not supported", other.escape_debug())),
    }
    let text = text.finish();
    let padding = spec.width.saturating_sub(text.chars().count());
    if spec.left {
        out.push(&text)?;
        return out.push_repeated(" ", padding);
    }
    if spec.zero && is_number {
        let sign_len = usize::from(text.starts_with(['-', '+']));
        let (sign, digits) = text.split_at(sign_len);
        out.push(sign)?;
        out.push_repeated("0", padding)?;
        return out.push(digits);
    }
    out.push_repeated(" ", padding)?;
    out.push(&text)
}
