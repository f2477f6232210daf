//! The dashboard: what the gateway does, has done, and costs.
//!
//! Pages are rendered here and need nothing from elsewhere: one style sheet, one script, no inline ones. Without the script everything works but
//! the updates of the overview and the streams of the playground. What is shown comes from the ledger, through queries that are bounded in time
//! and in rows, and kept for a moment so that many viewers cost as much as one.
//!
//! [`viewer`] says who may look, [`session`] remembers them, and one file for each page has its handler and what its template shows.

mod assets;
mod audit;
mod cache;
mod chart;
mod download;
mod errors;
mod failure;
mod format;
mod keys;
mod live;
mod login;
mod overview;
mod playground;
mod range;
mod reasons;
mod recent;
mod requests;
mod routes;
mod row;
mod session;
mod story;
mod viewer;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use bantam_ledger::query::Sums;
use tokio::sync::{Semaphore, watch};

use crate::app::App;
use crate::config::ConfigError;
use audit::Verification;
use cache::{Cached, CachedBy};
use failure::Failure;
use range::Slices;
use recent::Recent;
use session::Sessions;

/// Where it is.
pub(crate) const HOME: &str = "/dashboard";

/// Only what this server serves as a file of its own may run or apply, and only this server may be called.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Bytes that a form may have.
const FORM_BYTES: usize = 256 << 10;

/// Browsers that are told what happens as it happens; further ones have to load the page again.
const LISTENERS: usize = 16;

/// How old sums may be.
const SUMS_KEPT: Duration = Duration::from_secs(10);

/// How old the last requests may be.
const RECENT_KEPT: Duration = Duration::from_secs(1);

/// What the pages share.
struct Dashboard {
    sessions: Sessions,
    recent: Cached<Arc<Recent>>,
    sums: CachedBy<Slices, Arc<Vec<Sums>>>,
    listeners: Arc<Semaphore>,
    verification: watch::Sender<Verification>,
}

/// The pages, to be merged with the rest.
///
/// # Errors
/// Where the system gives no random bytes to sign sessions with.
pub(crate) fn router() -> Result<Router<Arc<App>>, ConfigError> {
    let shared = Dashboard {
        sessions: Sessions::new().map_err(|why| ConfigError::new("dashboard", why))?,
        recent: Cached::new(RECENT_KEPT),
        sums: CachedBy::new(SUMS_KEPT),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        verification: watch::Sender::default(),
    };
    Ok(Router::new()
        .route("/dashboard", get(overview::page))
        .route("/dashboard/live", get(live::events))
        .route("/dashboard/requests", get(requests::page))
        .route("/dashboard/requests/{id}", get(story::page))
        .route("/dashboard/requests.csv", get(download::csv))
        .route("/dashboard/requests.jsonl", get(download::lines))
        .route("/dashboard/errors", get(errors::page))
        .route("/dashboard/routes", get(routes::page))
        .route("/dashboard/keys", get(keys::page).post(keys::create))
        .route("/dashboard/keys/{id}/rotate", get(keys::list_again).post(keys::rotate))
        .route("/dashboard/keys/{id}/revoke", get(keys::list_again).post(keys::revoke))
        .route("/dashboard/audit", get(audit::page))
        .route("/dashboard/audit/verify", get(audit::again).post(audit::start))
        .route("/dashboard/playground", get(playground::page).post(playground::compare))
        .route("/dashboard/playground/answer", post(playground::answer))
        .route("/dashboard/playground/outcome/{id}", get(playground::outcome))
        .route("/dashboard/login", get(login::page).post(login::log_in))
        .route("/dashboard/logout", post(login::log_out))
        .route("/dashboard/dashboard.css", get(assets::style))
        .route("/dashboard/dashboard.js", get(assets::script))
        .route("/dashboard/{*rest}", get(|| async { Failure::NoSuchPage }))
        .layer(Extension(Arc::new(shared)))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(middleware::map_response(with_headers)))
}

/// What every answer of the dashboard says of itself.
async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Without a referrer of their own, browsers send the origin `null` with forms.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What every page has around its content.
struct Frame {
    title: String,
    /// The page of the navigation that this one is or belongs to.
    here: &'static str,
    /// For forms.
    csrf: String,
    /// Whether somebody has logged in, and can log out.
    logged_in: bool,
}

impl Frame {
    /// Without anybody looking.
    fn bare(title: &str) -> Self {
        Self { title: title.to_owned(), here: "", csrf: String::new(), logged_in: false }
    }

    /// The pages that the navigation leads to.
    fn pages(&self) -> [(&'static str, &'static str); 7] {
        [
            (HOME, "Overview"),
            (requests::PATH, "Requests"),
            (errors::PATH, "Errors"),
            (routes::PATH, "Routes"),
            (keys::PATH, "Keys"),
            (audit::PATH, "Audit"),
            (playground::PATH, "Playground"),
        ]
    }

    /// What tells one version of the files from another, so that browsers may keep them.
    fn version(&self) -> &'static str {
        assets::version()
    }
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => crate::error::ApiError::internal(&error).into_response(),
    }
}
