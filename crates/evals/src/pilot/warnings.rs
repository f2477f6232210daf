//! What in a table makes figures doubtful.

use std::collections::{BTreeMap, HashMap, HashSet};

use bantam_stats::split;
use bantam_tasks::fit::HeldOutAnswer;

use super::rows::{Row, Rows};
use super::split::Split;
use crate::text::{counted, percent};

/// Rows of a label below which little can be said of it.
const FEW: usize = 5;
/// Rows of the test part below which intervals are wide.
const TINY: usize = 100;
/// A share of one label from which on accuracy says little.
const LOPSIDED: f64 = 0.8;
/// Letters that two texts must have to be compared without the rest.
const MIN_LETTERS: usize = 12;
/// Confidence from which on a disagreement is told.
const CONFIDENT: f64 = 0.9;
/// Lines that are named.
const LISTED: usize = 5;

/// Everything that the table alone tells.
pub(super) fn of_table(rows: &Rows, split: &Split) -> Vec<String> {
    let mut warnings = skipped(rows);
    warnings.extend(repeats(&rows.rows));
    warnings.extend(near_repeats(&rows.rows, split));
    if !rows.labels.is_empty() {
        warnings.extend(labels(rows, split));
    }
    if split.test.len() < TINY {
        warnings.push(format!(
            "the candidates are judged on only {}: the intervals are wide; label more rows before you decide",
            counted(split.test.len(), "row", "rows")
        ));
    }
    let is_recorded = |row: &Row| row.llm.answer.is_some();
    let recorded = rows.rows.iter().filter(|row| is_recorded(row)).count();
    if recorded > 0 && recorded < rows.rows.len() {
        let n = rows.rows.len() - recorded;
        warnings.push(format!(
            "without a recorded answer of the LLM, which is judged on the others: {}",
            counted(n, "row", "rows")
        ));
    }
    warnings
}

fn skipped(rows: &Rows) -> Vec<String> {
    let counts = &rows.counts;
    let mut warnings = Vec::new();
    let mut add = |n: usize, what: &str| {
        if n > 0 {
            warnings.push(format!("left out, because they {what}: {n} of {}", counted(counts.rows, "row", "rows")));
        }
    };
    add(counts.unlabelled, "have no label");
    add(counts.empty, "have no text");
    let broken = format!("are broken ({})", counts.first_broken.as_deref().unwrap_or_default());
    add(counts.broken, &broken);
    add(counts.over_limit, "are beyond the limit (chosen by hash)");
    if counts.respelled > 0 {
        let n = counted(counts.respelled, "spelling", "spellings");
        warnings.push(format!("labels that differ only in letter case are taken as one, in the usual spelling: {n}"));
    }
    warnings
}

/// Rows by text, as the split sees it.
fn by_text(rows: &[Row]) -> BTreeMap<String, Vec<&Row>> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(split::normalise(&row.text)).or_default().push(row);
    }
    groups
}

fn repeats(rows: &[Row]) -> Vec<String> {
    let mut groups: Vec<Vec<&Row>> = by_text(rows).into_values().filter(|group| group.len() > 1).collect();
    groups.sort_by_key(|group| group[0].line);
    let mut warnings = Vec::new();
    let lines = |groups: &[&Vec<&Row>]| {
        let named = groups.iter().take(LISTED);
        named.map(|group| format!("{} and {}", group[0].line, group[1].line)).collect::<Vec<_>>().join(", ")
    };
    if !groups.is_empty() {
        let n: usize = groups.iter().map(|group| group.len() - 1).sum();
        let groups: Vec<_> = groups.iter().collect();
        warnings.push(format!(
            "duplicates: {} whose text another row has (lines {}); they stay in one part",
            counted(n, "row", "rows"),
            lines(&groups)
        ));
    }
    let noisy: Vec<_> = groups.iter().filter(|group| group.iter().any(|row| row.answer != group[0].answer)).collect();
    if !noisy.is_empty() {
        warnings.push(format!(
            "label noise: {} with different labels (such as lines {}); no model can get both right",
            counted(noisy.len(), "text", "texts"),
            lines(&noisy)
        ));
    }
    warnings
}

/// Rows of the test part that differ from a row that teaches only in digits, punctuation or letter case.
fn near_repeats(rows: &[Row], split: &Split) -> Option<String> {
    let letters = |i: &usize| -> Option<(String, &Row)> {
        let row = &rows[*i];
        let letters: String = row.text.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect();
        (letters.chars().count() >= MIN_LETTERS).then_some((letters, row))
    };
    let taught: HashMap<String, &Row> = split.train.iter().rev().filter_map(letters).collect();
    let mut pairs: Vec<(u64, u64)> = split
        .test
        .iter()
        .filter_map(letters)
        .filter_map(|(letters, row)| Some((row.line, taught.get(&letters)?.line)))
        .collect();
    pairs.sort_unstable();
    (!pairs.is_empty()).then(|| {
        let named: Vec<String> = pairs.iter().take(LISTED).map(|(a, b)| format!("{a} and {b}")).collect();
        format!(
            "leakage: {} of {} test rows unlike a training row only in digits, punctuation or spaces (lines {}); the figures \
             may be too good",
            pairs.len(),
            split.test.len(),
            named.join(", ")
        )
    })
}

fn labels(rows: &Rows, split: &Split) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for label in rows.rows.iter().filter_map(|row| row.answer.as_str()) {
        *counts.entry(label).or_default() += 1;
    }
    let mut warnings = Vec::new();
    let rare: Vec<&str> = counts.iter().filter(|(_, n)| **n < FEW).map(|(label, _)| *label).collect();
    if !rare.is_empty() {
        let named = named(rare.iter().copied());
        warnings.push(format!(
            "{} of fewer than {FEW} rows ({named}): little can be learned of it",
            counted(rare.len(), "label", "labels")
        ));
    }
    if !split.untested.is_empty() {
        let named = named(split.untested.iter().map(String::as_str));
        warnings.push(format!(
            "too rare to be judged as well as taught: {} ({named})",
            counted(split.untested.len(), "label", "labels")
        ));
    }
    let tested: HashSet<&str> = split.test.iter().filter_map(|&i| rows.rows[i].answer.as_str()).collect();
    let unseen = rows.labels.iter().filter(|label| !tested.contains(label.as_str())).count();
    if unseen > split.untested.len() {
        warnings.push(format!(
            "{} without a row in the test part: nothing is measured for them",
            counted(unseen, "label", "labels")
        ));
    }
    let most = counts.iter().max_by_key(|(_, n)| **n);
    if let Some((label, n)) = most.filter(|(_, n)| **n as f64 >= LOPSIDED * rows.rows.len() as f64) {
        let share = *n as f64 / rows.rows.len() as f64 * 100.0;
        warnings.push(format!(
            "imbalance: always answering '{label}' would be right for {share:.1}% of the rows; look at macro-F1 and at each \
             label, not at accuracy alone"
        ));
    }
    warnings
}

fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = if names.len() > LISTED { ", ..." } else { "" };
    names.take(LISTED).collect::<Vec<_>>().join(", ") + more
}

/// A choice that is no better than one answer to everything.
pub(super) fn useless(rows: &[Row], test: &[usize], accuracy: f64) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for label in test.iter().filter_map(|&i| rows[i].answer.as_str()) {
        *counts.entry(label).or_default() += 1;
    }
    let (label, n) = counts.into_iter().max_by_key(|(_, n)| *n)?;
    let share = n as f64 / test.len() as f64;
    (accuracy <= share).then(|| {
        let share = percent(share);
        format!("the choice is no good: always answering '{label}' would be right for {share} of the rows that judge")
    })
}

/// Rows that a head which did not see them is sure are of another label.
pub(super) fn doubtful(rows: &[Row], train: &[usize], held_out: &[HeldOutAnswer]) -> Option<String> {
    let mut sure: Vec<&HeldOutAnswer> =
        held_out.iter().filter(|held| !held.correct && held.confidence >= CONFIDENT).collect();
    sure.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.row.cmp(&b.row)));
    let told: Vec<String> = sure
        .iter()
        .take(LISTED)
        .filter_map(|held| {
            let row = rows.get(*train.get(held.row)?)?;
            let (is, says) = (row.answer.as_str()?, held.answer.as_str()?);
            Some(format!("line {} says '{is}', the model '{says}' with {}", row.line, percent(held.confidence)))
        })
        .collect();
    (!told.is_empty()).then(|| {
        let n = counted(sure.len(), "label", "labels");
        format!("{n} may be wrong: a model that did not see the row is sure of another ({})", told.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::rows::{Counts, Recorded};
    use super::*;

    fn rows(rows: &[(&str, &str)]) -> Rows {
        let labels: BTreeSet<String> = rows.iter().map(|row| row.1.to_owned()).collect();
        let row = |(i, row): (usize, &(&str, &str))| Row {
            line: i as u64 + 2,
            text: row.0.to_owned(),
            answer: row.1.into(),
            llm: Recorded::default(),
        };
        Rows {
            rows: rows.iter().enumerate().map(row).collect(),
            labels: labels.into_iter().collect(),
            counts: Counts::default(),
        }
    }

    fn warnings(rows: &Rows, train: &[usize], test: &[usize]) -> Vec<String> {
        of_table(rows, &Split { train: train.to_vec(), test: test.to_vec(), untested: Vec::new() })
    }

    fn about<'a>(warnings: &'a [String], what: &str) -> Option<&'a String> {
        warnings.iter().find(|warning| warning.contains(what))
    }

    #[test]
    fn duplicates_noise_and_leakage_are_told_by_line() {
        let rows = rows(&[
            ("Where is my card?", "a"),
            ("where is  my CARD?", "b"),
            ("Refund of order 17 please", "a"),
            ("Refund of order 99 please!", "a"),
            ("hm", "b"),
            ("hm!", "b"),
        ]);
        let warnings = warnings(&rows, &[0, 1, 2, 4], &[3, 5]);
        assert!(about(&warnings, "duplicates: 1 row ").unwrap().contains("2 and 3"));
        assert!(about(&warnings, "label noise: 1 text ").unwrap().contains("2 and 3"));
        // The short texts have too few letters to say.
        assert!(about(&warnings, "leakage: 1 of 2").unwrap().contains("5 and 4"), "{warnings:?}");
    }

    #[test]
    fn rare_labels_one_sided_tables_and_small_parts_are_told() {
        let texts: Vec<String> = (0..50).map(|i| format!("text {}", "x".repeat(i))).collect();
        let all: Vec<(&str, &str)> =
            texts.iter().enumerate().map(|(i, text)| (text.as_str(), if i < 3 { "rare" } else { "common" })).collect();
        let rows = rows(&all);
        let warnings = warnings(&rows, &(0..40).collect::<Vec<_>>(), &(40..50).collect::<Vec<_>>());
        assert!(
            about(&warnings, "1 label of fewer than 5 rows (rare)").is_some()
                && about(&warnings, "only 10 rows:").is_some()
        );
        assert!(about(&warnings, "'common' would be right for 94.0%").is_some(), "{warnings:?}");
        assert!(about(&warnings, "1 label without a row in the test part").is_some());
    }

    #[test]
    fn a_clean_table_has_no_warning() {
        let texts: Vec<String> =
            (0..400).map(|i| format!("text {}{}", "x".repeat(i % 20), "y".repeat(i / 20))).collect();
        let all: Vec<(&str, &str)> =
            texts.iter().enumerate().map(|(i, text)| (text.as_str(), ["a", "b"][i % 2])).collect();
        let found = warnings(&rows(&all), &(0..200).collect::<Vec<_>>(), &(200..400).collect::<Vec<_>>());
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn sure_disagreements_and_useless_choices_are_told() {
        let rows = rows(&[("one", "a"), ("two", "b"), ("three", "a")]);
        let held =
            |row, answer: &str, confidence, correct| HeldOutAnswer { row, answer: answer.into(), confidence, correct };
        let held_out = [held(0, "b", 0.95, false), held(1, "a", 0.99, false), held(1, "a", 0.6, false)];
        let told = doubtful(&rows.rows, &[2, 1], &held_out).unwrap();
        assert!(
            told.starts_with("2 labels may") && told.find("line 3").unwrap() < told.find("line 4").unwrap(),
            "{told}"
        );
        assert!(useless(&rows.rows, &[0, 1, 2], 0.6).is_some_and(|told| told.contains("'a' would be right for 66.7%")));
        assert_eq!(useless(&rows.rows, &[0, 1, 2], 0.7), None);
        assert_eq!(doubtful(&rows.rows, &[0, 1], &[held(0, "a", 0.99, true)]), None);
    }
}
