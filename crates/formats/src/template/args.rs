//! Arguments of a call, and their binding to parameter names.

use std::sync::Arc;

use super::budget::{Eval, failed};
use super::value::{Value, shown};

/// Evaluated arguments.
#[derive(Debug, Default)]
pub(super) struct CallArgs {
    pub(super) positional: Vec<Value>,
    pub(super) keyword: Vec<(Arc<str>, Value)>,
}

impl CallArgs {
    /// The arguments in the order of `names`, absent ones as `None`; the first `required` must be there.
    pub(super) fn bind<const N: usize>(
        self,
        callee: &str,
        names: [&str; N],
        required: usize,
    ) -> Eval<[Option<Value>; N]> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            return failed(format!("`{callee}` takes at most {N} arguments, {} are given", self.positional.len()));
        }
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.keyword {
            let slot = names.iter().position(|known| **known == *name).and_then(|index| bound.get_mut(index));
            match slot {
                Some(slot @ None) => *slot = Some(value),
                Some(Some(_)) => return failed(format!("`{callee}` is given `{}` twice", shown(&name))),
                None => return failed(format!("`{callee}` has no argument `{}`", shown(&name))),
            }
        }
        match bound.iter().take(required).position(Option::is_none) {
            Some(index) => failed(format!("`{callee}` needs the argument `{}`", names.get(index).unwrap_or(&"?"))),
            None => Ok(bound),
        }
    }

    /// The first positional argument and the rest.
    pub(super) fn split_first(mut self, callee: &str) -> Eval<(Value, CallArgs)> {
        if self.positional.is_empty() {
            return failed(format!("`{callee}` needs an argument"));
        }
        let rest = self.positional.split_off(1);
        match self.positional.pop() {
            Some(first) => Ok((first, CallArgs { positional: rest, keyword: self.keyword })),
            None => failed(format!("`{callee}` needs an argument")),
        }
    }
}

/// An argument that must be text when it is there.
pub(super) fn text_arg(callee: &str, value: Option<Value>) -> Eval<Option<Arc<str>>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text)),
        Some(other) => failed(format!("`{callee}` needs a str, not {}", other.type_name())),
    }
}

/// An argument that must be an integer when it is there.
pub(super) fn int_arg(callee: &str, value: Option<Value>) -> Eval<Option<i128>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            Some(i) => Ok(Some(i)),
            None => failed(format!("`{callee}` needs an int, not {}", value.type_name())),
        },
    }
}

/// A truth value with a default.
pub(super) fn flag_arg(value: Option<Value>, default: bool) -> bool {
    value.map_or(default, |value| value.is_true())
}

/// An integer argument as a count that cannot be negative.
pub(super) fn count_arg(callee: &str, value: Option<Value>, default: usize) -> Eval<usize> {
    let n = int_arg(callee, value)?;
    Ok(n.map_or(default, |n| usize::try_from(n.max(0)).unwrap_or(usize::MAX)))
}
