//! LiteLLM's `model_prices_and_context_window.json`: an object of models, each an object of which some keys are read here. Other keys are
//! let pass, for every release has new ones; what is read must make sense.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::price::{Tier, Tiers};
use super::{Price, PriceError, Rate, Rates};

/// Longest list that is read; LiteLLM's has 3 MB.
const MAX_BYTES: usize = 64 << 20;
/// Most models; LiteLLM's list has some 4,500.
const MAX_MODELS: usize = 100_000;
/// Longest name of a model.
const MAX_NAME: usize = 512;
/// LiteLLM's explanation of its own format, in the place of a model.
const SAMPLE: &str = "sample_spec";
/// What a list says of itself, in the place of a model.
const ABOUT: &str = "_about";
/// Who counts a prompt of exactly so many tokens as above them.
const INCLUSIVE: &str = "xai";

/// Who may have no price for answers, because there are none of tokens.
const WITHOUT_ANSWERS: [&str; 3] = ["embedding", "rerank", "moderation"];

/// The models of a list in its order.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) date: Option<String>,
    pub(super) models: Vec<(String, Listed)>,
}

/// What a list says of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Listed {
    /// A price.
    Priced(Box<Price>),
    /// Prices of other things than tokens.
    NotByToken,
    /// That everything is at 0.
    Zero,
}

pub(super) fn parse(text: &str) -> Result<Parsed, PriceError> {
    if text.len() > MAX_BYTES {
        return Err(PriceError::TooLong { bytes: text.len(), max: MAX_BYTES });
    }
    let Entries(entries) = serde_json::from_str(text).map_err(|e| PriceError::Syntax { why: e.to_string() })?;
    if entries.len() > MAX_MODELS {
        return Err(PriceError::TooMany { max: MAX_MODELS });
    }
    let mut parsed = Parsed { date: None, models: Vec::new() };
    for (name, keys) in entries {
        match name.as_str() {
            SAMPLE => {}
            ABOUT => parsed.date = Entry { name: &name, keys: &keys }.text("date")?,
            _ => {
                let price = Entry { name: &name, keys: &keys }.price()?;
                parsed.models.push((name, price));
            }
        }
    }
    Ok(parsed)
}

/// Names with their objects, all of them: a name that stands twice is an error, not the last one's value.
struct Entries(Vec<(String, Map<String, Value>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Models;
        impl<'de> Visitor<'de> for Models {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of models")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some((name, keys)) = map.next_entry::<String, Map<String, Value>>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("`{}` stands there twice", shown(&name))));
                    }
                    entries.push((name, keys));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Models)
    }
}

/// As much of a name as fits an error.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

/// One model as the list has it.
struct Entry<'a> {
    name: &'a str,
    keys: &'a Map<String, Value>,
}

impl Entry<'_> {
    fn fault(&self, field: &str, why: impl Into<String>) -> PriceError {
        PriceError::Field { model: shown(self.name), field: field.to_owned(), why: why.into() }
    }

    fn price(&self) -> Result<Listed, PriceError> {
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            return Err(self.fault("name", format!("has {} bytes; give one of 1 to {MAX_NAME}", self.name.len())));
        }
        let provider = self.text("litellm_provider")?;
        let inclusive = provider.as_deref() == Some(INCLUSIVE);
        let listed = match self.keys.get("tiered_pricing") {
            Some(Value::Array(rows)) => self.listed(rows)?,
            None | Some(Value::Null) => None,
            Some(_) => return Err(self.fault("tiered_pricing", "is no list; give a list of objects with a range")),
        };
        let tiers = match listed {
            Some(tiers) => Some(tiers),
            None => self.tiers("", inclusive)?,
        };
        let request = self.number("input_cost_per_request")?.map(|dollars| {
            let why = format!("{dollars} is no price; give dollars per request, from 0 to 100");
            Rate::per_request(dollars).ok_or_else(|| self.fault("input_cost_per_request", why))
        });
        let price = Price {
            mode: self.text("mode")?.unwrap_or_else(|| "chat".into()),
            max_input: self.count("max_input_tokens")?,
            max_output: self.count("max_output_tokens")?,
            source: self.text("source")?,
            request: request.transpose()?.unwrap_or_default(),
            batch: self.tiers("_batches", inclusive)?,
            provider,
            ..Price::flat(Rates::default())
        };
        Ok(match tiers.map(|tiers| Price { tiers, ..price }) {
            None => Listed::NotByToken,
            Some(price) if price.is_zero() => Listed::Zero,
            Some(price) => Listed::Priced(Box::new(price)),
        })
    }

    /// The rates of keys with this ending, with those for longer prompts; nothing without any.
    fn tiers(&self, ending: &str, inclusive: bool) -> Result<Option<Tiers>, PriceError> {
        let read = |above: &str| self.rates(self.keys, "", &format!("{above}{ending}"));
        let Some(base) = self.whole(read("")?)? else { return Ok(None) };
        let mut longer = Vec::new();
        for above in self.thresholds(ending)? {
            longer.push((above, read(&format!("_above_{}k_tokens", above / 1000))?));
        }
        longer.sort_by_key(|(above, _)| *above);
        // A longer prompt's rates are those of the shorter one's where they are not said again.
        let mut last = base;
        let longer = longer.into_iter().map(|(above, part)| {
            last = part.over(last);
            Tier { above: if inclusive { above - 1 } else { above }, rates: last }
        });
        Ok(Some(Tiers { base, longer: longer.collect() }))
    }

    /// Lengths of prompts that keys with this ending name.
    fn thresholds(&self, ending: &str) -> Result<Vec<u64>, PriceError> {
        let mut found: Vec<u64> = Vec::new();
        for key in self.keys.keys() {
            let Some((_, rest)) = key.split_once("_cost_per_token_above_") else { continue };
            let Some(thousands) = rest.strip_suffix(ending).and_then(|rest| rest.strip_suffix("k_tokens")) else {
                continue;
            };
            let thousands: u64 = thousands.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| {
                self.fault(key, "names no length of prompts; write it like input_cost_per_token_above_200k_tokens")
            })?;
            if !found.contains(&(thousands * 1000)) {
                found.push(thousands * 1000);
            }
        }
        Ok(found)
    }

    /// Rates as a list of ranges of prompt lengths, the end of each within it.
    fn listed(&self, rows: &[Value]) -> Result<Option<Tiers>, PriceError> {
        let mut tiers: Vec<Tier> = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let at = format!("tiered_pricing[{i}].");
            let fault = |why: &str| self.fault(at.trim_end_matches('.'), why);
            let Value::Object(keys) = row else { return Err(fault("is no object; give a range and its costs")) };
            // Ranges of something else, such as results, price no tokens.
            let Some(range) = keys.get("range") else { return Ok(None) };
            let bounds: Option<Vec<f64>> = range.as_array().and_then(|r| r.iter().map(Value::as_f64).collect());
            let above = match bounds.as_deref() {
                Some([from, to]) if *from >= 0.0 && from < to => *from as u64,
                _ => return Err(fault("range: give two numbers of tokens, the lower one first")),
            };
            let Some(rates) = self.whole(self.rates(keys, &at, "")?)? else { return Ok(None) };
            tiers.push(Tier { above, rates });
        }
        tiers.sort_by_key(|tier| tier.above);
        let Some(first) = tiers.first().copied() else { return Ok(None) };
        Ok(Some(Tiers { base: first.rates, longer: tiers.into_iter().skip(1).collect() }))
    }

    /// Rates that price both prompts and answers, where there are any; a price for one of them alone prices no request.
    fn whole(&self, part: Part) -> Result<Option<Rates>, PriceError> {
        let without = self.text("mode")?.is_some_and(|mode| WITHOUT_ANSWERS.contains(&mode.as_str()));
        let both = part.input.is_some() && (part.output.is_some() || without);
        Ok(both.then(|| part.over(Rates::default())))
    }

    fn rates(&self, keys: &Map<String, Value>, at: &str, ending: &str) -> Result<Part, PriceError> {
        let rate = |key: &str| {
            let key = format!("{key}{ending}");
            let Some(dollars) = self.number_of(keys, &key, at)? else { return Ok(None) };
            let why = format!("{dollars} is no price; give dollars per token, from 0 to {}", Rate::MAX_DOLLARS);
            Rate::from_dollars(dollars).map(Some).ok_or_else(|| self.fault(&format!("{at}{key}"), why))
        };
        Ok(Part {
            input: rate("input_cost_per_token")?,
            output: rate("output_cost_per_token")?,
            cached: rate("cache_read_input_token_cost")?,
            cache_written: rate("cache_creation_input_token_cost")?,
            reasoning: rate("output_cost_per_reasoning_token")?,
        })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, PriceError> {
        self.number_of(self.keys, key, "")
    }

    fn number_of(&self, keys: &Map<String, Value>, key: &str, at: &str) -> Result<Option<f64>, PriceError> {
        match keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(n)) => Ok(n.as_f64()),
            Some(_) => Err(self.fault(&format!("{at}{key}"), "is no number")),
        }
    }

    fn count(&self, key: &str) -> Result<Option<u64>, PriceError> {
        let whole = |n: f64| (0.0..=1e15).contains(&n) && n.fract() == 0.0;
        match self.number(key)? {
            Some(n) if !whole(n) => Err(self.fault(key, format!("{n} is no number of tokens"))),
            n => Ok(n.map(|n| n as u64)),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, PriceError> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= 2 * MAX_NAME => Ok(Some(text.clone())),
            Some(_) => Err(self.fault(key, format!("is no text of at most {} bytes", 2 * MAX_NAME))),
        }
    }
}

/// Rates as far as they are given.
struct Part {
    input: Option<Rate>,
    output: Option<Rate>,
    cached: Option<Rate>,
    cache_written: Option<Rate>,
    reasoning: Option<Rate>,
}

impl Part {
    /// With what is not given from `rest`.
    fn over(&self, rest: Rates) -> Rates {
        Rates {
            input: self.input.unwrap_or(rest.input),
            output: self.output.unwrap_or(rest.output),
            cached: self.cached.or(rest.cached),
            cache_written: self.cache_written.or(rest.cache_written),
            reasoning: self.reasoning.or(rest.reasoning),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TokenCounts;

    fn one(keys: &str) -> Result<Listed, PriceError> {
        parse(&format!("{{\"m\": {keys}}}")).map(|parsed| parsed.models.into_iter().next().unwrap().1)
    }

    fn priced(keys: &str) -> Price {
        match one(keys).unwrap() {
            Listed::Priced(price) => *price,
            other => panic!("{other:?}"),
        }
    }

    fn cost(price: &Price, input: u64, cached: u64, output: u64, reasoning: u64) -> i64 {
        price.cost(&TokenCounts { input, cached, cache_written: 0, output, reasoning }).0
    }

    #[test]
    fn longer_prompts_have_their_own_rates_for_all_tokens() {
        let price = priced(
            r#"{"litellm_provider": "gemini", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5, "cache_read_input_token_cost": 1e-7,
                "input_cost_per_token_above_200k_tokens": 2e-6, "output_cost_per_token_above_200k_tokens": 15e-6,
                "input_cost_per_token_above_512k_tokens": 3e-6, "cache_read_input_token_cost_above_512k_tokens": 3e-7,
                "input_cost_per_token_batches": 5e-7, "output_cost_per_token_batches": 5e-6,
                "input_cost_per_token_above_200k_tokens_batches": 1e-6, "input_cost_per_token_above_200k_tokens_priority": 9e-6}"#,
        );
        assert_eq!(cost(&price, 200_000, 0, 1, 0), 200_000_000 + 10_000);
        assert_eq!(cost(&price, 200_001, 0, 1, 0), 400_002_000 + 15_000);
        assert_eq!(cost(&price, 200_001, 200_001, 0, 0), 20_000_100, "an unsaid rate is the shorter prompt's");
        assert_eq!(cost(&price, 600_000, 600_000, 1, 0), 180_000_000 + 15_000);
        let batch = |input| price.batch_cost(&TokenCounts { input, ..TokenCounts::default() }).unwrap().0;
        assert_eq!((batch(200_000), batch(300_000)), (100_000_000, 300_000_000));
        let xai = priced(
            r#"{"litellm_provider": "xai", "input_cost_per_token": 1e-6, "output_cost_per_token": 0, "input_cost_per_token_above_1k_tokens": 2e-6}"#,
        );
        assert_eq!((cost(&xai, 999, 0, 0, 0), cost(&xai, 1000, 0, 0, 0)), (999_000, 2_000_000));
    }

    #[test]
    fn listed_tiers_reasoning_and_requests() {
        let price = priced(
            r#"{"tiered_pricing": [
                {"range": [256000.0, 1000000.0], "input_cost_per_token": 2e-6, "output_cost_per_token": 4e-6},
                {"range": [0, 256000.0], "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "output_cost_per_reasoning_token": 3e-6}]}"#,
        );
        assert_eq!(cost(&price, 10, 0, 10, 4), 10_000 + 6 * 2000 + 4 * 3000);
        assert_eq!(cost(&price, 256_000, 0, 0, 0), 256_000_000);
        assert_eq!(cost(&price, 2_000_000, 0, 1, 1), 4_000_004_000, "the last range has no end");
        let search =
            priced(r#"{"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "input_cost_per_request": 0.005}"#);
        assert_eq!(cost(&search, 1, 0, 0, 0), 5_001_000);
        assert_eq!(
            one(
                r#"{"mode": "search", "tiered_pricing": [{"max_results_range": [0, 25], "input_cost_per_query": 0.005}]}"#
            ),
            Ok(Listed::NotByToken)
        );
    }

    #[test]
    fn half_a_price_is_none() {
        assert_eq!(one(r#"{"mode": "chat", "output_cost_per_token": 1e-6}"#), Ok(Listed::NotByToken));
        assert_eq!(one(r#"{"mode": "chat", "input_cost_per_token": 1e-6}"#), Ok(Listed::NotByToken));
        assert!(matches!(one(r#"{"mode": "embedding", "input_cost_per_token": 1e-6}"#), Ok(Listed::Priced(_))));
        assert_eq!(one(r#"{"input_cost_per_token": 0, "output_cost_per_token": 0.0}"#), Ok(Listed::Zero));
    }

    #[test]
    fn nonsense_is_named() {
        for (keys, field) in [
            (r#"{"input_cost_per_token": -1e-6, "output_cost_per_token": 1e-6}"#, "input_cost_per_token"),
            (r#"{"input_cost_per_token": 2.5, "output_cost_per_token": 1e-6}"#, "input_cost_per_token"),
            (r#"{"input_cost_per_token": "2.5e-6", "output_cost_per_token": 1e-6}"#, "input_cost_per_token"),
            (r#"{"input_cost_per_token": 1e-6, "output_cost_per_token": [1]}"#, "output_cost_per_token"),
            (
                r#"{"input_cost_per_token_above_200k_tokens": true, "input_cost_per_token": 1e-6, "output_cost_per_token": 0}"#,
                "input_cost_per_token_above_200k_tokens",
            ),
            (
                r#"{"input_cost_per_token_above_0k_tokens": 0, "input_cost_per_token": 1e-6, "output_cost_per_token": 0}"#,
                "input_cost_per_token_above_0k_tokens",
            ),
            (r#"{"max_input_tokens": -4}"#, "max_input_tokens"),
            (r#"{"max_output_tokens": 1.5}"#, "max_output_tokens"),
            (r#"{"mode": 4}"#, "mode"),
            (r#"{"input_cost_per_request": 1e9}"#, "input_cost_per_request"),
            (r#"{"tiered_pricing": 1}"#, "tiered_pricing"),
            (r#"{"tiered_pricing": [1]}"#, "tiered_pricing[0]"),
            (r#"{"tiered_pricing": [{"range": [5, 1]}]}"#, "tiered_pricing[0]"),
            (
                r#"{"tiered_pricing": [{"range": [0, 1], "input_cost_per_token": "x"}]}"#,
                "tiered_pricing[0].input_cost_per_token",
            ),
        ] {
            match one(keys) {
                Err(PriceError::Field { model, field: named, .. }) => {
                    assert_eq!((model.as_str(), named.as_str()), ("m", field))
                }
                other => panic!("{keys}: {other:?}"),
            }
        }
        for text in [
            "",
            "[]",
            r#"{"m": 1}"#,
            r#"{"m": {}, "m": {}}"#,
            r#"{"m": {"input_cost_per_token": NaN}}"#,
            r#"{"m": {"input_cost_per_token": 1e999}}"#,
        ] {
            assert!(matches!(parse(text), Err(PriceError::Syntax { .. })), "{text}");
        }
        assert!(matches!(parse(&" ".repeat(MAX_BYTES + 1)), Err(PriceError::TooLong { .. })));
    }
}
