//! What can do the work: hosted models by the token and machines by the hour, from a dated file.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::CostError;
use super::curve::{Curve, Stairs};
use super::scenario::{HOURS_PER_MONTH, Scenario};
use crate::TokenCounts;
use crate::prices::{Price, PriceList};

const SECONDS_PER_DAY: f64 = 86_400.0;
/// Most rows of a file.
const MAX_ROWS: usize = 200;

/// What sort of thing an offer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A large model by the token.
    HostedLlm,
    /// A small model by the token.
    HostedSlm,
    /// A machine with a GPU.
    Gpu,
    /// A machine without.
    Cpu,
}

impl Kind {
    /// Whether one runs it oneself.
    #[must_use]
    pub const fn is_machine(self) -> bool {
        matches!(self, Self::Gpu | Self::Cpu)
    }

    /// Whether its answers may not do, so that some requests go on to the baseline.
    const fn escalates(self) -> bool {
        !matches!(self, Self::HostedLlm)
    }
}

/// Something that can do the work.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// What it is called; no two of a file are the same.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where its price is from.
    pub source: String,
    /// When that was read.
    pub date: String,
    /// What its figures take for granted.
    pub assumes: String,
    pub(super) supply: Supply,
}

/// How an offer is paid.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Supply {
    /// By the token; the factor is 1 but in a sensitivity.
    Tokens { price: Box<Price>, factor: f64 },
    /// By the hour.
    Machine(Machine),
}

/// A machine and the model on it. Speeds are tokens per second of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Machine {
    pub(super) dollars_per_hour: f64,
    pub(super) prefill: f64,
    pub(super) decode: f64,
    pub(super) decode_one: f64,
    pub(super) context: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hosted: Vec<HostedRow>,
    #[serde(default)]
    machine: Vec<MachineRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostedRow {
    model: String,
    kind: HostedKind,
    input_per_million: Option<f64>,
    output_per_million: Option<f64>,
    source: Option<String>,
    date: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HostedKind {
    Llm,
    Slm,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineRow {
    name: String,
    kind: MachineKind,
    dollars_per_hour: f64,
    source: String,
    date: String,
    prefill: f64,
    decode: f64,
    decode_one: f64,
    context: u64,
    assumes: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MachineKind {
    Cpu,
    Gpu,
}

/// The offers that are compiled in; hosted models have their prices from `list`.
///
/// # Errors
/// If `list` lacks one of the hosted models.
pub fn builtin(list: &PriceList) -> Result<Vec<Offer>, CostError> {
    parse(include_str!("prices.toml"), "the built-in offers", list)
}

/// Reads a file of offers (the built-in one, `crates/ledger/src/cost/prices.toml`, shows its shape); `origin` names it in errors.
///
/// # Errors
/// If it is not TOML of that shape, a value cannot work, a name stands twice, or a hosted model has no price.
pub fn parse(text: &str, origin: &str, list: &PriceList) -> Result<Vec<Offer>, CostError> {
    let syntax = |e: toml::de::Error| CostError::Syntax { origin: origin.to_owned(), why: e.to_string() };
    let file: File = toml::from_str(text).map_err(syntax)?;
    if file.hosted.len() + file.machine.len() > MAX_ROWS {
        return Err(CostError::field("machine", format!("more than {MAX_ROWS} rows, with the hosted ones")));
    }
    let hosted = file.hosted.into_iter().enumerate().map(|(i, row)| row.offer(&format!("hosted[{i}]"), list));
    let machines = file.machine.into_iter().enumerate().map(|(i, row)| row.offer(&format!("machine[{i}]")));
    let offers = hosted.chain(machines).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    match offers.iter().find(|offer| offer.name.is_empty() || !seen.insert(&offer.name)) {
        Some(offer) => Err(CostError::field("name", format!("`{}` stands twice or is empty", offer.name))),
        None => Ok(offers),
    }
}

impl HostedRow {
    fn offer(self, at: &str, list: &PriceList) -> Result<Offer, CostError> {
        let given = match (self.input_per_million, self.output_per_million) {
            (Some(input), Some(output)) => Some(Price::per_million(&self.model, input, output)?),
            (None, None) => None,
            _ => return Err(CostError::field(at, "give both input_per_million and output_per_million, or neither")),
        };
        let said = |field: &str| CostError::field(format!("{at}.{field}"), "say it beside a price of your own");
        let (price, source, date) = match given {
            Some(price) => (price, self.source.ok_or_else(|| said("source"))?, self.date.ok_or_else(|| said("date"))?),
            None => {
                let price = list.find(None, &self.model)?.clone();
                let source = price.source.clone().unwrap_or_else(|| "the price list".into());
                (price, source, list.date().unwrap_or("undated").to_owned())
            }
        };
        let kind = match self.kind {
            HostedKind::Llm => Kind::HostedLlm,
            HostedKind::Slm => Kind::HostedSlm,
        };
        let assumes = "that it is fast enough".to_owned();
        Ok(Offer {
            name: self.model,
            kind,
            source,
            date,
            assumes,
            supply: Supply::Tokens { price: Box::new(price), factor: 1.0 },
        })
    }
}

impl MachineRow {
    fn offer(self, at: &str) -> Result<Offer, CostError> {
        let figures = [
            ("dollars_per_hour", self.dollars_per_hour),
            ("prefill", self.prefill),
            ("decode", self.decode),
            ("decode_one", self.decode_one),
        ];
        if let Some((field, value)) = figures.iter().find(|(_, value)| !(*value > 0.0 && *value < 1e9)) {
            return Err(CostError::field(format!("{at}.{field}"), format!("{value} cannot be; give a number over 0")));
        }
        let machine = Machine {
            dollars_per_hour: self.dollars_per_hour,
            prefill: self.prefill,
            decode: self.decode,
            decode_one: self.decode_one,
            context: self.context,
        };
        let kind = match self.kind {
            MachineKind::Cpu => Kind::Cpu,
            MachineKind::Gpu => Kind::Gpu,
        };
        let (name, source, date, assumes) = (self.name, self.source, self.date, self.assumes);
        Ok(Offer { name, kind, source, date, assumes, supply: Supply::Machine(machine) })
    }
}

impl Offer {
    /// Why it cannot do the work, if it cannot.
    pub(super) fn unfit(&self, scenario: &Scenario) -> Option<String> {
        let w = &scenario.workload;
        let too_long = |most: u64| format!("takes {most} tokens at most");
        match &self.supply {
            Supply::Tokens { price, .. } => {
                let input = price.max_input.filter(|most| w.input_tokens > *most as f64);
                let output = price.max_output.filter(|most| w.output_tokens > *most as f64);
                input.or(output).map(too_long)
            }
            Supply::Machine(machine) => {
                if w.input_tokens + w.output_tokens > machine.context as f64 {
                    return Some(too_long(machine.context));
                }
                let alone =
                    w.input_tokens * (1.0 - w.cached_share) / machine.prefill + w.output_tokens / machine.decode_one;
                let late = w.latency_s.filter(|latency| alone > *latency);
                late.map(|latency| format!("one request alone takes {alone:.2} s, and {latency} s are allowed"))
            }
        }
    }

    /// Its monthly cost by volume; `baseline` is what a request costs there, for those that are passed on.
    pub(super) fn curve(&self, scenario: &Scenario, baseline: f64) -> Curve {
        let (w, plan) = (&scenario.workload, &scenario.plan);
        let passed_on = if self.kind.escalates() { w.escalated_share * baseline } else { 0.0 };
        match &self.supply {
            Supply::Tokens { .. } => {
                Curve { fixed: 0.0, per_request: self.per_request(scenario) + passed_on, machines: None }
            }
            Supply::Machine(machine) => {
                let seconds = machine.seconds(scenario);
                let (share, peak) = match w.latency_s {
                    Some(_) => (plan.peak_utilisation, w.peak_factor),
                    None => (plan.batch_utilisation, 1.0),
                };
                let dollars = machine.dollars_per_hour * HOURS_PER_MONTH;
                Curve {
                    fixed: f64::from(plan.spare_machines) * dollars + plan.upkeep_dollars(),
                    per_request: passed_on,
                    machines: Some(Stairs { capacity: SECONDS_PER_DAY * share / (seconds * peak), dollars }),
                }
            }
        }
    }

    /// What a request costs by the token, in dollars; nothing on a machine. Work that may wait is paid at the price for batches, if there is one.
    pub(super) fn per_request(&self, scenario: &Scenario) -> f64 {
        let Supply::Tokens { price, factor } = &self.supply else { return 0.0 };
        let w = &scenario.workload;
        // A thousand requests at once, so that rounding to tokens and nano-dollars does not show. The rates are those of one request's length.
        let thousand = |tokens: f64| (tokens * 1000.0).round() as u64;
        let tokens = TokenCounts {
            input: thousand(w.input_tokens),
            cached: thousand(w.input_tokens * w.cached_share),
            output: thousand(w.output_tokens),
            ..TokenCounts::default()
        };
        let prompt = w.input_tokens.round() as u64;
        let batch = w.latency_s.is_none().then(|| price.batch_sum(prompt, &tokens, 1000)).flatten();
        factor * batch.unwrap_or_else(|| price.sum(prompt, &tokens, 1000)).dollars() / 1000.0
    }
}

impl Machine {
    /// Seconds of the machine that a request takes among others.
    pub(super) fn seconds(&self, scenario: &Scenario) -> f64 {
        let w = &scenario.workload;
        let seconds = w.input_tokens * (1.0 - w.cached_share) / self.prefill + w.output_tokens / self.decode;
        // All of a prompt cached and no answer: a token is computed nevertheless.
        seconds.max(1.0 / self.prefill)
    }
}
