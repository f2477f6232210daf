//! What a task answers: a value with its confidence, its checks and a verdict.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::RowError;
use crate::json::value_spans;
use crate::model::{Raw, RawValue, Usage};
use crate::spec::{Classify, Failed, Fields, Mode, Otherwise, Output, Task};

/// Most alternatives that are told.
const MAX_ALTERNATIVES: usize = 5;

/// An answer to one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskResult {
    /// The task's name.
    pub task: String,
    /// The task's content hash.
    pub task_hash: String,
    /// The model that answered.
    pub model: String,
    /// Exactly what computed the answer.
    pub fingerprint: String,
    /// A label, a list of labels, an object of the schema; null where there is no answer.
    pub value: Value,
    /// How sure the answer is, from 0 to 1; null where the model does not say.
    pub confidence: Option<f64>,
    /// Whether the confidence was fitted on labelled examples. If not, it only orders answers.
    pub calibrated: bool,
    /// No label fits.
    pub out_of_scope: bool,
    /// What is to become of the answer.
    pub verdict: Verdict,
    /// Why the verdict is not `accept`, and what else somebody should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<&'static str>,
    /// Checks that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_checks: Vec<Failed>,
    /// Other labels, the likeliest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// The confidence of each field.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub field_confidence: BTreeMap<String, f64>,
    /// From submission to answer, in milliseconds.
    pub latency_ms: f64,
    /// Tokens read and written.
    pub usage: Usage,
}

/// A label that was not answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// Its name.
    pub label: String,
    /// Its probability.
    pub probability: f64,
}

/// What is to become of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may be used.
    Accept,
    /// Somebody looks at it.
    Review,
    /// A larger model is to be asked.
    Escalate,
    /// There is none.
    Refuse,
}

impl Verdict {
    /// As results, tables and metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Accept => "accept",
            Verdict::Review => "review",
            Verdict::Escalate => "escalate",
            Verdict::Refuse => "refuse",
        }
    }
}

impl From<Otherwise> for Verdict {
    fn from(otherwise: Otherwise) -> Self {
        match otherwise {
            Otherwise::Review => Verdict::Review,
            Otherwise::Escalate => Verdict::Escalate,
            Otherwise::Refuse => Verdict::Refuse,
        }
    }
}

/// What answered, for every result of a run.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    /// From a model's confidence to the probability that it is right; nothing if that was not fitted.
    pub(crate) calibration: Calibration,
}

/// What is known of how a model's confidence relates to its being right.
#[derive(Debug, Clone)]
pub(crate) enum Calibration {
    /// Nothing.
    None,
    /// The model's own confidence is calibrated.
    Own,
    /// Fitted on the log-odds of the model's confidence.
    Fitted(bantam_stats::calibration::Platt),
}

impl Calibration {
    fn apply(&self, confidence: f64) -> f64 {
        match self {
            Calibration::None | Calibration::Own => confidence,
            Calibration::Fitted(platt) => platt.apply(log_odds(confidence)),
        }
    }
}

/// The logarithm of p / (1 - p), bounded.
pub(crate) fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-9, 1.0 - 1e-9);
    libm::log(p / (1.0 - p))
}

/// The parts of an answer that depend on the kind of task.
struct Answer {
    value: Value,
    confidence: Option<f64>,
    out_of_scope: bool,
    failed_checks: Vec<Failed>,
    alternatives: Vec<Alternative>,
    field_confidence: BTreeMap<String, f64>,
}

impl Answer {
    fn new(value: Value, confidence: Option<f64>) -> Self {
        Answer {
            value,
            confidence,
            out_of_scope: false,
            failed_checks: Vec::new(),
            alternatives: Vec::new(),
            field_confidence: BTreeMap::new(),
        }
    }
}

/// Makes a model's answer a result.
pub(crate) fn result(task: &Task, source: &Source, raw: Raw) -> Result<TaskResult, RowError> {
    let Raw { value, latency, usage, has_special_tokens } = raw;
    let mut answer = match &task.output {
        Output::Classify(classify) => classified(task, classify, value, &source.calibration)?,
        Output::Fields(fields) => filled(task, fields, value, &source.calibration)?,
    };
    let mut flags = Vec::new();
    if has_special_tokens {
        flags.push("special_tokens_in_input");
    }
    let mut verdict = Verdict::Accept;
    if answer.confidence.is_none_or(|confidence| confidence < task.accept.confidence) && task.accept.confidence > 0.0 {
        flags.push("low_confidence");
        verdict = task.accept.otherwise.into();
    }
    if !answer.failed_checks.is_empty() {
        flags.push("failed_checks");
        verdict = task.accept.otherwise.into();
    }
    if verdict == Verdict::Refuse {
        answer.value = Value::Null;
    }
    Ok(TaskResult {
        task: task.name.clone(),
        task_hash: task.hash.clone(),
        model: source.model.clone(),
        fingerprint: source.fingerprint.clone(),
        value: answer.value,
        confidence: answer.confidence,
        calibrated: !matches!(source.calibration, Calibration::None) && answer.confidence.is_some(),
        out_of_scope: answer.out_of_scope,
        verdict,
        flags,
        failed_checks: answer.failed_checks,
        alternatives: answer.alternatives,
        field_confidence: answer.field_confidence,
        latency_ms: latency.as_secs_f64() * 1e3,
        usage,
    })
}

fn classified(task: &Task, classify: &Classify, raw: RawValue, calibration: &Calibration) -> Result<Answer, RowError> {
    let names: Vec<&str> = classify.names().collect();
    let wrong = || RowError::Invalid { why: "it is of another kind than the task".to_owned() };
    match raw {
        RawValue::OutOfScope(confidence) => {
            let none = classify.none.as_deref().ok_or_else(wrong)?;
            Ok(Answer { out_of_scope: true, ..Answer::new(none.into(), confidence) })
        }
        RawValue::Labels(labels) if classify.mode == Mode::Path => {
            path(task, &names, &labels, calibration).ok_or_else(wrong)
        }
        RawValue::Labels(labels) => {
            let &(best, confidence) = labels.first().ok_or_else(wrong)?;
            let name = *names.get(best).ok_or_else(wrong)?;
            let others = labels[1..].iter().filter_map(|&(label, probability)| {
                Some(Alternative { label: (*names.get(label)?).to_owned(), probability: probability? })
            });
            Ok(Answer {
                out_of_scope: is_none(task, name),
                alternatives: others.take(MAX_ALTERNATIVES).collect(),
                ..Answer::new(name.into(), confidence.map(|p| calibration.apply(p)))
            })
        }
        RawValue::EachLabel(labels) => {
            let chosen = labels.iter().zip(&names).filter(|((applies, _), _)| *applies);
            let value = chosen.map(|(_, name)| Value::from(*name)).collect();
            // Of the least sure decision.
            let sure = labels.iter().map(|&(applies, p)| p.map(|p| if applies { p } else { 1.0 - p }));
            let confidence = sure.collect::<Option<Vec<f64>>>().and_then(|all| all.into_iter().reduce(f64::min));
            Ok(Answer::new(value, confidence.map(|p| calibration.apply(p))))
        }
        RawValue::Json { .. } => Err(wrong()),
    }
}

/// The longest beginning of a path that is sure enough: what its labels have of the probability together.
fn path(task: &Task, names: &[&str], labels: &[(usize, Option<f64>)], calibration: &Calibration) -> Option<Answer> {
    let of = |prefix: &str| -> f64 {
        let under = |name: &str| name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let found = labels.iter().filter(|(label, _)| names.get(*label).is_some_and(|name| under(name)));
        let sum: f64 = found.filter_map(|(_, p)| *p).sum();
        // Of rounded numbers.
        sum.min(1.0)
    };
    let &(best, likeliest) = labels.first()?;
    let best = *names.get(best)?;
    if is_none(task, best) || likeliest.is_none() {
        let confidence = likeliest.map(|p| calibration.apply(p));
        return Some(Answer { out_of_scope: is_none(task, best), ..Answer::new(best.into(), confidence) });
    }
    let mut answered = best;
    let mut confidence = calibration.apply(of(best));
    while confidence < task.accept.confidence {
        let Some((parent, _)) = answered.rsplit_once('/') else { break };
        answered = parent;
        confidence = calibration.apply(of(parent));
    }
    Some(Answer::new(answered.into(), Some(confidence)))
}

/// Whether a name stands for none of the labels.
fn is_none(task: &Task, name: &str) -> bool {
    matches!(&task.output, Output::Classify(Classify { none: Some(none), .. }) if none == name)
}

fn filled(task: &Task, fields: &Fields, raw: RawValue, calibration: &Calibration) -> Result<Answer, RowError> {
    let RawValue::Json { text, pieces } = raw else {
        return Err(RowError::Invalid { why: "it is no JSON".to_owned() });
    };
    let invalid = |why: String| RowError::Invalid { why };
    let value: Value = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    fields.schema.validate(&value).map_err(invalid)?;
    let spans = value_spans(&text);
    let mut field_confidence = BTreeMap::new();
    for name in value.as_object().map(Map::keys).into_iter().flatten() {
        if let Some(mean) = spans.get(name).and_then(|span| mean_logprob(span, &pieces)) {
            field_confidence.insert(name.clone(), calibration.apply(libm::exp(mean)));
        }
    }
    let failed_checks: Vec<Failed> = task.checks.iter().filter_map(|check| check.run(&value)).collect();
    let confidence = field_confidence.values().copied().reduce(f64::min);
    Ok(Answer { failed_checks, field_confidence, ..Answer::new(value, confidence) })
}

/// Per token, so that a long value is not unsure for its length.
fn mean_logprob(span: &Range<usize>, pieces: &[(Range<usize>, f32)]) -> Option<f64> {
    let inside = pieces.iter().filter(|(piece, _)| piece.start < span.end && piece.end > span.start);
    let logprobs: Vec<f64> = inside.map(|(_, logprob)| f64::from(*logprob)).collect();
    (!logprobs.is_empty()).then(|| logprobs.iter().sum::<f64>() / logprobs.len() as f64)
}
