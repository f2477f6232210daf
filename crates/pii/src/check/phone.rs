//! Telephone numbers. No country's plan is known here: digits are counted, and dates and longer numbers kept out.

use std::ops::Range;

use super::{date, digits, goes_on};

/// With a country code: E.164 allows 15 digits, few have less than 8.
pub(crate) fn international(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    counted(text, range, 8..=15)
}

/// With a country code behind `00`.
pub(crate) fn dialled(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    if goes_on(text, &range, &['.', '-', '/', ' ']) { None } else { counted(text, range, 10..=17) }
}

/// Groups that are no date and no part of a longer number.
pub(crate) fn grouped(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    alone(text, &range).then(|| counted(text, range, 7..=12))?
}

/// The same, as short as they are within a town.
pub(crate) fn local(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    alone(text, &range).then(|| counted(text, range, 6..=12))?
}

fn alone(text: &str, range: &Range<usize>) -> bool {
    let matched = text.get(range.clone()).unwrap_or_default();
    !date::iso(matched) && !date::numeric(matched) && !goes_on(text, range, &['.', '-', '/', ',', ':'])
}

fn counted(text: &str, range: Range<usize>, allowed: std::ops::RangeInclusive<usize>) -> Option<Range<usize>> {
    // An extension does not count.
    let number = text.get(range.clone())?.split(['x', 'X', 'e', 'E']).next()?;
    let digits = digits(number);
    (allowed.contains(&digits.len()) && !super::uniform(&digits)).then_some(range)
}
