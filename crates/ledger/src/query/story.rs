//! Everything about one request.

use uuid::Uuid;

use super::{COLUMNS, FROM, Reading, Recorded, one, recorded};
use crate::body::{Stored, open};
use crate::chain::Part;
use crate::content::{FeedbackEntry, decode};
use crate::db::{Row, Value, store};
use crate::error::LedgerError;
use crate::time::Timestamp;

/// Everything about one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// Its entry.
    pub recorded: Recorded,
    /// The end user, unless erased.
    pub subject: Option<String>,
    /// Bodies that are kept.
    pub bodies: Vec<(Part, Text)>,
    /// Opinions given, the oldest first.
    pub feedback: Vec<FeedbackGiven>,
    /// The chain and place of the entry that tells that its texts were erased.
    pub erased: Option<(u32, u64)>,
}

/// A text kept beside an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// As it was given.
    Plain(Vec<u8>),
    /// Encrypted with a key that was not given.
    Locked {
        /// The identity of the key it takes.
        key: String,
    },
}

/// An opinion on an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedbackGiven {
    /// When.
    pub at: Timestamp,
    /// What its entry says.
    pub entry: FeedbackEntry,
    /// The correction, unless erased.
    pub correction: Option<Text>,
}

impl Reading {
    /// Everything about one request.
    ///
    /// # Errors
    /// When it is not in the ledger, or the store cannot be read.
    pub async fn story(&self, id: Uuid) -> Result<Story, LedgerError> {
        let mut lent = self.reader.lend().await?;
        let by_id = || vec![Value::blob(id.as_bytes())];
        let sql = format!("SELECT r.subject, r.erased_chain, r.erased_seq, {COLUMNS} {FROM} WHERE r.id = $1 LIMIT 1");
        let row = one(lent.statement(), &sql, by_id()).await?;
        let mut row = row.ok_or(LedgerError::NoSuchRequest { id })?;
        let subject = row.optional_text()?;
        let erased = match (row.optional_int()?, row.optional_int()?) {
            (Some(chain), Some(seq)) => u32::try_from(chain).ok().zip(u64::try_from(seq).ok()),
            _ => None,
        };
        let recorded = recorded(row)?;
        let place = vec![Value::Int(recorded.receipt.chain.into()), Value::count(recorded.receipt.seq)];
        let sql = "SELECT part, key, data FROM bodies WHERE chain = $1 AND seq = $2 ORDER BY part";
        let fault = |e: sqlx::Error| store("cannot be read", &e);
        let mut bodies = Vec::new();
        let rows = lent.statement().rows(sql, place).await.map_err(fault)?;
        for mut row in rows {
            let number = row.int()?;
            let Some(part) = Part::BODIES.into_iter().find(|part| *part as i64 == number) else { continue };
            bodies.push((part, self.text(id, part, row)?));
        }
        let sql = "SELECT e.chain, e.seq, e.at, e.content, f.correction_key, f.correction FROM feedback f
             JOIN entries e ON e.chain = f.chain AND e.seq = f.seq WHERE f.request = $1 ORDER BY e.at, e.chain, e.seq";
        let mut feedback = Vec::new();
        let rows = lent.statement().rows(sql, by_id()).await.map_err(fault)?;
        for mut row in rows {
            let (chain, seq, at) = (row.chain()?, row.count()?, Timestamp(row.int()?));
            let entry: FeedbackEntry = decode(&row.blob()?, chain, seq)?;
            let (key, data) = (row.optional_text()?, row.optional_blob()?);
            let correction = data.map(|data| self.unlocked(id, Part::Correction, Stored { key, data })).transpose()?;
            feedback.push(FeedbackGiven { at, entry, correction });
        }
        Ok(Story { recorded, subject, bodies, feedback, erased })
    }

    fn text(&self, id: Uuid, part: Part, mut row: Row) -> Result<Text, LedgerError> {
        let stored = Stored { key: row.optional_text()?, data: row.blob()? };
        self.unlocked(id, part, stored)
    }

    pub(super) fn unlocked(&self, id: Uuid, part: Part, stored: Stored) -> Result<Text, LedgerError> {
        match open(&self.bodies, id, part, stored) {
            Ok(text) => Ok(Text::Plain(text)),
            Err(LedgerError::WrongKey { needed }) => Ok(Text::Locked { key: needed }),
            Err(error) => Err(error),
        }
    }
}
