//! Words near a match that make it likelier to be what its row says.

use std::ops::Range;

use aho_corasick::{AhoCorasick, BuildError};

use crate::check::boundary;

/// How far before a match a word counts, in bytes.
const BEFORE: usize = 64;
/// How far after it.
const AFTER: usize = 24;

/// The context words of a row, ready to be looked for.
pub(crate) struct Words(AhoCorasick);

impl Words {
    /// Words in lower case.
    pub(crate) fn new(words: &[&str]) -> Result<Self, BuildError> {
        AhoCorasick::new(words).map(Self)
    }

    /// Whether one of the words stands near `range`, whole.
    pub(crate) fn near(&self, text: &str, range: &Range<usize>) -> bool {
        if self.0.patterns_len() == 0 {
            return false;
        }
        let start = boundary(text, range.start.saturating_sub(BEFORE));
        let end = boundary(text, range.end + AFTER);
        [start..range.start, range.end..end].into_iter().any(|window| {
            let window = text.get(window).unwrap_or_default().to_lowercase();
            self.0.find_overlapping_iter(&window).any(|found| whole(&window, found.range()))
        })
    }
}

/// Whether the word at `range` has no letter or digit of its alphabet next to it.
fn whole(window: &str, range: Range<usize>) -> bool {
    let before = window.get(..range.start).and_then(|text| text.chars().next_back());
    let after = window.get(range.end..).and_then(|text| text.chars().next());
    let word = window.get(range).unwrap_or_default();
    // Scripts without spaces have no word boundaries.
    let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && (c as u32) < 0x2E80);
    let own_boundary = word.starts_with(|c: char| !c.is_alphanumeric());
    word.chars().all(|c| c as u32 >= 0x2E80) || ((own_boundary || !joined(before)) && !joined(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_whole_near_and_in_any_case() {
        for (text, found) in [
            ("My SSN: #", true),
            ("lessn #", false),
            ("the cards # and", false),
            ("the CARD # and", true),
            ("cardinal # number", false),
            ("# is my ssn", true),
            ("social   security #", false),
            ("social security no. #", true),
            ("Ann's number: #", true),
            ("我的手机号码是#", true),
            (&format!("ssn {} #", "x ".repeat(40)), false),
            (&format!("ssn {} #", "ü".repeat(20)), true),
        ] {
            let at = text.find('#').unwrap();
            let words = ["ssn", "social security", "card", "手机", "'s number"];
            assert_eq!(Words::new(&words).unwrap().near(text, &(at..at + 1)), found, "{text}");
        }
    }
}
