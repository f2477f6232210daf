//! Asking servers now and then whether they are ready.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::breaker::Health;
use crate::target::HealthCheck;
use crate::upstream::Upstream;

/// Checks in a row that must fail before a server counts as down. One that succeeds makes it count as up.
const FAILURES: u32 = 2;

/// Running checks; dropped, they end.
#[derive(Debug)]
pub(crate) struct Checks(Vec<AbortHandle>);

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Checks {
    /// Of all targets that want them.
    pub(crate) fn start<'a>(upstreams: impl Iterator<Item = &'a Arc<Upstream>>) -> Self {
        let checked = upstreams.filter_map(|upstream| {
            let (address, check) = upstream.target.health.clone()?;
            Some(tokio::spawn(watch(Arc::clone(upstream), address, check)).abort_handle())
        });
        Self(checked.collect())
    }
}

async fn watch(upstream: Arc<Upstream>, address: Uri, check: HealthCheck) {
    let mut failures = 0;
    loop {
        if ask(&upstream, &address, check.timeout).await {
            failures = 0;
            upstream.set_healthy(Health::Good);
        } else {
            failures += 1;
            if failures >= FAILURES {
                upstream.set_healthy(Health::Bad);
            }
        }
        // Many gateways that were started together do not ask together.
        sleep(check.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}

async fn ask(upstream: &Upstream, address: &Uri, time: Duration) -> bool {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = address.clone();
    *request.headers_mut() = upstream.target.headers.clone();
    let answer = timeout(time, upstream.http.request(request)).await;
    let Ok(Ok(response)) = answer else { return false };
    let ready = response.status().is_success();
    // A short body read to its end leaves the connection for the next request.
    let _ = timeout(time, http_body_util::Limited::new(response.into_body(), 64 << 10).collect()).await;
    ready
}
