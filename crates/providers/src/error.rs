//! What can be wrong with a target, with an attempt at one, and with a whole call.

use std::time::Duration;

use hyper::StatusCode;

use crate::answer::Attempt;

/// A target that cannot be used as it was configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The compiled-in presets are broken.
    #[error("the presets cannot be read: {why}")]
    Presets {
        /// What is wrong.
        why: String,
    },
    /// There is no preset of this name.
    #[error("preset: there is none called '{preset}'; there are {known}")]
    UnknownPreset {
        /// The name asked for.
        preset: String,
        /// The names there are.
        known: String,
    },
    /// A field has an impossible value.
    #[error("target '{target}': {field}: {why}")]
    Field {
        /// The target's name.
        target: String,
        /// The field of the configuration.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Two targets have one name.
    #[error("two targets are called '{name}'; give one of them another name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A plan names a target that there is not.
    #[error("there is no target called '{name}'")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A plan in which nothing can be tried.
    #[error("a plan needs at least one target in each of its groups")]
    EmptyPlan,
    /// No certificates to check servers by.
    #[error("https targets cannot be called: {why}; install the system's CA certificates or set SSL_CERT_FILE")]
    Tls {
        /// What the TLS library says.
        why: String,
    },
}

/// Why an attempt brought no answer, or an answer ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection: name resolution, TCP or TLS failed.
    #[error("no connection: {why}")]
    Connect {
        /// What the system or the TLS library says.
        why: String,
    },
    /// The name leads to a public address, to which nothing is sent unencrypted.
    #[error("http to a public address; use https, or set plain_http = \"anywhere\"")]
    PublicPlainHttp,
    /// No connection in time.
    #[error("no connection within {} s", .after.as_secs_f64())]
    ConnectTimeout {
        /// The time given.
        after: Duration,
    },
    /// Nothing of an answer in time.
    #[error("no answer within {} s", .after.as_secs_f64())]
    FirstByteTimeout {
        /// The time given.
        after: Duration,
    },
    /// An answer that stopped coming.
    #[error("the answer stopped for {} s", .after.as_secs_f64())]
    IdleTimeout {
        /// The time given between two pieces.
        after: Duration,
    },
    /// An answer that took too long as a whole.
    #[error("the answer took more than {} s", .after.as_secs_f64())]
    TotalTimeout {
        /// The time given.
        after: Duration,
    },
    /// The caller's deadline passed.
    #[error("the deadline of the request passed")]
    Deadline,
    /// The connection was closed before an answer began.
    #[error("the connection was closed before an answer")]
    Closed,
    /// The connection was closed inside the answer.
    #[error("the answer was cut off: {why}")]
    Truncated {
        /// What the HTTP library says.
        why: String,
    },
    /// What came is not HTTP, or breaks its limits.
    #[error("the answer is not proper HTTP: {why}")]
    Protocol {
        /// What the HTTP library says.
        why: String,
    },
    /// The body is longer than is taken.
    #[error("the answer is longer than {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The answer points elsewhere, and only configured hosts are called.
    #[error("the server redirects ({status}), which is not followed; correct its base_url")]
    Redirect {
        /// 300 to 399.
        status: u16,
    },
    /// A page instead of an API's answer, as from a proxy between.
    #[error("the server answered with a page ({content_type})")]
    NotApi {
        /// Its content type.
        content_type: String,
    },
    /// The target has no such API.
    #[error("the target has no {api} API")]
    NoApi {
        /// The API wanted.
        api: crate::wire::Api,
    },
    /// The request cannot be made for this target.
    #[error("{why}")]
    Refused {
        /// Why, in the words of who makes the request.
        why: String,
    },
}

impl Fault {
    /// Whether another attempt may fare better.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Fault::Connect { .. }
            | Fault::ConnectTimeout { .. }
            | Fault::FirstByteTimeout { .. }
            | Fault::IdleTimeout { .. }
            | Fault::Closed
            | Fault::Truncated { .. }
            | Fault::NotApi { .. }
            | Fault::Protocol { .. } => true,
            Fault::PublicPlainHttp
            | Fault::TotalTimeout { .. }
            | Fault::Deadline
            | Fault::BodyTooLarge { .. }
            | Fault::Redirect { .. }
            | Fault::NoApi { .. }
            | Fault::Refused { .. } => false,
        }
    }

    /// A word for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Connect { .. } => "connect",
            Fault::PublicPlainHttp => "public_plain_http",
            Fault::ConnectTimeout { .. } => "connect_timeout",
            Fault::FirstByteTimeout { .. } => "first_byte_timeout",
            Fault::IdleTimeout { .. } => "idle_timeout",
            Fault::TotalTimeout { .. } => "total_timeout",
            Fault::Deadline => "deadline",
            Fault::Closed => "closed",
            Fault::Truncated { .. } => "truncated",
            Fault::Protocol { .. } => "protocol",
            Fault::BodyTooLarge { .. } => "body_too_large",
            Fault::Redirect { .. } => "redirect",
            Fault::NotApi { .. } => "not_api",
            Fault::NoApi { .. } => "no_api",
            Fault::Refused { .. } => "refused",
        }
    }
}

/// What a status says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is the caller's: it succeeded, or the request itself is wrong.
    Final,
    /// The same target may answer a little later.
    Retry,
    /// This target will not answer (key, rights, model name), another may.
    NextTarget,
}

impl Verdict {
    /// Of a status.
    #[must_use]
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            408 | 409 | 425 | 429 => Verdict::Retry,
            401..=405 | 501 | 505 => Verdict::NextTarget,
            500.. => Verdict::Retry,
            _ => Verdict::Final,
        }
    }
}

/// A call that no target answered.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct CallError {
    /// Every attempt that was made, in order.
    pub attempts: Vec<Attempt>,
    /// Why there is no answer.
    pub kind: CallErrorKind,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallErrorKind {
    /// The last attempt failed and nothing is left to try.
    #[error("no upstream answered; the last, '{target}': {fault}")]
    Failed {
        /// The target of the last attempt.
        target: String,
        /// What went wrong there.
        fault: Fault,
    },
    /// No target can be tried: breakers are open, health checks fail, or servers asked to be left alone.
    #[error("no upstream is available; try again in about {} s", .retry_after.as_secs().max(1))]
    Unavailable {
        /// When one may be again.
        retry_after: Duration,
    },
    /// All targets have as many requests as they take, and the wait was too long.
    #[error("all upstreams are busy; try again in a moment")]
    Busy,
    /// The deadline passed before an answer.
    #[error("the deadline passed before an upstream answered")]
    Deadline,
    /// The request can be made for none of the targets; the reason is of the last that was asked.
    #[error("{0}")]
    Refused(Box<dyn std::error::Error + Send + Sync>),
}
