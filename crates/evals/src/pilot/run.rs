//! From offers to a choice: each candidate in its turn, then the threshold of the one chosen.

use std::path::PathBuf;
use std::sync::Arc;

use bantam_tasks::fit::{self, FittedFile, HeldOutAnswer, Labelled};
use bantam_tasks::{Otherwise, Runner};
use serde::Serialize;

use super::accept::{self, Acceptance, Pace};
use super::columns::Columns;
use super::draft::Variant;
use super::measure::{Measured, measure};
use super::memory::resident_bytes;
use super::rows::{Counts, Row};
use super::{
    Contender, Event, Method, Offer, OnEvent, Open, Pilot, PilotError, RULE, SUMMARY_FILE, Stop, choice, warnings,
};
use crate::judge::{Judge, confidence_kind};
use crate::quality::{ConfidenceKind, Judged, Judgements, Quality};
use crate::report::{About, Candidate, Comparison, Contest, Skipped};
use crate::text::{count, dollars};

/// What a promise does not cover.
const UNLIKE: &str = "None of this holds for texts unlike these rows: a head knows only the labels it was taught. If off-topic texts will \
                      come, label some of them, name that label with `none` in the task file, and fit it again.";
/// What the recorded answers are called.
const BASELINE: &str = "recorded LLM";
/// The accuracy that is promised where there is no LLM to reach.
const DEFAULT_TARGET: f64 = 0.95;
/// Recorded answers among the training rows below which they say too little of the LLM's accuracy.
const MIN_RECORDED: usize = 20;

/// What a pilot found.
#[derive(Debug)]
pub struct Outcome {
    contest: Contest,
    summary: Summary,
}

/// A pilot beside its comparison.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The task file of the choice.
    pub task_file: Option<PathBuf>,
    /// From which confidence on its answers are taken; nothing if it gives none.
    pub acceptance: Option<Acceptance>,
    /// Whether all candidates had their turn.
    pub is_complete: bool,
    /// The columns that were used.
    pub columns: Columns,
    /// What became of the table's lines.
    pub counts: Counts,
    /// The labels.
    pub labels: Vec<String>,
    /// Rows that taught.
    pub train_rows: usize,
    /// Rows that judged.
    pub test_rows: usize,
    /// What an hour of this machine was said to cost, in US dollars.
    pub machine_cost_per_hour: f64,
}

/// Everything, as `pilot.json` has it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How the comparison came about and what it led to.
    pub pilot: Summary,
    /// The candidates side by side.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// A candidate that was measured, with what is needed if it is chosen.
struct Entry<'a> {
    candidate: Candidate,
    offer: &'a Offer,
    method: Method,
    judged: Vec<Judged>,
    rate: f64,
    fit: Option<(FittedFile, Vec<HeldOutAnswer>)>,
}

impl Pilot {
    /// Measures what is recorded and every offer, chooses, and writes the task of the choice with what was fitted.
    ///
    /// # Errors
    /// [`PilotError`]; an offer that cannot be measured is told in the report instead.
    pub fn run(
        &self,
        offers: &[Offer],
        open: &mut Open<'_>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<Outcome, PilotError> {
        let test: Vec<&Row> = self.split.test.iter().map(|&i| &self.rows.rows[i]).collect();
        let baseline = self.baseline(&test)?;
        let mut warnings = self.warnings.clone();
        let (mut entries, mut skipped, mut is_complete) = (Vec::new(), Vec::new(), true);
        'offers: for offer in offers {
            let before = resident_bytes();
            let mut skip = |name: String, reason: String, on_event: &mut OnEvent<'_>| {
                let told = on_event(Event::Skipped { name: &name, reason: &reason });
                skipped.push(Skipped { name, reason });
                told
            };
            if on_event(Event::Begins { name: &offer.model }).is_break() {
                is_complete = false;
                break;
            }
            let contender = match open(offer) {
                Ok(contender) => contender,
                Err(reason) => {
                    let _ = skip(offer.model.clone(), reason, on_event);
                    continue;
                }
            };
            for method in self.methods(&contender) {
                match self.entry(offer, &contender, *method, &test, on_event) {
                    Ok(mut entry) => {
                        let risen = resident_bytes().zip(before).map(|(now, before)| now.saturating_sub(before));
                        entry.candidate.ram_bytes = risen.filter(|_| offer.server.is_none());
                        if let Some((_, held_out)) = &entry.fit {
                            warnings.extend(warnings::doubtful(&self.rows.rows, &self.split.train, held_out));
                        }
                        let told = on_event(Event::Measured(&entry.candidate));
                        entries.push(entry);
                        if told.is_break() {
                            is_complete = false;
                            break 'offers;
                        }
                    }
                    Err(Stop::Failed(reason)) => {
                        let _ = skip(method.name(&offer.model), reason, on_event);
                    }
                    Err(Stop::Asked) => {
                        is_complete = false;
                        break 'offers;
                    }
                    Err(Stop::Fatal(error)) => return Err(error),
                }
            }
        }
        if entries.is_empty() && !is_complete {
            return Err(PilotError::Stopped);
        }
        if !is_complete {
            warnings.push("it was stopped before all candidates had their turn".to_owned());
        }
        let candidates: Vec<Candidate> = entries.iter().map(|entry| entry.candidate.clone()).collect();
        let winner = choice::winner(baseline.as_ref(), &candidates)?;
        let mut contest = Contest { winner, skipped, warnings, baseline, candidates, ..self.contest() };
        let mut summary = self.summary(is_complete);
        if let Some(index) = winner {
            let entry = &entries[index];
            let accuracy = entry.candidate.quality.accuracy.value;
            contest.warnings.extend(warnings::useless(&self.rows.rows, &self.split.test, accuracy));
            let (path, acceptance) = self.write(entry, open, on_event)?;
            summary.task_file = Some(path);
            summary.acceptance = acceptance;
            match &acceptance {
                Some(acceptance) => contest.notes.push(format!("In the task file, {}.", acceptance.sentence())),
                None => contest.warnings.push(
                    "the choice has no confidence that could be calibrated here: its task file accepts every answer"
                        .to_owned(),
                ),
            }
            if entry.fit.is_some() {
                contest.notes.push(UNLIKE.to_owned());
            }
            // The threshold is on the scale of these confidences only where they are those of the fitted head.
            if let (Some(acceptance), Some(_)) = (&acceptance, &entry.fit) {
                let kind = ConfidenceKind::Calibrated;
                let quality = self.quality(&entry.judged, kind, entry.rate, Some(acceptance.confidence))?;
                contest.candidates[index].quality = quality;
            }
        }
        Ok(Outcome { contest, summary })
    }

    fn methods(&self, contender: &Contender) -> &'static [Method] {
        match contender {
            Contender::Encoder(_) => &[Method::Head],
            Contender::Generating(_) if self.examples.is_empty() => &[Method::ZeroShot],
            Contender::Generating(_) => &[Method::ZeroShot, Method::FewShot],
        }
    }

    fn variant<'a>(&'a self, offer: &'a Offer, method: Method) -> Variant<'a> {
        let server = offer.server.as_ref();
        Variant {
            model: Some(&offer.model),
            server: server.map(|server| server.url.as_str()),
            api_key_env: server.and_then(|server| server.api_key_env.as_deref()),
            examples: if method == Method::FewShot { &self.examples } else { &[] },
            accept: None,
        }
    }

    fn entry<'a>(
        &self,
        offer: &'a Offer,
        contender: &Contender,
        method: Method,
        test: &[&Row],
        on_event: &mut OnEvent<'_>,
    ) -> Result<Entry<'a>, Stop> {
        let name = method.name(&offer.model);
        if on_event(Event::Begins { name: &name }).is_break() {
            return Err(Stop::Asked);
        }
        let task = Arc::new(self.task(&self.variant(offer, method))?);
        let failed = |error: bantam_tasks::TaskError| Stop::Failed(error.to_string());
        let (runner, fit) = match contender {
            Contender::Generating(model) => (Runner::generating(task, &**model, None).map_err(failed)?, None),
            Contender::Encoder(encoder) => {
                let rows = self.labelled();
                let mut asked = false;
                let fitted = fit::fit_encoder(&task, encoder, &rows, &mut |step| {
                    let done = (step.share * rows.len() as f64) as usize;
                    let told = on_event(Event::At { what: step.what, done, total: rows.len() });
                    asked |= told.is_break();
                    told
                });
                if asked {
                    return Err(Stop::Asked);
                }
                let fitted = fitted.map_err(failed)?;
                let runner = Runner::encoder(task, encoder.clone(), &fitted.file).map_err(failed)?;
                (runner, Some((fitted.file, fitted.held_out)))
            }
        };
        let Measured { judged, results, rate, failed, .. } =
            measure(&runner, test, self.config.per_candidate, on_event)?;
        let quality = self.quality(&judged, confidence_kind(results.iter()), rate, None)?;
        let mut notes = Vec::new();
        if judged.len() < test.len() {
            notes.push(format!(
                "judged on {} of the {} rows, chosen by hash: the time for one candidate was up",
                judged.len(),
                test.len()
            ));
        }
        if !failed.is_empty() {
            let reasons: Vec<String> = failed.iter().map(|(code, n)| format!("{n} {code}")).collect();
            notes.push(format!("rows without an answer: {}", reasons.join(", ")));
        }
        let hours_per_million = quality.rows_per_hour.map(|rate| 1e6 / rate);
        let cost = hours_per_million.map(|hours| hours * self.config.machine_cost_per_hour);
        let cost_per_million = cost.filter(|_| offer.server.is_none());
        let candidate = Candidate { name, quality, ram_bytes: None, cost_per_million, notes };
        Ok(Entry { candidate, offer, method, judged, rate, fit })
    }

    fn labelled(&self) -> Vec<Labelled> {
        let rows = self.split.train.iter().map(|&i| &self.rows.rows[i]);
        rows.map(|row| Labelled { input: vec![row.text.clone()], answer: row.answer.clone() }).collect()
    }

    fn quality(
        &self,
        judged: &[Judged],
        kind: ConfidenceKind,
        rate: f64,
        threshold: Option<f64>,
    ) -> Result<Quality, PilotError> {
        let judge = Judge::new(&self.task(&Variant::default())?);
        let wall_seconds = (rate > 0.0 && rate.is_finite()).then(|| judged.len() as f64 / rate);
        Ok(Quality::new(&Judgements { threshold, wall_seconds, ..judge.judgements(judged, kind) })?)
    }

    /// What the LLM of today answered to the rows that judge.
    fn baseline(&self, test: &[&Row]) -> Result<Option<Candidate>, PilotError> {
        let judged = self.recorded(test.iter().copied())?;
        if judged.is_empty() {
            return Ok(None);
        }
        let quality = self.quality(&judged, ConfidenceKind::Raw, 0.0, None)?;
        let costs: Vec<f64> = test.iter().filter_map(|row| row.llm.cost).collect();
        let mean = costs.iter().sum::<f64>() / costs.len().max(1) as f64;
        Ok(Some(Candidate {
            name: BASELINE.to_owned(),
            quality,
            ram_bytes: None,
            cost_per_million: (!costs.is_empty()).then_some(mean * 1e6),
            notes: Vec::new(),
        }))
    }

    fn recorded<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Result<Vec<Judged>, PilotError> {
        let judge = Judge::new(&self.task(&Variant::default())?);
        let judged = |row: &Row| {
            let (truth, predicted) = judge.sides(&row.answer, row.llm.answer.as_ref()?);
            let number = usize::try_from(row.line).unwrap_or(usize::MAX);
            Some(Judged { row: number, truth, predicted, latency: row.llm.latency })
        };
        Ok(rows.filter_map(judged).collect())
    }

    /// The accuracy that is to be promised: the LLM's, on the rows that teach.
    fn target(&self) -> Result<f64, PilotError> {
        let judged = self.recorded(self.split.train.iter().map(|&i| &self.rows.rows[i]))?;
        if judged.len() < MIN_RECORDED {
            return Ok(DEFAULT_TARGET);
        }
        Ok(judged.iter().filter(|row| row.is_right()).count() as f64 / judged.len() as f64)
    }

    /// Writes the task file and what was fitted for it.
    fn write(
        &self,
        entry: &Entry<'_>,
        open: &mut Open<'_>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(PathBuf, Option<Acceptance>), PilotError> {
        let target = self.target()?;
        let (fitted, acceptance) = match &entry.fit {
            Some((file, held_out)) => {
                let confidences: Vec<f64> = held_out.iter().map(|held| held.confidence).collect();
                let correct: Vec<bool> = held_out.iter().map(|held| held.correct).collect();
                (Some(file.clone()), Acceptance::new(&confidences, &correct, target)?)
            }
            None => self.calibrated(entry, target, open, on_event)?,
        };
        let is_recorded = self.columns.llm_answer.is_some();
        let otherwise = if is_recorded { Otherwise::Escalate } else { Otherwise::Review };
        let variant = self.variant(entry.offer, entry.method);
        let variant = Variant { accept: acceptance.map(|acceptance| (acceptance.confidence, otherwise)), ..variant };
        fs_err::create_dir_all(&self.config.out)?;
        let task = self.task(&variant)?;
        match fitted {
            Some(fitted) => fitted.save(&task.fitted)?,
            // What an earlier pilot fitted goes with no other task.
            None if task.fitted.is_file() => fs_err::remove_file(&task.fitted)?,
            None => {}
        }
        let path = self.config.out.join(format!("{}.toml", self.config.name));
        fs_err::write(&path, self.draft().text(&variant)?)?;
        Ok((path, acceptance))
    }

    /// The calibration of a generating model that was chosen, and its threshold.
    fn calibrated(
        &self,
        entry: &Entry<'_>,
        target: f64,
        open: &mut Open<'_>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(Option<FittedFile>, Option<Acceptance>), PilotError> {
        let name = format!("{}: what its confidence is worth", entry.candidate.name);
        if on_event(Event::Begins { name: &name }).is_break() {
            return Ok((None, None));
        }
        let Ok(Contender::Generating(model)) = open(entry.offer) else { return Ok((None, None)) };
        let task = Arc::new(self.task(&self.variant(entry.offer, entry.method))?);
        let bind = |fitted: Option<&FittedFile>| Ok(Runner::generating(Arc::clone(&task), &*model, fitted)?);
        let mut rows: Vec<usize> = self.split.train.iter().copied().filter(|i| !self.examples.contains(i)).collect();
        rows.sort_by_cached_key(|&i| (bantam_stats::split::hash(&self.rows.rows[i].text, "bantam-pilot-order"), i));
        let rows: Vec<&Row> = rows.into_iter().map(|i| &self.rows.rows[i]).collect();
        let pace = Pace { budget: self.config.per_candidate, rate: entry.rate };
        Ok(match accept::calibrated(&bind, &rows, target, &pace, on_event)? {
            Some((fitted, acceptance)) => (Some(fitted), acceptance),
            None => (None, None),
        })
    }

    fn contest(&self) -> Contest {
        let cost = dollars(self.config.machine_cost_per_hour);
        Contest {
            about: About::default(),
            baseline: None,
            candidates: Vec::new(),
            winner: None,
            skipped: Vec::new(),
            warnings: Vec::new(),
            notes: vec![
                RULE.to_owned(),
                format!(
                    "{} rows taught and {} judged, split by a hash of their text. Latencies are of single requests, one after \
                     another; rows per hour are of requests computed together; no row was asked twice. RAM is by how much the \
                     process grew, with the cache of prompts. Costs here are {cost} per hour of this machine, fully used; those of the recorded LLM are \
                     the table's.",
                    count(self.split.train.len()),
                    count(self.split.test.len())
                ),
            ],
        }
    }

    fn summary(&self, is_complete: bool) -> Summary {
        Summary {
            task_file: None,
            acceptance: None,
            is_complete,
            columns: self.columns.clone(),
            counts: self.rows.counts.clone(),
            labels: self.rows.labels.clone(),
            train_rows: self.split.train.len(),
            test_rows: self.split.test.len(),
            machine_cost_per_hour: self.config.machine_cost_per_hour,
        }
    }

    /// Writes the report and its figures beside the task.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn report(&self, outcome: Outcome, about: About) -> Result<Report, PilotError> {
        let comparison = Comparison::new(Contest { about, ..outcome.contest })?;
        let report = Report { pilot: outcome.summary, comparison };
        fs_err::create_dir_all(&self.config.out)?;
        let json = serde_json::to_vec_pretty(&report).map_err(std::io::Error::from)?;
        fs_err::write(self.config.out.join(SUMMARY_FILE), json)?;
        fs_err::write(self.config.out.join("report.html"), report.comparison.html()?)?;
        Ok(report)
    }
}

impl Method {
    fn name(self, model: &str) -> String {
        match self {
            Method::Head => format!("{model} + head"),
            Method::ZeroShot => format!("{model}, no examples"),
            Method::FewShot => format!("{model}, with examples"),
        }
    }
}
