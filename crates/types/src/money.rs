//! Money in whole nano-dollars, so that sums are exact and a token's price fits.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of US dollars in units of 10^-9, up to some nine billion dollars. Arithmetic saturates: a budget is never overspent by an overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoDollars(pub i64);

/// Nano-dollars in a dollar.
const PER_DOLLAR: i64 = 1_000_000_000;

/// A text that is no amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no amount in dollars; write one such as 12.50, with at most nine decimals")]
pub struct ParseMoneyError {
    text: String,
}

impl NanoDollars {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From dollars as a price list has them, rounded to the nearest nano-dollar; NaN is nothing.
    #[must_use]
    pub fn from_dollars(dollars: f64) -> Self {
        // The cast saturates.
        Self((dollars * PER_DOLLAR as f64).round() as i64)
    }

    /// As dollars, for showing and for statistics.
    #[must_use]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / PER_DOLLAR as f64
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, saturating.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// What `count` things cost at this price each, saturating.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl Sum for NanoDollars {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

/// `$12.50`, with as many decimals as the amount has, two at least.
impl fmt::Display for NanoDollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = self.0.unsigned_abs();
        let decimals = format!("{:09}", amount % PER_DOLLAR as u64);
        let shown = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{sign}${}.{}", amount / PER_DOLLAR as u64, &decimals[..shown])
    }
}

impl FromStr for NanoDollars {
    type Err = ParseMoneyError;

    /// Reads what `Display` writes, the `$` being optional.
    fn from_str(text: &str) -> Result<Self, ParseMoneyError> {
        let fault = || ParseMoneyError { text: text.to_owned() };
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let rest = rest.strip_prefix('$').unwrap_or(rest);
        let (whole, decimals) = rest.split_once('.').unwrap_or((rest, "0"));
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
            return Err(fault());
        }
        let whole: i64 = whole.parse().map_err(|_| fault())?;
        let decimals: i64 = format!("{decimals:0<9}").parse().map_err(|_| fault())?;
        let amount = whole.checked_mul(PER_DOLLAR).and_then(|w| w.checked_add(decimals)).ok_or_else(fault)?;
        Ok(Self(if negative { -amount } else { amount }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for nanos in [0, 1, -1, 10, 1_500_000_000, -2_000_000_001, 999_999_999, i64::MAX] {
            let amount = NanoDollars(nanos);
            assert_eq!(amount.to_string().parse::<NanoDollars>().unwrap(), amount, "{amount}");
        }
        assert_eq!(NanoDollars(12_500_000_000).to_string(), "$12.50");
        assert_eq!("3".parse(), Ok(NanoDollars(3_000_000_000)));
        for wrong in ["", "$", "1.", ".5", "1,5", "1e3", "0.0000000001", "99999999999"] {
            assert!(wrong.parse::<NanoDollars>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let most = NanoDollars(i64::MAX);
        assert_eq!(most.plus(NanoDollars(1)), most);
        assert_eq!(NanoDollars(2).times(u64::MAX), most);
        assert_eq!(NanoDollars::from_dollars(f64::INFINITY), most);
        assert_eq!(NanoDollars::from_dollars(2.5e-6), NanoDollars(2_500));
    }
}
