//! Providers and the models that routes want of them, as targets of the upstreams.

use std::collections::BTreeMap;
use std::time::Duration;

use bantam_providers::target::{HealthCheck, PlainHttp, Target, TargetConfig};
use secrecy::SecretString;

use super::target_name;
use crate::config::{ConfigFile, ConfigFileError, ProviderTable};

/// One target for each model that a route wants of a provider.
pub(super) fn targets(file: &ConfigFile) -> Result<Vec<Target>, ConfigFileError> {
    let mut targets = BTreeMap::new();
    for target in file.routes.iter().flat_map(|route| &route.targets) {
        let Some(name) = &target.provider else { continue };
        let Some((i, provider)) = file.providers.iter().enumerate().find(|(_, p)| p.name == *name) else { continue };
        let weight = target.weight;
        let key = target_name(name, &target.model, weight);
        if !targets.contains_key(&key) {
            targets.insert(key.clone(), self::target(i, provider, key, &target.model, weight)?);
        }
    }
    Ok(targets.into_values().collect())
}

fn target(
    i: usize,
    provider: &ProviderTable,
    name: String,
    model: &str,
    weight: u32,
) -> Result<Target, ConfigFileError> {
    let key = provider.api_key.as_ref().map(|secret| secret.read(&format!("providers[{i}].api_key"))).transpose()?;
    let mut target = TargetConfig::new(name, &provider.preset, model);
    target.base_url.clone_from(&provider.base_url);
    target.key = key.map(SecretString::from);
    target.weight = weight;
    if let Some(most) = provider.max_in_flight {
        target.limits.in_flight = u32::try_from(most).unwrap_or(u32::MAX);
    }
    let timeouts = &mut target.timeouts;
    for (slot, millis) in [
        (&mut timeouts.connect, provider.connect_timeout_ms),
        (&mut timeouts.first_byte, provider.first_byte_timeout_ms),
        (&mut timeouts.idle, provider.idle_timeout_ms),
        (&mut timeouts.total, provider.total_timeout_ms),
    ] {
        if let Some(millis) = millis {
            *slot = Duration::from_millis(millis);
        }
    }
    for (attribute, value) in
        [("region", &provider.region), ("contract", &provider.contract), ("retention", &provider.retention)]
    {
        if let Some(value) = value {
            target.attributes.insert(attribute.into(), value.clone());
        }
    }
    target.attempts = provider.retries.map(|retries| retries.saturating_add(1));
    target.headers.clone_from(&provider.headers);
    target.query.clone_from(&provider.query);
    target.proxy.clone_from(&provider.proxy);
    target.ca_file.clone_from(&provider.ca_file);
    if provider.allow_http {
        target.plain_http = PlainHttp::Anywhere;
    }
    target.health = provider
        .health_interval_s
        .map(|seconds| HealthCheck { interval: Duration::from_secs(seconds), ..HealthCheck::default() });
    target.resolve().map_err(|e| ConfigFileError::field(format!("providers[{i}]"), e.to_string()))
}
