use serde::Serialize;

use super::evaluation::{about, footer, tiles};
use super::page::{Block, Page, Section, html};
use super::table::{Align, Table};
use super::{About, LONGEST, ReportError, sections};
use crate::quality::{Answerable, Paired, Quality, QualityError};
use crate::svg::{self, IntervalRow, MAX_CURVES, RiskCurve};
use crate::text::{
    NONE, bytes, counted, difference, dollars, estimate, percent, percent_or_none, seconds, shortened, significant,
};

/// One system of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// What it is called.
    pub name: String,
    /// How it did.
    pub quality: Quality,
    /// The most memory it held.
    pub ram_bytes: Option<u64>,
    /// What a million rows cost, in US dollars.
    pub cost_per_million: Option<f64>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// A system that was not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// What it is called.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// Several systems on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contest {
    /// What was run on what.
    pub about: About,
    /// What the rows are answered by today.
    pub baseline: Option<Candidate>,
    /// What could answer them.
    pub candidates: Vec<Candidate>,
    /// The candidate of choice, by its place in `candidates`.
    pub winner: Option<usize>,
    /// What could not be measured.
    pub skipped: Vec<Skipped>,
    /// What makes the figures doubtful: duplicates, label noise, leakage.
    pub warnings: Vec<String>,
    /// How figures and choice came about.
    pub notes: Vec<String>,
}

/// A candidate beside the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Standing {
    /// On the rows that both were judged on.
    pub paired: Option<Paired>,
    /// What it could answer at the accuracy of the baseline.
    pub at_baseline: Option<Answerable>,
}

/// A [`Contest`] with what only the comparison shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What was compared.
    #[serde(flatten)]
    pub contest: Contest,
    /// One for each candidate.
    pub standings: Vec<Standing>,
}

impl Comparison {
    /// Sets every candidate beside the baseline.
    ///
    /// # Errors
    /// See [`QualityError`].
    pub fn new(contest: Contest) -> Result<Self, QualityError> {
        let standing = |candidate: &Candidate| -> Result<Standing, QualityError> {
            let Some(baseline) = &contest.baseline else { return Ok(Standing { paired: None, at_baseline: None }) };
            let at_baseline = candidate.quality.answerable_at(baseline.quality.accuracy.value)?;
            Ok(Standing { paired: candidate.quality.against(&baseline.quality)?, at_baseline })
        };
        let standings = contest.candidates.iter().map(standing).collect::<Result<_, _>>()?;
        Ok(Self { contest, standings })
    }

    fn winner(&self) -> Option<(&Candidate, &Standing)> {
        let index = self.contest.winner?;
        Some((self.contest.candidates.get(index)?, self.standings.get(index)?))
    }

    /// The outcome in one or two sentences.
    #[must_use]
    pub fn verdict(&self) -> String {
        let Some((winner, standing)) = self.winner() else {
            return format!(
                "None of {} is good enough.",
                counted(self.contest.candidates.len(), "candidate", "candidates")
            );
        };
        let head =
            format!("{} answers {} of the rows right", shortened(&winner.name, 60), estimate(&winner.quality.accuracy));
        let Some(baseline) = &self.contest.baseline else { return format!("{head}.") };
        let name = shortened(&baseline.name, 60);
        let beside = format!("{name} {}", estimate(&baseline.quality.accuracy));
        let sure = standing.paired.map_or_else(String::new, |paired| {
            let said = if paired.p_value < 0.05 { "is more than chance" } else { "may be chance" };
            let on = match (paired.rows, paired.rows) == (winner.quality.rows, baseline.quality.rows) {
                true => "The".to_owned(),
                false => format!("On the {} that both were judged on, the", counted(paired.rows, "row", "rows")),
            };
            let (points, p) = (difference(&paired.difference), p_value(paired.p_value));
            format!(" {on} difference of {points} points {said} ({p}).")
        });
        let cost = match (winner.cost_per_million, baseline.cost_per_million) {
            (Some(new), Some(old)) => {
                format!(" A million rows cost {} instead of {}.", dollars(new), dollars(old))
            }
            _ => String::new(),
        };
        let observed = standing.at_baseline.and_then(|at| at.observed);
        let share = observed.filter(|observed| observed.coverage < 1.0).map_or_else(String::new, |observed| {
            format!(" It could answer {} of the rows as well as {name} answers all.", percent(observed.coverage))
        });
        format!("{head}, {beside}.{sure}{share}{cost}")
    }

    /// One line for the baseline and each candidate.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new([
            ("candidate", Align::Left),
            ("accuracy", Align::Right),
            ("vs baseline", Align::Right),
            ("p50", Align::Right),
            ("p95", Align::Right),
            ("p99", Align::Right),
            ("rows/h", Align::Right),
            ("RAM", Align::Right),
            ("$/1M rows", Align::Right),
            ("at baseline's", Align::Right),
        ]);
        let baseline = self.contest.baseline.iter().map(|baseline| (baseline, None));
        let candidates = self.contest.candidates.iter().zip(self.standings.iter().map(Some));
        table.rows = baseline.chain(candidates).map(|(candidate, standing)| line(candidate, standing)).collect();
        let offset = usize::from(self.contest.baseline.is_some());
        table.strong = self.winner().and(self.contest.winner).map(|winner| winner + offset);
        table
    }

    /// The report as one HTML file.
    ///
    /// # Errors
    /// [`ReportError::Render`].
    pub fn html(&self) -> Result<String, ReportError> {
        let contest = &self.contest;
        let mut all = Vec::new();
        if !contest.warnings.is_empty() {
            let blocks = vec![Block::Warnings(contest.warnings.iter().map(|it| shortened(it, LONGEST)).collect())];
            all.push(Section { title: "Before you rely on this".to_owned(), blocks });
        }
        all.push(self.candidates());
        all.extend(self.answered());
        if let Some((winner, _)) = self.winner() {
            let title = format!("{} in detail", shortened(&winner.name, 60));
            let blocks = vec![Block::Table(sections::figures(&winner.quality))];
            all.push(Section { title, blocks });
            all.extend(sections::details(&winner.quality));
        }
        if !contest.skipped.is_empty() {
            let mut table = Table::new([("not run", Align::Left), ("why", Align::Left)]);
            table
                .rows
                .extend(contest.skipped.iter().map(|it| vec![shortened(&it.name, 80), shortened(&it.reason, LONGEST)]));
            all.push(Section { title: "What was not measured".to_owned(), blocks: vec![Block::Table(table)] });
        }
        all.push(about(&contest.about));
        let page = Page {
            kind: "Comparison",
            title: shortened(&contest.about.task, 120),
            verdict: self.verdict(),
            tiles: self.winner().map(|(winner, _)| tiles(&winner.quality)).unwrap_or_default(),
            sections: all,
            footer: footer(&contest.about),
        };
        Ok(html(&page)?)
    }

    fn candidates(&self) -> Section {
        let contest = &self.contest;
        let rows: Vec<_> = contest.candidates.iter().map(interval_row).collect();
        let mark = if contest.baseline.is_some() { " The dashed line is the baseline." } else { "" };
        let caption = format!(
            "Dots are the shares of rows answered right, bands their 95% intervals: systems whose bands overlap widely \
             may well be equally good.{mark}"
        );
        let mut blocks = vec![Block::Table(self.table())];
        if contest.baseline.is_some() {
            let note = "“vs baseline” is the difference in percentage points on the same rows, with its 95% interval. “At \
                        baseline's” is the share of rows that a candidate could answer, surest first, as often right as \
                        the baseline is on all rows.";
            blocks.push(Block::Text(note.to_owned()));
        }
        let notes = contest.baseline.iter().chain(&contest.candidates).flat_map(|candidate| {
            candidate
                .notes
                .iter()
                .map(|note| format!("{}: {}", shortened(&candidate.name, 60), shortened(note, LONGEST)))
        });
        blocks.extend(notes.map(Block::Text));
        blocks.extend(contest.notes.iter().map(|note| Block::Text(shortened(note, LONGEST))));
        blocks
            .push(Block::Picture { svg: svg::intervals(contest.baseline.as_ref().map(interval_row), &rows), caption });
        Section { title: "Candidates".to_owned(), blocks }
    }

    /// The risk-coverage curves of those with confidences, the best first.
    fn answered(&self) -> Option<Section> {
        let mut of: Vec<_> = self.contest.baseline.iter().chain(&self.contest.candidates).collect();
        of.sort_by(|a, b| b.quality.accuracy.value.total_cmp(&a.quality.accuracy.value));
        let curves: Vec<_> = of.into_iter().filter_map(curve).collect();
        if curves.is_empty() {
            return None;
        }
        let more = match curves.len().saturating_sub(MAX_CURVES) {
            0 => String::new(),
            n => format!(" {} with a lower accuracy are not drawn.", counted(n, "candidate", "candidates")),
        };
        let dashed = match self.contest.baseline {
            Some(_) => " Where a curve is below the dashed line, its answers are better than the baseline's.",
            None => "",
        };
        let caption = format!(
            "What happens if only the surest rows are answered: the lower a curve, the fewer wrong answers among them. Dots \
             at the right are all rows with a confidence.{dashed}{more}"
        );
        let blocks = vec![Block::Picture {
            svg: svg::risk_coverage(&curves, self.contest.baseline.as_ref().map(interval_row)),
            caption,
        }];
        Some(Section { title: "How much each could answer".to_owned(), blocks })
    }
}

fn curve(candidate: &Candidate) -> Option<RiskCurve<'_>> {
    let confidence = candidate.quality.confidence.as_ref()?;
    Some(RiskCurve { name: &candidate.name, points: &confidence.curve, marked: None })
}

fn interval_row(candidate: &Candidate) -> IntervalRow<'_> {
    IntervalRow { name: &candidate.name, value: candidate.quality.accuracy }
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "p\u{a0}<\u{a0}0.001".to_owned() } else { format!("p\u{a0}=\u{a0}{}", significant(p)) }
}

fn line(candidate: &Candidate, standing: Option<&Standing>) -> Vec<String> {
    let quality = &candidate.quality;
    let time = |of: fn(&bantam_stats::metrics::Percentiles) -> f64| {
        quality.latency.as_ref().map_or_else(|| NONE.to_owned(), |latency| seconds(of(&latency.percentiles)))
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let observed = standing.and_then(|standing| standing.at_baseline?.observed);
    vec![
        shortened(&candidate.name, 60),
        estimate(&quality.accuracy),
        or_none(standing.and_then(|standing| Some(difference(&standing.paired?.difference)))),
        time(|of| of.p50),
        time(|of| of.p95),
        time(|of| of.p99),
        or_none(quality.rows_per_hour.map(significant)),
        or_none(candidate.ram_bytes.map(bytes)),
        or_none(candidate.cost_per_million.map(dollars)),
        percent_or_none(observed.map(|observed| observed.coverage)),
    ]
}
