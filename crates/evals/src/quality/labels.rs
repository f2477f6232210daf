use std::cmp::Reverse;
use std::collections::BTreeMap;

use bantam_stats::intervals::bootstrap;
use bantam_stats::metrics::{BinaryCounts, macro_f1};
use serde::Serialize;

use super::{Estimate, Judged, Judgements, QualityError, resampling};

/// Rows that are named as examples of a confusion.
const EXAMPLES: usize = 5;

/// One label, or one field, against all others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelQuality {
    /// Its index.
    pub label: usize,
    /// Rows that have it in truth.
    pub support: u64,
    /// Rows that were predicted to have it.
    pub predicted: u64,
    /// Rows where both hold; for fields, with the right value.
    pub right: u64,
    /// The share of predicted ones that are right; `None` if none was predicted.
    pub precision: Option<f64>,
    /// The share of true ones that was predicted right; `None` if there are none.
    pub recall: Option<f64>,
    /// The harmonic mean of both; `None` if there are neither true nor predicted ones.
    pub f1: Option<f64>,
}

pub(super) struct LabelFigures {
    pub(super) macro_f1: Option<Estimate>,
    pub(super) micro_f1: Option<f64>,
    pub(super) per_label: Vec<LabelQuality>,
}

/// What one row did for one label.
#[derive(Clone, Copy)]
enum Mark {
    Right(usize),
    Missed(usize),
    Invented(usize),
}

fn marks(row: &Judged) -> Vec<Mark> {
    let Some(predicted) = &row.predicted else { return row.truth.iter().map(|&label| Mark::Missed(label)).collect() };
    let right = |label: &usize| row.truth.contains(label) && !predicted.wrong_values.contains(label);
    let of_predicted =
        predicted.labels.iter().map(|label| if right(label) { Mark::Right(*label) } else { Mark::Invented(*label) });
    let missed = row.truth.iter().filter(|label| !predicted.labels.contains(label) || !right(label));
    of_predicted.chain(missed.map(|&label| Mark::Missed(label))).collect()
}

fn add(counts: &mut [BinaryCounts], marks: &[Mark]) {
    for mark in marks {
        match *mark {
            Mark::Right(label) => counts[label].true_positives += 1,
            Mark::Missed(label) => counts[label].false_negatives += 1,
            Mark::Invented(label) => counts[label].false_positives += 1,
        }
    }
}

pub(super) fn quality(judged: &Judgements<'_>) -> Result<LabelFigures, QualityError> {
    let marks: Vec<Vec<Mark>> = judged.rows.iter().map(marks).collect();
    let mut counts = vec![BinaryCounts::default(); judged.labels.len()];
    marks.iter().for_each(|marks| add(&mut counts, marks));

    let mut per_label: Vec<_> = counts.iter().enumerate().map(|(label, counts)| label_quality(label, counts)).collect();
    let mistakes = |quality: &LabelQuality| quality.support + quality.predicted - 2 * quality.right;
    per_label.sort_by_key(|quality| (Reverse(mistakes(quality)), Reverse(quality.support), quality.label));

    if marks.iter().all(Vec::is_empty) {
        return Ok(LabelFigures { macro_f1: None, micro_f1: None, per_label });
    }
    let micro_f1 = counts.iter().copied().sum::<BinaryCounts>().f1();
    let found = bootstrap(marks.len(), &resampling(marks.len()), |rows| {
        counts.fill(BinaryCounts::default());
        rows.iter().for_each(|&row| add(&mut counts, &marks[row]));
        macro_f1(&counts)
    })?;
    let macro_f1 = Estimate { value: found.estimate, lower: found.interval.lower, upper: found.interval.upper };
    Ok(LabelFigures { macro_f1: Some(macro_f1), micro_f1: Some(micro_f1), per_label })
}

fn label_quality(label: usize, counts: &BinaryCounts) -> LabelQuality {
    let (support, predicted) = (counts.support(), counts.true_positives + counts.false_positives);
    LabelQuality {
        label,
        support,
        predicted,
        right: counts.true_positives,
        precision: (predicted > 0).then(|| counts.precision()),
        recall: (support > 0).then(|| counts.recall()),
        f1: (support + predicted > 0).then(|| counts.f1()),
    }
}

/// How well rows that fit no label are told from those that do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScopeQuality {
    /// The label that means none of the others.
    pub label: usize,
    /// Of the rows that are out of scope, the share that was predicted so.
    pub recall: Option<Estimate>,
    /// Of the rows predicted to be out of scope, the share that is.
    pub precision: Option<Estimate>,
    /// Of the rows in scope, the share that got their label.
    pub in_scope_accuracy: Option<Estimate>,
}

pub(super) fn scope(judged: &Judgements<'_>) -> Result<Option<ScopeQuality>, QualityError> {
    let Some(label) = judged.out_of_scope else { return Ok(None) };
    let is_out = |row: &&Judged| row.truth.contains(&label);
    let said_out = |row: &&Judged| row.predicted.as_ref().is_some_and(|predicted| predicted.labels.contains(&label));
    let (out, inside): (Vec<_>, Vec<_>) = judged.rows.iter().partition(is_out);
    let said = judged.rows.iter().filter(said_out).count();
    let both = out.iter().copied().filter(said_out).count();
    let right_inside = inside.iter().filter(|row| row.is_right()).count();
    Ok(Some(ScopeQuality {
        label,
        recall: Estimate::share(both, out.len())?,
        precision: Estimate::share(both, said)?,
        in_scope_accuracy: Estimate::share(right_inside, inside.len())?,
    }))
}

/// Rows of one true label with one prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfusionCell {
    /// The true label.
    pub truth: usize,
    /// What was predicted; `None` for no prediction.
    pub predicted: Option<usize>,
    /// How many rows.
    pub rows: usize,
    /// The numbers of the first few of them.
    pub examples: Vec<usize>,
}

/// What was taken for what: only the pairs that occur.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// By descending rows, then by label.
    pub cells: Vec<ConfusionCell>,
}

impl Confusion {
    pub(super) fn new(rows: &[Judged]) -> Self {
        let mut cells: BTreeMap<(usize, Option<usize>), Vec<usize>> = BTreeMap::new();
        for row in rows {
            let predicted = row.predicted.as_ref().and_then(|predicted| predicted.labels.first().copied());
            for &truth in &row.truth {
                cells.entry((truth, predicted)).or_default().push(row.row);
            }
        }
        let cell = |((truth, predicted), rows): (_, Vec<usize>)| ConfusionCell {
            truth,
            predicted,
            rows: rows.len(),
            examples: rows.iter().copied().take(EXAMPLES).collect(),
        };
        let mut cells: Vec<_> = cells.into_iter().map(cell).collect();
        cells.sort_by_key(|cell| Reverse(cell.rows));
        Self { cells }
    }

    /// The wrong ones, the most frequent first.
    pub fn mistakes(&self) -> impl Iterator<Item = &ConfusionCell> {
        self.cells.iter().filter(|cell| cell.predicted != Some(cell.truth))
    }
}
