//! What a task learns from labelled rows: a head over an encoder's vectors, or what a generating model's confidence is worth.

use std::ops::ControlFlow;
use std::path::Path;

use bantam_stats::Rows;
use bantam_stats::calibration::Platt;
use bantam_stats::head::{self, FitConfig, FitError, FitProgress, Head, HeldOut, Inputs, Labels, Training};
use bantam_stats::scope::{ScopeDetector, ScopeExamples, Signals};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TaskError;
use crate::model::EncoderModel;
use crate::prompt::input_text;
use crate::result::log_odds;
use crate::spec::{Classify, Mode, Output, Task};

/// Of the file that `bantam task fit` writes.
const VERSION: u32 = 1;
/// Fewest labelled rows.
pub const MIN_ROWS: usize = 10;
/// Texts that are embedded between two looks at the clock.
const BATCH: usize = 512;
/// Share of right answers that may be turned away as out of scope.
const MAX_SCOPE_LOSS: f64 = 0.01;
/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// A row with its right answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// One text per input column.
    pub input: Vec<String>,
    /// A label, a list of labels, or a value of the schema.
    pub answer: Value,
}

/// What was fitted; `<name>.fit.json` beside the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedFile {
    version: u32,
    /// [`Task::definition`] of the task it was fitted for.
    definition: String,
    /// The model it was fitted with.
    pub model: String,
    /// Exactly what computed the vectors or answers.
    pub fingerprint: String,
    /// Which of the task's candidates it is, where it was chosen among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// How well it does on rows it did not see.
    pub report: FitReport,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confidence: Option<Platt>,
}

/// How a fit does on rows it did not see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitReport {
    /// Labelled rows given.
    pub rows: usize,
    /// Rows held out and judged.
    pub held_out: usize,
    /// The share of those that is right.
    pub accuracy: f64,
}

/// What tells texts that no label fits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    detector: ScopeDetector,
    /// From the detector's score to the probability that some label fits.
    inside: Option<Platt>,
}

impl Scope {
    /// How sure it is that no label fits; nothing if one does.
    pub(crate) fn outside(&self, signals: &Signals) -> Option<Option<f64>> {
        let is_outside = !self.detector.accepts(signals);
        is_outside.then(|| self.inside.map(|platt| 1.0 - platt.apply(self.detector.score(signals))))
    }
}

/// How far a fit is, in words and as a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// What is being done.
    pub what: &'static str,
    /// From 0 to 1.
    pub share: f64,
}

impl FittedFile {
    /// Reads what was fitted for a task; nothing if there is no such file.
    ///
    /// # Errors
    /// [`TaskError::Fitted`] if it is damaged or of another definition of the task.
    pub fn open(task: &Task) -> Result<Option<Self>, TaskError> {
        let fault = |why: String| TaskError::Fitted { path: task.fitted.clone(), why };
        let size = match fs_err::metadata(&task.fitted) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if size > MAX_FILE_BYTES {
            return Err(fault(format!("has {size} bytes, more than is read")));
        }
        let file: Self =
            serde_json::from_slice(&fs_err::read(&task.fitted)?).map_err(|error| fault(error.to_string()))?;
        if file.version != VERSION {
            return Err(fault(format!("is of version {}, and {VERSION} is read here", file.version)));
        }
        if file.definition != task.definition {
            return Err(fault("was fitted before the task was changed".to_owned()));
        }
        Ok(Some(file))
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: &Path) -> Result<(), TaskError> {
        let text = serde_json::to_vec(self).map_err(std::io::Error::from)?;
        let temporary = path.with_extension("json.tmp");
        fs_err::write(&temporary, text)?;
        fs_err::rename(&temporary, path)?;
        Ok(())
    }

    pub(crate) fn head(&self, task: &Task) -> Result<Option<Head>, TaskError> {
        let fault = |why: String| TaskError::Fitted { path: task.fitted.clone(), why };
        let Some(text) = &self.head else { return Ok(None) };
        let bytes = STANDARD.decode(text).map_err(|error| fault(format!("head: {error}")))?;
        let head = Head::from_bytes(&bytes).map_err(|error| fault(format!("head: {error}")))?;
        let Output::Classify(classify) = &task.output else {
            return Err(fault("has a head, and the task has no labels".to_owned()));
        };
        if head.classes() != classify.labels.len() {
            return Err(fault(format!("has {} labels, and the task has {}", head.classes(), classify.labels.len())));
        }
        Ok(Some(head))
    }

    pub(crate) fn scope(&self) -> Option<Scope> {
        self.scope
    }

    pub(crate) fn confidence(&self) -> Option<Platt> {
        self.confidence
    }
}

/// A head that was fitted, and what it said of rows that it did not see.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderFit {
    /// The file to save.
    pub file: FittedFile,
    /// By ascending row: to choose thresholds on, and to look for wrong labels.
    pub held_out: Vec<HeldOutAnswer>,
}

/// The answer to a row that training did not see.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOutAnswer {
    /// Which of the given rows.
    pub row: usize,
    /// A label, or a list of labels.
    pub answer: Value,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// Whether it is the right one.
    pub correct: bool,
}

/// Fits a head over an encoder's vectors.
///
/// # Errors
/// [`TaskError::Fit`] says what the rows lack; also when `progress` ends it.
pub fn fit_encoder(
    task: &Task,
    encoder: &EncoderModel,
    rows: &[Labelled],
    progress: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<EncoderFit, TaskError> {
    let Output::Classify(classify) = &task.output else {
        return Err(fault("an encoder classifies; the task's kind is 'fields', which needs a generating model"));
    };
    check_rows(rows)?;
    let texts: Vec<String> = rows.iter().map(|row| input_text(task, &row.input)).collect();
    let mut values = Vec::new();
    for (i, batch) in texts.chunks(BATCH).enumerate() {
        let share = (i * BATCH) as f64 / texts.len() as f64;
        step(progress, "embedding", share)?;
        let embedded = encoder.embed(batch).map_err(|error| fault(error.to_string()))?;
        values.extend(embedded.values);
    }
    let width = encoder.embedder.dimensions();
    let learning = Learning::new(classify, rows)?;
    let of = |rows: &[usize]| -> (Vec<f32>, Vec<&str>) {
        let vectors = rows.iter().flat_map(|&row| values[row * width..(row + 1) * width].iter().copied());
        (vectors.collect(), rows.iter().map(|&row| texts[row].as_str()).collect())
    };
    let (vectors, inside_texts) = of(&learning.inside);
    let inputs = Inputs { embeddings: rows_of(&vectors, width)?, texts: &inside_texts };
    let training = Training { inputs, labels: learning.labels(), classes: classify.labels.len() };
    let config = FitConfig { threads: encoder.threads, ..FitConfig::default() };
    let mut on_progress = |p: FitProgress| {
        let share = (p.done as f64 + p.iteration as f64 / 100.0) / p.total.max(1) as f64;
        progress(Step { what: "fitting", share: share.min(1.0) })
    };
    let fit = head::fit(&training, &config, &mut on_progress).map_err(|error| match error {
        FitError::Cancelled => fault("it was stopped"),
        FitError::Input(error) => fault(error.to_string()),
    })?;
    let correct: Vec<bool> = fit.held_out.iter().map(|held| learning.is_right(held)).collect();
    let scope = match classify.none {
        Some(_) => {
            let (vectors, texts) = of(&learning.outside);
            let outside = match learning.outside.is_empty() {
                true => Vec::new(),
                false => {
                    let inputs = Inputs { embeddings: rows_of(&vectors, width)?, texts: &texts };
                    fit.head.predict(inputs, encoder.threads).map_err(|error| fault(error.to_string()))?
                }
            };
            Some(fit_scope(&fit.held_out, &correct, &outside.iter().map(|p| p.signals).collect::<Vec<_>>())?)
        }
        None => None,
    };
    let blob = fit.head.to_bytes().map_err(|error| fault(error.to_string()))?;
    let right = correct.iter().filter(|correct| **correct).count();
    let held_out = fit.held_out.iter().zip(&correct).map(|(held, &correct)| learning.answer(classify, held, correct));
    let held_out = held_out.collect();
    let file = FittedFile {
        version: VERSION,
        definition: task.definition.clone(),
        model: encoder.id.clone(),
        fingerprint: encoder.fingerprint.clone(),
        candidate: None,
        report: FitReport {
            rows: rows.len(),
            held_out: correct.len(),
            accuracy: if correct.is_empty() { 0.0 } else { right as f64 / correct.len() as f64 },
        },
        head: Some(STANDARD.encode(blob)),
        scope,
        confidence: None,
    };
    Ok(EncoderFit { file, held_out })
}

fn fit_scope(held_out: &[HeldOut], correct: &[bool], outside: &[Signals]) -> Result<Scope, TaskError> {
    let inside: Vec<Signals> = held_out.iter().map(|held| held.prediction.signals).collect();
    let examples = ScopeExamples { inside: &inside, correct, outside };
    let detector = ScopeDetector::fit(examples, MAX_SCOPE_LOSS).map_err(|error| fault(error.to_string()))?;
    let scores: Vec<f64> = inside.iter().chain(outside).map(|signals| detector.score(signals)).collect();
    let is_inside: Vec<bool> = (0..scores.len()).map(|i| i < inside.len()).collect();
    Ok(Scope { detector, inside: Platt::fit(&scores, &is_inside).ok().filter(|_| !outside.is_empty()) })
}

/// Rows of labels, and rows that no label fits.
struct Learning {
    inside: Vec<usize>,
    outside: Vec<usize>,
    one: Vec<usize>,
    many: Vec<Vec<usize>>,
    mode: Mode,
}

impl Learning {
    fn new(classify: &Classify, rows: &[Labelled]) -> Result<Self, TaskError> {
        let mut learning = Learning {
            inside: Vec::new(),
            outside: Vec::new(),
            one: Vec::new(),
            many: Vec::new(),
            mode: classify.mode,
        };
        let known = |row: usize, name: Option<&str>| {
            let name = name.ok_or_else(|| fault(format!("row {}: the answer is no label", row + 1)))?;
            classify.index(name).ok_or_else(|| fault(format!("row {}: '{name}' is none of the labels", row + 1)))
        };
        let none = classify.labels.len();
        for (row, labelled) in rows.iter().enumerate() {
            if classify.mode == Mode::Many {
                let names = labelled
                    .answer
                    .as_array()
                    .ok_or_else(|| fault(format!("row {}: the answer is no list of labels", row + 1)))?;
                let mut labels = names.iter().map(|name| known(row, name.as_str())).collect::<Result<Vec<_>, _>>()?;
                labels.sort_unstable();
                labels.dedup();
                learning.inside.push(row);
                learning.many.push(labels);
                continue;
            }
            match known(row, labelled.answer.as_str())? {
                label if label == none => learning.outside.push(row),
                label => {
                    learning.inside.push(row);
                    learning.one.push(label);
                }
            }
        }
        let lacking = classify.labels.iter().enumerate().find(|(label, _)| {
            !learning.one.contains(label) && !learning.many.iter().any(|labels| labels.contains(label))
        });
        match lacking {
            Some((_, label)) => {
                Err(fault(format!("no row has the label '{}'; give some, or take it out of the task", label.name)))
            }
            None => Ok(learning),
        }
    }

    fn labels(&self) -> Labels<'_> {
        match self.mode {
            Mode::Many => Labels::Many(&self.many),
            Mode::One | Mode::Path => Labels::One(&self.one),
        }
    }

    fn is_right(&self, held: &HeldOut) -> bool {
        match self.mode {
            Mode::One | Mode::Path => self.one.get(held.row) == Some(&held.prediction.class()),
            Mode::Many => self.many.get(held.row) == Some(&chosen(held)),
        }
    }

    fn answer(&self, classify: &Classify, held: &HeldOut, correct: bool) -> HeldOutAnswer {
        let name = |label: usize| classify.labels.get(label).map_or(Value::Null, |label| label.name.as_str().into());
        let (answer, confidence) = match self.mode {
            Mode::One | Mode::Path => (name(held.prediction.class()), held.prediction.confidence()),
            Mode::Many => {
                let sure = held.prediction.probabilities.iter().map(|p| p.max(1.0 - p)).fold(1.0, f64::min);
                (chosen(held).into_iter().map(name).collect(), sure)
            }
        };
        let row = self.inside.get(held.row).copied().unwrap_or(held.row);
        HeldOutAnswer { row, answer, confidence, correct }
    }
}

/// The labels that apply where each is on its own.
fn chosen(held: &HeldOut) -> Vec<usize> {
    let probabilities = held.prediction.probabilities.iter().enumerate();
    probabilities.filter(|(_, p)| **p >= 0.5).map(|(label, _)| label).collect()
}

/// What a generating model's confidence is worth, from its answers to labelled rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Before calibration.
    pub confidence: f64,
    /// Whether it was the right one.
    pub correct: bool,
}

/// Fits the calibration of a generating model.
///
/// # Errors
/// [`TaskError::Fit`] if there are too few answers.
pub fn fit_confidence(
    task: &Task,
    model: &str,
    fingerprint: &str,
    answered: &[Answered],
) -> Result<FittedFile, TaskError> {
    if answered.len() < MIN_ROWS {
        return Err(fault(format!("{} answers have a confidence, and {MIN_ROWS} are the least", answered.len())));
    }
    let scores: Vec<f64> = answered.iter().map(|row| log_odds(row.confidence)).collect();
    let correct: Vec<bool> = answered.iter().map(|row| row.correct).collect();
    let platt = Platt::fit(&scores, &correct).map_err(|error| fault(error.to_string()))?;
    let right = correct.iter().filter(|correct| **correct).count();
    Ok(FittedFile {
        version: VERSION,
        definition: task.definition.clone(),
        model: model.to_owned(),
        fingerprint: fingerprint.to_owned(),
        candidate: None,
        report: FitReport {
            rows: answered.len(),
            held_out: answered.len(),
            accuracy: right as f64 / answered.len() as f64,
        },
        head: None,
        scope: None,
        confidence: Some(platt),
    })
}

fn rows_of(values: &[f32], width: usize) -> Result<Rows<'_, f32>, TaskError> {
    Rows::new("embeddings", values, width).map_err(|error| fault(error.to_string()))
}

fn check_rows(rows: &[Labelled]) -> Result<(), TaskError> {
    match rows.len() {
        n if n < MIN_ROWS => Err(fault(format!("there are {n} labelled rows, and {MIN_ROWS} are the least"))),
        _ => Ok(()),
    }
}

fn step(progress: &mut dyn FnMut(Step) -> ControlFlow<()>, what: &'static str, share: f64) -> Result<(), TaskError> {
    match progress(Step { what, share }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(fault("it was stopped")),
    }
}

fn fault(why: impl Into<String>) -> TaskError {
    TaskError::Fit { why: why.into() }
}
