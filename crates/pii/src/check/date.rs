//! Days that there are.

use super::digits;

fn leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Whether the calendar has this day.
pub(super) fn exists(year: u32, month: u32, day: u32) -> bool {
    let days = match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// The same where the century is not known.
pub(super) fn exists_in_some_century(year: u32, month: u32, day: u32) -> bool {
    exists(2000 + year % 100, month, day)
}

/// Two digits as a number.
pub(super) fn pair(digits: &[u32], at: usize) -> u32 {
    digits.get(at).zip(digits.get(at + 1)).map_or(100, |(a, b)| a * 10 + b)
}

/// `1985-03-12`, with or without a time behind it.
pub(crate) fn iso(text: &str) -> bool {
    let date = text.get(..10).unwrap_or_default();
    let d = digits(date);
    d.len() == 8
        && date.as_bytes().get(4) == Some(&b'-')
        && date.as_bytes().get(7) == Some(&b'-')
        && exists(pair(&d, 0) * 100 + pair(&d, 2), pair(&d, 4), pair(&d, 6))
}

/// `12/3/1985`, `3/12/85` or `12.03.1985`, month or day first.
pub(crate) fn numeric(text: &str) -> bool {
    let parts: Vec<u32> = text.split(['/', '.', '-']).filter_map(|part| part.parse().ok()).collect();
    let &[a, b, year] = &parts[..] else { return false };
    exists(year, a, b) || exists(year, b, a)
}

/// `12 March 1985` or `March 12, 1985`: the day is one of some month.
pub(crate) fn named(text: &str) -> bool {
    let day = text.split(|c: char| !c.is_ascii_digit()).find(|part| (1..=2).contains(&part.len()));
    day.and_then(|day| day.parse().ok()).is_some_and(|day: u32| (1..=31).contains(&day))
}
