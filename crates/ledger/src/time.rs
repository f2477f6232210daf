//! Points in time as the ledger stores them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, SecondsFormat};
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

const PER_DAY: i64 = 86_400_000_000;

impl Timestamp {
    /// What the system's clock says. It may go backwards; entries of the chain do not (see [`crate::EntryReceipt`]).
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Days since 1970-01-01 UTC.
    #[must_use]
    pub const fn day(self) -> i64 {
        self.0.div_euclid(PER_DAY)
    }

    /// Months since January 1970 UTC.
    #[must_use]
    pub fn month(self) -> i64 {
        let date = DateTime::from_timestamp_micros(self.0).unwrap_or_default();
        i64::from(date.year() - 1970) * 12 + i64::from(date.month0())
    }

    /// The first moment of a day, saturating.
    #[must_use]
    pub const fn of_day(day: i64) -> Self {
        Self(day.saturating_mul(PER_DAY))
    }

    /// The first moment of a month counted from January 1970 UTC; nothing outside the calendar.
    #[must_use]
    pub fn of_month(month: i64) -> Option<Self> {
        let year = i32::try_from(month.div_euclid(12) + 1970).ok()?;
        let date = chrono::NaiveDate::from_ymd_opt(year, u32::try_from(month.rem_euclid(12)).ok()? + 1, 1)?;
        Some(Self(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()))
    }

    /// This moment and a while, saturating.
    #[must_use]
    pub fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(while_.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment less a while, saturating.
    #[must_use]
    pub fn minus(self, while_: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(while_.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long it is from here to `later`; nothing if that has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_micros(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        })
    }
}

/// As in RFC 3339, with microseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{} microseconds after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_begin_where_the_calendar_says() {
        let leap = Timestamp(1_709_164_800_000_000); // 2024-02-29T00:00:00Z
        assert_eq!(leap.to_string(), "2024-02-29T00:00:00.000000Z");
        assert_eq!(Timestamp::of_day(leap.day()), leap);
        assert_eq!(Timestamp::of_month(leap.month()).unwrap().to_string(), "2024-02-01T00:00:00.000000Z");
        assert_eq!(Timestamp::of_month(leap.month() + 11).unwrap().to_string(), "2025-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp(-1).day(), -1);
        assert_eq!(Timestamp(-1).month(), -1);
        assert_eq!(Timestamp::of_month(i64::MAX), None);
        assert_eq!(Timestamp(5).until(Timestamp(3)), Duration::ZERO);
    }
}
