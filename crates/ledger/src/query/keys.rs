//! Keys and their budgets, for who does not hold the ledger.

use super::Reading;
use crate::budgets::{Amounts, Used, scope, unit};
use crate::db::{Pool, Reader, Value};
use crate::error::LedgerError;
use crate::keys::{KeyId, KeyRecord};
use crate::ledger::BudgetUse;
use crate::limits::Period;
use crate::time::Timestamp;

impl Reading {
    /// All keys, the newest last, revoked ones included.
    ///
    /// # Errors
    /// When the store cannot be read, or a key in it does not read.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, LedgerError> {
        let mut keys = stored_keys(&self.reader).await?;
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(keys)
    }

    /// The budgets of a key, and what of them is used as far as it has been written down.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn budgets(&self, key: &KeyRecord) -> Result<Vec<BudgetUse>, LedgerError> {
        let mut budgets = Vec::new();
        for budget in &key.limits.budgets {
            let mut used = stored_use(&self.reader, Some(&key.id), budget.period).await?;
            // Who holds a SQLite ledger has its reservations in memory; the requests they are for are written down.
            if matches!(self.reader.pool, Pool::Sqlite(_)) {
                used.reserved = self.open_amounts(&key.id, budget.period).await?;
            }
            budgets.push(BudgetUse::new(*budget, used));
        }
        Ok(budgets)
    }

    /// What the open requests of a key have reserved in this day or month.
    async fn open_amounts(&self, key: &KeyId, period: Period) -> Result<Amounts, LedgerError> {
        let now = Timestamp::now();
        let first = match period {
            Period::Day => now.day(),
            Period::Month => Timestamp::of_month(now.month()).unwrap_or(now).day(),
        };
        let sql = "SELECT CAST(COALESCE(SUM(cost), 0) AS BIGINT), CAST(COALESCE(SUM(tokens), 0) AS BIGINT) FROM open
             WHERE scope = $1 AND day >= $2";
        let args = vec![Value::text(scope(Some(key))), Value::Int(first)];
        match self.reader.rows(sql, args).await?.into_iter().next() {
            Some(mut row) => Ok(Amounts { cost: row.int()?, tokens: row.int()? }),
            None => Ok(Amounts::default()),
        }
    }
}

/// All keys of the store, in no order.
pub(crate) async fn stored_keys(reader: &Reader) -> Result<Vec<KeyRecord>, LedgerError> {
    let mut records = Vec::new();
    for mut row in reader.rows("SELECT record FROM keys", vec![]).await? {
        let record: KeyRecord = serde_json::from_str(&row.text()?)
            .map_err(|e| LedgerError::Damaged { what: format!("a key does not read: {e}") })?;
        records.push(record);
    }
    Ok(records)
}

/// What is stored of a payer's spending in this day or month.
pub(crate) async fn stored_use(reader: &Reader, key: Option<&KeyId>, period: Period) -> Result<Used, LedgerError> {
    let now = Timestamp::now();
    let number = match period {
        Period::Day => now.day(),
        Period::Month => now.month(),
    };
    let sql = "SELECT cost, tokens, reserved_cost, reserved_tokens FROM spending WHERE scope = $1 AND unit = $2 AND period = $3";
    let args = vec![Value::text(scope(key)), Value::Int(unit(period)), Value::Int(number)];
    let Some(mut row) = reader.rows(sql, args).await?.into_iter().next() else {
        return Ok(Used::default());
    };
    let spent = Amounts { cost: row.int()?, tokens: row.int()? };
    Ok(Used { spent, reserved: Amounts { cost: row.int()?, tokens: row.int()? } })
}
