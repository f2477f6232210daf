use crate::error::{StatsError, check_finite, check_len, check_min};
use crate::special::{sigmoid, softplus};

/// Platt scaling of a yes-or-no score: probability = sigmoid(slope * score + offset).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Platt {
    /// Of the score.
    pub slope: f64,
    /// Added to it.
    pub offset: f64,
}

impl Platt {
    /// The fit with the least log loss, with Platt's (1999) targets in place of 0 and 1, so that few rows do not give
    /// certainty.
    ///
    /// # Errors
    /// Without a row of each kind, if the two differ in length, and if a score is not finite.
    pub fn fit(scores: &[f64], positive: &[bool]) -> Result<Self, StatsError> {
        check_len("positive", positive.len(), scores.len())?;
        check_finite("scores", scores)?;
        // Newton's method wants numbers around 1.
        let scale = scores.iter().fold(0.0_f64, |max, s| max.max(s.abs())).max(f64::MIN_POSITIVE);
        let features: Vec<[f64; 2]> = scores.iter().map(|s| [s / scale, 1.0]).collect();
        let [slope, offset] = fit_logistic(&features, positive)?;
        Ok(Self { slope: slope / scale, offset })
    }

    /// The probability that belongs to a score.
    #[must_use]
    pub fn apply(self, score: f64) -> f64 {
        sigmoid(self.slope * score + self.offset)
    }
}

/// Beta calibration of a probability (Kull et al. 2017): it can undo over- and underconfidence and contains the identity.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BetaCalibration {
    /// Of ln p.
    pub a: f64,
    /// Of -ln(1 - p).
    pub b: f64,
    /// Added to both.
    pub c: f64,
}

impl BetaCalibration {
    /// The fit with the least log loss. A negative `a` or `b`, which would make the map fall, is set to 0 and the others
    /// fitted again.
    ///
    /// # Errors
    /// Without a row of each kind, if the two differ in length, and if a probability is outside [0, 1].
    pub fn fit(probabilities: &[f64], positive: &[bool]) -> Result<Self, StatsError> {
        check_len("positive", positive.len(), probabilities.len())?;
        if let Some(&value) = probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(StatsError::Range { name: "probabilities", value, expected: "between 0 and 1" });
        }
        let fit_with = |use_a: f64, use_b: f64| {
            let row = |&p: &f64| {
                let [x, y] = beta_features(p);
                [x * use_a, y * use_b, 1.0]
            };
            fit_logistic(&probabilities.iter().map(row).collect::<Vec<_>>(), positive)
        };
        let [mut a, mut b, mut c] = fit_with(1.0, 1.0)?;
        if a < 0.0 {
            [a, b, c] = fit_with(0.0, 1.0)?;
        } else if b < 0.0 {
            [a, b, c] = fit_with(1.0, 0.0)?;
        }
        Ok(Self { a: a.max(0.0), b: b.max(0.0), c })
    }

    /// The calibrated probability.
    #[must_use]
    pub fn apply(self, probability: f64) -> f64 {
        let [x, y] = beta_features(probability);
        sigmoid(self.a * x + self.b * y + self.c)
    }
}

fn beta_features(p: f64) -> [f64; 2] {
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    [libm::log(p), -libm::log1p(-p)]
}

/// Logistic regression on `N` columns, the last of them ones, by damped Newton steps, with the targets of Platt (1999).
///
/// # Errors
/// Without a row of each kind, and if the two differ in length.
pub fn fit_logistic<const N: usize>(features: &[[f64; N]], positive: &[bool]) -> Result<[f64; N], StatsError> {
    check_len("positive", positive.len(), features.len())?;
    let positives = positive.iter().filter(|&&p| p).count();
    let negatives = positive.len() - positives;
    check_min("positive rows", positives, 1)?;
    check_min("negative rows", negatives, 1)?;
    let (high, low) = ((positives as f64 + 1.0) / (positives as f64 + 2.0), 1.0 / (negatives as f64 + 2.0));
    let target = |positive: bool| if positive { high } else { low };
    let dot = |x: &[f64; N], w: &[f64; N]| -> f64 { x.iter().zip(w).map(|(x, w)| x * w).sum() };
    let loss = |w: &[f64; N]| -> f64 {
        let row = |(x, &p): (&[f64; N], &bool)| softplus(dot(x, w)) - target(p) * dot(x, w);
        features.iter().zip(positive).map(row).sum()
    };
    let mut w = [0.0; N];
    w[N - 1] = libm::log((positives as f64 + 1.0) / (negatives as f64 + 1.0));
    let mut best = loss(&w);
    for _ in 0..100 {
        let (mut gradient, mut hessian) = ([0.0; N], [[0.0; N]; N]);
        for (x, &is) in features.iter().zip(positive) {
            let p = sigmoid(dot(x, &w));
            for i in 0..N {
                gradient[i] += (p - target(is)) * x[i];
                (0..N).for_each(|j| hessian[i][j] += p * (1.0 - p) * x[i] * x[j]);
            }
        }
        // A column that is all zeros or equal to another would make the matrix singular.
        (0..N).for_each(|i| hessian[i][i] += 1e-9 * (1.0 + hessian[i][i]));
        let step = solve(hessian, gradient);
        let damped = |t: f64| {
            let mut moved = w;
            moved.iter_mut().zip(&step).for_each(|(w, step)| *w -= t * step);
            moved
        };
        let halved = (0..40).map(|k| damped(libm::exp2(-f64::from(k))));
        let Some((next, value)) = halved.map(|w| (w, loss(&w))).find(|(_, value)| *value < best) else { break };
        let gain = best - value;
        (w, best) = (next, value);
        if gain < 1e-12 * best.abs() {
            break;
        }
    }
    Ok(w)
}

/// Gaussian elimination of a positive definite system.
fn solve<const N: usize>(mut m: [[f64; N]; N], mut y: [f64; N]) -> [f64; N] {
    for i in 0..N {
        for below in i + 1..N {
            let factor = m[below][i] / m[i][i];
            (i..N).for_each(|j| m[below][j] -= factor * m[i][j]);
            y[below] -= factor * y[i];
        }
    }
    for i in (0..N).rev() {
        let known: f64 = (i + 1..N).map(|j| m[i][j] * y[j]).sum();
        y[i] = (y[i] - known) / m[i][i];
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each score, rows in the proportion that `truth` says.
    fn rows(scores: &[f64], truth: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<bool>) {
        let of = |&s: &f64| (0..2_000).map(move |i| (s, i));
        scores.iter().flat_map(of).map(|(s, i)| (s, f64::from(i) < 2_000.0 * truth(s))).unzip()
    }

    #[test]
    fn platt_finds_the_line_that_made_the_labels() {
        let scores: Vec<f64> = (-20..=20).map(|i| f64::from(i) * 10.0).collect();
        let (x, y) = rows(&scores, |s| sigmoid(0.02 * s - 0.7));
        let found = Platt::fit(&x, &y).unwrap();
        assert!((found.slope - 0.02).abs() < 1e-4 && (found.offset + 0.7).abs() < 5e-3, "{found:?}");
    }

    #[test]
    fn platt_stays_finite_where_rows_separate() {
        let found = Platt::fit(&[-1.0, -2.0, 1.0, 2.0], &[false, false, true, true]).unwrap();
        assert!(found.slope > 0.0 && found.slope.is_finite());
        assert!((0.5..0.9).contains(&found.apply(1.0)), "{found:?}");
        assert!(Platt::fit(&[1.0, 2.0], &[true, true]).is_err());
        assert!(Platt::fit(&[0.0, 0.0, 0.0], &[true, false, false]).unwrap().apply(0.0) < 0.5);
    }

    #[test]
    fn beta_finds_its_own_maps_and_never_falls() {
        let scores: Vec<f64> = (1..20).map(|i| f64::from(i) / 20.0).collect();
        let made = BetaCalibration { a: 0.5, b: 2.0, c: 0.3 };
        let (x, y) = rows(&scores, |p| made.apply(p));
        let found = BetaCalibration::fit(&x, &y).unwrap();
        assert!(
            (found.a - 0.5).abs() < 0.02 && (found.b - 2.0).abs() < 0.05 && (found.c - 0.3).abs() < 0.02,
            "{found:?}"
        );
        let (x, y) = rows(&scores, |p| 1.0 - p);
        let found = BetaCalibration::fit(&x, &y).unwrap();
        assert!(found.a >= 0.0 && found.b >= 0.0 && found.apply(0.9) >= found.apply(0.1));
        assert!(BetaCalibration::fit(&[1.2, 0.1], &[true, false]).is_err());
    }
}
