//! Thresholds whose losses stay under a bound: Learn then Test (Angelopoulos et al. 2021) over a sequence of thresholds that
//! was fixed before the rows were looked at.

use crate::error::{StatsError, check_finite, check_len, check_min, check_share};
use crate::intervals::{Proportion, clopper_pearson_upper};

/// Places of the sequence at which testing begins, each with its part of the allowed doubt: strict thresholds accept too few
/// rows to say anything of them, and a later start may get past that.
const STARTS: usize = 8;
/// How many times more rows than there are a refusal thinks about.
const MOST_TIMES: f64 = 1e4;

/// Which share is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RiskOf {
    /// Losses among the accepted rows.
    #[default]
    Accepted,
    /// Accepted losses among all rows.
    All,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskBound {
    /// The share of losses that must not be exceeded, between 0 and 1.
    pub bound: f64,
    /// How sure that must be, between 0 and 1: the probability, over sets of rows, that the bound holds.
    pub confidence: f64,
    /// The share of what.
    pub of: RiskOf,
}

/// A threshold and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controlled {
    /// Accept rows whose score is at most this.
    pub threshold: f64,
    /// Rows that it was chosen on.
    pub rows: u64,
    /// Those of them that it accepts.
    pub accepted: u64,
    /// Losses among the accepted.
    pub losses: u64,
    /// With the confidence of one test, the true share of losses is at most this.
    pub upper: f64,
}

/// Why no threshold holds the bound.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The rows say that it may be possible, but they are too few to promise it.
    #[error("{rows} rows are too few to promise it: about {needed} rows like these would do")]
    TooFewRows {
        /// Rows there are.
        rows: usize,
        /// Rows at which the best threshold would pass if the shares stayed as they are.
        needed: usize,
    },
    /// No threshold comes near it.
    #[error("no threshold keeps it: over {rows} rows the lowest share of losses is {lowest:.4}")]
    OutOfReach {
        /// Rows there are.
        rows: usize,
        /// The lowest share of losses of any threshold that accepts something; 1 if none does.
        lowest: f64,
    },
}

/// The laxest threshold of `sequence` that holds the bound, or why there is none. Rows whose score is at most the threshold
/// are accepted; `losses` says which rows are a loss if accepted.
///
/// `sequence` (from strict to lax) must not come from these rows; then the bound holds with the confidence asked for, for
/// rows that are exchangeable with these. From each of eight starts thresholds are tested in turn with an exact binomial
/// bound (Clopper-Pearson) at an eighth of the doubt, up to the first that fails: in a fixed order no further price is paid.
///
/// # Errors
/// Without rows or thresholds, with unequal lengths, numbers that are not finite, a sequence that does not ascend, or a bound
/// or confidence outside (0, 1).
pub fn controlled_threshold(
    (scores, losses): (&[f64], &[bool]),
    sequence: &[f64],
    bound: RiskBound,
) -> Result<Result<Controlled, Refusal>, StatsError> {
    check_min("scores", scores.len(), 1)?;
    check_len("losses", losses.len(), scores.len())?;
    check_finite("scores", scores)?;
    check_min("sequence", sequence.len(), 1)?;
    check_finite("sequence", sequence)?;
    check_share("bound", bound.bound)?;
    check_share("confidence", bound.confidence)?;
    if let Some(pair) = sequence.windows(2).find(|pair| pair[0] > pair[1]) {
        return Err(StatsError::Range { name: "sequence", value: pair[1], expected: "ascending" });
    }
    let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(losses.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lost = vec![0_u64];
    rows.iter().for_each(|row| lost.push(lost.last().copied().unwrap_or(0) + u64::from(row.1)));
    let confidence = 1.0 - (1.0 - bound.confidence) / STARTS as f64;
    let at = |threshold: f64| -> Result<Option<Controlled>, StatsError> {
        let accepted = rows.partition_point(|row| row.0 <= threshold);
        let losses = lost[accepted];
        let trials = match bound.of {
            RiskOf::Accepted => accepted,
            RiskOf::All => rows.len(),
        } as u64;
        if trials == 0 {
            return Ok(None);
        }
        let upper = clopper_pearson_upper(Proportion::new(losses, trials)?, confidence)?;
        Ok(Some(Controlled { threshold, rows: rows.len() as u64, accepted: accepted as u64, losses, upper }))
    };
    let mut found: Option<Controlled> = None;
    for start in 0..STARTS {
        // The first start is the strictest threshold, the others are evenly spread.
        for &threshold in &sequence[start * sequence.len() / STARTS..] {
            match at(threshold)? {
                Some(passed) if passed.upper <= bound.bound => {
                    if found.is_none_or(|found| passed.threshold > found.threshold) {
                        found = Some(passed);
                    }
                }
                _ => break,
            }
        }
    }
    if let Some(found) = found.filter(|found| found.accepted > 0) {
        return Ok(Ok(found));
    }
    let mut tested = Vec::new();
    for &threshold in sequence {
        tested.extend(at(threshold)?.filter(|tested| tested.accepted > 0));
    }
    Ok(Err(refusal(&tested, rows.len(), bound, confidence)?))
}

fn refusal(tested: &[Controlled], rows: usize, bound: RiskBound, confidence: f64) -> Result<Refusal, StatsError> {
    let trials = |tested: &Controlled| match bound.of {
        RiskOf::Accepted => tested.accepted,
        RiskOf::All => tested.rows,
    } as f64;
    let lowest = tested.iter().map(|tested| tested.losses as f64 / trials(tested)).fold(1.0, f64::min);
    let mut needed: Option<f64> = None;
    for tested in tested.iter().filter(|tested| (tested.losses as f64) < bound.bound * trials(tested)) {
        let most = needed.unwrap_or(MOST_TIMES);
        let mut times = 1.0;
        while times < most {
            let (losses, trials) = ((tested.losses as f64 * times).ceil(), (trials(tested) * times).floor());
            if clopper_pearson_upper(Proportion::new(losses as u64, trials as u64)?, confidence)? <= bound.bound {
                needed = Some(times);
                break;
            }
            times *= 1.05;
        }
    }
    Ok(match needed {
        Some(times) => Refusal::TooFewRows { rows, needed: (rows as f64 * times).ceil() as usize },
        None => Refusal::OutOfReach { rows, lowest },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn uniform(rng: &mut Rng) -> f64 {
        (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn sequence() -> Vec<f64> {
        (1..=100).map(|i| f64::from(i) / 100.0).collect()
    }

    /// Rows are lost with probability half their score: of those accepted at t, t / 4 are, of all rows t^2 / 4.
    fn rows(rng: &mut Rng, n: usize) -> (Vec<f64>, Vec<bool>) {
        let scores: Vec<f64> = (0..n).map(|_| uniform(rng)).collect();
        let losses = scores.iter().map(|score| uniform(rng) < 0.5 * score).collect();
        (scores, losses)
    }

    #[test]
    fn bounds_are_broken_as_rarely_as_they_say() {
        let mut rng = Rng::new(7);
        let of_accepted = RiskBound { bound: 0.1, confidence: 0.9, of: RiskOf::Accepted };
        let of_all = RiskBound { bound: 0.04, of: RiskOf::All, ..of_accepted };
        for (bound, best) in [(of_accepted, 0.4), (of_all, 0.4)] {
            let (mut broken, mut mean) = (0, 0.0);
            for _ in 0..400 {
                let (scores, losses) = rows(&mut rng, 3_000);
                let found = controlled_threshold((&scores, &losses), &sequence(), bound).unwrap();
                let threshold = found.map_or(0.0, |found| found.threshold);
                broken += usize::from(threshold > best + 1e-9);
                mean += threshold / 400.0;
            }
            // The doubt allowed is 40 of 400; and the thresholds are of use.
            assert!(broken <= 40 && mean > 0.25, "{bound:?}: {broken} broken, {mean}");
        }
    }

    #[test]
    fn refusals_say_what_would_do() {
        let mut rng = Rng::new(8);
        let (scores, losses) = rows(&mut rng, 60);
        let bound = RiskBound { bound: 0.05, confidence: 0.95, of: RiskOf::Accepted };
        let refused = |scores: &[f64], losses: &[bool], bound| {
            controlled_threshold((scores, losses), &sequence(), bound).unwrap().unwrap_err()
        };
        let Refusal::TooFewRows { rows: 60, needed } = refused(&scores, &losses, bound) else { panic!("no number") };
        // With no loss among m accepted rows, m must be ln(0.00625) / ln(0.95) = 99 or more.
        assert!((99..5_000).contains(&needed), "{needed}");
        let all_lost = vec![true; 60];
        let reach = refused(&scores, &all_lost, bound);
        assert_eq!(reach, Refusal::OutOfReach { rows: 60, lowest: 1.0 });
        assert!(controlled_threshold((&scores, &losses), &[0.5, 0.1], bound).is_err());
        assert!(controlled_threshold((&scores, &losses), &[], bound).is_err());
        assert!(controlled_threshold((&scores, &losses[1..]), &[0.5], bound).is_err());
        let certain = RiskBound { confidence: 1.0, ..bound };
        assert!(controlled_threshold((&scores, &losses), &[0.5], certain).is_err());
    }
}
