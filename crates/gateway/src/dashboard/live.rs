//! What the overview is told while somebody watches it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::failure::Failure;
use super::overview::Now;
use super::viewer::Viewer;
use crate::app::Phase;

/// Between two updates, however much happens.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// Between two updates, however little happens: figures of the last minutes go down by themselves.
const MOST_PAUSE: Duration = Duration::from_secs(5);

/// After this time the browser asks again, and is asked again who it is.
const LASTS: Duration = Duration::from_secs(600);

pub(super) async fn events(viewer: Viewer) -> Result<Response, Failure> {
    let mut happening = viewer.ledger()?.subscribe();
    let place = Arc::clone(&viewer.shared.listeners).try_acquire_owned().map_err(|_| Failure::TooManyListeners)?;
    let Viewer { app, shared, .. } = viewer;
    let mut phase = app.phase.subscribe();
    let events = async_stream::stream! {
        let _place = place;
        let end = Instant::now() + LASTS;
        let mut pulse = interval(MOST_PAUSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Whether some were missed makes no difference: the last ones are read from the ledger.
                _ = happening.recv() => {}
                _ = pulse.tick() => {}
                () = sleep_until(end) => break,
                _ = phase.wait_for(|phase| *phase > Phase::Open) => break,
            }
            let html = match Now::of(&app, &shared).await {
                Ok(now) => now.render().unwrap_or_default(),
                Err(failure) => {
                    tracing::debug!(%failure, "an overview is not told what happens");
                    String::new()
                }
            };
            if !html.is_empty() {
                yield Ok::<_, Infallible>(Event::default().event("now").data(html));
            }
            sleep(LEAST_PAUSE).await;
            happening = happening.resubscribe();
        }
    };
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
