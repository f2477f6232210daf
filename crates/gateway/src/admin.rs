//! Who may administer: the holder of the admin secret or of a key with the scope, or, where there is no admin secret and
//! only this machine can connect, everybody.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bantam_ledger::keys::Scope;
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::error::ApiError;
use crate::flow::{NO_ADMIN, secret};

/// Proof that whoever sent a request may administer.
pub(crate) struct Admin;

impl Admin {
    /// Whether this secret opens the door.
    pub(crate) fn check(app: &App, given: Option<&str>) -> Result<Self, ApiError> {
        let live = app.live();
        let Some(given) = given else {
            return match &live.admin {
                None if app.loopback => Ok(Self),
                _ => Err(ApiError::Unauthorized { why: NO_ADMIN }),
            };
        };
        let is_secret =
            |admin: &secrecy::SecretString| bool::from(admin.expose_secret().as_bytes().ct_eq(given.as_bytes()));
        if live.admin.as_ref().is_some_and(is_secret) {
            return Ok(Self);
        }
        let key = app.ledger.as_ref().and_then(|ledger| ledger.authenticate(given).ok());
        match key {
            Some(key) if key.has(Scope::Admin) => Ok(Self),
            Some(_) => Err(ApiError::OutOfScope { scope: "admin" }),
            // A client library's placeholder, on this machine.
            None if live.admin.is_none() && app.loopback => Ok(Self),
            None => Err(ApiError::Unauthorized { why: "the admin key is not valid" }),
        }
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Self::check(app, secret(&parts.headers))
    }
}
