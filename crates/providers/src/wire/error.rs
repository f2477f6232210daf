//! Why a translation failed.

use super::Api;
use super::fault::UpstreamError;

/// A body, an answer or a stream that cannot be translated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WireError {
    /// There is no way between two APIs.
    #[error("a {client} request cannot be answered by a server that speaks {upstream}; choose a model whose server has {}", .client.path())]
    Pair {
        /// What the client speaks.
        client: Api,
        /// What the server speaks.
        upstream: Api,
    },
    /// A field of the request has the wrong type or is missing.
    #[error("invalid value for '{path}': {why}")]
    Field {
        /// Where, such as `messages[0].content`; `.` for the body itself.
        path: String,
        /// What was expected.
        why: String,
    },
    /// A field of the request asks for what the server's API cannot do.
    #[error("'{path}' is not supported: {why}")]
    Unsupported {
        /// Where, as in [`WireError::Field`].
        path: String,
        /// What to do instead.
        why: String,
    },
    /// The server's answer is not what its API promises.
    #[error("the upstream's answer is broken at '{path}': {why}")]
    Answer {
        /// Where, as in [`WireError::Field`].
        path: String,
        /// What was expected.
        why: String,
    },
    /// The server answered with an error where an answer was due.
    #[error("the upstream answered with an error: {}", .0.message)]
    Failed(UpstreamError),
    /// The server's stream ended before its end was announced.
    #[error("the upstream's stream ended early, before {expected}")]
    Truncated {
        /// The event that never came.
        expected: &'static str,
    },
    /// The server's answer is longer than is held in memory.
    #[error("the upstream's {what} is larger than the {limit} bytes allowed")]
    TooLarge {
        /// What is too large: `event` or `answer`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The server's stream is not text.
    #[error("the upstream's stream is not valid UTF-8")]
    NotUtf8,
}

impl WireError {
    /// Whether the request is at fault (400); else the server is (502).
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        matches!(self, Self::Pair { .. } | Self::Field { .. } | Self::Unsupported { .. })
    }

    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.is_clients_fault() { 400 } else { 502 }
    }

    /// A stable name, as OpenAI's error objects have it in `code`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Pair { .. } => "unsupported_api",
            Self::Field { .. } => "invalid_value",
            Self::Unsupported { .. } => "unsupported_parameter",
            Self::Answer { .. } | Self::NotUtf8 => "upstream_invalid_answer",
            Self::Failed(_) => "upstream_error",
            Self::Truncated { .. } => "upstream_stream_truncated",
            Self::TooLarge { .. } => "upstream_answer_too_large",
        }
    }

    /// The field of the request at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Field { path, .. } | Self::Unsupported { path, .. } => Some(path),
            Self::Pair { .. } => Some("model"),
            _ => None,
        }
    }

    pub(super) fn answer(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Answer { path: path.into(), why: why.into() }
    }

    pub(super) fn unsupported(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { path: path.into(), why: why.into() }
    }

    pub(super) fn field(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field { path: path.into(), why: why.into() }
    }

    /// The same fault seen in an answer: fields of answers are read as fields of requests are.
    pub(super) fn in_answer(self) -> Self {
        match self {
            Self::Field { path, why } | Self::Unsupported { path, why } => Self::Answer { path, why },
            other => other,
        }
    }
}
