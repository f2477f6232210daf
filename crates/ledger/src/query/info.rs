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
    /// When that was signed.
    pub checkpoint_at: Option<Timestamp>,
}

impl Reading {
    /// The ends of its chains, by number. They are told as they stand: `bantam audit verify` is what checks them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn chains(&self) -> Result<Vec<ChainEnd>, LedgerError> {
        let mut chains: Vec<ChainEnd> = Vec::new();
        let mut lent = self.reader.lend().await?;
        // A look at the primary key for each: neither database finds the ends of groups without reading all of their rows.
        loop {
            let after = vec![Value::Int(chains.last().map_or(0, |end| end.chain.into()))];
            let sql = "SELECT chain, seq FROM entries WHERE chain > $1 ORDER BY chain, seq LIMIT 1";
            let Some(mut row) = one(lent.statement(), sql, after).await? else { return Ok(chains) };
            let (chain, first) = (row.chain()?, row.count()?);
            let of_chain = || vec![Value::Int(chain.into())];
            let sql = "SELECT seq, at, hash FROM entries WHERE chain = $1 ORDER BY seq DESC LIMIT 1";
            let Some(mut row) = one(lent.statement(), sql, of_chain()).await? else { return Ok(chains) };
            let (last, at, hash) = (row.count()?, Timestamp(row.int()?), row.hash()?);
            let sql = "SELECT seq, at FROM checkpoints WHERE chain = $1 ORDER BY seq DESC LIMIT 1";
            let (checkpoint, checkpoint_at) = match one(lent.statement(), sql, of_chain()).await? {
                Some(mut row) => (row.count()?, Some(Timestamp(row.int()?))),
                None => (0, None),
            };
            chains.push(ChainEnd { chain, first, last, at, hash, checkpoint, checkpoint_at });
        }
    }

    /// What the ledger holds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn info(&self) -> Result<Info, LedgerError> {
        // First, and not while another connection is held: all of them could wait for each other.
        let chains = self.chains().await?;
        let mut lent = self.reader.lend().await?;
        let meta = schema::read_meta_with(lent.statement()).await?;
        let meta = meta.ok_or_else(|| LedgerError::Damaged { what: "it does not say what it is".to_owned() })?;
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
