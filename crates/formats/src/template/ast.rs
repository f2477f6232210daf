//! The parsed template. Chains (`a + b + c`, `x.y[0]|f is t`) are lists rather than nested nodes, so the depth of the
//! tree is the depth of the parser's recursion, which is limited; evaluation and drop then need no limit of their own.

use std::sync::Arc;

use super::value::Value;

/// A run of statements.
pub(super) type Block = Vec<Stmt>;

/// A parsed template.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) body: Block,
    /// All macros and call blocks, referred to by index so that a macro value needs no lifetime.
    pub(super) macros: Vec<MacroDef>,
    /// All loops, for the same reason: a `recursive` loop can be called from inside itself.
    pub(super) loops: Vec<ForLoop>,
}

/// A statement and the line it starts on.
#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) line: u32,
    pub(super) kind: StmtKind,
}

#[derive(Debug)]
pub(super) enum StmtKind {
    /// Text between tags.
    Text(Arc<str>),
    /// `{{ expr }}`
    Print(Expr),
    If {
        branches: Vec<(Expr, Block)>,
        otherwise: Block,
    },
    /// Index into [`Program::loops`].
    For(usize),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<FilterCall>,
        body: Block,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Block,
    },
    FilterBlock {
        filters: Vec<FilterCall>,
        body: Block,
    },
    /// Index into [`Program::macros`].
    Macro(usize),
    /// The call, and the body as an index into [`Program::macros`].
    CallBlock {
        call: Expr,
        caller: usize,
    },
    /// A body without meaning of its own: `{% generation %}`, which only marks text for training.
    Transparent(Block),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct ForLoop {
    pub(super) target: Target,
    pub(super) iter: Expr,
    pub(super) filter: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Block,
    pub(super) otherwise: Block,
}

#[derive(Debug)]
pub(super) struct MacroDef {
    pub(super) name: Arc<str>,
    pub(super) params: Vec<Param>,
    pub(super) body: Block,
    pub(super) uses_varargs: bool,
    pub(super) uses_kwargs: bool,
    pub(super) uses_caller: bool,
}

#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: Arc<str>,
    pub(super) default: Option<Expr>,
}

/// What is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// `namespace.attribute`
    Attribute {
        namespace: Arc<str>,
        name: Arc<str>,
    },
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Expr {
    Const(Value),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `a ~ b ~ c`
    Concat(Vec<Expr>),
    /// Left-associative operators of one precedence.
    Arithmetic(Box<Expr>, Vec<(ArithmeticOp, Expr)>),
    /// `a < b <= c`
    Compare(Box<Expr>, Vec<(CompareOp, Expr)>),
    Conditional(Box<Conditional>),
    Postfix(Box<Expr>, Vec<PostfixOp>),
}

#[derive(Debug)]
pub(super) struct Conditional {
    pub(super) test: Expr,
    pub(super) then: Expr,
    pub(super) otherwise: Option<Expr>,
}

#[derive(Debug)]
pub(super) enum PostfixOp {
    Attribute(Arc<str>),
    Item(Expr),
    Slice(Box<SliceBounds>),
    Call(Args),
    Filter(FilterCall),
    Test { name: Arc<str>, args: Args, negated: bool },
}

#[derive(Debug)]
pub(super) struct SliceBounds {
    pub(super) start: Option<Expr>,
    pub(super) stop: Option<Expr>,
    pub(super) step: Option<Expr>,
}

#[derive(Debug)]
pub(super) struct FilterCall {
    pub(super) name: Arc<str>,
    pub(super) args: Args,
}

#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) keyword: Vec<(Arc<str>, Expr)>,
    /// `*expr`
    pub(super) splat: Option<Box<Expr>>,
    /// `**expr`
    pub(super) keyword_splat: Option<Box<Expr>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArithmeticOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}
