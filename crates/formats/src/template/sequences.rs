//! Filters on sequences: selection, order, grouping and joining.

use std::cmp::Ordering;

use super::args::{CallArgs, count_arg, flag_arg};
use super::budget::{Budget, Eval, TextBuilder, failed};
use super::interpreter::Interpreter;
use super::ops;
use super::text::push_str;
use super::value::{SeqKind, Value, shown};

impl Interpreter<'_> {
    pub(super) fn sequence_filter(&mut self, name: &str, value: Value, args: CallArgs) -> Eval<Value> {
        match name {
            "list" => {
                let [] = args.bind(name, [], 0)?;
                let items = ops::iterate(&mut self.budget, &value)?;
                self.budget.list(items)
            }
            "first" | "last" => {
                let [] = args.bind(name, [], 0)?;
                let items = ops::iterate(&mut self.budget, &value)?;
                let found = if name == "first" { items.first() } else { items.last() };
                Ok(found.cloned().unwrap_or_else(|| Value::Undefined("there is no item in an empty sequence".into())))
            }
            "reverse" => {
                let [] = args.bind(name, [], 0)?;
                if let Value::Str(text) = &value {
                    return self.budget.text(text.chars().rev().collect::<String>());
                }
                let mut items = ops::iterate(&mut self.budget, &value)?;
                items.reverse();
                self.budget.seq(SeqKind::Generator, items)
            }
            "join" => self.join(&value, args),
            "map" => self.map(&value, args),
            "select" | "reject" => {
                let keep = name == "select";
                let mut kept = Vec::new();
                for item in ops::iterate(&mut self.budget, &value)? {
                    if self.passes(name, &item, &args)? == keep {
                        kept.push(item);
                    }
                }
                self.budget.seq(SeqKind::Generator, kept)
            }
            "selectattr" | "rejectattr" => {
                let keep = name == "selectattr";
                let (path, args) = args.split_first(name)?;
                let mut kept = Vec::new();
                for item in ops::iterate(&mut self.budget, &value)? {
                    let attribute = self.attribute_path(&item, &path)?;
                    if self.passes(name, &attribute, &args)? == keep {
                        kept.push(item);
                    }
                }
                self.budget.seq(SeqKind::Generator, kept)
            }
            "sort" => {
                let [reverse, case_sensitive, attribute] =
                    args.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
                let items = ops::iterate(&mut self.budget, &value)?;
                let keyed = self.keyed(items, attribute.as_ref(), flag_arg(case_sensitive, false))?;
                let sorted = sort(&mut self.budget, keyed, flag_arg(reverse, false))?;
                self.budget.list(sorted.into_iter().map(|(_, item)| item).collect())
            }
            "unique" => {
                let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
                let items = ops::iterate(&mut self.budget, &value)?;
                let mut kept: Vec<(Value, Value)> = Vec::new();
                for (key, item) in self.keyed(items, attribute.as_ref(), flag_arg(case_sensitive, false))? {
                    if ops::dict_get(&mut self.budget, &kept, &key)?.is_none() {
                        kept.push((key, item));
                    }
                }
                self.budget.seq(SeqKind::Generator, kept.into_iter().map(|(_, item)| item).collect())
            }
            "min" | "max" => {
                let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
                let items = ops::iterate(&mut self.budget, &value)?;
                let keyed = self.keyed(items, attribute.as_ref(), flag_arg(case_sensitive, false))?;
                self.extreme(keyed, if name == "min" { Ordering::Less } else { Ordering::Greater })
            }
            "sum" => self.sum(&value, args),
            "dictsort" => self.dictsort(&value, args),
            "groupby" => self.groupby(&value, args),
            "batch" => {
                let [size, fill] = args.bind(name, ["linecount", "fill_with"], 1)?;
                let size = count_arg(name, size, 1)?.max(1);
                let items = ops::iterate(&mut self.budget, &value)?;
                let mut batches = Vec::new();
                for chunk in items.chunks(size) {
                    let mut batch = chunk.to_vec();
                    if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
                        self.budget.items(size - batch.len())?;
                        batch.resize(size, fill.clone());
                    }
                    batches.push(self.budget.list(batch)?);
                }
                self.budget.seq(SeqKind::Generator, batches)
            }
            "slice" => self.slices(&value, args),
            other => failed(format!("there is no filter named `{}`", shown(other))),
        }
    }

    fn join(&mut self, value: &Value, args: CallArgs) -> Eval<Value> {
        let [separator, attribute] = args.bind("join", ["d", "attribute"], 0)?;
        let separator = match separator {
            Some(separator) => ops::to_text(&mut self.budget, &separator)?,
            None => String::new(),
        };
        let mut items = ops::iterate(&mut self.budget, value)?;
        if let Some(attribute) = attribute.filter(|attribute| !matches!(attribute, Value::None)) {
            items = items.iter().map(|item| self.attribute_path(item, &attribute)).collect::<Eval<_>>()?;
        }
        let mut out = TextBuilder::new(&mut self.budget);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push(&separator)?;
            }
            push_str(&mut out, item)?;
        }
        Ok(out.value())
    }

    fn map(&mut self, value: &Value, mut args: CallArgs) -> Eval<Value> {
        let items = ops::iterate(&mut self.budget, value)?;
        let mut mapped = Vec::new();
        let attribute = args.keyword.iter().position(|(name, _)| &**name == "attribute");
        if let Some(position) = attribute.filter(|_| args.positional.is_empty()) {
            let (_, path) = args.keyword.swap_remove(position);
            let [default] = args.bind("map", ["default"], 0)?;
            for item in items {
                let found = self.attribute_path(&item, &path)?;
                mapped.push(match &default {
                    Some(default) if found.is_undefined() => default.clone(),
                    _ => found,
                });
            }
        } else {
            let (name, args) = args.split_first("map")?;
            let name = self.name_arg("map", name)?;
            for item in items {
                let args = self.clone_args(&args)?;
                mapped.push(self.nested(|interpreter| interpreter.filter(&name, item, args))?);
            }
        }
        self.budget.seq(SeqKind::Generator, mapped)
    }

    fn clone_args(&mut self, args: &CallArgs) -> Eval<CallArgs> {
        self.budget.items(args.positional.len() + args.keyword.len())?;
        Ok(CallArgs { positional: args.positional.clone(), keyword: args.keyword.clone() })
    }

    /// Whether `value` passes the test that the arguments name, or is true when they name none.
    fn passes(&mut self, callee: &str, value: &Value, args: &CallArgs) -> Eval<bool> {
        self.budget.steps(1)?;
        if args.positional.is_empty() {
            return Ok(value.is_true());
        }
        let (name, args) = self.clone_args(args)?.split_first(callee)?;
        let name = self.name_arg(callee, name)?;
        self.test(&name, value, args)
    }

    /// Each item with what it is ordered by.
    fn keyed(
        &mut self,
        items: Vec<Value>,
        attribute: Option<&Value>,
        case_sensitive: bool,
    ) -> Eval<Vec<(Value, Value)>> {
        let attribute = attribute.filter(|attribute| !matches!(attribute, Value::None));
        let mut keyed = Vec::new();
        for item in items {
            let key = match attribute {
                Some(path) => self.attribute_path(&item, path)?,
                None => item.clone(),
            };
            keyed.push((self.fold_case(key, case_sensitive)?, item));
        }
        Ok(keyed)
    }

    fn fold_case(&mut self, key: Value, case_sensitive: bool) -> Eval<Value> {
        match &key {
            Value::Str(text) if !case_sensitive => self.budget.text(text.to_lowercase()),
            _ => Ok(key),
        }
    }

    fn extreme(&mut self, keyed: Vec<(Value, Value)>, wanted: Ordering) -> Eval<Value> {
        let mut keyed = keyed.into_iter();
        let Some(mut best) = keyed.next() else {
            return Ok(Value::Undefined("there is no item in an empty sequence".into()));
        };
        for candidate in keyed {
            if ops::order(&mut self.budget, &candidate.0, &best.0)? == Some(wanted) {
                best = candidate;
            }
        }
        Ok(best.1)
    }

    fn sum(&mut self, value: &Value, args: CallArgs) -> Eval<Value> {
        let [attribute, start] = args.bind("sum", ["attribute", "start"], 0)?;
        let mut total = start.unwrap_or(Value::Int(0));
        for item in ops::iterate(&mut self.budget, value)? {
            let item = match &attribute {
                None | Some(Value::None) => item,
                Some(path) => self.attribute_path(&item, path)?,
            };
            total = ops::arithmetic(&mut self.budget, super::ast::ArithmeticOp::Add, &total, &item)?;
        }
        Ok(total)
    }

    fn dictsort(&mut self, value: &Value, args: CallArgs) -> Eval<Value> {
        let [case_sensitive, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
        let by_value = match by.as_ref().map(Value::as_str) {
            None | Some(Some("key")) => false,
            Some(Some("value")) => true,
            _ => return failed("`dictsort` sorts by `key` or `value`"),
        };
        let Value::Dict(dict) = value else { return failed("`dictsort` needs a dict") };
        let case_sensitive = flag_arg(case_sensitive, false);
        let mut keyed = Vec::new();
        for (key, value) in &dict.entries {
            let sort_key = self.fold_case(if by_value { value.clone() } else { key.clone() }, case_sensitive)?;
            keyed.push((sort_key, self.budget.seq(SeqKind::Tuple, vec![key.clone(), value.clone()])?));
        }
        let sorted = sort(&mut self.budget, keyed, flag_arg(reverse, false))?;
        self.budget.list(sorted.into_iter().map(|(_, item)| item).collect())
    }

    fn groupby(&mut self, value: &Value, args: CallArgs) -> Eval<Value> {
        let names = ["attribute", "default", "case_sensitive"];
        let [attribute, default, case_sensitive] = args.bind("groupby", names, 1)?;
        let path = attribute.unwrap_or(Value::None);
        let case_sensitive = flag_arg(case_sensitive, false);
        let mut keyed = Vec::new();
        for item in ops::iterate(&mut self.budget, value)? {
            let mut key = self.attribute_path(&item, &path)?;
            if let (true, Some(default)) = (key.is_undefined(), &default) {
                key = default.clone();
            }
            let sort_key = self.fold_case(key.clone(), case_sensitive)?;
            keyed.push((sort_key, self.budget.seq(SeqKind::Tuple, vec![key, item])?));
        }
        let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
        for (sort_key, pair) in sort(&mut self.budget, keyed, false)? {
            let Value::Seq(pair) = &pair else { continue };
            let [key, item] = pair.items.as_slice() else { continue };
            match groups.last_mut() {
                Some((known, _, members)) if ops::equal(&mut self.budget, known, &sort_key)? => {
                    members.push(item.clone());
                }
                _ => groups.push((sort_key, key.clone(), vec![item.clone()])),
            }
        }
        let mut pairs = Vec::new();
        for (_, key, members) in groups {
            let members = self.budget.list(members)?;
            pairs.push(self.budget.seq(SeqKind::Tuple, vec![key, members])?);
        }
        self.budget.list(pairs)
    }

    fn slices(&mut self, value: &Value, args: CallArgs) -> Eval<Value> {
        let [count, fill] = args.bind("slice", ["slices", "fill_with"], 1)?;
        let count = count_arg("slice", count, 1)?;
        if count == 0 {
            return failed("`slice` needs at least one slice");
        }
        self.budget.items(count)?;
        let items = ops::iterate(&mut self.budget, value)?;
        let (each, extra) = (items.len() / count, items.len() % count);
        let mut rest = items.into_iter();
        let mut slices = Vec::new();
        for index in 0..count {
            let mut slice: Vec<Value> = rest.by_ref().take(each + usize::from(index < extra)).collect();
            if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None) && index >= extra) {
                slice.push(fill.clone());
            }
            slices.push(self.budget.list(slice)?);
        }
        self.budget.seq(SeqKind::Generator, slices)
    }
}

/// Stable merge sort by the first of each pair. The standard sorts may panic when an order is inconsistent, which
/// values from outside, such as NaN, can make it.
fn sort(budget: &mut Budget, mut items: Vec<(Value, Value)>, reverse: bool) -> Eval<Vec<(Value, Value)>> {
    if items.len() < 2 {
        return Ok(items);
    }
    budget.items(items.len())?;
    let right = items.split_off(items.len() / 2);
    let mut left = sort(budget, items, reverse)?.into_iter().peekable();
    let mut right = sort(budget, right, reverse)?.into_iter().peekable();
    let mut merged = Vec::new();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let order = ops::order(budget, &b.0, &a.0)?;
        let takes_right = order == Some(if reverse { Ordering::Greater } else { Ordering::Less });
        merged.extend(if takes_right { right.next() } else { left.next() });
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}
