//! One candidate on the test part.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bantam_tasks::{RowError, Runner, TaskResult};

use super::rows::Row;
use super::{Event, Stop};
use crate::judge::{Judge, Ran};
use crate::quality::Judged;

/// Rows that are asked one at a time, for their latency.
const SINGLES: usize = 100;
/// Share of the rows, and of the time, that those may be.
const SINGLES_SHARE: f64 = 0.33;
/// Rows that are asked together at first, and later where they are fast.
const FIRST_BATCH: usize = 8;
const MAX_BATCH: usize = 64;
/// Rows without any answer after which a model that fails is given up.
const ROWS_TO_FAIL: usize = 3;
/// A batch that is faster than this may be followed by a larger one.
const FAST_BATCH: Duration = Duration::from_millis(500);

/// What became of the rows.
pub(super) struct Measured {
    /// As far as time allowed, in the order given; those asked alone have a latency.
    pub(super) judged: Vec<Judged>,
    pub(super) results: Vec<TaskResult>,
    /// Rows a second, of the rows asked together.
    pub(super) rate: f64,
    /// Rows without an answer, by reason.
    pub(super) failed: BTreeMap<&'static str, usize>,
    /// What the model's last fault was.
    fault: Option<String>,
}

/// Asks the first rows one at a time and the others together; no row twice, so that no cache helps.
pub(super) fn measure(
    runner: &Runner,
    rows: &[&Row],
    budget: Duration,
    progress: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Measured, Stop> {
    let judge = Judge::new(runner.task());
    let mut measured =
        Measured { judged: Vec::new(), results: Vec::new(), rate: 0.0, failed: BTreeMap::new(), fault: None };
    let started = Instant::now();
    let singles = ((rows.len() as f64 * SINGLES_SHARE) as usize).clamp(1, SINGLES);
    let mut tell = |done: usize, what| match progress(Event::At { what, done, total: rows.len() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stop::Asked),
    };
    for row in &rows[..singles.min(rows.len())] {
        tell(measured.judged.len(), "rows one by one")?;
        measured.take(&judge, &[row], runner.run(&[vec![row.text.clone()]]), Latency::Kept);
        measured.check()?;
        if started.elapsed() > budget.mul_f64(SINGLES_SHARE) {
            break;
        }
    }
    let done = measured.judged.len();
    measured.rate = done as f64 / started.elapsed().as_secs_f64().max(1e-9);
    let together = Instant::now();
    let mut size = FIRST_BATCH;
    while measured.judged.len() < rows.len() && started.elapsed() < budget {
        tell(measured.judged.len(), "rows together")?;
        let batch_started = Instant::now();
        let batch = &rows[measured.judged.len()..(measured.judged.len() + size).min(rows.len())];
        let inputs: Vec<Vec<String>> = batch.iter().map(|row| vec![row.text.clone()]).collect();
        measured.take(&judge, batch, runner.run(&inputs), Latency::Dropped);
        measured.check()?;
        measured.rate = (measured.judged.len() - done) as f64 / together.elapsed().as_secs_f64().max(1e-9);
        if batch_started.elapsed() < FAST_BATCH {
            size = (size * 2).min(MAX_BATCH);
        }
    }
    Ok(measured)
}

/// Whether a row's time says how long a row takes that is asked alone.
#[derive(Clone, Copy, PartialEq)]
enum Latency {
    Kept,
    Dropped,
}

impl Measured {
    fn take(&mut self, judge: &Judge, rows: &[&Row], outcomes: Vec<Result<TaskResult, RowError>>, latency: Latency) {
        for (row, outcome) in rows.iter().zip(outcomes) {
            let number = usize::try_from(row.line).unwrap_or(usize::MAX);
            let judged = judge.row(Ran { row: number, truth: &row.answer, outcome: &outcome });
            let kept = judged.latency.filter(|_| latency == Latency::Kept);
            self.judged.push(Judged { latency: kept, ..judged });
            match outcome {
                Ok(result) => self.results.push(result),
                Err(error) => {
                    *self.failed.entry(error.code()).or_default() += 1;
                    if let RowError::Model { why, .. } = error {
                        self.fault = Some(why);
                    }
                }
            }
        }
    }

    /// A model that fails at each of its first rows will at the others.
    fn check(&self) -> Result<(), Stop> {
        match &self.fault {
            Some(why) if self.results.is_empty() && self.judged.len() >= ROWS_TO_FAIL => Err(Stop::Failed(why.clone())),
            _ => Ok(()),
        }
    }
}
