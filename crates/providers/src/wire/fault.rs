//! Errors: ours as each API's clients read them, and the servers' in whatever shape they come.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Api, SseEvent, WireError};

/// Longest message that is taken over from a server.
const MAX_MESSAGE_CHARS: usize = 2000;

/// An error to tell a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiFault {
    /// The HTTP status; inside a stream, the one it would have had.
    pub status: u16,
    /// OpenAI's class of error; Anthropic's follows from the status.
    pub kind: String,
    /// What is wrong and what to change.
    pub message: String,
    /// A stable name of the fault.
    pub code: Option<String>,
    /// The field at fault.
    pub param: Option<String>,
}

impl From<&WireError> for ApiFault {
    fn from(error: &WireError) -> Self {
        if let WireError::Failed(upstream) = error {
            return upstream.into();
        }
        Self {
            status: error.status(),
            kind: if error.is_clients_fault() { "invalid_request_error" } else { "server_error" }.into(),
            message: error.to_string(),
            code: Some(error.code().into()),
            param: error.param().map(str::to_owned),
        }
    }
}

/// An error of a server as its client is told. That our own key or account was refused is nothing that the client can
/// mend, and what servers say then may hold a part of the key.
impl From<&UpstreamError> for ApiFault {
    fn from(error: &UpstreamError) -> Self {
        if error.is_about_credentials() {
            return Self {
                status: 502,
                kind: openai_kind(502).into(),
                message: format!("the upstream refused this server's credentials (status {})", error.status),
                code: Some("upstream_credentials".into()),
                param: None,
            };
        }
        Self {
            status: error.status,
            kind: openai_kind(error.status).into(),
            message: error.message.clone(),
            code: error.code.clone().or_else(|| Some(error.kind.clone()).filter(|k| !k.is_empty())),
            param: error.param.clone(),
        }
    }
}

/// OpenAI's class of error for a status.
fn openai_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        408 | 504 => "timeout_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Anthropic's class of error for a status.
fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The body that tells a client of `api` what went wrong.
#[must_use]
pub fn error_body(api: Api, fault: &ApiFault) -> Value {
    match api {
        Api::Messages => json!({
            "type": "error",
            "error": {"type": anthropic_kind(fault.status), "message": fault.message},
        }),
        _ => json!({
            "error": {"message": fault.message, "type": fault.kind, "param": fault.param, "code": fault.code},
        }),
    }
}

/// The event that tells a client of `api`, in the middle of a stream, what went wrong. Nothing follows it: a stream
/// that ends without its end event is no success to any client.
#[must_use]
pub fn error_event(api: Api, fault: &ApiFault) -> SseEvent {
    match api {
        Api::Messages => SseEvent::named("error", error_body(api, fault).to_string()),
        // OpenAI's client raises what has an `error` field; those that read the event by its type find it too.
        Api::Responses => SseEvent::named(
            "error",
            json!({
                "type": "error",
                "code": fault.code,
                "message": fault.message,
                "param": fault.param,
                "sequence_number": 0,
                "error": error_body(api, fault)["error"],
            })
            .to_string(),
        ),
        _ => SseEvent::data(error_body(api, fault).to_string()),
    }
}

/// What a server said instead of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The HTTP status; inside a stream, the one that fits the class of error.
    pub status: u16,
    /// The class of error in the server's words; empty if it named none.
    pub kind: String,
    /// What it said, or what can be said of a body that is none of an API's.
    pub message: String,
    /// A stable name of the fault.
    pub code: Option<String>,
    /// The field at fault.
    pub param: Option<String>,
    /// Whether the same request may succeed a little later.
    pub retryable: bool,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl UpstreamError {
    /// Whether the server refuses our own key or account. What it says then may hold a part of the key, and is nothing that the client can mend.
    #[must_use]
    pub fn is_about_credentials(&self) -> bool {
        let named = |name: &str| matches!(name, "invalid_api_key" | "authentication_error" | "billing_error");
        matches!(self.status, 401..=403 | 407) || named(&self.kind) || self.code.as_deref().is_some_and(named)
    }

    /// Adds what a `Retry-After` header says in seconds.
    #[must_use]
    pub fn with_retry_after(mut self, header: &str) -> Self {
        let seconds = header.trim().parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
        self.retry_after = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).or(self.retry_after);
        self
    }
}

/// Reads the body of an answer with an error status: the shapes of OpenAI, Anthropic, vLLM, Ollama and FastAPI, or
/// whatever a proxy on the way wrote.
#[must_use]
pub fn upstream_error(status: u16, body: &[u8]) -> UpstreamError {
    let mut error = match serde_json::from_slice::<Value>(body) {
        Ok(value) => from_json(&value),
        Err(_) => UpstreamError { message: from_text(&String::from_utf8_lossy(body)), ..UpstreamError::default() },
    };
    error.status = status;
    error.retryable = retryable(status);
    if error.message.is_empty() {
        error.message = format!("the upstream answered with status {status} and no message");
    }
    error
}

/// Reads the error in the body of an answer that says it is a success, or in an event of a stream, if there is one.
pub fn event_error(event: &Value) -> Option<UpstreamError> {
    // A response that failed, from a server that is asked by that API or by another.
    let failed = event.get("response").filter(|response| response.get("error").is_some_and(|e| !e.is_null()));
    let event = failed.unwrap_or(event);
    let is_error = event.get("type").and_then(Value::as_str) == Some("error")
        || event.get("error").is_some_and(|e| !e.is_null() && event.get("choices").is_none());
    is_error.then(|| from_event(event))
}

pub(super) fn from_event(event: &Value) -> UpstreamError {
    let mut error = from_json(event);
    let status = event.pointer("/error/code").and_then(Value::as_u64).and_then(|s| u16::try_from(s).ok());
    error.status = status.filter(|s| (400..600).contains(s)).unwrap_or(match error.kind.as_str() {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 502,
    });
    error.retryable = retryable(error.status);
    if error.message.is_empty() {
        error.message = "the upstream ended its stream with an error and no message".into();
    }
    error
}

fn retryable(status: u16) -> bool {
    matches!(status, 408 | 429) || status >= 500
}

fn from_json(value: &Value) -> UpstreamError {
    // OpenAI and Anthropic nest the object, vLLM and Mistral do not, Ollama has a string, FastAPI a `detail`.
    let object = match value.get("error") {
        Some(error @ Value::Object(_)) => error,
        Some(Value::String(message)) => {
            return UpstreamError { message: shorten(message), ..UpstreamError::default() };
        }
        _ => value,
    };
    // A list of one, as Gemini has it.
    let object = object.get(0).and_then(|first| first.get("error")).unwrap_or(object);
    let text = |key: &str| match object.get(key) {
        Some(Value::String(s)) => Some(s.clone()),
        Some(Value::Number(n)) => Some(n.to_string()),
        _ => None,
    };
    let message = text("message").or_else(|| match object.get("detail") {
        Some(Value::String(s)) => Some(s.clone()),
        Some(detail @ (Value::Array(_) | Value::Object(_))) => Some(detail.to_string()),
        _ => None,
    });
    UpstreamError {
        kind: text("type").filter(|t| t != "error").unwrap_or_default(),
        message: shorten(&message.unwrap_or_default()),
        code: text("code"),
        param: text("param"),
        ..UpstreamError::default()
    }
}

/// A page of a proxy is known by its title; other text by its beginning.
fn from_text(body: &str) -> String {
    let lower = body.to_ascii_lowercase();
    if !lower.contains("<html") && !lower.trim_start().starts_with("<!doctype") {
        return shorten(body.trim());
    }
    let title = lower.find("<title>").map(|at| at + "<title>".len()).and_then(|from| {
        let len = lower[from..].find("</title>")?;
        Some(body[from..from + len].trim())
    });
    match title {
        Some(title) if !title.is_empty() => format!("an HTML page instead of an answer: {}", shorten(title)),
        _ => "an HTML page instead of an answer".into(),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
