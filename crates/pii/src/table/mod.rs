//! The standard table. A new way to write an entity is one more row, with its own examples.
//!
//! Scores: 0.9 and more where a shape or checksum leaves hardly a doubt, 0.5 to 0.8 where it is likely, below 0.4 (the usual threshold) where only a
//! word near it can tell: a word adds 0.35. A checksum of one digit lets one of ten other numbers pass, so it alone never reaches the threshold.

mod americas;
mod asia;
mod europe;
mod general;
mod secrets;

use crate::recogniser::Recogniser;

/// All rows.
pub fn rows() -> impl Iterator<Item = Recogniser> {
    [general::ROWS, secrets::ROWS, americas::ROWS, europe::ROWS, asia::ROWS].into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Detector, Options, Recognisers};

    /// A text and what is between the marks in it.
    fn marked(example: &str) -> (String, std::ops::Range<usize>) {
        let (before, rest) = example.split_once('«').unwrap_or_else(|| panic!("{example}: no «"));
        let (inside, after) = rest.split_once('»').unwrap_or_else(|| panic!("{example}: no »"));
        (format!("{before}{inside}{after}"), before.len()..before.len() + inside.len())
    }

    /// Every row finds its examples in the company of all others, and nothing in its counterexamples.
    #[test]
    fn every_row_does_what_it_says() {
        let table = Recognisers::standard();
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        for row in rows() {
            assert!(names.insert(row.name), "{} is there twice", row.name);
            assert!(!row.found.is_empty() && !row.passed.is_empty(), "{} lacks examples", row.name);
            assert!(row.context.iter().all(|word| **word == word.to_lowercase()), "{}: context", row.name);
            assert!(row.score >= 0.4 || !row.context.is_empty(), "{} is never told", row.name);
            for example in row.found {
                let (text, range) = marked(example);
                let found = table.detect(&text, &Options::default()).unwrap();
                if !found.iter().any(|f| f.entity == row.entity && f.range == range) {
                    faults.push(format!("{}: not found: {example}: {found:?}", row.name));
                }
            }
            for text in row.passed {
                let found = table.detect(text, &Options::default()).unwrap();
                if let Some(wrong) = found.iter().find(|f| f.recogniser == row.name) {
                    faults.push(format!("{}: found in {text}: {wrong:?}", row.name));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// Each row alone finds its examples: no row lives on another's.
    #[test]
    fn every_row_works_alone() {
        let mut faults = Vec::new();
        for row in rows() {
            let alone = Recognisers::new([row]).unwrap();
            for example in row.found {
                let (text, range) = marked(example);
                let found = alone.detect(&text, &Options::default()).unwrap();
                if !found.iter().any(|f| f.range == range) {
                    faults.push(format!("{}: {example}: {found:?}", row.name));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
