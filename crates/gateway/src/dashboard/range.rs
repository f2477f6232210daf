//! Spans of time that pages are about.

use std::sync::Arc;
use std::time::Duration;

use bantam_ledger::Timestamp;
use bantam_ledger::query::{Filter, Group, Sums};

use super::Dashboard;
use super::failure::Failure;
use crate::app::App;

/// A span of time up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Range {
    Hour,
    #[default]
    Day,
    Week,
    Month,
}

impl Range {
    pub(super) const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// As it stands in addresses.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// As people say it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Hour => "the last hour",
            Self::Day => "the last 24 hours",
            Self::Week => "the last 7 days",
            Self::Month => "the last 30 days",
        }
    }

    /// All of them to choose from: name, words, and whether this is the one.
    pub(super) fn choices(self) -> [(&'static str, &'static str, bool); 4] {
        Self::ALL.map(|of| (of.name(), of.words(), of == self))
    }

    /// The range of a name; the usual one where there is none.
    pub(super) fn of(name: &str) -> Result<Self, Failure> {
        if name.is_empty() {
            return Ok(Self::default());
        }
        let found = Self::ALL.into_iter().find(|range| range.name() == name);
        found.ok_or_else(|| Failure::Field { field: "range", why: "is hour, day, week or month".to_owned() })
    }

    fn length(self) -> Duration {
        const HOUR: u64 = 3_600;
        Duration::from_secs(match self {
            Self::Hour => HOUR,
            Self::Day => 24 * HOUR,
            Self::Week => 7 * 24 * HOUR,
            Self::Month => 30 * 24 * HOUR,
        })
    }

    /// When it began.
    pub(super) fn start(self) -> Timestamp {
        Timestamp::now().minus(self.length())
    }

    /// What its pictures are cut into, and how many microseconds that has.
    pub(super) fn slice(self) -> (Group, i64) {
        const MINUTE: i64 = 60_000_000;
        match self {
            Self::Hour => (Group::Minute, MINUTE),
            Self::Day | Self::Week => (Group::Hour, 60 * MINUTE),
            Self::Month => (Group::Day, 24 * 60 * MINUTE),
        }
    }
}

/// Sums that are kept for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slices {
    range: Range,
    by: Group,
}

impl Dashboard {
    /// Sums over a range; none without a ledger.
    pub(super) async fn sums(&self, app: &App, range: Range, by: Group) -> Result<Arc<Vec<Sums>>, Failure> {
        let Some(ledger) = &app.ledger else { return Ok(Arc::default()) };
        let reading = ledger.reading();
        let filter = Filter { from: Some(range.start()), ..Filter::default() };
        self.sums.get(Slices { range, by }, async { reading.sums(by, &filter).await.map(Arc::new) }).await
    }
}
