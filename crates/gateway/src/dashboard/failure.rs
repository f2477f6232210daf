//! Pages that cannot be shown.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bantam_ledger::{KeyError, LedgerError};

use super::{Frame, render};

/// Why a page cannot be shown, or a form is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("There is no such page.")]
    NoSuchPage,
    #[error(
        "This server keeps no ledger, so there are no requests, keys or costs to show. Set [ledger] enabled = true in its configuration."
    )]
    NoLedger,
    #[error("The ledger takes too long to answer. Ask for a shorter time.")]
    Slow,
    #[error("{why}")]
    NotFound { why: String },
    #[error("{field}: {why}")]
    Field { field: &'static str, why: String },
    #[error("{why}")]
    Ledger { why: String },
    #[error(
        "This form was not sent from a page of this dashboard, or the page is too old. Load the page again and repeat it."
    )]
    Forged,
    #[error("Log in first.")]
    LoggedOut,
    #[error("Too many tries to log in. Wait {seconds} seconds.")]
    TooManyTries { seconds: u64 },
    #[error("Too many browsers are listening. Load the page again instead.")]
    TooManyListeners,
}

#[derive(Template)]
#[template(path = "dashboard/failure.html")]
struct Page {
    frame: Frame,
    why: String,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPage | Self::NoLedger | Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Field { .. } => StatusCode::BAD_REQUEST,
            Self::Slow | Self::Ledger { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Forged => StatusCode::FORBIDDEN,
            Self::LoggedOut => StatusCode::UNAUTHORIZED,
            Self::TooManyTries { .. } | Self::TooManyListeners => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let frame = Frame::bare(match self.status() {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::UNAUTHORIZED => "Log in",
            StatusCode::FORBIDDEN => "Not taken",
            _ => "This did not work",
        });
        let mut response = (self.status(), render(&Page { frame, why: self.to_string() })).into_response();
        if let Self::TooManyTries { seconds } = self {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::NoSuchRequest { .. } => Self::NotFound { why: format!("{error}.") },
            error => {
                tracing::error!(%error, "the dashboard cannot read the ledger");
                Self::Ledger { why: format!("The ledger does not answer: {error}.") }
            }
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NoSuchKey { .. } => Self::NotFound { why: format!("{error}.") },
            KeyError::Invalid { field, why } => Self::Field { field, why },
            KeyError::Ledger(error) => error.into(),
            error => Self::Field { field: "key", why: error.to_string() },
        }
    }
}
