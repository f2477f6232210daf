//! Jinja's filters, with Hugging Face's `tojson`. Those that work on sequences are in `sequences`.

use super::args::{CallArgs, count_arg, flag_arg, int_arg, text_arg};
use super::budget::{Eval, TextBuilder, failed};
use super::interpreter::Interpreter;
use super::json::{JsonStyle, push_json};
use super::methods::{self, Sides};
use super::ops;
use super::percent;
use super::value::{SeqKind, Value, shown};

impl Interpreter<'_> {
    /// `value | name(args)`
    pub(super) fn filter(&mut self, name: &str, value: Value, args: CallArgs) -> Eval<Value> {
        match name {
            "default" | "d" => {
                let [default, boolean] = args.bind(name, ["default_value", "boolean"], 0)?;
                let replace = value.is_undefined() || (flag_arg(boolean, false) && !value.is_true());
                Ok(if replace { default.unwrap_or_else(|| Value::str("")) } else { value })
            }
            "tojson" => self.tojson(&value, args),
            "length" | "count" => {
                let [] = args.bind(name, [], 0)?;
                Ok(Value::Int(ops::length(&mut self.budget, &value)? as i128))
            }
            "trim" | "upper" | "lower" | "capitalize" | "title" | "replace" | "string" | "escape" | "e"
            | "forceescape" | "safe" | "indent" | "center" | "wordcount" | "truncate" => {
                self.text_filter(name, &value, args)
            }
            "format" => {
                let CallArgs { positional, keyword } = args;
                let values = match (positional.is_empty(), keyword.is_empty()) {
                    (_, true) => self.budget.seq(SeqKind::Tuple, positional)?,
                    (true, false) => {
                        let entries = keyword.into_iter().map(|(name, value)| (Value::Str(name), value)).collect();
                        self.budget.dict(entries)?
                    }
                    (false, false) => return failed("`format` takes either positional or keyword arguments"),
                };
                let text = ops::to_text(&mut self.budget, &value)?;
                percent::format(&mut self.budget, &text, &values)
            }
            "abs" | "int" | "float" | "round" => self.number_filter(name, &value, args),
            "attr" => {
                let [name] = args.bind("attr", ["name"], 1)?;
                let name = self.name_arg("attr", name.unwrap_or(Value::None))?;
                match self.attribute(&value, &name)? {
                    // Unlike `value.name`, the filter never looks at items.
                    found @ (Value::Method(_) | Value::Undefined(_)) => Ok(found),
                    found if !matches!(value, Value::Dict(_)) => Ok(found),
                    _ => Ok(value.missing(&name)),
                }
            }
            "items" => {
                let [] = args.bind(name, [], 0)?;
                match &value {
                    Value::Undefined(_) => self.budget.seq(SeqKind::Generator, Vec::new()),
                    Value::Dict(dict) => methods::items_of(&mut self.budget, &dict.entries, SeqKind::Generator),
                    other => failed(format!("`items` needs a dict, not {}", other.type_name())),
                }
            }
            _ => self.sequence_filter(name, value, args),
        }
    }

    fn tojson(&mut self, value: &Value, args: CallArgs) -> Eval<Value> {
        let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let [ensure_ascii, indent, separators, sort_keys] = args.bind("tojson", names, 0)?;
        let indent = match indent {
            Some(Value::Str(indent)) => Some(indent.to_string()),
            other => match int_arg("tojson", other)? {
                Some(n) if n > 256 => return failed("`tojson` indents by at most 256"),
                Some(n) => Some(" ".repeat(usize::try_from(n).unwrap_or(0))),
                None => None,
            },
        };
        let (item_separator, key_separator) = match separators {
            None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
            Some(pair) => match ops::iterate(&mut self.budget, &pair)?.as_slice() {
                [Value::Str(item), Value::Str(key)] => (item.to_string(), key.to_string()),
                _ => return failed("`tojson` needs two texts as separators"),
            },
        };
        let style = JsonStyle {
            ensure_ascii: flag_arg(ensure_ascii, false),
            indent,
            item_separator,
            key_separator,
            sort_keys: flag_arg(sort_keys, false),
        };
        let mut out = TextBuilder::new(&mut self.budget);
        push_json(&mut out, value, &style, 0)?;
        Ok(out.value())
    }

    fn text_filter(&mut self, name: &str, value: &Value, args: CallArgs) -> Eval<Value> {
        let text = ops::to_text(&mut self.budget, value)?;
        let budget = &mut self.budget;
        match name {
            "trim" => {
                let [chars] = args.bind(name, ["chars"], 0)?;
                let chars = text_arg(name, chars)?;
                methods::strip(budget, &text, chars.as_deref(), Sides { start: true, end: true })
            }
            "replace" => {
                let [old, new, count] = args.bind(name, ["old", "new", "count"], 2)?;
                let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
                let (old, new) = (ops::to_text(budget, &old)?, ops::to_text(budget, &new)?);
                let count = int_arg(name, count)?.and_then(|n| usize::try_from(n).ok());
                methods::replace(budget, &text, &old, &new, count)
            }
            "indent" => {
                let [width, first, blank] = args.bind(name, ["width", "first", "blank"], 0)?;
                let indent = match width {
                    Some(Value::Str(indent)) => indent.to_string(),
                    other => " ".repeat(count_arg(name, other, 4)?.min(4096)),
                };
                let lines = Indent { indent, first: flag_arg(first, false), blank: flag_arg(blank, false) };
                lines.apply(TextBuilder::new(budget), &text)
            }
            "center" => {
                let [width] = args.bind(name, ["width"], 0)?;
                let width = width.unwrap_or(Value::Int(80));
                let args = CallArgs { positional: vec![width], keyword: Vec::new() };
                methods::call(budget, &Value::Str(text.into()), "center", args)
            }
            "truncate" => {
                let [length, kill_words, end, leeway] = args.bind(name, ["length", "killwords", "end", "leeway"], 0)?;
                let (length, leeway) = (count_arg(name, length, 255)?, count_arg(name, leeway, 5)?);
                let end = text_arg(name, end)?.unwrap_or_else(|| "...".into());
                let end_len = end.chars().count();
                if length < end_len {
                    return failed(format!("`truncate` needs a length of at least {end_len}"));
                }
                if text.chars().count() <= length.saturating_add(leeway) {
                    return budget.text(text);
                }
                let cut: String = text.chars().take(length - end_len).collect();
                let kept = if flag_arg(kill_words, false) { &cut } else { cut.rsplit_once(' ').map_or(&*cut, |s| s.0) };
                budget.text(format!("{kept}{end}"))
            }
            _ => {
                let [] = args.bind(name, [], 0)?;
                match name {
                    "upper" => budget.text(text.to_uppercase()),
                    "lower" => budget.text(text.to_lowercase()),
                    "capitalize" => budget.text(methods::capitalize(&text)),
                    "title" => budget.text(title(&text)),
                    "wordcount" => {
                        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
                        Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i128))
                    }
                    "escape" | "e" | "forceescape" => escape(TextBuilder::new(budget), &text),
                    _ => budget.text(text),
                }
            }
        }
    }

    fn number_filter(&mut self, name: &str, value: &Value, args: CallArgs) -> Eval<Value> {
        match name {
            "abs" => {
                let [] = args.bind(name, [], 0)?;
                match (value, value.as_int().and_then(i128::checked_abs)) {
                    (Value::Float(x), _) => Ok(Value::Float(x.abs())),
                    (_, Some(i)) => Ok(Value::Int(i)),
                    _ => failed(format!("`abs` needs a number, not {}", value.type_name())),
                }
            }
            "int" => {
                let [default, base] = args.bind(name, ["default", "base"], 0)?;
                let base = int_arg(name, base)?.unwrap_or(10);
                Ok(to_int(value, base).map_or_else(|| default.unwrap_or(Value::Int(0)), Value::Int))
            }
            "float" => {
                let [default] = args.bind(name, ["default"], 0)?;
                let parsed = match value {
                    Value::Str(text) => parse_float(text),
                    other => other.as_float(),
                };
                Ok(parsed.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
            }
            _ => {
                let [precision, method] = args.bind(name, ["precision", "method"], 0)?;
                let precision = int_arg(name, precision)?.unwrap_or(0);
                let method = text_arg(name, method)?.unwrap_or_else(|| "common".into());
                round(value, precision, &method)
            }
        }
    }
}

struct Indent {
    indent: String,
    first: bool,
    blank: bool,
}

impl Indent {
    fn apply(&self, mut out: TextBuilder<'_>, text: &str) -> Eval<Value> {
        let with_end = format!("{text}\n");
        for (index, line) in methods::split_lines(&with_end, false).into_iter().enumerate() {
            let indented = if index == 0 { self.first } else { self.blank || !line.is_empty() };
            if index > 0 {
                out.push("\n")?;
            }
            if indented {
                out.push(&self.indent)?;
            }
            out.push(line)?;
        }
        Ok(out.value())
    }
}

fn escape(mut out: TextBuilder<'_>, text: &str) -> Eval<Value> {
    for c in text.chars() {
        match c {
            '&' => out.push("&amp;")?,
            '<' => out.push("&lt;")?,
            '>' => out.push("&gt;")?,
            '"' => out.push("&#34;")?,
            '\'' => out.push("&#39;")?,
            c => out.push_char(c)?,
        }
    }
    Ok(out.value())
}

/// Jinja's `title`: upper case after white space, `-` and opening brackets.
fn title(text: &str) -> String {
    let mut at_start = true;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if at_start {
            titled.extend(c.to_uppercase())
        } else {
            titled.extend(c.to_lowercase())
        }
        at_start = super::text::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    titled
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::text::is_space).replace('_', "");
    text.parse().ok()
}

fn to_int(value: &Value, base: i128) -> Option<i128> {
    match value {
        Value::Str(text) => {
            let digits = text.trim_matches(super::text::is_space);
            let plain = match base {
                16 => digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits),
                8 => digits.strip_prefix("0o").unwrap_or(digits),
                2 => digits.strip_prefix("0b").unwrap_or(digits),
                _ => digits,
            };
            let radix = u32::try_from(base).ok().filter(|radix| (2..=36).contains(radix))?;
            let parsed = i128::from_str_radix(plain, radix).ok();
            parsed.or_else(|| parse_float(text).filter(|x| x.is_finite()).map(|x| x as i128))
        }
        Value::Float(x) => x.is_finite().then_some(*x as i128),
        other => other.as_int(),
    }
}

fn round(value: &Value, precision: i128, method: &str) -> Eval<Value> {
    let Some(x) = value.as_float() else { return failed(format!("`round` needs a number, not {}", value.type_name())) };
    if !(-300..=300).contains(&precision) {
        return failed("`round` has a precision of at most 300");
    }
    let scale = 10f64.powi(precision as i32);
    match method {
        "common" => match value.as_int() {
            Some(i) if precision >= 0 => Ok(Value::Int(i)),
            _ if precision >= 0 => {
                // Formatting rounds the exact value half to even, as Python does.
                let digits = format!("{x:.*}", precision as usize);
                Ok(Value::Float(digits.parse().unwrap_or(x)))
            }
            Some(_) => Ok(Value::Int(((x * scale).round_ties_even() / scale) as i128)),
            None => Ok(Value::Float((x * scale).round_ties_even() / scale)),
        },
        "ceil" => Ok(Value::Float((x * scale).ceil() / scale)),
        "floor" => Ok(Value::Float((x * scale).floor() / scale)),
        other => failed(format!("`round` has no method `{}`", shown(other))),
    }
}
