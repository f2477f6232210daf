//! The last requests, and figures of the last minutes.

use std::sync::Arc;
use std::time::Duration;

use bantam_ledger::query::Filter;
use bantam_ledger::{Recorded, Settled, Timestamp};

use super::Dashboard;
use super::failure::Failure;
use super::format;
use crate::app::App;

/// Requests that are looked at, at most.
const MOST: u32 = 1_000;

/// How far back figures go.
const WINDOW: Duration = Duration::from_secs(300);

/// Where answers of this process come from.
pub(super) const LOCAL: &str = "local";

/// The last requests, the newest first.
#[derive(Debug, Default)]
pub(super) struct Recent(pub(super) Vec<Recorded>);

impl Dashboard {
    /// The last requests; none without a ledger.
    pub(super) async fn recent(&self, app: &App) -> Result<Arc<Recent>, Failure> {
        let Some(ledger) = &app.ledger else { return Ok(Arc::default()) };
        let reading = ledger.reading();
        let read = async { reading.requests(&Filter::default(), None, MOST).await.map(|rows| Arc::new(Recent(rows))) };
        self.recent.get(read).await
    }
}

/// A figure with its name and what it is about.
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) note: String,
}

/// Whether nobody got what was asked for.
pub(super) fn failed(request: &Recorded) -> bool {
    request.entry.status >= 400 || matches!(request.entry.settled, Settled::Abandoned | Settled::Interrupted)
}

impl Recent {
    /// Figures of the last minutes.
    pub(super) fn tiles(&self, now: Timestamp) -> Vec<Tile> {
        let from = now.minus(WINDOW);
        let within: Vec<&Recorded> = self.0.iter().take_while(|r| r.entry.arrived >= from).collect();
        let requests = within.len() as u64;
        // Where there are more than were read, those that were read tell how fast they come.
        let span = match within.last() {
            Some(oldest) if requests >= u64::from(MOST) => oldest.entry.arrived.until(now).max(Duration::from_secs(1)),
            _ => WINDOW,
        };
        let per_minute = requests as f64 * 60.0 / span.as_secs_f64();
        let failed = within.iter().filter(|r| failed(r)).count() as u64;
        let answered: Vec<_> = within.iter().filter(|r| !self::failed(r)).collect();
        let local = answered.iter().filter(|r| r.entry.provider.as_deref() == Some(LOCAL)).count() as u64;
        let mut latencies: Vec<u64> = answered.iter().map(|r| r.entry.latency_us).collect();
        latencies.sort_unstable();
        let latency = |percent| quantile(&latencies, percent).map_or("–".to_owned(), format::micros);
        let minutes = format!("in the last {}", format::seconds(span));
        let rate =
            if per_minute >= 10.0 { format::count(per_minute.round() as u64) } else { format!("{per_minute:.1}") };
        vec![
            Tile { name: "Requests a minute", value: rate, note: minutes },
            Tile {
                name: "Failed",
                value: format::share(failed, requests),
                note: format!("{} of {}", format::count(failed), format::count(requests)),
            },
            Tile { name: "p50 latency", value: latency(50), note: "half of the answers took no longer".to_owned() },
            Tile { name: "p95 latency", value: latency(95), note: "95% took no longer".to_owned() },
            Tile { name: "p99 latency", value: latency(99), note: "99% took no longer".to_owned() },
            Tile {
                name: "Answered here",
                value: format::share(local, answered.len() as u64),
                note: "by a model of this process".to_owned(),
            },
        ]
    }

    /// The same in one sentence, for who hears the page.
    pub(super) fn sentence(tiles: &[Tile]) -> String {
        let said: Vec<String> = tiles.iter().map(|tile| format!("{}: {}", tile.name, tile.value)).collect();
        said.join("; ")
    }
}

/// The nearest-rank quantile of sorted values.
fn quantile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!([50, 95, 99].map(|p| quantile(&values, p)), [Some(100), Some(190), Some(198)]);
        assert_eq!((quantile(&[7], 99), quantile(&[], 50)), (Some(7), None));
    }

    #[test]
    fn without_requests_there_are_no_shares_and_no_times() {
        let tiles = Recent::default().tiles(Timestamp(0));
        let values: Vec<&str> = tiles.iter().map(|tile| &*tile.value).collect();
        assert_eq!(values, ["0.0", "–", "–", "–", "–", "–"]);
    }
}
