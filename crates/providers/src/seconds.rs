//! Durations in configuration files: seconds, with decimals where wanted.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| D::Error::custom(format!("{seconds} is no number of seconds")))
}
