//! Sums over many requests.

use std::collections::HashMap;

use bantam_types::NanoDollars;

use super::{Filter, Reading};
use crate::error::LedgerError;
use crate::request::TokenCounts;

/// What requests are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// All of them.
    All,
    /// The minute in which they arrived, as minutes since 1970 UTC.
    Minute,
    /// The hour in which they arrived, as hours since 1970 UTC.
    Hour,
    /// The day they were charged to, as days since 1970 UTC.
    Day,
    /// The route that took them.
    Route,
    /// The model that answered.
    Model,
    /// The provider that answered.
    Provider,
    /// The key.
    Key,
    /// The API they came in by.
    Surface,
}

impl Group {
    const fn column(self) -> &'static str {
        match self {
            Self::All => "''",
            Self::Minute => "CAST(r.arrived / 60000000 AS TEXT)",
            Self::Hour => "CAST(r.arrived / 3600000000 AS TEXT)",
            Self::Day => "CAST(r.day AS TEXT)",
            Self::Route => "COALESCE(r.route, '')",
            Self::Model => "COALESCE(r.model, '')",
            Self::Provider => "COALESCE(r.provider, '')",
            Self::Key => "COALESCE(r.key_id, '')",
            Self::Surface => "r.surface",
        }
    }
}

/// Sums over the requests of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sums {
    /// The minute, hour, day, route, model, provider, key or API; empty for requests that had none.
    pub group: String,
    /// How many requests.
    pub requests: u64,
    /// Of those, answered with a status of 400 or more, or by nobody.
    pub failed: u64,
    /// Their tokens.
    pub tokens: TokenCounts,
    /// What they cost, in nano-dollars.
    pub cost: NanoDollars,
    /// What those with a counterfactual would have cost, in nano-dollars.
    pub counterfactual: NanoDollars,
    /// What those with a counterfactual did cost, in nano-dollars: the saving is the difference.
    pub compared_cost: NanoDollars,
    /// Microseconds that half, 95% and 99% of the finished ones took at most.
    pub latency_us: [u64; 3],
    /// The same of the time to the first token, where there was one.
    pub first_token_us: [u64; 3],
}

impl Reading {
    /// Sums by group, in the order of the groups' names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sums(&self, group: Group, filter: &Filter) -> Result<Vec<Sums>, LedgerError> {
        let (by, clauses) = (group.column(), filter.clauses());
        let sum = |column: &str| format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)");
        let columns = [
            sum("CASE WHEN r.status >= 400 OR r.settled IN ('abandoned', 'interrupted') THEN 1 ELSE 0 END"),
            sum("r.input"),
            sum("r.cached"),
            sum("r.cache_written"),
            sum("r.output"),
            sum("r.reasoning"),
            sum("r.cost"),
            sum("r.counterfactual"),
            sum("CASE WHEN r.counterfactual IS NULL THEN 0 ELSE r.cost END"),
        ]
        .join(", ");
        let sql =
            format!("SELECT {by} AS g, COUNT(*), {columns} FROM requests r {} GROUP BY 1 ORDER BY 1", clauses.text);
        let mut latencies = self.quantiles("latency_us", group, filter).await?;
        let mut first_tokens = self.quantiles("first_token_us", group, filter).await?;
        let mut sums = Vec::new();
        for mut row in self.reader.rows(&sql, clauses.args).await? {
            let (group, requests, failed) = (row.text()?, row.count()?, row.count()?);
            let tokens = TokenCounts {
                input: row.count()?,
                cached: row.count()?,
                cache_written: row.count()?,
                output: row.count()?,
                reasoning: row.count()?,
            };
            let mut money = || row.int().map(NanoDollars);
            let (cost, counterfactual, compared_cost) = (money()?, money()?, money()?);
            let latency_us = latencies.remove(&group).unwrap_or_default();
            let first_token_us = first_tokens.remove(&group).unwrap_or_default();
            sums.push(Sums {
                group,
                requests,
                failed,
                tokens,
                cost,
                counterfactual,
                compared_cost,
                latency_us,
                first_token_us,
            });
        }
        Ok(sums)
    }

    /// The nearest-rank quantiles 50, 95 and 99 of each group.
    async fn quantiles(
        &self,
        column: &str,
        group: Group,
        filter: &Filter,
    ) -> Result<HashMap<String, [u64; 3]>, LedgerError> {
        let by = group.column();
        let mut clauses = filter.clauses();
        clauses.add(&format!("r.{column} IS NOT NULL AND r.settled = $"), crate::db::Value::text("finished"));
        let sql = format!(
            "SELECT g, x, place, n FROM (SELECT {by} AS g, r.{column} AS x, ROW_NUMBER() OVER (PARTITION BY {by} ORDER BY r.{column}) AS place,
             COUNT(*) OVER (PARTITION BY {by}) AS n FROM requests r {}) ranked
             WHERE place IN ((n * 50 + 99) / 100, (n * 95 + 99) / 100, (n * 99 + 99) / 100) ORDER BY g, place",
            clauses.text
        );
        let mut quantiles: HashMap<String, [u64; 3]> = HashMap::new();
        for mut row in self.reader.rows(&sql, clauses.args).await? {
            let (group, value, place, count) = (row.text()?, row.count()?, row.count()?, row.count()?);
            let of_group = quantiles.entry(group).or_default();
            for (quantile, percent) in of_group.iter_mut().zip([50, 95, 99]) {
                if (count * percent).div_ceil(100) == place {
                    *quantile = value;
                }
            }
        }
        Ok(quantiles)
    }
}
