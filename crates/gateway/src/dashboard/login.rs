//! Logging in and out.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use bantam_ledger::keys::Scope;
use serde::Deserialize;

use super::failure::Failure;
use super::session::{COOKIE, Grounds, LASTS};
use super::viewer::{Sent, is_https, is_own, read};
use super::{Dashboard, Frame, HOME, render};
use crate::admin::Admin;
use crate::app::App;
use crate::error::ApiError;
use crate::server::Peer;

const PATH: &str = "/dashboard/login";

/// Longest address that somebody comes back to.
const LONGEST: usize = 2048;

#[derive(Template)]
#[template(path = "dashboard/login.html")]
struct Page {
    frame: Frame,
    next: String,
    wrong: Option<String>,
}

/// Where somebody wanted to go.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    next: String,
}

#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    secret: String,
    #[serde(default)]
    next: String,
}

/// The form's address, for who wanted to see this page.
pub(super) fn address(wanted: &Uri) -> String {
    let path = wanted.path_and_query().map_or(HOME, |path| path.as_str());
    if path == HOME || path.len() > LONGEST {
        return PATH.to_owned();
    }
    // Whatever means something in a query is escaped; what cannot stand in an address is in none.
    let mut next = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => next.push(char::from(byte)),
            other => next.push_str(&format!("%{other:02X}")),
        }
    }
    format!("{PATH}?next={next}")
}

pub(super) async fn page(State(app): State<Arc<App>>, Query(Next { next }): Query<Next>) -> Response {
    if Admin::check(&app, None).is_ok() {
        return Redirect::to(own(&next)).into_response();
    }
    form(next, None)
}

fn form(next: String, wrong: Option<String>) -> Response {
    let status = if wrong.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    (status, render(&Page { frame: Frame::bare("Log in"), next, wrong })).into_response()
}

pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    Extension(shared): Extension<Arc<Dashboard>>,
    request: Request,
) -> Result<Response, Response> {
    let headers = request.headers().clone();
    if !is_own(&headers) {
        return Err(Failure::Forged.into_response());
    }
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let Credentials { secret, next } = read(request, &app).await?;
    if let Some(peer) = peer {
        shared.sessions.try_once(peer).map_err(|seconds| Failure::TooManyTries { seconds }.into_response())?;
    }
    let secret = secret.trim();
    if let Err(error) = Admin::check(&app, Some(secret)) {
        tracing::warn!(peer = peer.map(tracing::field::display), "somebody failed to log in to the dashboard");
        let why = match error {
            ApiError::OutOfScope { .. } => "This key has not the scope admin.",
            _ => "This is neither the admin secret nor a key with the scope admin.",
        };
        return Ok(form(next, Some(why.to_owned())));
    }
    if let Some(peer) = peer {
        shared.sessions.succeeded(peer);
    }
    let key = app.ledger.as_ref().and_then(|ledger| ledger.authenticate(secret).ok());
    let grounds = match key {
        Some(key) if key.has(Scope::Admin) => Grounds::Key(key.id.clone()),
        // Where no secret is set, on this machine, there is nothing to log in to.
        _ if app.live().admin.is_none() => return Ok(Redirect::to(own(&next)).into_response()),
        _ => Grounds::Secret,
    };
    let value = shared.sessions.open(&app, &grounds);
    let value = value.map_err(|why| ApiError::internal(&why).into_response())?;
    Ok((set_cookie(&headers, &value, LASTS.as_secs()), Redirect::to(own(&next))).into_response())
}

pub(super) async fn log_out(headers: HeaderMap, Sent { viewer, form: () }: Sent<()>) -> Response {
    if let Some(session) = viewer.session {
        viewer.shared.sessions.leave(session);
    }
    (set_cookie(&headers, "", 0), Redirect::to(PATH)).into_response()
}

fn set_cookie(headers: &HeaderMap, value: &str, seconds: u64) -> HeaderMap {
    let secure = if is_https(headers) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path={HOME}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    // What we make of letters, digits and punctuation is a header's value.
    let value = HeaderValue::try_from(cookie);
    value.map(|value| HeaderMap::from_iter([(header::SET_COOKIE, value)])).unwrap_or_default()
}

/// An address, if it is one of ours.
fn own(next: &str) -> &str {
    let rest = next.strip_prefix(HOME).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let plain = next.len() <= LONGEST && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if rest.is_some() && plain { next } else { HOME }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_logs_in_comes_back_to_a_page_of_ours_only() {
        for next in ["/dashboard", "/dashboard/requests?model=a%20b", "/dashboard?range=hour"] {
            assert_eq!(own(next), next);
        }
        for next in [
            "",
            "//evil.example",
            "https://evil.example",
            "/dashboard\\evil",
            "/dashboardevil",
            "/v1",
            "/dashboard/\r\nx: y",
        ] {
            assert_eq!(own(next), HOME, "{next}");
        }
        assert_eq!(address(&"/dashboard".parse().unwrap()), PATH);
        let wanted = "/dashboard/requests?model=a&route=b%20c".parse().unwrap();
        assert_eq!(address(&wanted), "/dashboard/login?next=/dashboard/requests%3Fmodel%3Da%26route%3Db%2520c");
    }
}
