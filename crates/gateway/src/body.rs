//! Reading a request body within its limits.
//!
//! A refused body is still read and thrown away, up to a bound: a client that is cut off while it sends sees a broken
//! connection instead of the reason. One that waits for `100 Continue` has not sent anything and is answered at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::error::ApiError;

/// How much of a refused body is read, in multiples of the limit.
const DISCARD_FACTOR: u64 = 8;

/// A body and its share of the memory for bodies.
pub(crate) struct JsonBody {
    pub(crate) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a JSON body.
pub(crate) async fn read(app: &App, request: Request) -> Result<JsonBody, ApiError> {
    let (parts, mut body) = request.into_parts();
    let read = async {
        check_headers(&parts.headers, app.config.limits.body_bytes)?;
        collect(app, &mut body).await
    };
    let limit = app.config.timeouts.body;
    match tokio::time::timeout(limit, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(e)) => {
            discard(app, &parts.headers, body).await;
            Err(e)
        }
        Err(_) => Err(ApiError::BodyTimeout { seconds: limit.as_secs() }),
    }
}

/// The request again, if what was decided before its body is no refusal; if it is, its body is read and thrown away.
pub(crate) async fn unless_refused<T>(
    app: &App,
    request: Request,
    decided: Result<T, ApiError>,
) -> Result<(T, Request), ApiError> {
    match decided {
        Ok(value) => Ok((value, request)),
        Err(error) => {
            let (parts, body) = request.into_parts();
            discard(app, &parts.headers, body).await;
            Err(error)
        }
    }
}

fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|v: &axum::http::HeaderValue| v.to_str().unwrap_or("(not text)"));
    let mime = text(header::CONTENT_TYPE).map(|v| v.split(';').next().unwrap_or(v).trim());
    // Required because a browser sends other types, but not this one, across origins without asking.
    if !mime.is_some_and(|m| m.eq_ignore_ascii_case("application/json")) {
        let found = mime.map_or("it has none".into(), |m| format!("it has '{m}'"));
        return Err(ApiError::UnsupportedMediaType { found });
    }
    if let Some(coding) = text(header::CONTENT_ENCODING).filter(|c| !c.eq_ignore_ascii_case("identity")) {
        let found = format!("its content-encoding is '{coding}', send it uncompressed");
        return Err(ApiError::UnsupportedMediaType { found });
    }
    match content_length(headers) {
        Some(n) if n > limit as u64 => Err(ApiError::BodyTooLarge { limit }),
        _ => Ok(()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(app: &App, body: &mut Body) -> Result<JsonBody, ApiError> {
    let limit = app.config.limits.body_bytes;
    let mut bytes = BytesMut::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ApiError::BodyBroken { why: e.to_string() })?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            return Err(ApiError::BodyTooLarge { limit });
        }
        let count = u32::try_from(data.len()).map_err(|_| ApiError::BodyTooLarge { limit })?;
        let more = Arc::clone(&app.body_bytes).try_acquire_many_owned(count).map_err(|_| ApiError::TooManyRequests)?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(JsonBody { bytes: bytes.freeze(), _share: share })
}

async fn discard(app: &App, headers: &HeaderMap, mut body: Body) {
    let most = (app.config.limits.body_bytes as u64).saturating_mul(DISCARD_FACTOR);
    if headers.contains_key(header::EXPECT) || content_length(headers).is_some_and(|n| n > most) {
        return;
    }
    let read = async {
        let mut seen = 0u64;
        while let Some(Ok(frame)) = body.frame().await {
            seen = seen.saturating_add(frame.data_ref().map_or(0, |d| d.len() as u64));
            if seen > most {
                break;
            }
        }
    };
    // Whether it was read to its end makes no difference to the answer.
    let _ = tokio::time::timeout(app.config.timeouts.body.min(Duration::from_secs(10)), read).await;
}
