//! The promise of a bound, put to the test.

use bantam_router::RouteError;
use bantam_router::Threshold;
use bantam_router::fit::promised;
use bantam_stats::Rng;
use bantam_stats::risk::{RiskBound, RiskOf};
use serde::Serialize;

use super::{EvalArgs, Judged};

/// How often a promise was broken.
#[derive(Debug, Serialize)]
pub(super) struct Promises {
    /// Router or cascade.
    pub(super) of: &'static str,
    pub(super) bound: RiskBound,
    /// Splits into a half that chooses and a half that judges.
    pub(super) splits: u32,
    /// Splits where nothing could be promised, so that the large model answers everything.
    pub(super) refused: u32,
    /// Splits where the judging half has a larger share of losses than the bound.
    pub(super) broken: u32,
    /// The same, where rows that choose are drawn with replacement and all rows judge, so that the true share is known exactly.
    pub(super) broken_exact: u32,
    /// The mean share of requests that the small model answers, refused ones included.
    pub(super) kept: f64,
    /// The mean share of losses.
    pub(super) losses: f64,
}

/// Splits the rows that judge at random, chooses a threshold on one half as `train` does and looks whether the bound holds on the
/// other.
pub(super) fn promises(judged: &Judged, args: &EvalArgs) -> anyhow::Result<Vec<Promises>> {
    let Some(taught) = judged.taught.as_ref().filter(|_| args.promises > 0) else { return Ok(Vec::new()) };
    let gains: Vec<f64> = judged.predictions.iter().map(|p| p.gain).collect();
    let mut all = vec![of("router", judged, &gains, &taught.gains, args)?];
    if let Some(gains) = judged.cascade_gains() {
        all.push(of("cascade", judged, &gains, &taught.cascade_gains, args)?);
    }
    Ok(all)
}

fn of(
    name: &'static str,
    judged: &Judged,
    gains: &[f64],
    sequence: &[f64],
    args: &EvalArgs,
) -> anyhow::Result<Promises> {
    let bound = args.bound.bound();
    let n = gains.len();
    let losses: Vec<bool> = judged.rows.iter().map(bantam_router::rows::Row::is_loss).collect();
    let choose = |rows: &[usize]| -> anyhow::Result<Option<f64>> {
        let of_rows: (Vec<f64>, Vec<bool>) = rows.iter().map(|&row| (gains[row], losses[row])).unzip();
        match promised((&of_rows.0, &of_rows.1), sequence.to_vec(), bound) {
            Ok(threshold) => Ok(Some(Threshold::gain(&threshold))),
            Err(RouteError::Refused { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let risk = |rows: &[usize], threshold: f64| -> (f64, f64) {
        let kept: Vec<usize> = rows.iter().copied().filter(|&row| gains[row] <= threshold).collect();
        let lost = kept.iter().filter(|row| losses[**row]).count() as f64;
        let of = match bound.of {
            RiskOf::Accepted => kept.len().max(1),
            RiskOf::All => rows.len(),
        };
        (lost / of as f64, kept.len() as f64 / rows.len() as f64)
    };
    let every: Vec<usize> = (0..n).collect();
    let mut found = Promises {
        of: name,
        bound,
        splits: args.promises,
        refused: 0,
        broken: 0,
        broken_exact: 0,
        kept: 0.0,
        losses: 0.0,
    };
    for split in 0..args.promises {
        let mut rng = Rng::new(u64::from(split));
        let mut order = every.clone();
        (1..n).rev().for_each(|i| order.swap(i, rng.below(i + 1)));
        let (choosing, judging) = order.split_at(n / 2);
        match choose(choosing)? {
            None => found.refused += 1,
            Some(threshold) => {
                let (lost, kept) = risk(judging, threshold);
                found.broken += u32::from(lost > bound.bound);
                found.kept += kept / f64::from(args.promises);
                found.losses += lost / f64::from(args.promises);
            }
        }
        let drawn: Vec<usize> = (0..n / 2).map(|_| rng.below(n)).collect();
        if let Some(threshold) = choose(&drawn)? {
            found.broken_exact += u32::from(risk(&every, threshold).0 > bound.bound);
        }
    }
    Ok(found)
}
