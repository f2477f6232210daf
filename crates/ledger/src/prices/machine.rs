use super::{Price, Rate, Rates};

const SECONDS_PER_HOUR: f64 = 3600.0;

/// A machine that runs a model, from which its tokens get a price: what an hour costs over what an hour computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MachineRate {
    /// What the machine costs an hour, idle or not.
    pub dollars_per_hour: f64,
    /// Tokens of prompts that it computes in a second of work, as measured.
    pub prefill_tokens_per_second: f64,
    /// Tokens that it generates in a second of work, as measured, over as many streams as there usually are.
    pub decode_tokens_per_second: f64,
    /// Share of the time that it works, over 0 and at most 1. Idle time is paid by the requests there are.
    pub utilisation: f64,
}

/// A machine that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {value} cannot be; give {expected}")]
pub struct MachineError {
    /// Which figure.
    pub field: &'static str,
    /// What it was.
    pub value: f64,
    /// What it may be.
    pub expected: &'static str,
}

impl MachineRate {
    /// The price of its tokens. Never nothing: each token costs a femto-dollar at least and each request a nano-dollar. Cached tokens
    /// cost nothing more, for the machine does no work for them.
    ///
    /// # Errors
    /// If a figure is not a number over 0, the share is over 1, or a token would cost more than is believed ([`Rate::MAX_DOLLARS`]).
    pub fn price(&self) -> Result<Price, MachineError> {
        let positive = |field, value: f64| {
            let fault = MachineError { field, value, expected: "a number over 0" };
            if value > 0.0 && value.is_finite() { Ok(value) } else { Err(fault) }
        };
        let hour = positive("dollars_per_hour", self.dollars_per_hour)?;
        let share = positive("utilisation", self.utilisation)?;
        if share > 1.0 {
            return Err(MachineError { field: "utilisation", value: share, expected: "a share of at most 1" });
        }
        let rate = |field, per_second: f64| {
            let tokens = positive(field, per_second)? * share * SECONDS_PER_HOUR;
            let fault =
                MachineError { field, value: per_second, expected: "a speed at which a token costs 10 cents at most" };
            Rate::from_dollars(hour / tokens).map(|rate| rate.max(Rate::LEAST)).ok_or(fault)
        };
        let rates = Rates {
            input: rate("prefill_tokens_per_second", self.prefill_tokens_per_second)?,
            output: rate("decode_tokens_per_second", self.decode_tokens_per_second)?,
            cached: Some(Rate::ZERO),
            ..Rates::default()
        };
        Ok(Price { provider: Some("local".into()), request: Rate::LEAST, ..Price::flat(rates) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TokenCounts;
    use bantam_types::NanoDollars;
    use proptest::prelude::*;

    const MACHINE: MachineRate = MachineRate {
        dollars_per_hour: 0.10777,
        prefill_tokens_per_second: 3484.0,
        decode_tokens_per_second: 837.0,
        utilisation: 0.5,
    };

    proptest! {
        /// Requests that keep the machine at its utilisation for an hour pay for the hour, and none is free.
        #[test]
        fn an_hour_of_requests_pays_for_the_hour(
            input in 1_u64..5000, output in 1_u64..500, hour in 0.01_f64..50.0, prefill in 10.0_f64..1e5, decode in 1.0_f64..1e4, share in 0.05_f64..=1.0,
        ) {
            let machine = MachineRate { dollars_per_hour: hour, prefill_tokens_per_second: prefill, decode_tokens_per_second: decode, utilisation: share };
            let cost = machine.price().unwrap().cost(&TokenCounts { input, output, ..TokenCounts::default() });
            prop_assert!(cost > NanoDollars::ZERO);
            let seconds = input as f64 / prefill + output as f64 / decode;
            let paid = cost.dollars() * share * 3600.0 / seconds;
            prop_assert!((paid / hour - 1.0).abs() < 1e-3 + 2e-9 * 3600.0 / seconds / hour, "{paid} for {hour}");
        }
    }

    #[test]
    fn a_cached_request_still_costs_something_and_nonsense_is_named() {
        let price = MACHINE.price().unwrap();
        assert_eq!(price.cost(&TokenCounts { input: 9, cached: 9, ..TokenCounts::default() }), NanoDollars(1));
        for (machine, field) in [
            (MachineRate { dollars_per_hour: 0.0, ..MACHINE }, "dollars_per_hour"),
            (MachineRate { utilisation: 1.5, ..MACHINE }, "utilisation"),
            (MachineRate { utilisation: f64::NAN, ..MACHINE }, "utilisation"),
            (MachineRate { prefill_tokens_per_second: -1.0, ..MACHINE }, "prefill_tokens_per_second"),
            (MachineRate { decode_tokens_per_second: 1e-9, ..MACHINE }, "decode_tokens_per_second"),
        ] {
            assert_eq!(machine.price().unwrap_err().field, field);
        }
    }
}
