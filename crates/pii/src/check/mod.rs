//! What must hold for a match besides its pattern: checksums, dates, and where a thing ends.

pub(crate) mod americas;
pub(crate) mod asia;
mod checksum;
pub(crate) mod crypto;
pub(crate) mod date;
pub(crate) mod europe;
pub(crate) mod network;
pub(crate) mod payment;
pub(crate) mod phone;
pub(crate) mod secret;

use std::ops::Range;

/// The ASCII digits of a match, as numbers.
fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// Its ASCII letters and digits, in upper case.
fn alphanumerics(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_uppercase()).collect()
}

/// 0 to 9, and A to Z as 10 to 35.
fn base36(byte: u8) -> u32 {
    char::from(byte).to_digit(36).unwrap_or(0)
}

/// The digits as one number; there are at most 19 of them.
fn number(digits: &[u32]) -> u64 {
    digits.iter().fold(0, |n, &d| n.wrapping_mul(10).wrapping_add(u64::from(d)))
}

/// Whether all digits are the same: no number that anybody has.
fn uniform(digits: &[u32]) -> bool {
    digits.windows(2).all(|pair| pair[0] == pair[1])
}

/// The next character boundary at or before a place, which may be past the end.
pub(crate) fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn char_before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

fn char_after(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

/// Whether a number goes on beyond `range`: a separator and a digit on either side, as in a version or a longer number.
fn goes_on(text: &str, range: &Range<usize>, separators: &[char]) -> bool {
    let is = |c: Option<char>, test: &dyn Fn(char) -> bool| c.is_some_and(test);
    let separator = |c: char| separators.contains(&c);
    let before = text.get(..range.start).unwrap_or_default();
    let after = text.get(range.end..).unwrap_or_default();
    let (mut back, mut forth) = (before.chars().rev(), after.chars());
    (is(back.next(), &separator) && is(back.next(), &|c| c.is_ascii_digit()))
        || (is(forth.next(), &separator) && is(forth.next(), &|c| c.is_ascii_digit()))
}
