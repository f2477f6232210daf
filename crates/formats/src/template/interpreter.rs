//! The state of a rendering and its statements. Expressions are in `expression`, calls in `call`.
//!
//! Scopes follow Jinja: `for`, `with`, macros and block bodies open one, `if` does not; a variable that is not in the
//! scope is looked up in the enclosing ones, and assignment is always to the innermost. Scopes and loop states sit in
//! vectors and are referred to by index, so that macros, which outlive the scope they were defined in, cannot form
//! reference cycles.

use std::sync::Arc;

use chrono::NaiveDateTime;

use super::args::CallArgs;
use super::ast::*;
use super::budget::{Budget, Eval, Fault, failed};
use super::ops;
use super::value::{MacroRef, Value, shown};

/// Nested evaluations, counted through macros and recursive loops. The stack of a server thread (2 MiB) has room for
/// several times as many.
const MAX_DEPTH: u32 = 250;

/// What a statement asks of the loop around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

#[derive(Debug)]
struct Scope {
    parent: Option<usize>,
    vars: Vec<(Arc<str>, Value)>,
}

/// A value that can change.
#[derive(Debug)]
pub(super) enum Object {
    Namespace(Vec<(Arc<str>, Value)>),
    Joiner { separator: Value, used: bool },
    Cycler { items: Vec<Value>, position: usize },
}

/// A running loop, as its body sees it in `loop`.
#[derive(Debug)]
pub(super) struct LoopState {
    /// Index into [`Program::loops`].
    pub(super) def: usize,
    pub(super) items: Arc<Vec<Value>>,
    pub(super) index0: usize,
    pub(super) depth0: usize,
    /// The scope around the loop.
    pub(super) scope: usize,
    /// Arguments of the last `loop.changed`.
    pub(super) changed: Option<Vec<Value>>,
}

#[derive(Debug)]
pub(super) struct Interpreter<'t> {
    pub(super) program: &'t Program,
    pub(super) budget: Budget,
    pub(super) objects: Vec<Object>,
    pub(super) loops: Vec<LoopState>,
    /// What `strftime_now` calls now; `None` is the clock.
    pub(super) now: Option<NaiveDateTime>,
    /// Line of the statement being run.
    pub(super) line: u32,
    scopes: Vec<Scope>,
    scope: usize,
    /// Macros defined so far; scopes that one was defined in are kept.
    n_macros: usize,
    out: String,
    depth: u32,
}

impl<'t> Interpreter<'t> {
    pub(super) fn new(program: &'t Program, budget: Budget) -> Interpreter<'t> {
        Interpreter {
            program,
            budget,
            objects: Vec::new(),
            loops: Vec::new(),
            now: None,
            line: 1,
            scopes: vec![Scope { parent: None, vars: Vec::new() }],
            scope: 0,
            n_macros: 0,
            out: String::new(),
            depth: 0,
        }
    }

    /// Runs the whole template.
    pub(super) fn run(&mut self) -> Eval<String> {
        self.block(&self.program.body)?;
        Ok(std::mem::take(&mut self.out))
    }

    // ---- variables ----

    pub(super) fn set_variable(&mut self, name: Arc<str>, value: Value) -> Eval<()> {
        self.budget.items(1)?;
        let Some(scope) = self.scopes.get_mut(self.scope) else { return Ok(()) };
        self.budget.steps(scope.vars.len() as u64 / 4)?;
        match scope.vars.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => scope.vars.push((name, value)),
        }
        Ok(())
    }

    pub(super) fn variable(&mut self, name: &str) -> Eval<Option<Value>> {
        let mut next = Some(self.scope);
        while let Some(scope) = next.and_then(|index| self.scopes.get(index)) {
            self.budget.steps(1 + scope.vars.len() as u64 / 4)?;
            if let Some((_, value)) = scope.vars.iter().find(|(known, _)| **known == *name) {
                return Ok(Some(value.clone()));
            }
            next = scope.parent;
        }
        Ok(None)
    }

    /// Runs `body` in a new scope inside `parent`.
    pub(super) fn scoped<T>(&mut self, parent: usize, body: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<T> {
        self.budget.items(2)?;
        let (outer, n_macros, index) = (self.scope, self.n_macros, self.scopes.len());
        self.scopes.push(Scope { parent: Some(parent), vars: Vec::new() });
        self.scope = index;
        let result = body(self)?;
        self.scope = outer;
        if self.n_macros == n_macros {
            self.scopes.truncate(index);
        }
        Ok(result)
    }

    /// Runs `body` and gives what it wrote.
    pub(super) fn captured(&mut self, body: impl FnOnce(&mut Self) -> Eval<Flow>) -> Eval<Value> {
        let outer = std::mem::take(&mut self.out);
        body(self)?;
        let text = std::mem::replace(&mut self.out, outer);
        self.budget.text(text)
    }

    /// Counts one level of nested evaluation.
    pub(super) fn nested<T>(&mut self, body: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<T> {
        if self.depth >= MAX_DEPTH {
            return Err(Box::new(Fault::Limit { what: "nested evaluations", limit: u64::from(MAX_DEPTH) }));
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    // ---- statements ----

    pub(super) fn block(&mut self, block: &'t Block) -> Eval<Flow> {
        for stmt in block {
            self.line = stmt.line;
            self.budget.steps(1)?;
            let flow = match &stmt.kind {
                StmtKind::Text(text) => self.write(text).map(|()| Flow::Next)?,
                StmtKind::Print(expr) => self.print(expr)?,
                other => self.nested(|interpreter| interpreter.statement(other))?,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, text: &str) -> Eval<()> {
        self.budget.bytes(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn print(&mut self, expr: &'t Expr) -> Eval<Flow> {
        match self.eval(expr)? {
            Value::Str(text) => self.write(&text)?,
            other => {
                let text = ops::to_text(&mut self.budget, &other)?;
                self.write(&text)?;
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, kind: &'t StmtKind) -> Eval<Flow> {
        match kind {
            StmtKind::Text(text) => self.write(text)?,
            StmtKind::Print(expr) => return self.print(expr),
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.eval(test)?.is_true() {
                        return self.block(body);
                    }
                }
                return self.block(otherwise);
            }
            StmtKind::For(def) => {
                let Some(looped) = self.program.loops.get(*def) else { return Ok(Flow::Next) };
                let iterable = self.eval(&looped.iter)?;
                return self.run_loop(*def, &iterable, 0, self.scope);
            }
            StmtKind::Set { target, value } => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StmtKind::SetBlock { target, filters, body } => {
                let text = self.filtered_body(filters, body)?;
                self.assign(target, text)?;
            }
            StmtKind::FilterBlock { filters, body } => {
                let text = self.filtered_body(filters, body)?;
                let text = ops::to_text(&mut self.budget, &text)?;
                self.write(&text)?;
            }
            StmtKind::With { bindings, body } => return self.with(bindings, body),
            StmtKind::Macro(def) => {
                let value = self.define_macro(*def);
                if let Some(def) = self.program.macros.get(*def) {
                    self.set_variable(def.name.clone(), value)?;
                }
            }
            StmtKind::CallBlock { call, caller } => {
                let caller = self.define_macro(*caller);
                let text = self.eval_call_block(call, caller)?;
                let text = ops::to_text(&mut self.budget, &text)?;
                self.write(&text)?;
            }
            StmtKind::Transparent(body) => return self.scoped(self.scope, |interpreter| interpreter.block(body)),
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn define_macro(&mut self, def: usize) -> Value {
        self.n_macros += 1;
        Value::Macro(MacroRef { def, scope: self.scope })
    }

    fn filtered_body(&mut self, filters: &'t [FilterCall], body: &'t Block) -> Eval<Value> {
        let mut text =
            self.captured(|interpreter| interpreter.scoped(interpreter.scope, |interpreter| interpreter.block(body)))?;
        for filter in filters {
            let args = self.eval_args(&filter.args)?;
            text = self.filter(&filter.name, text, args)?;
        }
        Ok(text)
    }

    fn with(&mut self, bindings: &'t [(Target, Expr)], body: &'t Block) -> Eval<Flow> {
        let mut values = Vec::new();
        for (_, expr) in bindings {
            values.push(self.eval(expr)?);
        }
        self.scoped(self.scope, |interpreter| {
            for ((target, _), value) in bindings.iter().zip(values) {
                interpreter.assign(target, value)?;
            }
            interpreter.block(body)
        })
    }

    fn assign(&mut self, target: &'t Target, value: Value) -> Eval<()> {
        match target {
            Target::Name(name) => self.set_variable(name.clone(), value),
            Target::Attribute { namespace, name } => {
                self.budget.items(1)?;
                let object = self.variable(namespace)?;
                let Some(Value::Object(index)) = object else {
                    return failed(format!("cannot set an attribute of `{}`, which is no namespace", shown(namespace)));
                };
                let Some(Object::Namespace(entries)) = self.objects.get_mut(index) else {
                    return failed(format!("cannot set an attribute of `{}`, which is no namespace", shown(namespace)));
                };
                self.budget.steps(entries.len() as u64 / 4)?;
                match entries.iter_mut().find(|(known, _)| known == name) {
                    Some((_, old)) => *old = value,
                    None => entries.push((name.clone(), value)),
                }
                Ok(())
            }
            Target::Tuple(targets) => {
                let values = ops::iterate(&mut self.budget, &value)?;
                if values.len() != targets.len() {
                    return failed(format!("cannot unpack {} values into {}", values.len(), targets.len()));
                }
                targets.iter().zip(values).try_for_each(|(target, value)| self.assign(target, value))
            }
        }
    }

    /// Runs a loop over `iterable` in scopes inside `scope`.
    pub(super) fn run_loop(&mut self, def: usize, iterable: &Value, depth0: usize, scope: usize) -> Eval<Flow> {
        let Some(looped) = self.program.loops.get(def) else { return Ok(Flow::Next) };
        let mut items = ops::iterate(&mut self.budget, iterable)?;
        if let Some(filter) = &looped.filter {
            let mut kept = Vec::new();
            for item in items {
                let keep = self.scoped(scope, |interpreter| {
                    interpreter.assign(&looped.target, item.clone())?;
                    Ok(interpreter.eval(filter)?.is_true())
                })?;
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(scope, |interpreter| interpreter.block(&looped.otherwise));
        }
        let state = self.loops.len();
        let items = Arc::new(items);
        self.loops.push(LoopState { def, items: items.clone(), index0: 0, depth0, scope, changed: None });
        for (index0, item) in items.iter().enumerate() {
            if let Some(current) = self.loops.get_mut(state) {
                current.index0 = index0;
            }
            let flow = self.scoped(scope, |interpreter| {
                interpreter.set_variable("loop".into(), Value::Loop(state))?;
                interpreter.assign(&looped.target, item.clone())?;
                interpreter.block(&looped.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        self.loops.truncate(state);
        Ok(Flow::Next)
    }

    /// Calls a macro: its text.
    pub(super) fn call_macro(&mut self, called: MacroRef, args: CallArgs) -> Eval<Value> {
        let Some(def) = self.program.macros.get(called.def) else { return failed("this macro does not exist") };
        let line = self.line;
        let text = self.captured(|interpreter| {
            interpreter.scoped(called.scope, |interpreter| {
                interpreter.bind_macro(def, args)?;
                interpreter.block(&def.body)
            })
        })?;
        self.line = line;
        Ok(text)
    }

    fn bind_macro(&mut self, def: &'t MacroDef, args: CallArgs) -> Eval<()> {
        let CallArgs { mut positional, mut keyword } = args;
        let extra = positional.split_off(positional.len().min(def.params.len()));
        if !extra.is_empty() && !def.uses_varargs {
            return failed(format!("macro `{}` takes at most {} arguments", shown(&def.name), def.params.len()));
        }
        let n_positional = positional.len();
        for (param, value) in def.params.iter().zip(positional) {
            self.set_variable(param.name.clone(), value)?;
        }
        for param in def.params.iter().skip(n_positional) {
            let given = keyword.iter().position(|(name, _)| *name == param.name);
            let value = match (given, &param.default) {
                (Some(index), _) => keyword.swap_remove(index).1,
                (None, Some(default)) => self.eval(default)?,
                (None, None) => Value::undefined(&param.name),
            };
            self.set_variable(param.name.clone(), value)?;
        }
        let caller = keyword.iter().position(|(name, _)| &**name == "caller").map(|index| keyword.swap_remove(index).1);
        match caller {
            Some(caller) if def.uses_caller => self.set_variable("caller".into(), caller)?,
            Some(_) => return failed(format!("macro `{}` does not use `caller`", shown(&def.name))),
            None if def.uses_caller => self.set_variable("caller".into(), Value::undefined("caller"))?,
            None => {}
        }
        if def.uses_varargs {
            let varargs = self.budget.seq(super::value::SeqKind::Tuple, extra)?;
            self.set_variable("varargs".into(), varargs)?;
        }
        if def.uses_kwargs {
            let entries = keyword.into_iter().map(|(name, value)| (Value::Str(name), value)).collect();
            let kwargs = self.budget.dict(entries)?;
            return self.set_variable("kwargs".into(), kwargs);
        }
        match keyword.first() {
            Some((name, _)) => failed(format!("macro `{}` has no argument `{}`", shown(&def.name), shown(name))),
            None => Ok(()),
        }
    }
}
