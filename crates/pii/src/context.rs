//! Words near a match that make it likelier to be what its row says.

use std::ops::Range;

use crate::check::boundary;

/// How far before a match a word counts, in bytes.
const BEFORE: usize = 64;
/// How far after it.
const AFTER: usize = 24;

/// Whether one of `words` (lower case) stands near `range`, whole.
pub(crate) fn near(text: &str, range: &Range<usize>, words: &[&str]) -> bool {
    if words.is_empty() {
        return false;
    }
    let start = boundary(text, range.start.saturating_sub(BEFORE));
    let end = boundary(text, range.end + AFTER);
    [start..range.start, range.end..end].into_iter().any(|window| {
        let window = text.get(window).unwrap_or_default().to_lowercase();
        words.iter().any(|word| has_word(&window, word))
    })
}

/// Whether `word` stands in `window` with no letter or digit of its alphabet next to it.
fn has_word(window: &str, word: &str) -> bool {
    window.match_indices(word).any(|(at, _)| {
        let before = window.get(..at).and_then(|text| text.chars().next_back());
        let after = window.get(at + word.len()..).unwrap_or_default();
        let after = after.chars().next();
        // Scripts without spaces have no word boundaries.
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && (c as u32) < 0x2E80);
        let own_boundary = word.starts_with(|c: char| !c.is_alphanumeric());
        word.chars().all(|c| c as u32 >= 0x2E80) || ((own_boundary || !joined(before)) && !joined(after))
    })
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
            assert_eq!(near(text, &(at..at + 1), &words), found, "{text}");
        }
    }
}
