//! Evaluation of expressions.

use std::sync::Arc;

use super::args::CallArgs;
use super::ast::*;
use super::budget::{Eval, TextBuilder, failed};
use super::interpreter::Interpreter;
use super::methods;
use super::ops::{self, Bounds};
use super::text::push_str;
use super::value::{Function, SeqKind, Value, shown};

impl<'t> Interpreter<'t> {
    pub(super) fn eval(&mut self, expr: &'t Expr) -> Eval<Value> {
        self.budget.steps(1)?;
        match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Name(name) => self.name(name),
            other => self.nested(|interpreter| interpreter.compound(other)),
        }
    }

    fn name(&mut self, name: &Arc<str>) -> Eval<Value> {
        if let Some(value) = self.variable(name)? {
            return Ok(value);
        }
        Ok(Function::from_name(name).map_or_else(|| Value::undefined(name), Value::Function))
    }

    fn compound(&mut self, expr: &'t Expr) -> Eval<Value> {
        match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Name(name) => self.name(name),
            Expr::List(items) => {
                let items = self.eval_all(items)?;
                self.budget.list(items)
            }
            Expr::Tuple(items) => {
                let items = self.eval_all(items)?;
                self.budget.seq(SeqKind::Tuple, items)
            }
            Expr::Dict(pairs) => {
                let mut entries = Vec::new();
                for (key, value) in pairs {
                    let (key, value) = (self.eval(key)?, self.eval(value)?);
                    ops::dict_set(&mut self.budget, &mut entries, key, value)?;
                }
                self.budget.dict(entries)
            }
            Expr::Not(operand) => Ok(Value::Bool(!self.eval(operand)?.is_true())),
            Expr::Negative(operand) => ops::negative(&self.eval(operand)?),
            Expr::Positive(operand) => match self.eval(operand)? {
                value if value.as_float().is_some() => Ok(value),
                other => failed(format!("`+` does not work on {}", other.type_name())),
            },
            Expr::And(operands) => self.until(operands, |value| !value.is_true()),
            Expr::Or(operands) => self.until(operands, Value::is_true),
            Expr::Concat(operands) => {
                let values = self.eval_all(operands)?;
                let mut out = TextBuilder::new(&mut self.budget);
                values.iter().try_for_each(|value| push_str(&mut out, value))?;
                Ok(out.value())
            }
            Expr::Arithmetic(first, rest) => {
                let mut value = self.eval(first)?;
                for (op, operand) in rest {
                    let operand = self.eval(operand)?;
                    value = ops::arithmetic(&mut self.budget, *op, &value, &operand)?;
                }
                Ok(value)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, operand) in rest {
                    let right = self.eval(operand)?;
                    if !ops::compare(&mut self.budget, *op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Conditional(conditional) => {
                if self.eval(&conditional.test)?.is_true() {
                    return self.eval(&conditional.then);
                }
                match &conditional.otherwise {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Value::Undefined("an `if` without `else` gave nothing".into())),
                }
            }
            Expr::Postfix(base, ops) => {
                let value = self.eval(base)?;
                self.postfix(value, ops)
            }
        }
    }

    fn eval_all(&mut self, exprs: &'t [Expr]) -> Eval<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    /// The first value for which `stop` holds, or the last.
    fn until(&mut self, exprs: &'t [Expr], stop: fn(&Value) -> bool) -> Eval<Value> {
        let mut value = Value::None;
        for expr in exprs {
            value = self.eval(expr)?;
            if stop(&value) {
                break;
            }
        }
        Ok(value)
    }

    fn postfix(&mut self, mut value: Value, ops: &'t [PostfixOp]) -> Eval<Value> {
        for op in ops {
            self.budget.steps(1)?;
            value = match op {
                PostfixOp::Attribute(name) => self.attribute(&value, name)?,
                PostfixOp::Item(index) => {
                    let index = self.eval(index)?;
                    self.item(&value, &index)?
                }
                PostfixOp::Slice(bounds) => self.slice(&value, bounds)?,
                PostfixOp::Call(args) => {
                    let args = self.eval_args(args)?;
                    self.call(value, args)?
                }
                PostfixOp::Filter(filter) => {
                    let args = self.eval_args(&filter.args)?;
                    self.filter(&filter.name, value, args)?
                }
                PostfixOp::Test { name, args, negated } => {
                    let args = self.eval_args(args)?;
                    Value::Bool(self.test(name, &value, args)? != *negated)
                }
            };
        }
        Ok(value)
    }

    /// The call of a `{% call %}` block, with the block's body as `caller`.
    pub(super) fn eval_call_block(&mut self, expr: &'t Expr, caller: Value) -> Eval<Value> {
        let Expr::Postfix(base, ops) = expr else { return failed("`call` needs a call") };
        let Some((PostfixOp::Call(args), before)) = ops.split_last() else { return failed("`call` needs a call") };
        let base = self.eval(base)?;
        let callee = self.postfix(base, before)?;
        let mut args = self.eval_args(args)?;
        args.keyword.push(("caller".into(), caller));
        self.call(callee, args)
    }

    pub(super) fn eval_args(&mut self, args: &'t Args) -> Eval<CallArgs> {
        let mut positional = self.eval_all(&args.positional)?;
        let mut keyword = Vec::new();
        for (name, expr) in &args.keyword {
            keyword.push((name.clone(), self.eval(expr)?));
        }
        if let Some(splat) = &args.splat {
            let values = self.eval(splat)?;
            positional.extend(ops::iterate(&mut self.budget, &values)?);
        }
        if let Some(splat) = &args.keyword_splat {
            let Value::Dict(dict) = self.eval(splat)? else { return failed("`**` needs a dict") };
            self.budget.items(dict.entries.len())?;
            for (key, value) in &dict.entries {
                let Value::Str(name) = key else { return failed("`**` needs names as keys") };
                keyword.push((name.clone(), value.clone()));
            }
        }
        Ok(CallArgs { positional, keyword })
    }

    fn slice(&mut self, value: &Value, bounds: &'t SliceBounds) -> Eval<Value> {
        let bounds = Bounds {
            start: self.slice_bound(bounds.start.as_ref())?,
            stop: self.slice_bound(bounds.stop.as_ref())?,
            step: self.slice_bound(bounds.step.as_ref())?,
        };
        ops::slice(&mut self.budget, value, bounds)
    }

    fn slice_bound(&mut self, bound: Option<&'t Expr>) -> Eval<Option<i128>> {
        let Some(expr) = bound else { return Ok(None) };
        match self.eval(expr)? {
            Value::None => Ok(None),
            value => match value.as_int() {
                Some(i) => Ok(Some(i)),
                None => failed(format!("a slice needs integers, not {}", value.type_name())),
            },
        }
    }

    /// `value.name`: the Python attribute when there is one, otherwise the item.
    pub(super) fn attribute(&mut self, value: &Value, name: &Arc<str>) -> Eval<Value> {
        if let Value::Undefined(message) = value {
            return failed(message.as_ref());
        }
        if let Some(found) = self.python_attribute(value, name)? {
            return Ok(found);
        }
        match value {
            Value::Dict(dict) => {
                let found = ops::dict_get(&mut self.budget, &dict.entries, &Value::Str(name.clone()))?;
                Ok(found.unwrap_or_else(|| value.missing(name)))
            }
            _ => Ok(value.missing(name)),
        }
    }

    /// `value[index]`: the item when there is one, otherwise the Python attribute of that name.
    pub(super) fn item(&mut self, value: &Value, index: &Value) -> Eval<Value> {
        let found = match value {
            Value::Undefined(message) => return failed(message.as_ref()),
            Value::Dict(dict) => ops::dict_get(&mut self.budget, &dict.entries, index)?,
            Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Range { .. }) => {
                index.as_int().and_then(|index| ops::item_at(&seq.items, index)).cloned()
            }
            Value::Str(text) => match index.as_int() {
                Some(index) => self.char_at(text, index)?,
                None => None,
            },
            _ => None,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if let Value::Str(name) = index {
            return Ok(self.python_attribute(value, name)?.unwrap_or_else(|| value.missing(name)));
        }
        let name = ops::to_text(&mut self.budget, index)?;
        Ok(value.missing(&name))
    }

    fn char_at(&mut self, text: &str, index: i128) -> Eval<Option<Value>> {
        self.budget.scan(text.len())?;
        let found = if index < 0 {
            let from_end = index.checked_neg().and_then(|index| usize::try_from(index - 1).ok());
            from_end.and_then(|index| text.chars().rev().nth(index))
        } else {
            usize::try_from(index).ok().and_then(|index| text.chars().nth(index))
        };
        Ok(found.map(|c| Value::str(c.encode_utf8(&mut [0; 4]))))
    }

    fn python_attribute(&mut self, value: &Value, name: &str) -> Eval<Option<Value>> {
        if let Value::Loop(state) = value {
            return self.loop_attribute(*state, name);
        }
        if let Value::Object(index) = value {
            return self.object_attribute(*index, name);
        }
        if let Some(name) = methods::find(value, name) {
            let method = self.budget.method(value.clone(), name)?;
            return Ok(Some(method));
        }
        if methods::is_forbidden(value, name) {
            let message = format!("`{}` would change a {}, which a template may not", shown(name), value.type_name());
            return Ok(Some(Value::Undefined(message.into())));
        }
        Ok(None)
    }
}
