//! Values that a template works with. They are Python's, as far as a sandboxed chat template can tell; all of them are
//! immutable (the sandbox forbids changing lists and dictionaries), so they form no cycles. What can change, such as a
//! namespace, lives in the interpreter and is referred to by index.

use std::sync::Arc;

use super::ast::ArithmeticOp;

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// With the message that using it gives.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    Seq(Arc<Seq>),
    Dict(Arc<Dict>),
    /// Index into the interpreter's objects.
    Object(usize),
    /// Index into the interpreter's running loops.
    Loop(usize),
    Macro(MacroRef),
    Function(Function),
    Method(Arc<Method>),
}

/// A macro and the scope it was defined in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MacroRef {
    pub(super) def: usize,
    pub(super) scope: usize,
}

/// A list, or what behaves like one.
#[derive(Debug)]
pub(super) struct Seq {
    pub(super) kind: SeqKind,
    pub(super) items: Vec<Value>,
    pub(super) depth: u16,
}

/// What a sequence is in Python, which decides how it prints and whether it has a length, items and a truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeqKind {
    List,
    Tuple,
    Range { start: i64, stop: i64, step: i64 },
    Generator,
    DictKeys,
    DictValues,
    DictItems,
}

/// A dictionary in insertion order.
#[derive(Debug)]
pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    pub(super) depth: u16,
}

/// A method taken from its value: `text.strip`.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) receiver: Value,
    pub(super) name: &'static str,
}

/// The global functions of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    Joiner,
    Cycler,
    RaiseException,
    StrftimeNow,
}

impl Function {
    pub(super) fn from_name(name: &str) -> Option<Function> {
        Some(match name {
            "range" => Function::Range,
            "dict" => Function::Dict,
            "namespace" => Function::Namespace,
            "joiner" => Function::Joiner,
            "cycler" => Function::Cycler,
            "raise_exception" => Function::RaiseException,
            "strftime_now" => Function::StrftimeNow,
            _ => return None,
        })
    }
}

/// The start of a name from the conversation or template, fit for a message.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}

impl Value {
    /// An undefined variable.
    pub(super) fn undefined(name: &str) -> Value {
        Value::Undefined(format!("`{}` is undefined", shown(name)).into())
    }

    /// An attribute or item that `self` does not have.
    pub(super) fn missing(&self, name: &str) -> Value {
        Value::Undefined(format!("{} has no `{}`", self.type_name(), shown(name)).into())
    }

    pub(super) fn str(text: &str) -> Value {
        Value::Str(text.into())
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "undefined",
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple => "tuple",
                SeqKind::Range { .. } => "range",
                SeqKind::Generator => "generator",
                SeqKind::DictKeys => "dict_keys",
                SeqKind::DictValues => "dict_values",
                SeqKind::DictItems => "dict_items",
            },
            Value::Dict(_) => "dict",
            Value::Object(_) => "object",
            Value::Loop(_) => "loop",
            Value::Macro(_) => "macro",
            Value::Function(_) => "function",
            Value::Method(_) => "method",
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(text) => !text.is_empty(),
            // A generator does not know that it is empty.
            Value::Seq(seq) => seq.kind == SeqKind::Generator || !seq.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            Value::Object(_) | Value::Loop(_) | Value::Macro(_) | Value::Function(_) | Value::Method(_) => true,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// As an integer; truth values are integers in Python.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(i) => Some(*i),
            Value::Bool(b) => Some(i128::from(*b)),
            _ => None,
        }
    }

    /// As a float, from any number.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(x) => Some(*x),
            other => other.as_int().map(|i| i as f64),
        }
    }

    pub(super) fn callable(&self) -> bool {
        matches!(self, Value::Macro(_) | Value::Function(_) | Value::Method(_))
    }

    /// Levels of containers in this value.
    pub(super) fn depth(&self) -> u16 {
        match self {
            Value::Seq(seq) => seq.depth,
            Value::Dict(dict) => dict.depth,
            Value::Method(method) => method.receiver.depth() + 1,
            _ => 0,
        }
    }
}

impl ArithmeticOp {
    /// The operator as written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            ArithmeticOp::Add => "+",
            ArithmeticOp::Sub => "-",
            ArithmeticOp::Mul => "*",
            ArithmeticOp::Div => "/",
            ArithmeticOp::FloorDiv => "//",
            ArithmeticOp::Rem => "%",
            ArithmeticOp::Pow => "**",
        }
    }
}
