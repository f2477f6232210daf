//! Calls: the global functions, and what `loop`, `namespace`, `joiner` and `cycler` answer.

use std::sync::Arc;

use chrono::format::{Item, StrftimeItems};

use super::args::{CallArgs, int_arg, text_arg};
use super::budget::{Eval, Fault, failed};
use super::interpreter::{Flow, Interpreter, Object};
use super::methods;
use super::ops;
use super::value::{Function, Method, SeqKind, Value, shown};

/// Jinja's sandbox has the same limit.
const MAX_RANGE: i128 = 100_000;

impl Interpreter<'_> {
    pub(super) fn call(&mut self, callee: Value, args: CallArgs) -> Eval<Value> {
        match callee {
            Value::Undefined(message) => failed(message.as_ref()),
            Value::Macro(called) => self.nested(|interpreter| interpreter.call_macro(called, args)),
            Value::Function(function) => self.call_function(function, args),
            Value::Method(method) => match &method.receiver {
                Value::Loop(state) => self.call_loop_method(*state, method.name, args),
                Value::Object(index) => self.call_cycler(*index, method.name, args),
                receiver => methods::call(&mut self.budget, receiver, method.name, args),
            },
            Value::Object(index) => self.call_joiner(index),
            Value::Loop(state) => self.call_loop(state, args),
            other => failed(format!("{} cannot be called", other.type_name())),
        }
    }

    fn call_function(&mut self, function: Function, args: CallArgs) -> Eval<Value> {
        match function {
            Function::Range => self.range(args),
            Function::Dict => {
                let entries = self.dict_entries("dict", args)?;
                self.budget.dict(entries)
            }
            Function::Namespace => self.namespace(args),
            Function::Joiner => {
                let [separator] = args.bind("joiner", ["sep"], 0)?;
                let separator = separator.unwrap_or_else(|| Value::str(", "));
                self.new_object(Object::Joiner { separator, used: false })
            }
            Function::Cycler => {
                if args.positional.is_empty() {
                    return failed("`cycler` needs at least one item");
                }
                self.new_object(Object::Cycler { items: args.positional, position: 0 })
            }
            Function::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"], 1)?;
                let message = ops::to_text(&mut self.budget, &message.unwrap_or(Value::None))?;
                Err(Box::new(Fault::Raised(message)))
            }
            Function::StrftimeNow => {
                let [format] = args.bind("strftime_now", ["format"], 1)?;
                let format = text_arg("strftime_now", format)?.unwrap_or_default();
                self.strftime(&format)
            }
        }
    }

    fn new_object(&mut self, object: Object) -> Eval<Value> {
        self.budget.items(2)?;
        self.objects.push(object);
        Ok(Value::Object(self.objects.len() - 1))
    }

    fn range(&mut self, args: CallArgs) -> Eval<Value> {
        let [first, second, step] = args.bind("range", ["start", "stop", "step"], 1)?;
        let first = int_arg("range", first)?.unwrap_or(0);
        let (start, stop) = match int_arg("range", second)? {
            Some(stop) => (first, stop),
            None => (0, first),
        };
        let step = int_arg("range", step)?.unwrap_or(1);
        if step == 0 {
            return failed("`range` cannot have step zero");
        }
        let (Ok(start), Ok(stop), Ok(step)) = (i64::try_from(start), i64::try_from(stop), i64::try_from(step)) else {
            return failed("`range` is too long");
        };
        let span = if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
        let stride = i128::from(step).abs();
        let len = ((span + stride - 1) / stride).max(0);
        if len > MAX_RANGE {
            return failed(format!("`range` is longer than {MAX_RANGE}"));
        }
        self.budget.items(len as usize)?;
        let items = (0..len).map(|i| Value::Int(i128::from(start) + i * i128::from(step))).collect();
        self.budget.seq(SeqKind::Range { start, stop, step }, items)
    }

    /// Entries of `dict(mapping_or_pairs, **more)`.
    fn dict_entries(&mut self, callee: &str, args: CallArgs) -> Eval<Vec<(Value, Value)>> {
        let CallArgs { positional, keyword } = args;
        if positional.len() > 1 {
            return failed(format!("`{callee}` takes at most one positional argument"));
        }
        let mut entries = Vec::new();
        match positional.first() {
            None => {}
            Some(Value::Dict(dict)) => {
                self.budget.items(dict.entries.len().saturating_mul(2))?;
                entries.clone_from(&dict.entries);
            }
            Some(pairs) => {
                for pair in ops::iterate(&mut self.budget, pairs)? {
                    let pair = ops::iterate(&mut self.budget, &pair)?;
                    let [key, value] = pair.as_slice() else {
                        return failed(format!("`{callee}` needs pairs"));
                    };
                    ops::dict_set(&mut self.budget, &mut entries, key.clone(), value.clone())?;
                }
            }
        }
        for (name, value) in keyword {
            ops::dict_set(&mut self.budget, &mut entries, Value::Str(name), value)?;
        }
        Ok(entries)
    }

    fn namespace(&mut self, args: CallArgs) -> Eval<Value> {
        let mut attributes = Vec::new();
        for (key, value) in self.dict_entries("namespace", args)? {
            let Value::Str(name) = key else { return failed("`namespace` needs names as keys") };
            attributes.push((name, value));
        }
        self.new_object(Object::Namespace(attributes))
    }

    fn strftime(&mut self, format: &str) -> Eval<Value> {
        self.budget.scan(format.len())?;
        if format.len() > 256 {
            return failed("the format of `strftime_now` is too long");
        }
        let now = self.now.unwrap_or_else(|| chrono::Local::now().naive_local());
        let mut items = Vec::new();
        // Python's `%f` is microseconds; a naive time has no zone, so `%Z` and `%z` are empty.
        let format = format.replace("%f", "%6f").replace("%Z", "").replace("%z", "");
        for item in StrftimeItems::new(&format) {
            if item == Item::Error {
                return failed(format!("`strftime_now` does not know the format {format:?}"));
            }
            items.push(item);
        }
        let mut text = String::new();
        if std::fmt::Write::write_fmt(&mut text, format_args!("{}", now.format_with_items(items.iter()))).is_err() {
            return failed(format!("`strftime_now` cannot use the format {format:?}"));
        }
        self.budget.text(text)
    }

    // ---- objects ----

    pub(super) fn object_attribute(&mut self, index: usize, name: &str) -> Eval<Option<Value>> {
        Ok(match self.objects.get(index) {
            Some(Object::Namespace(attributes)) => {
                self.budget.steps(attributes.len() as u64 / 4)?;
                attributes.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.clone())
            }
            Some(Object::Cycler { items, position }) => match name {
                "current" => items.get(*position).cloned(),
                "next" => Some(object_method(Value::Object(index), "next")),
                "reset" => Some(object_method(Value::Object(index), "reset")),
                _ => None,
            },
            _ => None,
        })
    }

    fn call_joiner(&mut self, index: usize) -> Eval<Value> {
        match self.objects.get_mut(index) {
            Some(Object::Joiner { separator, used }) => {
                let text = if *used { separator.clone() } else { Value::str("") };
                *used = true;
                Ok(text)
            }
            _ => failed("a namespace cannot be called"),
        }
    }

    fn call_cycler(&mut self, index: usize, name: &str, args: CallArgs) -> Eval<Value> {
        let [] = args.bind(name, [], 0)?;
        let Some(Object::Cycler { items, position }) = self.objects.get_mut(index) else {
            return failed("only a cycler can be stepped");
        };
        if name == "reset" {
            *position = 0;
            return Ok(Value::None);
        }
        let current = items.get(*position).cloned().unwrap_or(Value::None);
        *position = (*position + 1) % items.len().max(1);
        Ok(current)
    }

    // ---- loop ----

    pub(super) fn loop_attribute(&mut self, state: usize, name: &str) -> Eval<Option<Value>> {
        let Some(current) = self.loops.get(state) else { return Ok(None) };
        let (index0, len) = (current.index0, current.items.len());
        let number = |n: usize| Some(Value::Int(n as i128));
        Ok(match name {
            "index" => number(index0 + 1),
            "index0" => number(index0),
            "revindex" => number(len - index0),
            "revindex0" => number(len - index0 - 1),
            "first" => Some(Value::Bool(index0 == 0)),
            "last" => Some(Value::Bool(index0 + 1 == len)),
            "length" => number(len),
            "depth" => number(current.depth0 + 1),
            "depth0" => number(current.depth0),
            "previtem" => match index0.checked_sub(1).and_then(|index| current.items.get(index)) {
                Some(item) => Some(item.clone()),
                None => Some(Value::Undefined("there is no previous item".into())),
            },
            "nextitem" => match current.items.get(index0 + 1) {
                Some(item) => Some(item.clone()),
                None => Some(Value::Undefined("there is no next item".into())),
            },
            "cycle" => Some(object_method(Value::Loop(state), "cycle")),
            "changed" => Some(object_method(Value::Loop(state), "changed")),
            _ => None,
        })
    }

    fn call_loop_method(&mut self, state: usize, name: &str, args: CallArgs) -> Eval<Value> {
        let Some(current) = self.loops.get_mut(state) else { return failed("this loop has ended") };
        if name == "cycle" {
            let n = args.positional.len();
            if n == 0 {
                return failed("`loop.cycle` needs items");
            }
            return Ok(args.positional.get(current.index0 % n).cloned().unwrap_or(Value::None));
        }
        let last = current.changed.replace(args.positional.clone());
        let Some(last) = last else { return Ok(Value::Bool(true)) };
        if last.len() != args.positional.len() {
            return Ok(Value::Bool(true));
        }
        for (a, b) in last.iter().zip(&args.positional) {
            if !ops::equal(&mut self.budget, a, b)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    /// `loop(items)` in a recursive loop: the text of the loop over these items.
    fn call_loop(&mut self, state: usize, args: CallArgs) -> Eval<Value> {
        let [items] = args.bind("loop", ["iterable"], 1)?;
        let items = items.unwrap_or(Value::None);
        let Some(current) = self.loops.get(state) else { return failed("this loop has ended") };
        let (def, depth0, scope) = (current.def, current.depth0 + 1, current.scope);
        if !self.program.loops.get(def).is_some_and(|looped| looped.recursive) {
            return failed("only a loop marked `recursive` can be called");
        }
        self.nested(|interpreter| {
            interpreter.captured(|interpreter| {
                interpreter.run_loop(def, &items, depth0, scope)?;
                Ok(Flow::Next)
            })
        })
    }

    /// The attribute of `value` that a filter names: `a.b.0` goes through items.
    pub(super) fn attribute_path(&mut self, value: &Value, path: &Value) -> Eval<Value> {
        let Value::Str(path) = path else { return self.item(value, path) };
        let mut current = value.clone();
        for part in path.split('.') {
            let is_index = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let index = match part.parse() {
                Ok(index) if is_index => Value::Int(index),
                _ => self.budget.text(part)?,
            };
            current = self.item(&current, &index)?;
        }
        Ok(current)
    }

    /// A name given to a filter as text.
    pub(super) fn name_arg(&mut self, callee: &str, value: Value) -> Eval<Arc<str>> {
        match value {
            Value::Str(name) => Ok(name),
            other => failed(format!("`{callee}` needs a name, not {}", shown(other.type_name()))),
        }
    }
}

fn object_method(receiver: Value, name: &'static str) -> Value {
    Value::Method(Arc::new(Method { receiver, name }))
}
