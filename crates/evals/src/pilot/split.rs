//! Which rows teach and which judge.

use std::collections::{BTreeMap, BTreeSet};

use bantam_stats::split;

use super::rows::Row;

/// Rows by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    /// To fit on, to take examples from, to choose thresholds by; in the table's order.
    pub(super) train: Vec<usize>,
    /// To judge by, once; ordered by hash, so that any beginning is a fair sample.
    pub(super) test: Vec<usize>,
    /// Labels whose rows all teach, because none would have been left to learn from.
    pub(super) untested: Vec<String>,
}

impl Split {
    /// Splits by a hash of the text: equal texts stay together, and a row stays on its side whatever is added.
    pub(super) fn new(rows: &[Row], test_share: f64) -> Self {
        let mut is_test: Vec<bool> =
            rows.iter().map(|row| split::unit(&row.text, "bantam-pilot-split") < test_share).collect();
        let mut untested = BTreeSet::new();
        // A row that goes to the other side takes its equals with it, and those may be of other labels.
        while let Some(label) = untaught(rows, &is_test) {
            let texts: BTreeSet<String> =
                rows.iter().filter(|row| row.answer == label).map(|row| split::normalise(&row.text)).collect();
            for (row, is_test) in rows.iter().zip(&mut is_test) {
                *is_test &= !texts.contains(&split::normalise(&row.text));
            }
            untested.insert(label);
        }
        let part = |wanted: bool| (0..rows.len()).filter(|&i| is_test[i] == wanted).collect::<Vec<_>>();
        let mut test = part(true);
        test.sort_by_cached_key(|&i| (split::hash(&rows[i].text, "bantam-pilot-order"), i));
        Self { train: part(false), test, untested: untested.into_iter().collect() }
    }
}

/// A label of which no row teaches.
fn untaught(rows: &[Row], is_test: &[bool]) -> Option<String> {
    let mut taught: BTreeMap<&str, bool> = BTreeMap::new();
    for (row, is_test) in rows.iter().zip(is_test) {
        if let Some(label) = row.answer.as_str() {
            *taught.entry(label).or_default() |= !is_test;
        }
    }
    taught.into_iter().find(|(_, taught)| !taught).map(|(label, _)| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::rows::Recorded;
    use super::*;

    fn rows(n: usize, text: fn(usize) -> String, label: fn(usize) -> String) -> Vec<Row> {
        let row = |i| Row { line: i as u64 + 2, text: text(i), answer: label(i).into(), llm: Recorded::default() };
        (0..n).map(row).collect()
    }

    #[test]
    fn equal_texts_stay_together_and_more_rows_move_none() {
        let text = |i: usize| if i.is_multiple_of(2) { format!("Text  {}", i / 4) } else { format!("text {}", i / 4) };
        let all = rows(2_000, text, |i| (i % 3).to_string());
        let split = Split::new(&all, 0.3);
        let sides = |part: &[usize]| part.iter().map(|&i| split::normalise(&all[i].text)).collect::<BTreeSet<_>>();
        assert!(sides(&split.train).is_disjoint(&sides(&split.test)));
        assert!((500..700).contains(&split.test.len()), "{}", split.test.len());
        let fewer = Split::new(&all[..1_000], 0.3);
        assert!(
            fewer.test.iter().all(|i| split.test.contains(i)) && fewer.train.iter().all(|i| split.train.contains(i))
        );
        let order: Vec<usize> = split.test.iter().copied().filter(|&i| i < 1_000).collect();
        assert_eq!(order, fewer.test);
    }

    #[test]
    fn every_label_is_taught() {
        let all = rows(300, |i| format!("text {i}"), |i| if i < 200 { "common".into() } else { format!("rare {i}") });
        let split = Split::new(&all, 0.5);
        assert_eq!(
            split.untested.len(),
            (200..300).filter(|i| split::unit(&all[*i].text, "bantam-pilot-split") < 0.5).count()
        );
        assert!((200..300).all(|i| split.train.contains(&i)));
        assert_eq!(split.train.len() + split.test.len(), 300);
    }
}
