//! Why a grammar was refused.

/// Why a grammar was refused. Messages of faults inside a schema begin with the path to them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// A keyword that would have to be enforced and cannot be.
    #[error("{}the keyword '{keyword}' is not supported{}", at(path), because(why))]
    UnsupportedKeyword {
        /// Where in the schema, such as `properties.x`.
        path: String,
        /// The keyword.
        keyword: String,
        /// What would be, if there is more to say.
        why: String,
    },
    /// A reference out of the schema. Nothing is ever fetched.
    #[error("{}'$ref' points to '{reference}', outside the schema; put it under '$defs' and point there", at(path))]
    RemoteRef {
        /// Where in the schema.
        path: String,
        /// Where it points.
        reference: String,
    },
    /// A reference to a place that is not there.
    #[error("{}'$ref' points to '{reference}', which is not in the schema", at(path))]
    DanglingRef {
        /// Where in the schema.
        path: String,
        /// Where it points.
        reference: String,
    },
    /// A keyword has a value of the wrong kind.
    #[error("{}{why}", at(path))]
    Malformed {
        /// Where in the schema.
        path: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// More than what is compiled for anyone.
    #[error("the {what} has {size} bytes, more than the {max} that are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// Most that is allowed.
        max: usize,
    },
    /// The schema nests more deeply than is allowed, references followed.
    #[error("{}the schema nests more than {max} levels deep", at(path))]
    TooDeep {
        /// Where in the schema.
        path: String,
        /// Most levels.
        max: usize,
    },
    /// No text follows the grammar, or only the empty one.
    #[error("nothing can be written that follows the grammar")]
    Empty,
    /// Anything else that the grammar engine refuses: syntax, contradictions, too much work.
    #[error("{why}")]
    Invalid {
        /// What it said.
        why: String,
    },
}

impl GrammarError {
    /// Where in the schema the fault is; empty where it is the whole or cannot be told.
    pub fn path(&self) -> &str {
        match self {
            GrammarError::UnsupportedKeyword { path, .. }
            | GrammarError::RemoteRef { path, .. }
            | GrammarError::DanglingRef { path, .. }
            | GrammarError::Malformed { path, .. }
            | GrammarError::TooDeep { path, .. } => path,
            GrammarError::TooLarge { .. } | GrammarError::Empty | GrammarError::Invalid { .. } => "",
        }
    }

    /// The message without the path.
    pub fn why(&self) -> String {
        let message = self.to_string();
        message.strip_prefix(&at(self.path())).map(str::to_owned).unwrap_or(message)
    }

    /// What the grammar engine says, in our words where it says it in its own.
    pub(crate) fn invalid(error: &dyn std::fmt::Display) -> Self {
        let why = plain(&error.to_string());
        if why.starts_with("oneOf constraints are not supported") {
            let why = "where more than one of its schemas may hold at one time; use 'anyOf', or give each a property \
                       with another 'const'";
            return GrammarError::UnsupportedKeyword { path: String::new(), keyword: "oneOf".into(), why: why.into() };
        }
        if why.contains("NoExtensionBias") {
            return GrammarError::Empty;
        }
        GrammarError::Invalid { why }
    }
}

/// What the grammar engine says on one line, without what is about its own state.
pub(crate) fn plain(message: &str) -> String {
    let end = ["\n<", "\nstack backtrace"].iter().filter_map(|mark| message.find(mark)).min().unwrap_or(message.len());
    let message = message[..end].trim();
    let mut text = match message.rsplit_once("\nerror: ") {
        // A drawing of the expression comes before it.
        Some((_, error)) => format!("the regular expression is not valid: {error}"),
        None => message.lines().map(str::trim).collect::<Vec<_>>().join("; "),
    };
    if text.len() > 500 {
        let cut = (0..=500).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str(" ...");
    }
    text
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}
