/// Femto-dollars in a dollar.
const PER_DOLLAR: f64 = 1e15;

/// Femto-dollars in a nano-dollar.
pub(super) const PER_NANO: u128 = 1_000_000;

/// What one token costs, in whole femto-dollars (10^-15): fine enough that a million tokens are off by half a nano-dollar at most, and that
/// every price written in dollars per million tokens with nine decimals is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// The highest price of a token that is believed. Ten times what any model is listed at; a price per million or per thousand tokens
    /// written as one per token is above it.
    pub const MAX_DOLLARS: f64 = 0.1;
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The least there is.
    pub const LEAST: Self = Self(1);

    /// From dollars per token; nothing for what is no price: NaN, negative, or above [`Rate::MAX_DOLLARS`].
    #[must_use]
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        // Below 2^52, so that the product is off by less than half a unit and rounds to the number that was written.
        (0.0..=Self::MAX_DOLLARS).contains(&dollars).then(|| Self((dollars * PER_DOLLAR).round() as u64))
    }

    /// A price per request, whatever its tokens; nothing for what is no price: NaN, negative, or above 100 dollars.
    pub(super) fn per_request(dollars: f64) -> Option<Self> {
        (0.0..=100.0).contains(&dollars).then(|| Self((dollars * PER_DOLLAR).round() as u64))
    }

    /// In dollars, for showing and for estimates.
    #[must_use]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / PER_DOLLAR
    }

    /// What so many tokens cost, in femto-dollars: two u64 multiplied always fit.
    pub(super) fn times(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What people write, dollars per million tokens with up to nine decimals, is exact.
        #[test]
        fn written_prices_are_exact(nanos_per_million in 0_u64..100_000_000_000_000) {
            let dollars: f64 = format!("{nanos_per_million}e-15").parse().unwrap();
            prop_assert_eq!(Rate::from_dollars(dollars), Some(Rate(nanos_per_million)));
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for wrong in [f64::NAN, f64::INFINITY, -1e-9, 0.11, 2.5] {
            assert_eq!(Rate::from_dollars(wrong), None, "{wrong}");
        }
    }
}
