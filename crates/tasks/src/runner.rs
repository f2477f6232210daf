//! A task bound to what answers it.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{RowError, TaskError};
use crate::fit::{self, Answered, FittedFile, Labelled, Step};
use crate::model::encoder::Fitted;
use crate::model::{Answerer, EncoderModel, LanguageModel, Wanted};
use crate::prompt::{Conversation, MAX_INPUT_BYTES, input_text};
use crate::result::{Calibration, Source, TaskResult, result};
use crate::spec::{Accept, Mode, Output, Task};

/// Rows that are answered between two steps of a fit.
const BATCH: usize = 64;

/// How much of the probability must be found where a path may be cut short.
const PATH_MASS: f64 = 0.98;

/// Answers rows.
pub struct Runner {
    task: Arc<Task>,
    answerer: Box<dyn Answerer>,
    source: Source,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("task", &self.task.name).field("model", &self.source.model).finish()
    }
}

impl Runner {
    /// A task answered by a generating model, whose confidence is calibrated if that was fitted.
    ///
    /// # Errors
    /// [`TaskError::Model`] if the model cannot do what the task asks.
    pub fn generating(
        task: Arc<Task>,
        model: &dyn LanguageModel,
        fitted: Option<&FittedFile>,
    ) -> Result<Self, TaskError> {
        let wanted = match &task.output {
            Output::Classify(classify) => {
                let labels = classify.names().map(str::to_owned).collect();
                match classify.mode {
                    Mode::One => Wanted::Label { labels, mass: 0.0 },
                    Mode::Path => Wanted::Label { labels, mass: PATH_MASS },
                    Mode::Many => Wanted::EachLabel { labels },
                }
            }
            Output::Fields(fields) => {
                Wanted::Json { schema: fields.schema.value().clone(), max_tokens: fields.max_tokens }
            }
        };
        let fingerprint = model.fingerprint();
        let platt = fitted.filter(|fitted| fitted.fingerprint == fingerprint).and_then(FittedFile::confidence);
        let calibration = platt.map_or(Calibration::None, Calibration::Fitted);
        let answerer = model.bind(&Conversation::new(&task), &wanted)?;
        Ok(Runner { task, answerer, source: Source { model: model.id().to_owned(), fingerprint, calibration } })
    }

    /// A task answered by an encoder and the head that was fitted for it.
    ///
    /// # Errors
    /// [`TaskError::Fitted`] if it was fitted with another encoder.
    pub fn encoder(task: Arc<Task>, encoder: EncoderModel, fitted: &FittedFile) -> Result<Self, TaskError> {
        let fault = |why: String| TaskError::Fitted { path: task.fitted.clone(), why };
        let head = fitted.head(&task)?.ok_or_else(|| fault("has no head: it is of a generating model".to_owned()))?;
        if fitted.fingerprint != encoder.fingerprint || head.width() != encoder.embedder.dimensions() {
            return Err(fault(format!("was fitted with {} and not {}", fitted.fingerprint, encoder.fingerprint)));
        }
        let Output::Classify(classify) = &task.output else { return Err(fault("the task has no labels".to_owned())) };
        let each = classify.mode == Mode::Many;
        let source = Source {
            model: encoder.id.clone(),
            fingerprint: encoder.fingerprint.clone(),
            calibration: Calibration::Own,
        };
        let answerer = Fitted { encoder, head: Arc::new(head), scope: fitted.scope(), each };
        Ok(Runner { task, answerer: Box::new(answerer), source })
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// What answers.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.source.model
    }

    /// Names exactly what computes the answers.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.source.fingerprint
    }

    /// One outcome per row, in their order; a row has one text per input column. Blocks.
    pub fn run(&self, rows: &[Vec<String>]) -> Vec<Result<TaskResult, RowError>> {
        let texts: Vec<Result<String, RowError>> = rows.iter().map(|row| self.text(row)).collect();
        let good: Vec<String> = texts.iter().filter_map(|text| text.as_ref().ok().cloned()).collect();
        let mut answers = self.answerer.answer(&good).into_iter();
        let outcome = |text: Result<String, RowError>| {
            text?;
            result(&self.task, &self.source, answers.next().unwrap_or(Err(RowError::Stopped))?)
        };
        texts.into_iter().map(outcome).collect()
    }

    fn text(&self, row: &[String]) -> Result<String, RowError> {
        let fault = |field: &str, why: String| RowError::Input { field: field.to_owned(), why };
        if row.len() != self.task.input.len() {
            let why = format!("there are {} texts for {} columns", row.len(), self.task.input.len());
            return Err(fault("input", why));
        }
        if row.iter().all(|text| text.trim().is_empty()) {
            return Err(fault(&self.task.input[0], "is empty".to_owned()));
        }
        let bytes: usize = row.iter().map(String::len).sum();
        if bytes > MAX_INPUT_BYTES {
            return Err(fault(
                &self.task.input[0],
                format!("has {bytes} bytes, more than the {MAX_INPUT_BYTES} of a row"),
            ));
        }
        if let Some((field, _)) = self.task.input.iter().zip(row).find(|(_, text)| text.contains('\0')) {
            return Err(fault(field, "is binary: it has a zero byte".to_owned()));
        }
        Ok(input_text(&self.task, row))
    }

    /// Fits the calibration of the generating model that this runner has, on labelled rows.
    ///
    /// # Errors
    /// [`TaskError::Fit`] if the rows or the model's answers are too few, or `progress` ends it.
    pub fn calibrate(
        &self,
        rows: &[Labelled],
        progress: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<FittedFile, TaskError> {
        // The answer itself is judged, whatever the task would make of its confidence.
        let accept = Accept { confidence: 0.0, ..self.task.accept };
        let task = Task { accept, checks: Vec::new(), ..Task::clone(&self.task) };
        let source = Source { calibration: Calibration::None, ..self.source.clone() };
        let mut answered = Vec::new();
        for (i, batch) in rows.chunks(BATCH).enumerate() {
            let share = (i * BATCH) as f64 / rows.len() as f64;
            if progress(Step { what: "answering", share }).is_break() {
                return Err(TaskError::Fit { why: "it was stopped".to_owned() });
            }
            let texts: Vec<String> = batch.iter().map(|row| input_text(&self.task, &row.input)).collect();
            for (raw, row) in self.answerer.answer(&texts).into_iter().zip(batch) {
                let Ok(TaskResult { value, confidence: Some(confidence), .. }) =
                    raw.and_then(|raw| result(&task, &source, raw))
                else {
                    continue;
                };
                answered.push(Answered { confidence, correct: value == row.answer });
            }
        }
        fit::fit_confidence(&self.task, &self.source.model, &self.source.fingerprint, &answered)
    }
}
