use std::collections::BTreeMap;

use bantam_stats::Rows;
use bantam_stats::conformal::{Promise, guaranteed_threshold};
use bantam_stats::metrics::{
    Bins, Criterion, ReliabilityBin, RiskCoverage, brier, expected_calibration_error, log_loss, reliability,
};
use serde::Serialize;

use super::{ConfidenceKind, Estimate, Judgements, Outcome, Quality, QualityError};

/// Intervals of confidence over which calibration is measured.
pub(crate) const BINS: usize = 10;
/// Most points of a curve that are kept.
const MAX_POINTS: usize = 200;
/// How sure a promised share is.
pub(crate) const PROMISE: f64 = 0.95;
const TARGETS: [f64; 3] = [0.9, 0.95, 0.99];

/// What confidences are worth. Shares are of all rows: one without a confidence is never answered by a threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfidenceQuality {
    /// Where they come from.
    pub kind: ConfidenceKind,
    /// Rows that have one.
    pub rows: usize,
    /// Expected calibration error over 10 bins of equal width (Naeini et al. 2015).
    pub ece: f64,
    /// The bins that hold rows, by ascending confidence.
    pub bins: Vec<ReliabilityBin>,
    /// The mean squared distance of the confidence from 1 where the prediction is right and 0 where it is wrong.
    pub brier: f64,
    /// The mean negative log-likelihood, in nats, of predictions being right or wrong as they are.
    pub log_loss: f64,
    /// The area under the risk-coverage curve of the rows with a confidence (Geifman and El-Yaniv 2017); 0 is best.
    pub aurc: f64,
    /// The risk-coverage curve by ascending coverage, thinned to 200 points.
    pub curve: Vec<CurvePoint>,
    /// What can be answered at which accuracy, by ascending accuracy.
    pub answerable: Vec<Answerable>,
    /// What the task's own threshold answers.
    pub at_threshold: Option<Selected>,
}

/// What happens if only rows from a threshold on are answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The lowest confidence that is answered.
    pub threshold: f64,
    /// The share of rows that is answered.
    pub coverage: f64,
    /// The share of answers that is wrong.
    pub risk: f64,
}

/// A threshold and what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Selected {
    /// Answer from this confidence on.
    pub threshold: f64,
    /// Rows answered.
    pub answered: usize,
    /// The share of rows that is answered.
    pub coverage: f64,
    /// The share of answers that is right; `None` if nothing is answered.
    pub accuracy: Option<Estimate>,
}

/// How much can be answered at an accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Answerable {
    /// The share of answers that must be right.
    pub target: f64,
    /// The lowest threshold that reached it on these rows; `None` if none did.
    pub observed: Option<Selected>,
    /// The share of rows for which it can be promised for new rows like these, 95 % sure: the choice of the threshold is
    /// paid for (Geifman and El-Yaniv 2017). `None` if these rows support no such promise.
    pub promised: Option<f64>,
    /// The threshold of the promise.
    pub promised_threshold: Option<f64>,
}

/// The rows that have a confidence.
struct Scored {
    confidences: Vec<f64>,
    right: Vec<bool>,
    /// Rows in all.
    rows: usize,
}

impl Scored {
    fn of(outcomes: &BTreeMap<usize, Outcome>) -> Option<Self> {
        let scored = |outcome: &Outcome| Some((outcome.confidence?, outcome.right));
        let (confidences, right): (Vec<f64>, Vec<bool>) = outcomes.values().filter_map(scored).unzip();
        (!confidences.is_empty()).then_some(Self { confidences, right, rows: outcomes.len() })
    }

    fn at(&self, threshold: f64) -> Result<Selected, QualityError> {
        let chosen = self.confidences.iter().zip(&self.right).filter(|(confidence, _)| **confidence >= threshold);
        let (answered, right) = chosen.fold((0, 0), |(n, right), row| (n + 1, right + usize::from(*row.1)));
        let coverage = answered as f64 / self.rows as f64;
        Ok(Selected { threshold, answered, coverage, accuracy: Estimate::share(right, answered)? })
    }

    fn answerable(&self, curve: &RiskCoverage, target: f64) -> Result<Answerable, QualityError> {
        // The ends of the range ask for the same as the numbers beside them.
        let accuracy = target.clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON);
        let observed = curve.answerable(accuracy, Criterion::Observed)?;
        let observed = observed.map(|found| self.at(found.threshold)).transpose()?;
        let promise = Promise { accuracy, confidence: PROMISE };
        let promised = guaranteed_threshold(&self.confidences, &self.right, promise)?;
        let share = self.confidences.len() as f64 / self.rows as f64;
        Ok(Answerable {
            target,
            observed,
            promised: promised.map(|found| found.coverage * share),
            promised_threshold: promised.map(|found| found.threshold),
        })
    }
}

pub(super) fn quality(
    judged: &Judgements<'_>,
    outcomes: &BTreeMap<usize, Outcome>,
) -> Result<Option<ConfidenceQuality>, QualityError> {
    let Some(scored) = Scored::of(outcomes) else { return Ok(None) };
    let bins = reliability(&scored.confidences, &scored.right, Bins::EqualWidth(BINS))?;
    let pairs: Vec<f64> = scored.confidences.iter().flat_map(|confidence| [1.0 - confidence, *confidence]).collect();
    let pairs = Rows::new("confidence", &pairs, 2)?;
    let is_right: Vec<usize> = scored.right.iter().map(|&right| usize::from(right)).collect();
    let curve = RiskCoverage::new(&scored.confidences, &scored.right)?;

    let mut targets = [&TARGETS, judged.targets].concat();
    targets.sort_by(f64::total_cmp);
    targets.dedup();
    Ok(Some(ConfidenceQuality {
        kind: judged.confidence,
        rows: scored.confidences.len(),
        ece: expected_calibration_error(&bins),
        bins,
        // The distance of both columns is twice that of one.
        brier: brier(pairs, &is_right)? / 2.0,
        log_loss: log_loss(pairs, &is_right)?,
        aurc: curve.area(),
        curve: thinned(&curve, scored.rows),
        answerable: targets.iter().map(|&target| scored.answerable(&curve, target)).collect::<Result<_, _>>()?,
        at_threshold: judged.threshold.map(|threshold| scored.at(threshold)).transpose()?,
    }))
}

/// At most [`MAX_POINTS`] points, spread evenly over the coverage, the first and the last among them.
fn thinned(curve: &RiskCoverage, rows: usize) -> Vec<CurvePoint> {
    let points = curve.points();
    let last = points.len().saturating_sub(1);
    let slot = |answered: usize| answered * (MAX_POINTS - 2) / rows;
    let kept = points.iter().enumerate().filter(|(i, point)| {
        *i == 0 || *i == last || points.len() <= MAX_POINTS || slot(point.answered) != slot(points[i - 1].answered)
    });
    let point = |point: &bantam_stats::metrics::RiskPoint| CurvePoint {
        threshold: point.threshold,
        coverage: point.answered as f64 / rows as f64,
        risk: point.wrong as f64 / point.answered as f64,
    };
    kept.map(|(_, kept)| point(kept)).collect()
}

impl Quality {
    /// How much could be answered at an accuracy, from 0 to 1; `None` without confidences.
    ///
    /// # Errors
    /// [`QualityError::Setting`] if the target is not between 0 and 1.
    pub fn answerable_at(&self, target: f64) -> Result<Option<Answerable>, QualityError> {
        if !(0.0..=1.0).contains(&target) {
            return Err(QualityError::Setting { name: "target", value: target, expected: "between 0 and 1" });
        }
        let Some(scored) = Scored::of(&self.outcomes) else { return Ok(None) };
        let curve = RiskCoverage::new(&scored.confidences, &scored.right)?;
        scored.answerable(&curve, target).map(Some)
    }
}
