use bantam_types::NanoDollars;

use super::rate::PER_NANO;
use super::{PriceError, Rate};
use crate::TokenCounts;

/// Prices of the kinds of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// A token of the prompt.
    pub input: Rate,
    /// A generated token.
    pub output: Rate,
    /// A token of the prompt that the provider had in its cache; as `input` if absent.
    pub cached: Option<Rate>,
    /// A token of the prompt that the provider put into its cache; as `input` if absent.
    pub cache_written: Option<Rate>,
    /// A token generated while reasoning; as `output` if absent.
    pub reasoning: Option<Rate>,
}

/// Rates of requests whose prompt has more than `above` tokens; they hold for all tokens of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) above: u64,
    pub(super) rates: Rates,
}

/// What a model's tokens cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Who asks this price, by LiteLLM's name.
    pub provider: Option<String>,
    /// What the model does, such as `chat` or `embedding`.
    pub mode: String,
    /// Longest prompt in tokens.
    pub max_input: Option<u64>,
    /// Longest answer in tokens.
    pub max_output: Option<u64>,
    /// Where the price is published.
    pub source: Option<String>,
    /// Per request, whatever its tokens, in femto-dollars.
    pub(super) request: Rate,
    pub(super) tiers: Tiers,
    /// Where answers may take a day.
    pub(super) batch: Option<Tiers>,
}

/// The rates of short prompts, and those of longer ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tiers {
    pub(super) base: Rates,
    /// By ascending `above`.
    pub(super) longer: Vec<Tier>,
}

impl Tiers {
    fn at(&self, prompt: u64) -> &Rates {
        self.longer.iter().rev().find(|tier| prompt > tier.above).map_or(&self.base, |tier| &tier.rates)
    }
}

impl Price {
    /// One rate for prompts and one for answers.
    #[must_use]
    pub fn flat(rates: Rates) -> Self {
        Self {
            provider: None,
            mode: "chat".into(),
            max_input: None,
            max_output: None,
            source: None,
            request: Rate::ZERO,
            tiers: Tiers { base: rates, longer: Vec::new() },
            batch: None,
        }
    }

    /// From dollars per million tokens, as people and price pages write them.
    ///
    /// # Errors
    /// If one is negative, NaN or beyond belief; `model` names it in the error.
    pub fn per_million(model: &str, input: f64, output: f64) -> Result<Self, PriceError> {
        let rate = |field: &str, dollars: f64| {
            Rate::from_dollars(dollars / 1e6).ok_or_else(|| PriceError::Field {
                model: model.to_owned(),
                field: field.to_owned(),
                why: format!(
                    "{dollars} is no price; write dollars per million tokens, from 0 to {}",
                    Rate::MAX_DOLLARS * 1e6
                ),
            })
        };
        let (input, output) = (rate("input_per_million", input)?, rate("output_per_million", output)?);
        Ok(Self::flat(Rates { input, output, ..Rates::default() }))
    }

    /// What a request costs: summed up exactly and rounded up to a nano-dollar once, so that what costs something never costs nothing.
    /// Parts of a count that exceed the whole are cut to it, for servers err.
    #[must_use]
    pub fn cost(&self, tokens: &TokenCounts) -> NanoDollars {
        self.sum(tokens.input, tokens, 1)
    }

    /// The same where answers may take a day, if the provider has a price for that.
    #[must_use]
    pub fn batch_cost(&self, tokens: &TokenCounts) -> Option<NanoDollars> {
        self.batch_sum(tokens.input, tokens, 1)
    }

    /// What several requests with such a prompt and these tokens together cost, rounded once.
    pub(crate) fn sum(&self, prompt: u64, tokens: &TokenCounts, requests: u64) -> NanoDollars {
        self.charge(self.tiers.at(prompt), tokens, requests)
    }

    /// The same where answers may take a day.
    pub(crate) fn batch_sum(&self, prompt: u64, tokens: &TokenCounts, requests: u64) -> Option<NanoDollars> {
        self.batch.as_ref().map(|batch| self.charge(batch.at(prompt), tokens, requests))
    }

    /// The most that a request with this prompt and at most `max_tokens` generated may cost: nothing cached, everything at its dearest.
    #[must_use]
    pub fn estimate(&self, prompt_tokens: u64, max_tokens: u64) -> NanoDollars {
        let rates = self.tiers.at(prompt_tokens);
        let input = rates.input.max(rates.cached.unwrap_or_default()).max(rates.cache_written.unwrap_or_default());
        let output = rates.output.max(rates.reasoning.unwrap_or_default());
        let tokens = TokenCounts { input: prompt_tokens, output: max_tokens, ..TokenCounts::default() };
        self.charge(&Rates { input, output, ..Rates::default() }, &tokens, 1)
    }

    /// The rates of a request with so long a prompt.
    #[must_use]
    pub fn rates(&self, prompt_tokens: u64) -> Rates {
        *self.tiers.at(prompt_tokens)
    }

    fn charge(&self, rates: &Rates, tokens: &TokenCounts, requests: u64) -> NanoDollars {
        let cached = tokens.cached.min(tokens.input);
        let written = tokens.cache_written.min(tokens.input - cached);
        let reasoning = tokens.reasoning.min(tokens.output);
        // Each product is below 10^14 x 2^64 < 2^111.
        let femtos = self.request.times(requests)
            + rates.input.times(tokens.input - cached - written)
            + rates.cached.unwrap_or(rates.input).times(cached)
            + rates.cache_written.unwrap_or(rates.input).times(written)
            + rates.output.times(tokens.output - reasoning)
            + rates.reasoning.unwrap_or(rates.output).times(reasoning);
        NanoDollars(i64::try_from(femtos.div_ceil(PER_NANO)).unwrap_or(i64::MAX))
    }

    /// Whether everything it has is at 0.
    pub(super) fn is_zero(&self) -> bool {
        let tiers = std::iter::once(&self.tiers.base).chain(self.tiers.longer.iter().map(|tier| &tier.rates));
        self.request == Rate::ZERO && tiers.into_iter().all(|r| r.input == Rate::ZERO && r.output == Rate::ZERO)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn tokens() -> impl Strategy<Value = TokenCounts> {
        let count = 0..2_000_000_u64;
        (count.clone(), count.clone(), count.clone(), count.clone(), count).prop_map(
            |(input, cached, written, output, reasoning)| TokenCounts {
                input,
                cached,
                cache_written: written,
                output,
                reasoning,
            },
        )
    }

    fn rates() -> impl Strategy<Value = Rates> {
        let rate = (0_u64..1_000_000_000).prop_map(|nanos| Rate::from_dollars(nanos as f64 * 1e-12).unwrap());
        let some = proptest::option::of(rate.clone());
        (rate.clone(), rate, some.clone(), some.clone(), some).prop_map(
            |(input, output, cached, cache_written, reasoning)| Rates {
                input,
                output,
                cached,
                cache_written,
                reasoning,
            },
        )
    }

    proptest! {
        /// A reservation covers whatever is charged afterwards, and more tokens never cost less.
        #[test]
        fn estimates_are_enough_and_costs_grow(rates in rates(), counts in tokens(), more in 0_u64..1000) {
            let price = Price::flat(rates);
            let cost = price.cost(&counts);
            prop_assert!(cost <= price.estimate(counts.input, counts.output));
            let longer = TokenCounts { output: counts.output + more, ..counts };
            prop_assert!(cost <= price.cost(&longer));
            prop_assert!(cost >= NanoDollars::ZERO);
        }

        /// The exact sum in femto-dollars, computed apart, is at most a nano-dollar below.
        #[test]
        fn a_request_is_rounded_once(input in 0_u64..10_000_000, output in 0_u64..10_000_000, a in 0_u64..1_000_000, b in 0_u64..1_000_000) {
            let price = Price::per_million("m", a as f64 / 1e4, b as f64 / 1e4).unwrap();
            // a/10^4 dollars per million tokens are a x 10^5 femto-dollars per token.
            let exact = (u128::from(a) * u128::from(input) + u128::from(b) * u128::from(output)) * 100_000;
            let charged = price.cost(&TokenCounts { input, output, ..TokenCounts::default() }).0 as u128 * PER_NANO;
            prop_assert!(charged >= exact && charged - exact < PER_NANO);
        }
    }

    #[test]
    fn parts_above_the_whole_are_cut_and_sums_saturate() {
        let rates = Rates {
            input: Rate::from_dollars(3e-6).unwrap(),
            output: Rate::from_dollars(15e-6).unwrap(),
            cached: Rate::from_dollars(3e-7),
            cache_written: Rate::from_dollars(3.75e-6),
            reasoning: None,
        };
        let price = Price::flat(rates);
        let cost = |input, cached, cache_written, output, reasoning| {
            price.cost(&TokenCounts { input, cached, cache_written, output, reasoning }).0
        };
        assert_eq!(cost(1000, 400, 100, 10, 4), 500 * 3000 + 400 * 300 + 100 * 3750 + 10 * 15_000);
        assert_eq!(cost(1000, 5000, 5000, 10, 40), 1000 * 300 + 10 * 15_000);
        assert_eq!(cost(u64::MAX, 0, 0, u64::MAX, 0), i64::MAX);
        assert_eq!(cost(0, 0, 0, 0, 0), 0);
        assert!(Price::per_million("m", -1.0, 1.0).is_err() && Price::per_million("m", 1.0, f64::NAN).is_err());
    }
}
