//! Taking off the record what has been kept long enough.

use std::time::Duration;

use bantam_ledger::Ledger;
use tokio::time::{MissedTickBehavior, interval};

/// How often the ledger is looked through.
const EVERY: Duration = Duration::from_secs(3600);

/// Removes what is older than the ledger's retention says, now and every hour, until it is dropped.
pub(crate) async fn keep(ledger: Ledger) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match ledger.purge().await {
            Ok(purged) if purged.texts + purged.entries > 0 => {
                tracing::info!(texts = purged.texts, entries = purged.entries, "retention has removed what is too old");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "what is too old could not be removed; it is tried again in an hour"),
        }
    }
}
