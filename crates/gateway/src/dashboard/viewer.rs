//! Who looks at a page, or sends a form.

use std::sync::Arc;

use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Redirect, Response};
use bantam_ledger::Ledger;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::session::{Session, same};
use super::{Dashboard, Frame, login};
use crate::admin::Admin;
use crate::app::App;

/// The header that scripts bring their token in.
const TOKEN: &str = "x-csrf-token";

/// Somebody who may administer.
pub(super) struct Viewer {
    pub(super) app: Arc<App>,
    pub(super) shared: Arc<Dashboard>,
    pub(super) session: Option<Session>,
}

impl Viewer {
    pub(super) fn frame(&self, title: &str, here: &'static str) -> Frame {
        Frame {
            title: title.to_owned(),
            here,
            csrf: self.shared.sessions.csrf(self.session.as_ref()),
            logged_in: self.session.is_some(),
        }
    }

    pub(super) fn ledger(&self) -> Result<&Ledger, Failure> {
        self.app.ledger.as_ref().ok_or(Failure::NoLedger)
    }

    /// Refuses what no page of this dashboard has sent.
    pub(super) fn check(&self, headers: &HeaderMap, token: &str) -> Result<(), Failure> {
        let expected = self.shared.sessions.csrf(self.session.as_ref());
        if is_own(headers) && same(&expected, token) { Ok(()) } else { Err(Failure::Forged) }
    }

    /// The same for a script's request.
    pub(super) fn check_header(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let token = headers.get(TOKEN).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.check(headers, token)
    }
}

impl FromRequestParts<Arc<App>> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let Some(shared) = parts.extensions.get::<Arc<Dashboard>>().map(Arc::clone) else {
            return Err(Failure::NoSuchPage.into_response());
        };
        let session = shared.sessions.of(app, &parts.headers);
        if session.is_none() && Admin::check(app, None).is_err() {
            let page = parts.method == Method::GET && accepts_pages(&parts.headers);
            return Err(match page {
                true => Redirect::to(&login::address(&parts.uri)).into_response(),
                false => Failure::LoggedOut.into_response(),
            });
        }
        Ok(Self { app: Arc::clone(app), shared, session })
    }
}

/// A page's address leads to the form; what a script asks for does not.
fn accepts_pages(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_none_or(|accept| !accept.contains("event-stream"))
}

/// A form that a page of this dashboard has sent.
pub(super) struct Sent<T> {
    pub(super) viewer: Viewer,
    pub(super) form: T,
}

/// The token that every form brings.
#[derive(serde::Deserialize)]
struct WithToken<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    form: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let viewer = Viewer::from_request_parts(&mut parts, app).await?;
        let headers = parts.headers.clone();
        let sent: WithToken<T> = read(Request::from_parts(parts, body), app).await?;
        viewer.check(&headers, &sent.csrf).map_err(IntoResponse::into_response)?;
        Ok(Self { viewer, form: sent.form })
    }
}

/// Reads a form within the time that bodies have.
pub(super) async fn read<T: DeserializeOwned>(request: Request, app: &Arc<App>) -> Result<T, Response> {
    let read = Form::<T>::from_request(request, app);
    match tokio::time::timeout(app.config.timeouts.body, read).await {
        Ok(Ok(Form(form))) => Ok(form),
        Ok(Err(rejection)) => Err(Failure::Field { field: "form", why: rejection.to_string() }.into_response()),
        Err(_) => Err(Failure::Field { field: "form", why: "it did not arrive in time".to_owned() }.into_response()),
    }
}

/// Whether a browser sent a request from a page of this server, as far as it says.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("origin") {
        // Behind a proxy, the host that the browser sees is the forwarded one. No page can make a browser send that header with a form.
        Some(origin) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && (host == text("host") || host == text("x-forwarded-host"))
        }
        None => {
            headers.get(header::ORIGIN).is_none()
                && matches!(text("sec-fetch-site"), None | Some("same-origin" | "none"))
        }
    }
}

/// Whether the browser speaks https, to a proxy in front of this server.
pub(super) fn is_https(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let forwarded = text("forwarded").to_ascii_lowercase();
    text("x-forwarded-proto").eq_ignore_ascii_case("https")
        || forwarded.split([';', ',']).any(|part| matches!(part.trim(), "proto=https" | "proto=\"https\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn pages_of_other_sites_are_not_ours() {
        let host = ("host", "gateway:8080");
        assert!(is_own(&headers(&[host])));
        assert!(is_own(&headers(&[host, ("origin", "http://gateway:8080")])));
        assert!(is_own(&headers(&[host, ("x-forwarded-host", "ai.example"), ("origin", "https://ai.example")])));
        assert!(is_own(&headers(&[host, ("sec-fetch-site", "same-origin")])));
        for other in [
            "null",
            "http://gateway",
            "http://gateway:8081",
            "https://evil.example",
            "http://gateway:8080.evil.example",
        ] {
            assert!(!is_own(&headers(&[host, ("origin", other)])), "{other}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!is_own(&headers(&[host, ("sec-fetch-site", site)])), "{site}");
        }
    }

    #[test]
    fn https_is_seen_through_proxies() {
        assert!(is_https(&headers(&[("x-forwarded-proto", "https")])));
        assert!(is_https(&headers(&[("forwarded", "for=10.0.0.1;proto=https")])));
        assert!(!is_https(&headers(&[("x-forwarded-proto", "http"), ("forwarded", "for=x;host=proto=https.example")])));
    }
}
