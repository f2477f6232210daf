//! What answers cost.

use std::collections::BTreeSet;
use std::time::Duration;

use bantam_engine::EngineStats;
use bantam_ledger::TokenCounts;
use bantam_ledger::prices::{MachineRate, Price, PriceList};
use bantam_types::NanoDollars;

use crate::config::{ConfigFile, ConfigFileError, MachineTable};
use crate::model::ServedModel;

/// Most tokens of an answer that are reserved where neither the request nor the price list bounds it.
const DEFAULT_MAX_OUTPUT: u64 = 4096;

/// Tokens computed before an engine's own speed is believed.
const ENOUGH: u64 = 64;

/// Tokens per second of prompts and of answers that are assumed until then: slow, so that nothing looks cheaper than it is.
const ASSUMED: (f64, f64) = (200.0, 20.0);

/// Price lists and the machine's rate.
pub(crate) struct Pricing {
    list: PriceList,
    machine: MachineTable,
}

impl Pricing {
    pub(super) fn new(file: &ConfigFile) -> Result<Self, ConfigFileError> {
        let fault = |field: &str| {
            let field = field.to_owned();
            move |e: bantam_ledger::prices::PriceError| ConfigFileError::field(field, e.to_string())
        };
        let mut list = PriceList::builtin().map_err(fault("prices"))?;
        if let Some(path) = &file.prices.file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| ConfigFileError::field("prices.file", format!("{}: {e}", path.display())))?;
            list = list.overlay(PriceList::parse(&text).map_err(fault("prices.file"))?);
        }
        for (i, row) in file.prices.models.iter().enumerate() {
            let price = Price::per_million(&row.name, row.input_per_million, row.output_per_million);
            list.insert(&row.name, price.map_err(fault(&format!("prices.models[{i}]")))?);
        }
        Ok(Self { list, machine: file.machine })
    }

    /// What tokens cost at a provider; nothing where its model has no price.
    pub(crate) fn hosted(&self, provider: Option<&str>, model: &str, tokens: &TokenCounts) -> Option<NanoDollars> {
        self.list.find(provider, model).ok().map(|price| price.cost(tokens))
    }

    /// Whether a provider's model has a price.
    pub(crate) fn knows(&self, provider: Option<&str>, model: &str) -> bool {
        self.list.find(provider, model).is_ok()
    }

    /// The targets of a configuration that have no price, as `provider/model`.
    pub(super) fn unpriced(&self, file: &ConfigFile) -> BTreeSet<String> {
        let targets = file.routes.iter().flat_map(|route| &route.targets);
        let hosted = targets.filter_map(|target| {
            let provider = file.providers.iter().find(|p| target.provider.as_ref() == Some(&p.name))?;
            Some((provider, &target.model))
        });
        let unpriced = hosted.filter(|(provider, model)| !self.knows(Some(&provider.preset), model));
        unpriced.map(|(provider, model)| format!("{}/{model}", provider.name)).collect()
    }

    /// The most that a request can cost at a provider.
    pub(crate) fn hosted_bound(
        &self,
        provider: Option<&str>,
        model: &str,
        prompt: u64,
        max_output: Option<u64>,
    ) -> (NanoDollars, u64) {
        let price = self.list.find(provider, model).ok();
        let output = max_output.or(price.and_then(|p| p.max_output)).unwrap_or(DEFAULT_MAX_OUTPUT);
        (price.map_or(NanoDollars::ZERO, |price| price.estimate(prompt, output)), prompt.saturating_add(output))
    }

    /// The most that a request can cost on this machine.
    pub(crate) fn local_bound(&self, model: &ServedModel, prompt: u64, max_output: Option<u64>) -> (NanoDollars, u64) {
        let output = max_output.unwrap_or(DEFAULT_MAX_OUTPUT).min(model.engine.context_length() as u64);
        let tokens = TokenCounts { input: prompt, output, ..TokenCounts::default() };
        (self.local(model, &tokens), prompt.saturating_add(output))
    }

    /// What a time of this machine costs.
    pub(crate) fn encoder(&self, time: Duration) -> NanoDollars {
        let hours = time.as_secs_f64() / 3600.0;
        NanoDollars::from_dollars(self.machine.dollars_per_hour / self.machine.utilisation * hours)
    }

    /// What tokens cost on this machine, at the speed that the model has had here so far.
    pub(crate) fn local(&self, model: &ServedModel, tokens: &TokenCounts) -> NanoDollars {
        let stats = model.engine.stats();
        let (prefill, decode) = speeds(&stats);
        let rate = MachineRate {
            dollars_per_hour: self.machine.dollars_per_hour,
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
            utilisation: self.machine.utilisation,
        };
        // Checked when the file was read, and speeds are greater than nothing.
        rate.price().map_or(NanoDollars::ZERO, |price| price.cost(tokens))
    }
}

/// Tokens per second of prompts and of answers.
fn speeds(stats: &EngineStats) -> (f64, f64) {
    let speed = |tokens: u64, busy: Duration, assumed: f64| {
        if tokens < ENOUGH || busy.is_zero() { assumed } else { tokens as f64 / busy.as_secs_f64() }
    };
    (
        speed(stats.prefill_rows, stats.prefill_busy, ASSUMED.0),
        speed(stats.generated_tokens, stats.decode_busy, ASSUMED.1),
    )
}
