use serde::Serialize;

use super::page::{Block, Page, Section, Tile, html};
use super::{About, ReportError, Table, sections};
use crate::quality::Quality;
use crate::text::{counted, interval, percent, round_percent, seconds, shortened, significant};

/// How one system did on one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// What was run on what.
    pub about: About,
    /// The figures.
    pub quality: Quality,
}

impl Evaluation {
    /// The outcome in one or two sentences.
    #[must_use]
    pub fn verdict(&self) -> String {
        let quality = &self.quality;
        let head = format!(
            "{} of {} {} answered right {}",
            percent(quality.accuracy.value),
            counted(quality.rows, "row", "rows"),
            if quality.rows == 1 { "was" } else { "were" },
            interval(&quality.accuracy)
        );
        let failed = match quality.failed {
            0 => String::new(),
            n => format!("; {} got no answer", counted(n, "row", "rows")),
        };
        let confidence = quality.confidence.as_ref();
        let selected = confidence.and_then(|confidence| sections::threshold(quality, confidence));
        let selected = selected.map_or_else(String::new, |selected| {
            let text = sections::selection(&selected);
            let mut chars = text.chars();
            chars.next().map_or_else(String::new, |first| format!(" {}{}.", first.to_uppercase(), chars.as_str()))
        });
        format!("{head}{failed}.{selected}")
    }

    /// The figures as texts: name, value, and how it is to be read.
    #[must_use]
    pub fn table(&self) -> Table {
        sections::figures(&self.quality)
    }

    /// The report as one HTML file.
    ///
    /// # Errors
    /// [`ReportError::Render`].
    pub fn html(&self) -> Result<String, ReportError> {
        let mut all = vec![Section { title: "Figures".to_owned(), blocks: vec![Block::Table(self.table())] }];
        all.extend(sections::details(&self.quality));
        all.push(about(&self.about));
        let page = Page {
            kind: "Evaluation",
            title: shortened(&self.about.task, 120),
            verdict: self.verdict(),
            tiles: tiles(&self.quality),
            sections: all,
            footer: footer(&self.about),
        };
        Ok(html(&page)?)
    }
}

pub(super) fn about(about: &About) -> Section {
    Section { title: "About this run".to_owned(), blocks: vec![Block::Table(about.table())] }
}

pub(super) fn footer(about: &About) -> String {
    format!(
        "Intervals are 95%: exact (Clopper and Pearson) for shares, bootstrap for F1 and for differences. Made by {} on {}.",
        shortened(&about.program, 60),
        shortened(&about.date, 40)
    )
}

/// The figures that are asked for first.
pub(super) fn tiles(quality: &Quality) -> Vec<Tile> {
    let mut tiles = vec![Tile {
        name: "accuracy",
        value: percent(quality.accuracy.value),
        note: format!("{}, {}", interval(&quality.accuracy), counted(quality.rows, "row", "rows")),
    }];
    if let Some(macro_f1) = &quality.macro_f1 {
        tiles.push(Tile { name: "macro-F1", value: percent(macro_f1.value), note: interval(macro_f1) });
    }
    if let Some(confidence) = &quality.confidence {
        let at = confidence.answerable.iter().find(|at| at.target > quality.accuracy.value && at.observed.is_some());
        if let Some((at, observed)) = at.and_then(|at| Some((at, at.observed?))) {
            let note = format!("of the rows, with {} right", round_percent(at.target));
            tiles.push(Tile { name: "answerable", value: percent(observed.coverage), note });
        }
    }
    if let Some(latency) = &quality.latency {
        let note = format!("half within {}", seconds(latency.percentiles.p50));
        tiles.push(Tile { name: "95% of rows within", value: seconds(latency.percentiles.p95), note });
    }
    if let Some(rate) = quality.rows_per_hour {
        tiles.push(Tile { name: "rows per hour", value: significant(rate), note: "on this machine".to_owned() });
    }
    tiles
}
