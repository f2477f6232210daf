use bantam_stats::Rows;
use bantam_stats::head::Inputs;
use bantam_stats::head::pair::{Outcome, PairHead, PairPrediction};
use bantam_stats::risk::{Controlled, RiskBound};

use crate::cascade::{Cascade, Review, SmallAnswer};
use crate::embed::EncoderId;
use crate::error::RouteError;
use crate::prompt::{Asked, FEATURES, NAMES, Structure};

/// How much the structure counts beside a vector of length 1.
const STRUCTURE_WEIGHT: f64 = 0.1;
/// Features further from their mean than this many deviations are no further away.
const MOST_DEVIATIONS: f64 = 3.0;
/// A feature this many deviations from its mean is told as a reason.
const NOTABLE: f64 = 1.5;

/// From which gain on the large model is asked, and why there.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Threshold {
    /// By whoever trained it, without a promise.
    Given {
        /// Requests that gain at most this go to the small model.
        gain: f64,
    },
    /// Chosen so that a bound on losses holds.
    Promised {
        /// What holds.
        bound: RiskBound,
        /// The threshold, and the rows it was chosen on.
        held: Controlled,
    },
}

impl Threshold {
    /// Requests that gain at most this go to the small model.
    #[must_use]
    pub fn gain(&self) -> f64 {
        match self {
            Self::Given { gain } => *gain,
            Self::Promised { held, .. } => held.threshold,
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.gain().abs() <= 10.0
    }
}

/// Means and deviations of the structure of the training rows.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scaling {
    pub(crate) means: Vec<f32>,
    pub(crate) deviations: Vec<f32>,
}

impl Scaling {
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a Structure> + Clone) -> Self {
        let n = rows.clone().count().max(1) as f64;
        let mean_of = |value: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            (0..FEATURES).map(|i| rows.clone().map(|row| value(i, f64::from(row.0[i]))).sum::<f64>() / n).collect()
        };
        let means = mean_of(&|_, x| x);
        let squares = mean_of(&|i, x| (x - means[i]).powi(2));
        Self {
            means: means.iter().map(|x| *x as f32).collect(),
            deviations: squares.iter().map(|x| x.sqrt() as f32).collect(),
        }
    }

    /// Deviations from the means; 0 for a feature that never changed.
    pub(crate) fn apply(&self, structure: &Structure) -> [f64; FEATURES] {
        let mut scaled = [0.0; FEATURES];
        for (i, scaled) in scaled.iter_mut().enumerate() {
            let deviation = f64::from(self.deviations[i]);
            if deviation > 1e-6 {
                let away = (f64::from(structure.0[i]) - f64::from(self.means[i])) / deviation;
                *scaled = away.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS);
            }
        }
        scaled
    }

    /// What a head sees: the vector at length 1 and the structure beside it.
    pub(crate) fn features(&self, vector: &[f32], structure: &Structure) -> Vec<f32> {
        let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt().max(1e-12);
        let vector = vector.iter().map(|x| (f64::from(*x) / length) as f32);
        vector.chain(self.apply(structure).map(|x| (STRUCTURE_WEIGHT * x) as f32)).collect()
    }

    pub(crate) fn is_valid(&self) -> bool {
        let finite = |values: &[f32]| values.len() == FEATURES && values.iter().all(|x| x.is_finite());
        finite(&self.means) && finite(&self.deviations)
    }
}

/// Which of the two models answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The small one.
    Small,
    /// The large one.
    Large,
}

/// One thing that speaks for a decision, for the ledger and for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The expected gain is at most the threshold, or more.
    Gain {
        /// What the large model is expected to gain.
        gain: f64,
        /// The threshold.
        threshold: f64,
    },
    /// A feature of the prompt that is far from the mean of the training rows.
    Unusual {
        /// Which.
        feature: &'static str,
        /// How many standard deviations above the mean, or below it.
        deviations: f64,
    },
}

/// What a router says of a request.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Decision {
    /// The probability that the small model's answer is right.
    pub p_small: f64,
    /// The same of the large model.
    pub p_large: f64,
    /// What asking the large model gains on average, from -1 to 1.
    pub gain: f64,
    /// Requests that gain at most this go to the small model.
    pub threshold: f64,
    /// Who answers.
    pub choose: Choice,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// A training row that is like a request.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Similar {
    /// The beginning of its prompt, if the router keeps those.
    pub prompt: Option<String>,
    /// The cosine similarity of what the head sees.
    pub similarity: f64,
    /// How the models did on it.
    pub outcome: Outcome,
}

/// A fitted router. It may be shared between threads; a decision is a pure function of the request.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    pub(crate) encoder: EncoderId,
    pub(crate) scaling: Scaling,
    pub(crate) head: PairHead,
    pub(crate) threshold: Threshold,
    pub(crate) cascade: Option<Cascade>,
    /// The beginnings of the kept rows' prompts; none if they are not to be in the file.
    pub(crate) excerpts: Vec<String>,
}

impl Router {
    /// The encoder whose vectors [`Router::decide`] takes.
    #[must_use]
    pub fn encoder(&self) -> &EncoderId {
        &self.encoder
    }

    /// The threshold and what is promised of it.
    #[must_use]
    pub fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    /// What decides after the small model has answered, if the training rows had such answers.
    #[must_use]
    pub fn cascade(&self) -> Option<&Cascade> {
        self.cascade.as_ref()
    }

    /// The same router with a threshold of the caller's, for the cascade as well; nothing is promised of it.
    ///
    /// # Errors
    /// Unless it is between -10 and 10.
    pub fn with_threshold(mut self, gain: f64) -> Result<Self, RouteError> {
        let threshold = Threshold::Given { gain };
        if !threshold.is_valid() {
            let problem = format!("{gain} is no threshold; gains are from -1 to 1");
            return Err(RouteError::Config { field: "threshold", problem });
        }
        self.threshold = threshold;
        if let Some(cascade) = &mut self.cascade {
            cascade.threshold = threshold;
        }
        Ok(self)
    }

    /// Who answers. `vector` is the encoder's, of [`Asked::what_to_embed`].
    ///
    /// # Errors
    /// If the vector has another length than the encoder's, or a number that is not finite.
    pub fn decide(&self, asked: &Asked<'_>, vector: &[f32]) -> Result<Decision, RouteError> {
        let structure = asked.structure();
        let PairPrediction { small, large, gain } = self.predict(&asked.text, vector, &structure)?;
        let threshold = self.threshold.gain();
        let choose = if gain <= threshold { Choice::Small } else { Choice::Large };
        let mut reasons = vec![Reason::Gain { gain, threshold }];
        let unusual = self.scaling.apply(&structure).into_iter().zip(NAMES).filter(|(away, _)| away.abs() >= NOTABLE);
        reasons.extend(unusual.map(|(deviations, feature)| Reason::Unusual { feature, deviations }));
        Ok(Decision { p_small: small, p_large: large, gain, threshold, choose, reasons })
    }

    /// Whether to keep the answer of the small model; `None` if the router has no cascade.
    #[must_use]
    pub fn review(&self, before: &Decision, answer: &SmallAnswer) -> Option<Review> {
        Some(self.cascade.as_ref()?.review(answer, before.p_small, before.p_large))
    }

    /// The training rows that are most like a request, nearest first.
    ///
    /// # Errors
    /// As [`Router::decide`].
    pub fn similar(&self, asked: &Asked<'_>, vector: &[f32], most: usize) -> Result<Vec<Similar>, RouteError> {
        self.check(vector)?;
        let found = self.head.nearest(&self.scaling.features(vector, &asked.structure()), most)?;
        let similar = |near: bantam_stats::head::pair::Nearest| Similar {
            prompt: self.excerpts.get(near.at).cloned(),
            similarity: near.similarity,
            outcome: near.outcome,
        };
        Ok(found.into_iter().map(similar).collect())
    }

    pub(crate) fn predict(
        &self,
        text: &str,
        vector: &[f32],
        structure: &Structure,
    ) -> Result<PairPrediction, RouteError> {
        self.check(vector)?;
        let features = self.scaling.features(vector, structure);
        let inputs = Inputs { embeddings: Rows::new("vector", &features, features.len())?, texts: &[text] };
        Ok(self.head.predict(inputs, 1)?.swap_remove(0))
    }

    fn check(&self, vector: &[f32]) -> Result<(), RouteError> {
        let (found, expected) = (vector.len(), self.encoder.dimensions);
        if found == expected {
            return Ok(());
        }
        let problem =
            format!("has {found} elements, but the router was trained on {expected} of {}", self.encoder.model);
        Err(RouteError::Config { field: "vector", problem })
    }
}
