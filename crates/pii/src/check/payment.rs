//! Cards and bank accounts.

use std::ops::Range;

use super::checksum::{luhn, weighted};
use super::{alphanumerics, base36, digits, uniform};

/// A card of an issuer, by its first digits and length.
pub(crate) fn issued_card(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    card(text, range, issued)
}

/// Any number with a card's check digit.
pub(crate) fn any_card(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    card(text, range, |_| true)
}

/// The longest card that begins here: groups behind it may be another number.
fn card(text: &str, range: Range<usize>, issued: fn(&[u32]) -> bool) -> Option<Range<usize>> {
    let mut end = range.end;
    loop {
        let matched = text.get(range.start..end)?;
        let number = digits(matched);
        if number.len() < 12 {
            return None;
        }
        if luhn(&number) && !uniform(&number) && issued(&number) {
            return Some(range.start..end);
        }
        end = range.start + matched.rfind([' ', '-'])?;
    }
}

/// ISO/IEC 7812 ranges of the large networks.
fn issued(number: &[u32]) -> bool {
    let prefix = |n: usize| number.iter().take(n).fold(0, |p, d| p * 10 + d);
    let (one, two, three, four) = (prefix(1), prefix(2), prefix(3), prefix(4));
    match number.len() {
        12 => matches!(two, 50 | 56..=58) || one == 6,
        13 => one == 4 || matches!(two, 50 | 56..=58) || one == 6,
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39) || matches!(two, 50 | 56..=58 | 67),
        15 => matches!(two, 34 | 37 | 50 | 56..=58 | 67) || matches!(four, 1800 | 2131),
        16 => {
            matches!(one, 4 | 6)
                || matches!(two, 50..=58 | 36 | 38 | 39 | 81 | 82)
                || matches!(four, 2200..=2204 | 2221..=2720 | 3528..=3589)
                || matches!(three, 300..=305 | 309)
        }
        17..=19 => matches!(one, 4 | 6) || matches!(two, 50 | 56..=58) || matches!(four, 3528..=3589),
        _ => false,
    }
}

/// Countries of the IBAN registry and the length of their numbers.
const IBAN_LENGTHS: [(&[u8; 2], usize); 87] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"XK", 20),
];

/// ISO 13616: as long as its country says, and 1 modulo 97.
pub(crate) fn iban(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let matched = text.get(range.clone())?.as_bytes();
    let country = [matched.first()?.to_ascii_uppercase(), matched.get(1)?.to_ascii_uppercase()];
    let length = IBAN_LENGTHS.iter().find(|(code, _)| **code == country)?.1;
    let mut places = matched.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric()).map(|(at, _)| at);
    let end = range.start + places.nth(length - 1)? + 1;
    let number = alphanumerics(text.get(range.start..end)?);
    let goes_on = text.as_bytes().get(end).is_some_and(u8::is_ascii_alphanumeric);
    let (head, tail) = number.split_at_checked(4)?;
    let rest = tail.iter().chain(head).fold(0, |rest, &byte| match base36(byte) {
        digit @ 0..10 => (rest * 10 + digit) % 97,
        letter => (rest * 100 + letter) % 97,
    });
    (rest == 1 && !goes_on).then_some(range.start..end)
}

/// Routing numbers of the American Bankers Association.
pub(crate) fn aba(text: &str) -> bool {
    let d = digits(text);
    let area = d.first().zip(d.get(1)).map_or(99, |(a, b)| a * 10 + b);
    d.len() == 9
        && matches!(area, 1..=12 | 21..=32 | 61..=72 | 80)
        && weighted(&d, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
}
