//! Every way a request can fail, and what the client is told.
//!
//! This is the only place where faults meet HTTP: each variant has its status, its `type`, its `code` and the field
//! it blames, in one table. Messages say what to change.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bantam_engine::{GenerateError, SubmitError};
use bantam_formats::{TemplateError, TokenizerError};
use bantam_ledger::LedgerError;
use bantam_providers::target::{Target, strike};
use bantam_providers::wire::{Api, ApiFault, UpstreamError, WireError, error_body};
use bantam_tasks::RowError;
use bantam_types::openai::{ErrorBody, ErrorObject, ParseError};

/// A request that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{message}")]
    InvalidJson { message: String },
    #[error("invalid value for '{param}': {why}")]
    InvalidField { param: String, why: String },
    #[error("'{param}' is not supported: {why}")]
    Unsupported { param: String, why: String },
    #[error("the field 'model' is missing; this server has {}", list(.served))]
    ModelMissing { served: Vec<String> },
    #[error("the model '{requested}' does not exist here; this server has {}", list(.served))]
    ModelNotFound { requested: String, served: Vec<String> },
    #[error("the task '{requested}' does not exist here; this server has {}", tasks(.served))]
    TaskNotFound { requested: String, served: Vec<String> },
    #[error("{error}; {}", fix(.error))]
    NoAnswer { param: String, error: RowError },
    #[error("the model '{model}' is {kind}; use {fix}")]
    WrongModelKind { model: String, kind: &'static str, fix: &'static str },
    #[error("the model '{model}' has no chat template; use /v1/completions")]
    NoChatTemplate { model: String },
    #[error("{why}")]
    Template { why: String },
    #[error(
        "this model's context is {context} tokens, but the {param} have {tokens}; at most {} leave room for an answer",
        .context.saturating_sub(1)
    )]
    ContextLengthExceeded { param: &'static str, tokens: usize, context: usize },
    #[error("unknown URL ({method} {path}); the API is under /v1, such as /v1/chat/completions")]
    UnknownUrl { method: Method, path: String },
    #[error("{method} is not allowed for {path}; the 'allow' header lists what is")]
    MethodNotAllowed { method: Method, path: String },
    #[error(
        "the host '{host}' is not one this server answers to; add it to the allowed hosts (--allowed-host) or use localhost"
    )]
    HostNotAllowed { host: String },
    #[error("the body must be JSON with 'content-type: application/json'; {found}")]
    UnsupportedMediaType { found: String },
    #[error("the body is larger than the {limit} bytes this server takes")]
    BodyTooLarge { limit: usize },
    #[error("the body did not arrive within {seconds} s")]
    BodyTimeout { seconds: u64 },
    #[error("the body could not be read: {why}")]
    BodyBroken { why: String },
    #[error("too many requests at one time; try again in a moment")]
    TooManyRequests,
    #[error("the queue of the model is full; try again in about {retry_after} s")]
    QueueFull { retry_after: u64 },
    #[error("the request took longer than this server allows; ask for fewer tokens")]
    RequestTimeout,
    #[error("the server is shutting down; send the request to another one or try again later")]
    ShuttingDown,
    #[error("{why}")]
    Model { why: String },
    #[error("the server failed at this request; its log has the reason")]
    Internal,
    #[error("{why}")]
    Unauthorized { why: &'static str },
    #[error("{why}")]
    NoSuchKey { why: String },
    #[error("this API key is not for {scope}")]
    OutOfScope { scope: &'static str },
    #[error("this API key is not for the model '{model}'")]
    ModelNotAllowed { model: String },
    #[error("{why}")]
    RateLimited { why: String, retry_after: u64 },
    #[error("{why}")]
    OverBudget { why: String, room: Room, retry_after: u64 },
    #[error(
        "the model '{model}' has no price, so that a budget of money could not be kept; add its price under [[prices.models]] of the configuration \
         (0 if it costs nothing), or give the key a budget of tokens instead"
    )]
    NoPrice { model: String },
    #[error(
        "tokens are counted for models here only, and '{model}' may be answered elsewhere; an answer's usage says how many there were"
    )]
    NotCounted { model: String },
    #[error("the request cannot be put on record, so it is not answered: {why}")]
    Ledger { why: String },
    #[error("the policy rule '{rule}' refuses this request")]
    PolicyRefused { rule: String },
    #[error("this request must not leave this server ({rule}), and no model here can answer it")]
    MustStay { rule: String },
    #[error("{}", .0.message)]
    Upstream(Box<UpstreamError>),
    #[error("{why}")]
    NoUpstream { why: String, status: StatusCode, retry_after: Option<u64> },
    #[error("{0}")]
    Wire(Box<WireError>),
}

/// What is left of a budget that a request does not fit into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    None,
    Some,
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no models".into() } else { quoted(names) }
}

fn tasks(names: &[String]) -> String {
    if names.is_empty() { "no tasks; give it some with bantam serve --tasks DIR".into() } else { quoted(names) }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")
}

/// What helps against an input without an answer.
fn fix(error: &RowError) -> &'static str {
    match error {
        RowError::Input { .. } => "change the input",
        RowError::TooLong { .. } => "shorten the input",
        RowError::Cut { .. } => "shorten the input, or let the task have more tokens (fields.max_tokens)",
        RowError::Invalid { .. } => "the task's model cannot be held to its type",
        RowError::Model { retry: true, .. } | RowError::Stopped => "try again in a moment",
        RowError::Model { retry: false, .. } => "the same input would fail again",
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Failed(upstream) => Self::upstream(upstream, None),
            error => Self::Wire(Box::new(error)),
        }
    }
}

/// The classes OpenAI's clients know.
const INVALID_REQUEST: &str = "invalid_request_error";
const RATE_LIMIT: &str = "rate_limit_error";
const SERVER: &str = "server_error";
const TIMEOUT: &str = "timeout_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const QUOTA: &str = "insufficient_quota";

impl ApiError {
    pub(crate) fn field(param: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidField { param: param.into(), why: why.into() }
    }

    pub(crate) fn unsupported(param: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { param: param.into(), why: why.into() }
    }

    /// A fault of ours: the reason goes to the log, not to the client.
    pub(crate) fn internal(reason: &dyn std::fmt::Display) -> Self {
        tracing::error!(%reason, "a request failed inside the server");
        Self::Internal
    }

    /// What a server elsewhere says instead of an answer, without its secrets. What it says of our own key or account goes to the log, not to the
    /// client.
    pub(crate) fn upstream(mut error: UpstreamError, target: Option<&Target>) -> Self {
        let without_secrets = |text: &str| target.map_or_else(|| strike(text), |target| target.strike(text));
        (error.message, error.param) = (without_secrets(&error.message), error.param.as_deref().map(without_secrets));
        if error.is_about_credentials() {
            let (status, why, target) = (error.status, &error.message, target.map_or("", |target| &*target.name));
            tracing::error!(target_name = target, status, %why, "an upstream refuses this server's key or account");
            error.message = format!(
                "the upstream refuses this server's key or account (status {status}); its operator finds more in the log"
            );
            error.param = None;
        }
        Self::Upstream(Box::new(error))
    }

    /// A model that refuses a request; `input` is the field that the prompt came from.
    pub(crate) fn submit(error: SubmitError, input: &'static str, context: usize) -> Self {
        match error {
            SubmitError::QueueFull { retry_after } => Self::QueueFull { retry_after: retry_after.as_secs().max(1) },
            SubmitError::TooLong { prompt, .. } => {
                Self::ContextLengthExceeded { param: input, tokens: prompt, context }
            }
            SubmitError::Invalid { param, why } => Self::field(
                match param {
                    "prompt" => input,
                    "stop_tokens" => "stop_token_ids",
                    other => other,
                },
                why,
            ),
            SubmitError::ShuttingDown => Self::ShuttingDown,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.table().0
    }

    fn table(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        use StatusCode as S;
        match self {
            Self::InvalidJson { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("invalid_json")),
            Self::InvalidField { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("invalid_value")),
            Self::Unsupported { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("unsupported_parameter")),
            Self::ModelMissing { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("missing_required_parameter")),
            Self::ModelNotFound { .. } => (S::NOT_FOUND, INVALID_REQUEST, Some("model_not_found")),
            Self::TaskNotFound { .. } => (S::NOT_FOUND, INVALID_REQUEST, Some("task_not_found")),
            Self::NoAnswer { error, .. } => match error {
                RowError::Input { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("invalid_value")),
                RowError::TooLong { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("context_length_exceeded")),
                RowError::Cut { .. } => (S::UNPROCESSABLE_ENTITY, INVALID_REQUEST, Some("answer_cut")),
                RowError::Invalid { .. } => (S::BAD_GATEWAY, SERVER, Some("invalid_answer")),
                RowError::Model { retry: true, .. } | RowError::Stopped => {
                    (S::SERVICE_UNAVAILABLE, SERVER, Some("model_error"))
                }
                RowError::Model { retry: false, .. } => (S::INTERNAL_SERVER_ERROR, SERVER, Some("model_error")),
            },
            Self::WrongModelKind { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("wrong_model_kind")),
            Self::NoChatTemplate { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("no_chat_template")),
            Self::Template { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("chat_template_error")),
            Self::ContextLengthExceeded { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("context_length_exceeded")),
            Self::UnknownUrl { .. } => (S::NOT_FOUND, INVALID_REQUEST, Some("unknown_url")),
            Self::MethodNotAllowed { .. } => (S::METHOD_NOT_ALLOWED, INVALID_REQUEST, Some("method_not_allowed")),
            Self::HostNotAllowed { .. } => (S::FORBIDDEN, INVALID_REQUEST, Some("host_not_allowed")),
            Self::UnsupportedMediaType { .. } => {
                (S::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, Some("unsupported_media_type"))
            }
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, INVALID_REQUEST, Some("request_too_large")),
            Self::BodyTimeout { .. } => (S::REQUEST_TIMEOUT, TIMEOUT, Some("request_timeout")),
            Self::BodyBroken { .. } => (S::BAD_REQUEST, INVALID_REQUEST, Some("incomplete_body")),
            Self::TooManyRequests => (S::TOO_MANY_REQUESTS, RATE_LIMIT, Some("too_many_requests")),
            Self::QueueFull { .. } => (S::TOO_MANY_REQUESTS, RATE_LIMIT, Some("queue_full")),
            Self::RequestTimeout => (S::GATEWAY_TIMEOUT, TIMEOUT, Some("request_timeout")),
            Self::ShuttingDown => (S::SERVICE_UNAVAILABLE, SERVER, Some("shutting_down")),
            Self::Model { .. } => (S::INTERNAL_SERVER_ERROR, SERVER, Some("model_error")),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, SERVER, Some("internal_error")),
            Self::Unauthorized { .. } => (S::UNAUTHORIZED, AUTHENTICATION, Some("invalid_api_key")),
            Self::NoSuchKey { .. } => (S::NOT_FOUND, INVALID_REQUEST, Some("key_not_found")),
            Self::OutOfScope { .. } => (S::FORBIDDEN, PERMISSION, Some("out_of_scope")),
            Self::ModelNotAllowed { .. } => (S::FORBIDDEN, PERMISSION, Some("model_not_allowed")),
            Self::RateLimited { .. } => (S::TOO_MANY_REQUESTS, RATE_LIMIT, Some("rate_limit_exceeded")),
            Self::OverBudget { .. } => (S::TOO_MANY_REQUESTS, QUOTA, Some("budget_exceeded")),
            Self::NotCounted { .. } => (S::NOT_FOUND, INVALID_REQUEST, Some("not_counted")),
            Self::NoPrice { .. } => (S::FORBIDDEN, PERMISSION, Some("no_price")),
            Self::Ledger { .. } => (S::SERVICE_UNAVAILABLE, SERVER, Some("ledger_unavailable")),
            Self::PolicyRefused { .. } => (S::FORBIDDEN, PERMISSION, Some("policy_refused")),
            Self::MustStay { .. } => (S::FORBIDDEN, PERMISSION, Some("policy_local_only")),
            Self::Upstream(error) => {
                let status = StatusCode::from_u16(error.status).unwrap_or(S::BAD_GATEWAY);
                // A key of ours that an upstream refuses is no fault of the client's.
                match status.as_u16() {
                    _ if error.is_about_credentials() => (S::BAD_GATEWAY, SERVER, Some("upstream_refused")),
                    429 => (status, RATE_LIMIT, Some("upstream_rate_limited")),
                    400..=499 => (status, INVALID_REQUEST, Some("upstream_invalid_request")),
                    _ => (S::BAD_GATEWAY, SERVER, Some("upstream_error")),
                }
            }
            Self::NoUpstream { status, .. } => (*status, SERVER, Some("no_upstream")),
            Self::Wire(error) => {
                let kind = if error.is_clients_fault() { INVALID_REQUEST } else { SERVER };
                (StatusCode::from_u16(error.status()).unwrap_or(S::BAD_GATEWAY), kind, Some(error.code()))
            }
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::InvalidField { param, .. } | Self::Unsupported { param, .. } => Some(param),
            Self::NoAnswer { param, error: RowError::Input { .. } | RowError::TooLong { .. } } => Some(param),
            Self::ModelMissing { .. }
            | Self::ModelNotFound { .. }
            | Self::WrongModelKind { .. }
            | Self::NoChatTemplate { .. } => Some("model"),
            Self::Template { .. } => Some("messages"),
            Self::ContextLengthExceeded { param, .. } => Some(param),
            Self::Wire(error) => error.param(),
            Self::Upstream(error) => error.param.as_deref(),
            Self::ModelNotAllowed { .. } | Self::NoPrice { .. } | Self::NotCounted { .. } => Some("model"),
            _ => None,
        }
    }

    /// Whether a request that failed so may fare better with another model.
    pub(crate) fn another_may_answer(&self) -> bool {
        match self {
            Self::QueueFull { .. }
            | Self::Model { .. }
            | Self::Internal
            | Self::NoChatTemplate { .. }
            | Self::Template { .. }
            | Self::Unsupported { .. }
            | Self::ContextLengthExceeded { .. }
            | Self::NoUpstream { .. } => true,
            Self::Upstream(error) => {
                let may_mend = matches!(error.status, 401..=404 | 408 | 429);
                !(400..=499).contains(&error.status) || may_mend || error.is_about_credentials()
            }
            Self::Wire(error) => !matches!(**error, WireError::Field { .. }),
            _ => false,
        }
    }

    /// A stable name of the fault.
    pub(crate) fn code(&self) -> &'static str {
        self.table().2.unwrap_or("error")
    }

    /// The ledger does not take the request.
    pub(crate) fn ledger(error: &LedgerError) -> Self {
        tracing::error!(%error, "the ledger does not take a request");
        Self::Ledger { why: error.to_string() }
    }

    /// What a client of an API is told.
    pub(crate) fn fault(&self) -> ApiFault {
        let (status, kind, code) = self.table();
        ApiFault {
            status: status.as_u16(),
            kind: kind.into(),
            message: self.to_string(),
            code: code.map(Into::into),
            param: self.param().map(Into::into),
        }
    }

    /// The whole answer, as an API's clients read it.
    pub(crate) fn response_for(&self, api: Api) -> Response {
        (self.status(), self.headers(), Json(error_body(api, &self.fault()))).into_response()
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::QueueFull { retry_after }
            | Self::RateLimited { retry_after, .. }
            | Self::OverBudget { retry_after, .. } => Some(*retry_after),
            Self::NoUpstream { retry_after, .. } => *retry_after,
            Self::Upstream(error) => error.retry_after.map(|d| d.as_secs().max(1)),
            Self::Ledger { .. } => Some(1),
            Self::TooManyRequests | Self::ShuttingDown => Some(1),
            Self::NoAnswer { .. } if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        }
    }

    /// The object a client sees, as a body or inside a stream.
    pub(crate) fn body(&self) -> ErrorBody {
        let (_, kind, code) = self.table();
        ErrorBody {
            error: ErrorObject {
                message: self.to_string(),
                kind: kind.into(),
                param: self.param().map(Into::into),
                code: code.map(Into::into),
            },
        }
    }
}

/// OpenAI's clients try again by themselves after some statuses; this header tells them when that is pointless.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status(), self.headers(), Json(self.body())).into_response()
    }
}

impl ApiError {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // The same request would fail the same way.
        let is_final = match self {
            Self::OverBudget { .. } | Self::Model { .. } | Self::RequestTimeout | Self::BodyTimeout { .. } => true,
            Self::NoAnswer { error, .. } => {
                matches!(error, RowError::Invalid { .. } | RowError::Model { retry: false, .. })
            }
            _ => false,
        };
        if is_final {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        headers
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Syntax { .. } => Self::InvalidJson { message: error.to_string() },
            ParseError::Field { path, .. } if path == "." => {
                Self::InvalidJson { message: "the body must be a JSON object".into() }
            }
            ParseError::Field { path, message } => Self::field(path, message),
        }
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        let hint = error.hint().map(|h| format!("; {h}")).unwrap_or_default();
        Self::Template { why: format!("{error}{hint}") }
    }
}

impl From<TokenizerError> for ApiError {
    fn from(error: TokenizerError) -> Self {
        Self::internal(&error)
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::NonFinite { .. } | GenerateError::Grammar { .. } | GenerateError::EngineFailed { .. } => {
                Self::Model { why: error.to_string() }
            }
            GenerateError::ShutDown => Self::ShuttingDown,
        }
    }
}
