//! What a ledger holds.

use serde::Serialize;

use super::{Reading, one};
use crate::chain::LedgerId;
use crate::db::{Value, schema};
use crate::error::LedgerError;
use crate::request::Hash;
use crate::time::Timestamp;

/// What a ledger holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Its identity.
    pub ledger: Hash,
    /// The version of its tables.
    pub schema: i64,
    /// The ends of its chains.
    pub chains: Vec<ChainEnd>,
    /// Requests with an entry.
    pub requests: u64,
    /// Requests without one yet.
    pub open: u64,
    /// Opinions given.
    pub feedback: u64,
    /// Bodies kept, and their bytes.
    pub bodies: (u64, u64),
    /// Keys, revoked ones included.
    pub keys: u64,
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainEnd {
    /// The chain.
    pub chain: u32,
    /// Its first entry.
    pub first: u64,
    /// Its last entry.
    pub last: u64,
    /// When that was written.
    pub at: Timestamp,
    /// The hash of the last entry.
    pub hash: Hash,
    /// The last entry that is a checkpoint; 0 where there is none.
    pub checkpoint: u64,
}

impl Reading {
    /// What the ledger holds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn info(&self) -> Result<Info, LedgerError> {
        let mut lent = self.reader.lend().await?;
        let meta = schema::read_meta_with(lent.statement()).await?;
        let meta = meta.ok_or_else(|| LedgerError::Damaged { what: "it does not say what it is".to_owned() })?;
        let sql = "SELECT chain, MIN(seq), MAX(seq) FROM entries GROUP BY chain ORDER BY chain";
        let mut chains = Vec::new();
        for mut row in self.reader.rows(sql, vec![]).await? {
            let (chain, first, last) = (row.chain()?, row.count()?, row.count()?);
            let sql = "SELECT at, hash, (SELECT COALESCE(MAX(seq), 0) FROM checkpoints WHERE chain = $1) FROM entries
                 WHERE chain = $1 AND seq = $2";
            let end = one(lent.statement(), sql, vec![Value::Int(chain.into()), Value::count(last)]).await?;
            let Some(mut end) = end else { continue };
            let (at, hash, checkpoint) = (Timestamp(end.int()?), end.hash()?, end.count()?);
            chains.push(ChainEnd { chain, first, last, at, hash, checkpoint });
        }
        let sql = "SELECT (SELECT COUNT(*) FROM requests), (SELECT COUNT(*) FROM open), (SELECT COUNT(*) FROM feedback),
             (SELECT COUNT(*) FROM bodies), (SELECT CAST(COALESCE(SUM(LENGTH(data)), 0) AS BIGINT) FROM bodies), (SELECT COUNT(*) FROM keys)";
        let row = one(lent.statement(), sql, vec![]).await?;
        let mut row = row.ok_or_else(|| LedgerError::Damaged { what: "it does not count".to_owned() })?;
        Ok(Info {
            ledger: Hash(LedgerId::of_pepper(&meta.pepper).0),
            schema: meta.version,
            chains,
            requests: row.count()?,
            open: row.count()?,
            feedback: row.count()?,
            bodies: (row.count()?, row.count()?),
            keys: row.count()?,
        })
    }
}
