use super::Link;
use crate::error::{StatsError, check_classes, check_len, check_min};

/// Memory is in proportion to rows times classes.
const MAX_CLASSES: usize = 10_000;

/// What training rows are labelled with.
#[derive(Debug, Clone, Copy)]
pub enum Labels<'a> {
    /// Exactly one class per row: probabilities add up to 1.
    One(&'a [usize]),
    /// Any number of classes per row, each at most once: every class has a probability of its own.
    Many(&'a [Vec<usize>]),
}

impl Labels<'_> {
    pub(crate) fn link(&self) -> Link {
        match self {
            Labels::One(_) => Link::Softmax,
            Labels::Many(_) => Link::Sigmoid,
        }
    }
}

/// Checked labels, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) classes: usize,
    pub(crate) link: Link,
    starts: Vec<usize>,
    labels: Vec<u32>,
}

impl Targets {
    pub(crate) fn new(labels: Labels<'_>, classes: usize, rows: usize) -> Result<Self, StatsError> {
        check_min("classes", classes, if matches!(labels, Labels::One(_)) { 2 } else { 1 })?;
        if classes > MAX_CLASSES {
            return Err(StatsError::Range { name: "classes", value: classes as f64, expected: "at most 10000" });
        }
        let mut targets = Self::empty(classes, labels.link());
        match labels {
            Labels::One(labels) => {
                check_len("labels", labels.len(), rows)?;
                check_classes("labels", labels, classes)?;
                labels.iter().for_each(|&label| targets.push([label as u32]));
            }
            Labels::Many(labels) => {
                check_len("labels", labels.len(), rows)?;
                for (row, of_row) in labels.iter().enumerate() {
                    let mut sorted: Vec<u32> = of_row.iter().map(|&label| label as u32).collect();
                    sorted.sort_unstable();
                    sorted.dedup();
                    if let Some(&class) = of_row.iter().find(|class| **class >= classes) {
                        return Err(StatsError::Class { name: "labels", row, class, classes });
                    }
                    targets.push(sorted);
                }
            }
        }
        Ok(targets)
    }

    pub(crate) fn empty(classes: usize, link: Link) -> Self {
        Self { classes, link, starts: vec![0], labels: Vec::new() }
    }

    pub(crate) fn push(&mut self, labels: impl IntoIterator<Item = u32>) {
        self.labels.extend(labels);
        self.starts.push(self.labels.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn of(&self, row: usize) -> &[u32] {
        &self.labels[self.starts[row]..self.starts[row + 1]]
    }

    /// The rows named, in that order.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let mut chosen = Self::empty(self.classes, self.link);
        rows.iter().for_each(|&row| chosen.push(self.of(row).iter().copied()));
        chosen
    }

    /// Rows per class.
    pub(crate) fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        self.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }
}
