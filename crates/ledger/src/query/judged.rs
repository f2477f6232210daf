//! Requests that somebody judged.

use futures::StreamExt;

use super::{COLUMNS, Filter, Reading, Recorded, Text, recorded};
use crate::body::Stored;
use crate::chain::Part;
use crate::db::store;
use crate::error::LedgerError;
use crate::request::Rating;

/// A request with what was said of its answer, the latest word on each.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its entry.
    pub recorded: Recorded,
    /// What was asked, if it was kept and not erased.
    pub request: Option<Text>,
    /// How good the answer was.
    pub rating: Option<Rating>,
    /// Whether it was used.
    pub accepted: Option<bool>,
    /// Whether a better one was given. Erasing takes it away.
    pub corrected: bool,
}

impl Reading {
    /// Gives every request that has feedback to `visit`, the oldest first within a chain, however many there are.
    ///
    /// # Errors
    /// When the store cannot be read, or a request was encrypted with another key than is given.
    pub async fn judged(&self, filter: &Filter, mut visit: impl FnMut(Judged) + Send) -> Result<(), LedgerError> {
        let clauses = filter.clauses();
        let sql = format!(
            "SELECT f.rating, f.accepted, CAST(CASE WHEN f.correction IS NULL THEN 0 ELSE 1 END AS BIGINT), b.key, b.data, {COLUMNS}
             FROM feedback f JOIN requests r ON r.id = f.request JOIN entries e ON e.chain = r.chain AND e.seq = r.seq
             LEFT JOIN bodies b ON b.chain = r.chain AND b.seq = r.seq AND b.part = {} {}
             ORDER BY e.chain, e.seq, f.chain, f.seq",
            Part::Request as i64,
            clauses.text
        );
        let mut lent = self.reader.lend().await?;
        let mut rows = lent.statement().stream(&sql, clauses.args);
        let mut last: Option<Judged> = None;
        while let Some(row) = rows.next().await {
            let mut row = row.map_err(|e| store("cannot be read", &e))?;
            let (rating, accepted) = (row.optional_int()?, row.optional_int()?);
            let corrected = row.int()? != 0;
            let (key, data) = (row.optional_text()?, row.optional_blob()?);
            let recorded = recorded(row)?;
            if last.as_ref().is_none_or(|last| last.recorded.id != recorded.id) {
                let id = recorded.id;
                let request = data.map(|data| self.unlocked(id, Part::Request, Stored { key, data })).transpose()?;
                let next = Judged { recorded, request, rating: None, accepted: None, corrected: false };
                last.replace(next).map(&mut visit);
            }
            if let Some(judged) = &mut last {
                judged.rating = rating.and_then(Rating::of_number).or(judged.rating);
                judged.accepted = accepted.map(|n| n != 0).or(judged.accepted);
                judged.corrected |= corrected;
            }
        }
        last.map(visit);
        Ok(())
    }
}
