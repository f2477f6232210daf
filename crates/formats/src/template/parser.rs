//! Tokens to a [`Program`]: Jinja's grammar with the extensions that Hugging Face turns on (`break`, `continue`,
//! `generation`). There is no loader behind a chat template, so `include`, `import` and `extends` are refused.
//!
//! Source: the grammar as Jinja 3.1 documents and behaves; precedence from loosest: `if else`, `or`, `and`, `not`,
//! comparisons, `+ -`, `~`, `* / // %`, `**`, unary sign, then attributes, items, calls, filters and tests.

use std::sync::Arc;

use super::ast::*;
use super::error::TemplateError;
use super::lexer::{Located, Token, tokenize};
use super::value::{Value, shown};

/// Nesting of expressions and blocks. Each level takes some kilobytes of stack here and later.
const MAX_NESTING: u32 = 80;
/// Templates of published models have up to some 30 KiB.
pub(super) const MAX_SOURCE_BYTES: usize = 256 << 10;

type Parse<T> = Result<T, TemplateError>;

pub(super) fn parse(source: &str) -> Parse<Program> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(TemplateError::Limit { line: 1, what: "bytes of source", limit: MAX_SOURCE_BYTES as u64 });
    }
    let mut parser = Parser {
        tokens: tokenize(source)?,
        pos: 0,
        nesting: 0,
        loop_depth: 0,
        names: Vec::new(),
        macros: Vec::new(),
        loops: Vec::new(),
    };
    let body = parser.block(&[])?;
    Ok(Program { body, macros: parser.macros, loops: parser.loops })
}

struct Parser {
    tokens: Vec<Located>,
    pos: usize,
    nesting: u32,
    loop_depth: u32,
    /// For each macro being parsed, which of the special names its body uses.
    names: Vec<SpecialNames>,
    macros: Vec<MacroDef>,
    loops: Vec<ForLoop>,
}

#[derive(Debug, Default, Clone, Copy)]
struct SpecialNames {
    varargs: bool,
    kwargs: bool,
    caller: bool,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.pos).map(|located| &located.token)
    }

    fn line(&self) -> u32 {
        let at = self.tokens.get(self.pos).or_else(|| self.tokens.last());
        at.map_or(1, |located| located.line)
    }

    fn error<T>(&self, message: impl Into<String>) -> Parse<T> {
        Err(TemplateError::Syntax { line: self.line(), message: message.into() })
    }

    fn unexpected<T>(&self, wanted: &str) -> Parse<T> {
        match self.peek() {
            Some(token) => self.error(format!("expected {wanted}, found {}", token.describe())),
            None => self.error(format!("expected {wanted}, found the end of the template")),
        }
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(found)) if *found == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if &**found == name)
    }

    fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.pos += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.pos += usize::from(found);
        found
    }

    fn expect_op(&mut self, op: &str) -> Parse<()> {
        if self.skip_op(op) { Ok(()) } else { self.unexpected(&format!("`{op}`")) }
    }

    fn expect(&mut self, token: &Token) -> Parse<()> {
        if self.peek() == Some(token) {
            self.pos += 1;
            return Ok(());
        }
        self.unexpected(&token.describe())
    }

    fn expect_name(&mut self, what: &str) -> Parse<Arc<str>> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.pos += 1;
                Ok(name)
            }
            _ => self.unexpected(what),
        }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Parser) -> Parse<T>) -> Parse<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let line = self.line();
            return Err(TemplateError::Limit { line, what: "levels of nesting", limit: u64::from(MAX_NESTING) });
        }
        let result = parse(self);
        self.nesting -= 1;
        result
    }

    // ---- statements ----

    /// Statements up to a block tag whose name is one of `ends`, which is left to be read (its `{%` is taken), or up to
    /// the end of the source when there are none.
    fn block(&mut self, ends: &[&str]) -> Parse<Block> {
        let mut block = Block::new();
        loop {
            let line = self.line();
            match self.peek() {
                None if ends.is_empty() => return Ok(block),
                None => return self.unexpected(&format!("`{{% {} %}}`", ends.join(" %}` or `{% "))),
                Some(Token::Text(text)) => {
                    let kind = StmtKind::Text(text.clone());
                    self.pos += 1;
                    block.push(Stmt { line, kind });
                }
                Some(Token::VariableBegin) => {
                    self.pos += 1;
                    let expr = self.tuple(&|_| false)?;
                    self.expect(&Token::VariableEnd)?;
                    block.push(Stmt { line, kind: StmtKind::Print(expr) });
                }
                Some(Token::BlockBegin) => {
                    self.pos += 1;
                    if matches!(self.peek(), Some(Token::Name(name)) if ends.contains(&&**name)) {
                        return Ok(block);
                    }
                    let kind = self.nested(Parser::tag)?;
                    block.push(Stmt { line, kind });
                }
                Some(_) => return self.unexpected("text or a tag"),
            }
        }
    }

    /// The body of a tag that ends with `{% end %}`, both tag ends included.
    fn body(&mut self, end: &str) -> Parse<Block> {
        self.expect(&Token::BlockEnd)?;
        let block = self.block(&[end])?;
        self.pos += 1;
        self.expect(&Token::BlockEnd)?;
        Ok(block)
    }

    /// A body whose text is kept, which `break` and `continue` cannot leave.
    fn captured_body(&mut self, end: &str) -> Parse<Block> {
        let loop_depth = std::mem::take(&mut self.loop_depth);
        let body = self.body(end)?;
        self.loop_depth = loop_depth;
        Ok(body)
    }

    fn tag(&mut self) -> Parse<StmtKind> {
        let name = self.expect_name("the name of a tag")?;
        match &*name {
            "if" => self.if_tag(),
            "for" => self.for_tag(),
            "set" => self.set_tag(),
            "with" => self.with_tag(),
            "macro" => self.macro_tag(),
            "call" => self.call_tag(),
            "filter" => {
                let filters = vec![self.filter_call()?];
                let filters = self.more_filters(filters)?;
                Ok(StmtKind::FilterBlock { filters, body: self.captured_body("endfilter")? })
            }
            "generation" => Ok(StmtKind::Transparent(self.body("endgeneration")?)),
            "break" | "continue" if self.loop_depth == 0 => self.error(format!("`{name}` outside of a loop")),
            "break" => self.end_tag(StmtKind::Break),
            "continue" => self.end_tag(StmtKind::Continue),
            "include" | "import" | "from" | "extends" | "block" => {
                self.error(format!("`{name}` has no meaning in a chat template, which stands alone"))
            }
            other => self.error(format!("unknown tag `{}`", shown(other))),
        }
    }

    fn end_tag(&mut self, kind: StmtKind) -> Parse<StmtKind> {
        self.expect(&Token::BlockEnd)?;
        Ok(kind)
    }

    fn if_tag(&mut self) -> Parse<StmtKind> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple_without_conditional(&|_| false)?;
            self.expect(&Token::BlockEnd)?;
            branches.push((test, self.block(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise = if self.skip_name("else") { self.body("endif")? } else { self.end_body(Block::new())? };
            return Ok(StmtKind::If { branches, otherwise });
        }
    }

    /// The rest of an end tag whose name is next.
    fn end_body(&mut self, block: Block) -> Parse<Block> {
        self.pos += 1;
        self.expect(&Token::BlockEnd)?;
        Ok(block)
    }

    fn for_tag(&mut self) -> Parse<StmtKind> {
        let target = self.target()?;
        if !self.skip_name("in") {
            return self.unexpected("`in`");
        }
        let iter = self.tuple_without_conditional(&|parser: &Parser| parser.is_name("recursive"))?;
        let filter = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.expect(&Token::BlockEnd)?;
        self.loop_depth += 1;
        let body = self.block(&["else", "endfor"])?;
        self.loop_depth -= 1;
        let otherwise = if self.skip_name("else") { self.body("endfor")? } else { self.end_body(Block::new())? };
        self.loops.push(ForLoop { target, iter, filter, recursive, body, otherwise });
        Ok(StmtKind::For(self.loops.len() - 1))
    }

    fn set_tag(&mut self) -> Parse<StmtKind> {
        let target = self.target()?;
        if self.skip_op("=") {
            let value = self.tuple(&|_| false)?;
            return self.end_tag(StmtKind::Set { target, value });
        }
        let filters = self.more_filters(Vec::new())?;
        Ok(StmtKind::SetBlock { target, filters, body: self.captured_body("endset")? })
    }

    fn with_tag(&mut self) -> Parse<StmtKind> {
        let mut bindings = Vec::new();
        while self.peek() != Some(&Token::BlockEnd) {
            if !bindings.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.single_target()?;
            self.expect_op("=")?;
            bindings.push((target, self.expression()?));
        }
        Ok(StmtKind::With { bindings, body: self.body("endwith")? })
    }

    fn macro_tag(&mut self) -> Parse<StmtKind> {
        let name = self.expect_name("the name of a macro")?;
        let index = self.macro_def(name, "endmacro")?;
        Ok(StmtKind::Macro(index))
    }

    fn call_tag(&mut self) -> Parse<StmtKind> {
        let params = if self.is_op("(") { self.params()? } else { Vec::new() };
        let call = self.expression()?;
        if !matches!(&call, Expr::Postfix(_, ops) if matches!(ops.last(), Some(PostfixOp::Call(_)))) {
            return self.error("`call` needs a call");
        }
        let caller = self.macro_body("caller".into(), params, "endcall")?;
        Ok(StmtKind::CallBlock { call, caller })
    }

    fn macro_def(&mut self, name: Arc<str>, end: &str) -> Parse<usize> {
        let params = self.params()?;
        self.macro_body(name, params, end)
    }

    fn macro_body(&mut self, name: Arc<str>, params: Vec<Param>, end: &str) -> Parse<usize> {
        self.names.push(SpecialNames::default());
        let body = self.captured_body(end)?;
        let names = self.names.pop().unwrap_or_default();
        self.macros.push(MacroDef {
            name,
            params,
            body,
            uses_varargs: names.varargs,
            uses_kwargs: names.kwargs,
            uses_caller: names.caller,
        });
        Ok(self.macros.len() - 1)
    }

    fn params(&mut self) -> Parse<Vec<Param>> {
        let mut params: Vec<Param> = Vec::new();
        self.expect_op("(")?;
        while !self.skip_op(")") {
            if !params.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.expect_name("a parameter name")?;
            let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
            if default.is_none() && params.last().is_some_and(|param| param.default.is_some()) {
                return self.error("a parameter without a default follows one with a default");
            }
            params.push(Param { name, default });
        }
        Ok(params)
    }

    fn target(&mut self) -> Parse<Target> {
        let first = self.single_target()?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_op(",") {
            if !matches!(self.peek(), Some(Token::Name(_))) && !self.is_op("(") || self.is_name("in") {
                break;
            }
            targets.push(self.single_target()?);
        }
        Ok(Target::Tuple(targets))
    }

    fn single_target(&mut self) -> Parse<Target> {
        if self.skip_op("(") {
            let target = self.nested(Parser::target)?;
            self.expect_op(")")?;
            return Ok(target);
        }
        let name = self.expect_name("a name to assign to")?;
        if is_keyword(&name) {
            return self.error(format!("cannot assign to `{name}`"));
        }
        if !self.skip_op(".") {
            return Ok(Target::Name(name));
        }
        let attribute = self.expect_name("an attribute of the namespace")?;
        Ok(Target::Attribute { namespace: name, name: attribute })
    }

    // ---- expressions ----

    fn expression(&mut self) -> Parse<Expr> {
        self.nested(Parser::conditional)
    }

    /// An expression, or several with commas between them as a tuple, up to the end of the tag or what `end` tells.
    fn tuple(&mut self, end: &dyn Fn(&Parser) -> bool) -> Parse<Expr> {
        self.tuple_of(Parser::expression, end)
    }

    /// The same without `a if b else c`, for places where an `if` means something else.
    fn tuple_without_conditional(&mut self, end: &dyn Fn(&Parser) -> bool) -> Parse<Expr> {
        self.tuple_of(|parser| parser.nested(Parser::or), end)
    }

    fn tuple_of(&mut self, item: fn(&mut Parser) -> Parse<Expr>, end: &dyn Fn(&Parser) -> bool) -> Parse<Expr> {
        let first = item(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op(",") {
            let at_end = matches!(self.peek(), Some(Token::VariableEnd | Token::BlockEnd) | None) || self.is_op(")");
            if at_end || end(self) {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn conditional(&mut self) -> Parse<Expr> {
        let then = self.or()?;
        if !self.skip_name("if") {
            return Ok(then);
        }
        let test = self.or()?;
        let otherwise = if self.skip_name("else") { Some(self.expression()?) } else { None };
        Ok(Expr::Conditional(Box::new(Conditional { test, then, otherwise })))
    }

    fn or(&mut self) -> Parse<Expr> {
        self.joined("or", Parser::and, Expr::Or)
    }

    fn and(&mut self) -> Parse<Expr> {
        self.joined("and", Parser::not, Expr::And)
    }

    fn joined(&mut self, word: &str, item: fn(&mut Parser) -> Parse<Expr>, make: fn(Vec<Expr>) -> Expr) -> Parse<Expr> {
        let first = item(self)?;
        if !self.is_name(word) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_name(word) {
            items.push(item(self)?);
        }
        Ok(make(items))
    }

    fn not(&mut self) -> Parse<Expr> {
        if self.skip_name("not") {
            return Ok(Expr::Not(Box::new(self.nested(Parser::not)?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parse<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some(op) = self.comparison_op() {
            rest.push((op, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn comparison_op(&mut self) -> Option<CompareOp> {
        let (op, len) = match self.peek()? {
            Token::Op("==") => (CompareOp::Eq, 1),
            Token::Op("!=") => (CompareOp::Ne, 1),
            Token::Op("<") => (CompareOp::Lt, 1),
            Token::Op("<=") => (CompareOp::Le, 1),
            Token::Op(">") => (CompareOp::Gt, 1),
            Token::Op(">=") => (CompareOp::Ge, 1),
            Token::Name(name) if &**name == "in" => (CompareOp::In, 1),
            Token::Name(name) if &**name == "not" => match self.tokens.get(self.pos + 1) {
                Some(Located { token: Token::Name(next), .. }) if &**next == "in" => (CompareOp::NotIn, 2),
                _ => return None,
            },
            _ => return None,
        };
        self.pos += len;
        Some(op)
    }

    fn sum(&mut self) -> Parse<Expr> {
        self.arithmetic(&[("+", ArithmeticOp::Add), ("-", ArithmeticOp::Sub)], Parser::concat)
    }

    fn concat(&mut self) -> Parse<Expr> {
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op("~") {
            items.push(self.product()?);
        }
        Ok(Expr::Concat(items))
    }

    fn product(&mut self) -> Parse<Expr> {
        const OPS: [(&str, ArithmeticOp); 4] = [
            ("*", ArithmeticOp::Mul),
            ("/", ArithmeticOp::Div),
            ("//", ArithmeticOp::FloorDiv),
            ("%", ArithmeticOp::Rem),
        ];
        self.arithmetic(&OPS, Parser::power)
    }

    fn power(&mut self) -> Parse<Expr> {
        self.arithmetic(&[("**", ArithmeticOp::Pow)], |parser| parser.unary(true))
    }

    fn arithmetic(&mut self, ops: &[(&str, ArithmeticOp)], item: fn(&mut Parser) -> Parse<Expr>) -> Parse<Expr> {
        let first = item(self)?;
        let mut rest = Vec::new();
        while let Some(&(_, op)) = ops.iter().find(|(symbol, _)| self.is_op(symbol)) {
            self.pos += 1;
            rest.push((op, item(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Arithmetic(Box::new(first), rest) })
    }

    /// A sign applies to the operand with its attributes and calls, but before filters and tests.
    fn unary(&mut self, filters: bool) -> Parse<Expr> {
        let base = if self.skip_op("-") {
            Expr::Negative(Box::new(self.nested(|parser| parser.unary(false))?))
        } else if self.skip_op("+") {
            Expr::Positive(Box::new(self.nested(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let mut ops = Vec::new();
        self.postfix(&mut ops)?;
        if filters {
            self.filters_and_tests(&mut ops)?;
        }
        Ok(if ops.is_empty() { base } else { Expr::Postfix(Box::new(base), ops) })
    }

    fn primary(&mut self) -> Parse<Expr> {
        let Some(token) = self.peek().cloned() else { return self.unexpected("an expression") };
        match token {
            Token::Name(name) => {
                self.pos += 1;
                Ok(match &*name {
                    "true" | "True" => Expr::Const(Value::Bool(true)),
                    "false" | "False" => Expr::Const(Value::Bool(false)),
                    "none" | "None" => Expr::Const(Value::None),
                    _ => {
                        self.note_name(&name);
                        Expr::Name(name)
                    }
                })
            }
            Token::Str(first) => {
                self.pos += 1;
                let mut text = String::new();
                while let Some(Token::Str(next)) = self.peek() {
                    text.push_str(next);
                    self.pos += 1;
                }
                let text = if text.is_empty() { first } else { format!("{first}{text}").into() };
                Ok(Expr::Const(Value::Str(text)))
            }
            Token::Int(value) => {
                self.pos += 1;
                Ok(Expr::Const(Value::Int(value)))
            }
            Token::Float(value) => {
                self.pos += 1;
                Ok(Expr::Const(Value::Float(value)))
            }
            Token::Op("(") => {
                self.pos += 1;
                if self.skip_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple(&|_| false)?;
                self.expect_op(")")?;
                Ok(inner)
            }
            Token::Op("[") => {
                self.pos += 1;
                Ok(Expr::List(self.items("]", Parser::expression)?))
            }
            Token::Op("{") => {
                self.pos += 1;
                let entries = self.items("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect_op(":")?;
                    Ok((key, parser.expression()?))
                })?;
                Ok(Expr::Dict(entries))
            }
            _ => self.unexpected("an expression"),
        }
    }

    fn note_name(&mut self, name: &str) {
        for names in &mut self.names {
            match name {
                "varargs" => names.varargs = true,
                "kwargs" => names.kwargs = true,
                "caller" => names.caller = true,
                _ => {}
            }
        }
    }

    /// Items with commas between them, one allowed after the last, up to and with `close`.
    fn items<T>(&mut self, close: &str, mut item: impl FnMut(&mut Parser) -> Parse<T>) -> Parse<Vec<T>> {
        let mut items = Vec::new();
        while !self.skip_op(close) {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.skip_op(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn postfix(&mut self, ops: &mut Vec<PostfixOp>) -> Parse<()> {
        loop {
            if self.skip_op(".") {
                let op = match self.peek().cloned() {
                    Some(Token::Name(name)) => PostfixOp::Attribute(name),
                    Some(Token::Int(index)) => PostfixOp::Item(Expr::Const(Value::Int(index))),
                    _ => return self.unexpected("a name or number after `.`"),
                };
                self.pos += 1;
                ops.push(op);
            } else if self.skip_op("[") {
                ops.push(self.subscript()?);
            } else if self.is_op("(") {
                ops.push(PostfixOp::Call(self.args()?));
            } else {
                return Ok(());
            }
        }
    }

    fn subscript(&mut self) -> Parse<PostfixOp> {
        let start = if self.is_op(":") { None } else { Some(self.expression()?) };
        if !self.skip_op(":") {
            let Some(first) = start else { return self.unexpected("an index") };
            let mut items = vec![first];
            while self.skip_op(",") {
                items.push(self.expression()?);
            }
            self.expect_op("]")?;
            let index = match (items.pop(), items.is_empty()) {
                (Some(only), true) => only,
                (last, _) => Expr::Tuple(items.into_iter().chain(last).collect()),
            };
            return Ok(PostfixOp::Item(index));
        }
        let stop = if self.is_op(":") || self.is_op("]") { None } else { Some(self.expression()?) };
        let step = if self.skip_op(":") && !self.is_op("]") { Some(self.expression()?) } else { None };
        self.expect_op("]")?;
        Ok(PostfixOp::Slice(Box::new(SliceBounds { start, stop, step })))
    }

    fn filters_and_tests(&mut self, ops: &mut Vec<PostfixOp>) -> Parse<()> {
        loop {
            if self.skip_op("|") {
                ops.push(PostfixOp::Filter(self.filter_call()?));
            } else if self.skip_name("is") {
                ops.push(self.test()?);
            } else if self.is_op("(") {
                ops.push(PostfixOp::Call(self.args()?));
            } else {
                return Ok(());
            }
        }
    }

    fn filter_call(&mut self) -> Parse<FilterCall> {
        let name = self.expect_name("the name of a filter")?;
        let args = if self.is_op("(") { self.args()? } else { Args::default() };
        Ok(FilterCall { name, args })
    }

    fn more_filters(&mut self, mut filters: Vec<FilterCall>) -> Parse<Vec<FilterCall>> {
        while self.skip_op("|") {
            filters.push(self.filter_call()?);
        }
        Ok(filters)
    }

    fn test(&mut self) -> Parse<PostfixOp> {
        let negated = self.skip_name("not");
        let name = self.expect_name("the name of a test")?;
        let args = if self.is_op("(") {
            self.args()?
        } else if self.starts_test_argument() {
            if self.is_name("is") {
                return self.error("tests cannot be chained with `is`");
            }
            let base = self.nested(Parser::primary)?;
            let mut ops = Vec::new();
            self.postfix(&mut ops)?;
            let argument = if ops.is_empty() { base } else { Expr::Postfix(Box::new(base), ops) };
            Args { positional: vec![argument], ..Args::default() }
        } else {
            Args::default()
        };
        Ok(PostfixOp::Test { name, args, negated })
    }

    fn starts_test_argument(&self) -> bool {
        match self.peek() {
            Some(Token::Name(name)) => !matches!(&**name, "else" | "or" | "and"),
            Some(Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{")) => true,
            _ => false,
        }
    }

    fn args(&mut self) -> Parse<Args> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut is_first = true;
        while !self.skip_op(")") {
            if !is_first {
                self.expect_op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            is_first = false;
            if self.skip_op("**") {
                let splat = Box::new(self.expression()?);
                if args.keyword_splat.replace(splat).is_some() {
                    return self.error("more than one `**` argument");
                }
            } else if self.skip_op("*") {
                let splat = Box::new(self.expression()?);
                if args.splat.replace(splat).is_some() {
                    return self.error("more than one `*` argument");
                }
            } else if let Some(name) = self.keyword() {
                self.pos += 2;
                if args.keyword.iter().any(|(known, _)| *known == name) {
                    return self.error(format!("argument `{}` is given twice", shown(&name)));
                }
                let value = self.expression()?;
                args.keyword.push((name, value));
            } else if args.keyword.is_empty() && args.splat.is_none() && args.keyword_splat.is_none() {
                let value = self.expression()?;
                args.positional.push(value);
            } else {
                return self.error("a positional argument follows a keyword argument");
            }
        }
        Ok(args)
    }

    /// The name of a keyword argument, when `name =` is next.
    fn keyword(&self) -> Option<Arc<str>> {
        match (self.peek(), self.tokens.get(self.pos + 1)) {
            (Some(Token::Name(name)), Some(Located { token: Token::Op("="), .. })) => Some(name.clone()),
            _ => None,
        }
    }
}

fn is_keyword(name: &str) -> bool {
    matches!(name, "true" | "True" | "false" | "False" | "none" | "None")
}
