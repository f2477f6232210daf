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
    #[error("no text but the empty one follows the grammar")]
    Empty,
    /// Anything else that the grammar engine refuses: syntax, contradictions, too much work.
    #[error("{why}")]
    Invalid {
        /// What it said.
        why: String,
    },
}

impl GrammarError {
    pub(crate) fn invalid(error: &dyn std::fmt::Display) -> Self {
        GrammarError::Invalid { why: plain(&error.to_string()) }
    }
}

/// The first lines of what the grammar engine says; the rest is about its own state.
pub(crate) fn plain(message: &str) -> String {
    let end = ["\n<", "\nstack backtrace"].iter().filter_map(|mark| message.find(mark)).min().unwrap_or(message.len());
    let mut text = message[..end].trim().to_owned();
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
