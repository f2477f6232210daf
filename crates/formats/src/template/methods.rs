//! Methods of Python's `str`, `dict`, `list` and `tuple` that templates call. Those that would change their value are
//! refused, as the sandbox of Hugging Face does.

use super::args::{CallArgs, count_arg, flag_arg, int_arg, text_arg};
use super::budget::{Budget, Eval, TextBuilder, failed};
use super::ops::{self, Bounds};
use super::text::{is_space, push_repr, push_str};
use super::value::{SeqKind, Value};

const STR_METHODS: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
const DICT_METHODS: &[&str] = &["copy", "get", "items", "keys", "values"];
const LIST_METHODS: &[&str] = &["copy", "count", "index"];
const TUPLE_METHODS: &[&str] = &["count", "index"];
const DICT_CHANGES: &[&str] = &["clear", "pop", "popitem", "setdefault", "update"];
const LIST_CHANGES: &[&str] = &["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];

/// The method of this name, when the value has it.
pub(super) fn find(value: &Value, name: &str) -> Option<&'static str> {
    let methods = match value {
        Value::Str(_) => STR_METHODS,
        Value::Dict(_) => DICT_METHODS,
        Value::Seq(seq) => match seq.kind {
            SeqKind::List => LIST_METHODS,
            SeqKind::Tuple | SeqKind::Range { .. } => TUPLE_METHODS,
            _ => &[],
        },
        _ => &[],
    };
    methods.iter().find(|known| **known == name).copied()
}

/// True for methods that would change the value.
pub(super) fn is_forbidden(value: &Value, name: &str) -> bool {
    match value {
        Value::Dict(_) => DICT_CHANGES.contains(&name),
        Value::Seq(seq) => seq.kind == SeqKind::List && LIST_CHANGES.contains(&name),
        _ => false,
    }
}

pub(super) fn call(budget: &mut Budget, receiver: &Value, name: &str, args: CallArgs) -> Eval<Value> {
    match receiver {
        Value::Str(text) => {
            budget.scan(text.len())?;
            str_method(budget, text, name, args)
        }
        Value::Dict(dict) => dict_method(budget, receiver, &dict.entries, name, args),
        Value::Seq(seq) => seq_method(budget, receiver, &seq.items, name, args),
        other => failed(format!("{} has no method `{name}`", other.type_name())),
    }
}

fn dict_method(
    budget: &mut Budget,
    receiver: &Value,
    entries: &[(Value, Value)],
    name: &str,
    args: CallArgs,
) -> Eval<Value> {
    if name == "get" {
        let [key, default] = args.bind("get", ["key", "default"], 1)?;
        let key = key.unwrap_or(Value::None);
        ops::check_hashable(&key)?;
        let found = ops::dict_get(budget, entries, &key)?;
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    let [] = args.bind(name, [], 0)?;
    match name {
        "keys" => {
            let keys = entries.iter().map(|(key, _)| key.clone()).collect();
            budget.seq(SeqKind::DictKeys, keys)
        }
        "values" => {
            let values = entries.iter().map(|(_, value)| value.clone()).collect();
            budget.seq(SeqKind::DictValues, values)
        }
        "items" => items_of(budget, entries, SeqKind::DictItems),
        "copy" => Ok(receiver.clone()),
        other => failed(format!("dict has no method `{other}`")),
    }
}

/// The entries as a sequence of pairs.
pub(super) fn items_of(budget: &mut Budget, entries: &[(Value, Value)], kind: SeqKind) -> Eval<Value> {
    let mut pairs = Vec::new();
    for (key, value) in entries {
        pairs.push(budget.seq(SeqKind::Tuple, vec![key.clone(), value.clone()])?);
    }
    budget.seq(kind, pairs)
}

fn seq_method(budget: &mut Budget, receiver: &Value, items: &[Value], name: &str, args: CallArgs) -> Eval<Value> {
    match name {
        "copy" => {
            let [] = args.bind(name, [], 0)?;
            Ok(receiver.clone())
        }
        "count" | "index" => {
            let [wanted] = args.bind(name, ["value"], 1)?;
            let wanted = wanted.unwrap_or(Value::None);
            let mut count = 0;
            for (index, item) in items.iter().enumerate() {
                if ops::equal(budget, item, &wanted)? {
                    if name == "index" {
                        return Ok(Value::Int(index as i128));
                    }
                    count += 1;
                }
            }
            if name == "index" { failed("the value is not in the list") } else { Ok(Value::Int(count)) }
        }
        other => failed(format!("{} has no method `{other}`", receiver.type_name())),
    }
}

fn str_method(budget: &mut Budget, text: &str, name: &str, args: CallArgs) -> Eval<Value> {
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(name, ["chars"], 0)?;
            let chars = text_arg(name, chars)?;
            strip(budget, text, chars.as_deref(), Sides { start: name != "rstrip", end: name != "lstrip" })
        }
        "startswith" | "endswith" => affix(budget, text, name, args),
        "removeprefix" | "removesuffix" => {
            let [affix] = args.bind(name, ["affix"], 1)?;
            let affix = text_arg(name, affix)?.unwrap_or_default();
            let rest = if name == "removeprefix" { text.strip_prefix(&*affix) } else { text.strip_suffix(&*affix) };
            budget.text(rest.unwrap_or(text))
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (text_arg(name, old)?.unwrap_or_default(), text_arg(name, new)?.unwrap_or_default());
            let count = int_arg(name, count)?.and_then(|n| usize::try_from(n).ok());
            replace(budget, text, &old, &new, count)
        }
        "split" | "rsplit" => {
            let [separator, limit] = args.bind(name, ["sep", "maxsplit"], 0)?;
            let separator = text_arg(name, separator)?;
            let limit = int_arg(name, limit)?.and_then(|n| usize::try_from(n).ok());
            split(budget, text, separator.as_deref(), limit.unwrap_or(usize::MAX), name == "rsplit")
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"], 0)?;
            let lines = split_lines(text, flag_arg(keep, false));
            text_list(budget, lines)
        }
        "partition" | "rpartition" => {
            let [separator] = args.bind(name, ["sep"], 1)?;
            partition(budget, text, &text_arg(name, separator)?.unwrap_or_default(), name == "rpartition")
        }
        "join" => {
            let [items] = args.bind(name, ["iterable"], 1)?;
            let items = ops::iterate(budget, &items.unwrap_or(Value::None))?;
            let mut out = TextBuilder::new(budget);
            for (index, item) in items.iter().enumerate() {
                let Value::Str(item) = item else {
                    return failed(format!("`join` needs texts, item {index} is {}", item.type_name()));
                };
                if index > 0 {
                    out.push(text)?;
                }
                out.push(item)?;
            }
            Ok(out.value())
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, args),
        "center" | "ljust" | "rjust" | "zfill" => pad(budget, text, name, args),
        "format" => format(budget, text, args),
        _ => {
            let [] = args.bind(name, [], 0)?;
            case_method(budget, text, name)
        }
    }
}

/// Methods without arguments: changes of case and questions about the characters.
fn case_method(budget: &mut Budget, text: &str, name: &str) -> Eval<Value> {
    let every = |test: fn(char) -> bool| Ok(Value::Bool(!text.is_empty() && text.chars().all(test)));
    match name {
        "upper" => budget.text(text.to_uppercase()),
        "lower" | "casefold" => budget.text(text.to_lowercase()),
        "swapcase" => {
            let swapped = text.chars().flat_map(|c| -> Box<dyn Iterator<Item = char>> {
                if c.is_uppercase() { Box::new(c.to_lowercase()) } else { Box::new(c.to_uppercase()) }
            });
            budget.text(swapped.collect::<String>())
        }
        "capitalize" => budget.text(capitalize(text)),
        "title" => {
            let mut after_letter = false;
            let mut titled = String::with_capacity(text.len());
            for c in text.chars() {
                if after_letter {
                    titled.extend(c.to_lowercase())
                } else {
                    titled.extend(c.to_uppercase())
                }
                after_letter = c.is_alphabetic();
            }
            budget.text(titled)
        }
        "isspace" => every(is_space),
        "isalpha" => every(char::is_alphabetic),
        "isalnum" => every(char::is_alphanumeric),
        "isnumeric" => every(char::is_numeric),
        // Python's digits include superscripts and the like; the ones that matter are the decimal ones.
        "isdigit" | "isdecimal" => every(|c| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric())),
        "isascii" => Ok(Value::Bool(text.is_ascii())),
        "islower" => Ok(Value::Bool(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))),
        "isupper" => Ok(Value::Bool(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))),
        "istitle" => {
            let mut after_letter = false;
            let mut has_letter = false;
            for c in text.chars() {
                if (c.is_uppercase() && after_letter) || (c.is_lowercase() && !after_letter) {
                    return Ok(Value::Bool(false));
                }
                after_letter = c.is_alphabetic();
                has_letter |= after_letter;
            }
            Ok(Value::Bool(has_letter))
        }
        other => failed(format!("str has no method `{other}`")),
    }
}

/// First character in upper case, the rest in lower case.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

/// Which ends of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides {
    pub(super) start: bool,
    pub(super) end: bool,
}

pub(super) fn strip(budget: &mut Budget, text: &str, chars: Option<&str>, sides: Sides) -> Eval<Value> {
    budget.steps(chars.map_or(1, str::len) as u64)?;
    let is_stripped = |c: char| match chars {
        Some(chars) => chars.contains(c),
        None => is_space(c),
    };
    let mut rest = text;
    if sides.start {
        rest = rest.trim_start_matches(is_stripped);
    }
    if sides.end {
        rest = rest.trim_end_matches(is_stripped);
    }
    // Each character dropped was compared with all of `chars`.
    let n_dropped = text.len() - rest.len();
    budget.scan(n_dropped.saturating_mul(chars.map_or(1, str::len)))?;
    budget.text(rest)
}

fn affix(budget: &mut Budget, text: &str, name: &str, args: CallArgs) -> Eval<Value> {
    let [affix, start, end] = args.bind(name, ["prefix", "start", "end"], 1)?;
    let bounds = Bounds { start: int_arg(name, start)?, stop: int_arg(name, end)?, step: None };
    let part;
    let text = if bounds.start.is_some() || bounds.stop.is_some() {
        part = ops::slice(budget, &Value::str(text), bounds)?;
        part.as_str().unwrap_or_default()
    } else {
        text
    };
    let matches = |affix: &str| if name == "startswith" { text.starts_with(affix) } else { text.ends_with(affix) };
    match affix {
        Some(Value::Str(affix)) => Ok(Value::Bool(matches(&affix))),
        Some(Value::Seq(seq)) if seq.kind == SeqKind::Tuple => {
            budget.steps(seq.items.len() as u64)?;
            for item in &seq.items {
                let Value::Str(affix) = item else { return failed(format!("`{name}` needs texts")) };
                if matches(affix) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        other => {
            let found = other.unwrap_or(Value::None);
            failed(format!("`{name}` needs a str or a tuple of them, not {}", found.type_name()))
        }
    }
}

pub(super) fn replace(budget: &mut Budget, text: &str, old: &str, new: &str, count: Option<usize>) -> Eval<Value> {
    let count = count.unwrap_or(usize::MAX);
    let mut out = TextBuilder::new(budget);
    let mut end = 0;
    for (at, found) in text.match_indices(old).take(count) {
        out.push(text.get(end..at).unwrap_or_default())?;
        out.push(new)?;
        end = at + found.len();
    }
    out.push(text.get(end..).unwrap_or_default())?;
    Ok(out.value())
}

fn text_list<'a>(budget: &mut Budget, texts: impl IntoIterator<Item = &'a str>) -> Eval<Value> {
    let items = texts.into_iter().map(|text| budget.text(text)).collect::<Eval<_>>()?;
    budget.list(items)
}

fn split(budget: &mut Budget, text: &str, separator: Option<&str>, limit: usize, from_end: bool) -> Eval<Value> {
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = text;
    match separator {
        Some("") => return failed("`split` needs a separator that is not empty"),
        Some(separator) => {
            while parts.len() < limit {
                let split = if from_end { rest.rsplit_once(separator) } else { rest.split_once(separator) };
                let Some((before, after)) = split else { break };
                let (part, remaining) = if from_end { (after, before) } else { (before, after) };
                budget.items(1)?;
                parts.push(part);
                rest = remaining;
            }
            parts.push(rest);
        }
        None if from_end => {
            rest = rest.trim_end_matches(is_space);
            while parts.len() < limit {
                let Some(at) = rest.rfind(is_space) else { break };
                let (before, part) = rest.split_at(at);
                budget.items(1)?;
                parts.push(part.trim_start_matches(is_space));
                rest = before.trim_end_matches(is_space);
            }
            if !rest.is_empty() {
                parts.push(rest);
            }
        }
        None => {
            rest = rest.trim_start_matches(is_space);
            while parts.len() < limit {
                let Some(at) = rest.find(is_space) else { break };
                let (part, after) = rest.split_at(at);
                budget.items(1)?;
                parts.push(part);
                rest = after.trim_start_matches(is_space);
            }
            if !rest.is_empty() {
                parts.push(if parts.len() < limit { rest.trim_end_matches(is_space) } else { rest });
            }
        }
    }
    if from_end {
        parts.reverse();
    }
    text_list(budget, parts)
}

/// Python's line boundaries.
pub(super) fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_end) {
        let (line, after) = rest.split_at(at);
        let end_len = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        lines.push(if keep_ends { rest.get(..at + end_len).unwrap_or(line) } else { line });
        rest = after.get(end_len..).unwrap_or_default();
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn partition(budget: &mut Budget, text: &str, separator: &str, from_end: bool) -> Eval<Value> {
    if separator.is_empty() {
        return failed("`partition` needs a separator that is not empty");
    }
    let found = if from_end { text.rsplit_once(separator) } else { text.split_once(separator) };
    let (before, middle, after) = match found {
        Some((before, after)) => (before, separator, after),
        None if from_end => ("", "", text),
        None => (text, "", ""),
    };
    let parts = vec![budget.text(before)?, budget.text(middle)?, budget.text(after)?];
    budget.seq(SeqKind::Tuple, parts)
}

fn search(text: &str, name: &str, args: CallArgs) -> Eval<Value> {
    let [wanted, start, end] = args.bind(name, ["sub", "start", "end"], 1)?;
    let wanted = text_arg(name, wanted)?.unwrap_or_default();
    let n_chars = text.chars().count();
    let place = |bound: Option<i128>, default: usize| match bound {
        None => default,
        Some(i) if i < 0 => usize::try_from(i.saturating_add(n_chars as i128)).unwrap_or(0),
        Some(i) => usize::try_from(i).unwrap_or(usize::MAX).min(n_chars),
    };
    let start_is_past_end = matches!(&start, Some(value) if value.as_int().is_some_and(|i| i > n_chars as i128));
    let first = place(int_arg(name, start)?, 0);
    let last = place(int_arg(name, end)?, n_chars);
    let byte = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    let range = if first <= last { text.get(byte(first)..byte(last)) } else { None };
    let part = range.filter(|_| !start_is_past_end);
    if name == "count" {
        return Ok(Value::Int(part.map_or(0, |part| part.matches(&*wanted).count()) as i128));
    }
    let found = part.and_then(|part| {
        let at = if name.starts_with('r') { part.rfind(&*wanted) } else { part.find(&*wanted) };
        at.map(|at| first + part.get(..at).unwrap_or_default().chars().count())
    });
    match found {
        Some(index) => Ok(Value::Int(index as i128)),
        None if name.ends_with("index") => failed("the text is not found"),
        None => Ok(Value::Int(-1)),
    }
}

fn pad(budget: &mut Budget, text: &str, name: &str, args: CallArgs) -> Eval<Value> {
    let [width, fill] = args.bind(name, ["width", "fillchar"], 1)?;
    let width = count_arg(name, width, 0)?;
    let fill = if name == "zfill" { Some("0".into()) } else { text_arg(name, fill)? };
    let fill = fill.unwrap_or_else(|| " ".into());
    if fill.chars().count() != 1 {
        return failed(format!("`{name}` fills with one character"));
    }
    let padding = width.saturating_sub(text.chars().count());
    let mut out = TextBuilder::new(budget);
    let (sign, rest) = match name {
        "zfill" if text.starts_with(['-', '+']) => text.split_at(1),
        _ => ("", text),
    };
    let before = match name {
        "ljust" => 0,
        // Python puts the odd one on the left when the width is odd.
        "center" => padding / 2 + (padding & width & 1),
        _ => padding,
    };
    out.push(sign)?;
    out.push_repeated(&fill, before)?;
    out.push(rest)?;
    out.push_repeated(&fill, padding - before)?;
    Ok(out.value())
}

/// `"{} {name} {0!r}".format(...)`, without format specifications.
fn format(budget: &mut Budget, text: &str, args: CallArgs) -> Eval<Value> {
    let mut out = TextBuilder::new(budget);
    let mut next = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, tail) = rest.split_at(at);
        out.push(before)?;
        if let Some(after) = tail.strip_prefix("{{") {
            out.push("{")?;
            rest = after;
            continue;
        }
        if let Some(after) = tail.strip_prefix("}}") {
            out.push("}")?;
            rest = after;
            continue;
        }
        let Some((field, after)) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')) else {
            return failed("a brace in a text to format is not closed");
        };
        rest = after;
        let (name, is_repr) = match field.strip_suffix("!r") {
            Some(name) => (name, true),
            None => (field.strip_suffix("!s").unwrap_or(field), false),
        };
        let value = if name.is_empty() {
            next += 1;
            args.positional.get(next - 1)
        } else if let Ok(index) = name.parse::<usize>() {
            args.positional.get(index)
        } else {
            args.keyword.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
        };
        match value {
            Some(value) if is_repr => push_repr(&mut out, value)?,
            Some(value) => push_str(&mut out, value)?,
            None => return failed(format!("`format` has no value for `{{{}}}`", super::value::shown(field))),
        }
    }
    out.push(rest)?;
    Ok(out.value())
}
