//! What the tables of `bantam.toml` mean to the parts of the program.

use std::path::Path;
use std::time::Duration;

use bantam_ledger::{
    Amount, BodyStorage, Budget, Durability as Survives, EncryptionKey, LedgerConfig, Limits as Spending, Period,
    Retention, Store,
};

use super::file::budget;
use super::{Bodies, ConfigFile, ConfigFileError, Durability, GatewayConfig, ServerTable};

impl ServerTable {
    /// How to serve.
    #[must_use]
    pub fn gateway(&self) -> GatewayConfig {
        let mut config = GatewayConfig {
            host: self.host.clone(),
            port: self.port,
            cors_origins: self.cors_origins.clone(),
            allowed_hosts: self.allowed_hosts.clone(),
            ..GatewayConfig::default()
        };
        let limits = &mut config.limits;
        limits.body_bytes = self.max_body_mib as usize * (1 << 20);
        limits.buffered_bytes = limits.buffered_bytes.max(limits.body_bytes);
        limits.concurrent_requests = self.concurrent_requests;
        limits.connections = self.connections;
        config.timeouts.request = Duration::from_secs(self.timeout_s);
        config.timeouts.drain = Duration::from_secs(self.drain_s);
        config
    }
}

impl ConfigFile {
    /// Where the ledger is and how it is kept, if there is one; `default` is its file where none is named.
    ///
    /// # Errors
    /// Where a secret is not there or not one.
    pub fn ledger_config(&self, default: &Path) -> Result<Option<LedgerConfig>, ConfigFileError> {
        let table = &self.ledger;
        if !table.enabled {
            return Ok(None);
        }
        let mut config = match &table.postgres {
            Some(secret) => LedgerConfig::postgres(&secret.read("ledger.postgres")?, &default.with_extension("key")),
            None => LedgerConfig::sqlite(table.path.as_deref().unwrap_or(default)),
        };
        if let Store::Sqlite { durability, .. } = &mut config.store {
            *durability = match table.durability {
                Durability::Process => Survives::Process,
                Durability::Power => Survives::Power,
            };
        }
        config.bodies = match (table.bodies, &table.body_key) {
            (Bodies::None, _) => BodyStorage::None,
            (Bodies::Redacted, _) => BodyStorage::Redacted,
            (Bodies::Encrypted, key) => {
                let text = key.clone().unwrap_or_default().read("ledger.body_key")?;
                let key = EncryptionKey::from_hex(&text).ok_or_else(|| {
                    ConfigFileError::field(
                        "ledger.body_key",
                        "must be 64 hexadecimal digits, as openssl rand -hex 32 writes them",
                    )
                })?;
                BodyStorage::Encrypted { key }
            }
        };
        config.retention = Retention { bodies_days: table.retention_days, entries_days: None };
        let per = |field: &'static str, text: &Option<String>, period| {
            let amount = budget(field, text.as_deref()).map_err(|e| ConfigFileError::field(e.field, e.why))?;
            Ok::<_, ConfigFileError>(amount.map(|amount| Budget { period, amount: Amount::Money(amount) }))
        };
        let day = per("keys.budget_per_day", &self.keys.budget_per_day, Period::Day)?;
        let month = per("keys.budget_per_month", &self.keys.budget_per_month, Period::Month)?;
        config.overall = Spending { budgets: day.into_iter().chain(month).collect(), ..Spending::default() };
        Ok(Some(config))
    }
}
