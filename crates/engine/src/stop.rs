//! Finds stop strings in text that arrives in pieces.
//!
//! Every stop string is matched by its own Knuth-Morris-Pratt automaton, fed byte by byte, so that the outcome cannot
//! depend on where tokens cut the text: the first stop string to be complete wins, the longest if several are complete
//! at the same byte. What might still become one is held back.

/// One stop string and how much of it the end of the text matches.
#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// `fallback[n]`: longest proper prefix that is also a suffix of the first `n + 1` bytes.
    fallback: Vec<usize>,
    matched: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut fallback = vec![0; bytes.len()];
        let mut n = 0;
        for i in 1..bytes.len() {
            while n > 0 && bytes[n] != bytes[i] {
                n = fallback[n - 1];
            }
            if bytes[n] == bytes[i] {
                n += 1;
            }
            fallback[i] = n;
        }
        Pattern { bytes, fallback, matched: 0 }
    }

    /// Takes one byte; whether the pattern is now complete.
    fn feed(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes.get(self.matched) != Some(&byte) {
            self.matched = self.fallback[self.matched - 1];
        }
        if self.bytes[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.bytes.len()
    }
}

/// What a piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Text that is certain to lie before any stop string.
    pub(crate) text: String,
    /// Index of the stop string that is now complete; the matcher must not be fed again.
    pub(crate) stop: Option<usize>,
}

/// Lets text through up to the first stop string.
#[derive(Debug, Clone)]
pub(crate) struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text not let through yet: at least what the longest partial match covers.
    held: String,
}

impl StopMatcher {
    /// `stops` must not be empty strings.
    pub(crate) fn new(stops: &[String]) -> Self {
        let patterns = stops.iter().filter(|s| !s.is_empty()).map(|s| Pattern::new(s)).collect();
        StopMatcher { patterns, held: String::new() }
    }

    pub(crate) fn push(&mut self, piece: &str) -> Passed {
        if self.patterns.is_empty() {
            return Passed { text: piece.to_owned(), stop: None };
        }
        for (i, &byte) in piece.as_bytes().iter().enumerate() {
            let mut complete = false;
            for pattern in &mut self.patterns {
                complete |= pattern.feed(byte);
            }
            if complete {
                let stop = self.longest_complete();
                let length = stop.map_or(0, |s| self.patterns[s].bytes.len());
                let end = self.held.len() + i + 1;
                let mut text = std::mem::take(&mut self.held);
                text.push_str(piece);
                text.truncate(end - length);
                return Passed { text, stop };
            }
        }
        self.held.push_str(piece);
        let keep = self.patterns.iter().map(|p| p.matched).max().unwrap_or(0);
        let text: String = self.held.drain(..self.held.len() - keep).collect();
        Passed { text, stop: None }
    }

    fn longest_complete(&self) -> Option<usize> {
        let complete = self.patterns.iter().enumerate().filter(|(_, p)| p.matched == p.bytes.len());
        // The first of the longest: `max_by_key` alone would take the last.
        complete.rev().max_by_key(|(_, p)| p.bytes.len()).map(|(i, _)| i)
    }

    /// The text ends here: what was held back and did not become a stop string.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, without any automaton: the stop string that is complete first, the longest if several are.
    fn cut<'a>(text: &'a str, stops: &[String]) -> (&'a str, Option<usize>) {
        let ends = stops.iter().enumerate().filter_map(|(i, s)| text.find(s.as_str()).map(|at| (at + s.len(), at, i)));
        match ends.min() {
            Some((_, at, i)) => (&text[..at], Some(i)),
            None => (text, None),
        }
    }

    fn stops(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_partial_match_is_held_back_and_let_go() {
        let mut m = StopMatcher::new(&stops(&["END"]));
        assert_eq!(m.push("the E"), Passed { text: "the ".into(), stop: None });
        assert_eq!(m.push("N"), Passed { text: String::new(), stop: None });
        assert_eq!(m.push("E"), Passed { text: "EN".into(), stop: None });
        assert_eq!(m.finish(), "E");
    }

    #[test]
    fn text_before_a_stop_string_is_let_through_and_none_after() {
        let mut m = StopMatcher::new(&stops(&["xx", "\n\n"]));
        assert_eq!(m.push("one\n"), Passed { text: "one".into(), stop: None });
        assert_eq!(m.push("\ntwo"), Passed { text: String::new(), stop: Some(1) });
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(
            text in "[abé]{0,40}",
            stops in prop::collection::vec("[abé]{1,5}", 0..4),
            cuts in prop::collection::vec(0..40usize, 0..10),
        ) {
            let (expected, stop) = cut(&text, &stops);
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| text.is_char_boundary(c)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut m = StopMatcher::new(&stops);
            let mut out = String::new();
            let mut found = None;
            for pair in cuts.windows(2) {
                let passed = m.push(&text[pair[0]..pair[1]]);
                out.push_str(&passed.text);
                prop_assert!(expected.starts_with(&out), "{out:?} is let through but the text is {expected:?}");
                if passed.stop.is_some() {
                    found = passed.stop;
                    break;
                }
            }
            if found.is_none() {
                out.push_str(&m.finish());
            }
            prop_assert_eq!(out.as_str(), expected);
            // Equal stop strings complete together; either may be named.
            prop_assert_eq!(found.map(|i| &stops[i]), stop.map(|i| &stops[i]));
        }
    }
}
