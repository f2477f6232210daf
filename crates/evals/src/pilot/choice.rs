//! Which candidate to take.

use crate::quality::{Paired, Quality, QualityError};
use crate::report::Candidate;

/// How far below the bar a candidate may be on the rows that both answered: on few rows a large difference may be chance.
const MARGIN: f64 = 0.02;
/// Below this a difference is taken as more than chance.
const SIGNIFICANT: f64 = 0.05;

/// The rule of [`winner`], for people.
pub const RULE: &str = "The choice is the cheapest candidate that reaches the bar. The bar is the accuracy of the recorded \
    LLM; where there is none, or no candidate reaches it, that of the best candidate. A candidate reaches the bar if, on the \
    rows that both answered, it is at most 2 percentage points below it and not significantly worse (McNemar's exact test, \
    p < 0.05). Of candidates that cost the same, and where no cost is known, the more accurate one is taken.";

/// The candidate of choice by [`RULE`]; `None` if there is no candidate.
///
/// # Errors
/// [`QualityError::Stats`], which no checked input gives.
pub fn winner(baseline: Option<&Candidate>, candidates: &[Candidate]) -> Result<Option<usize>, QualityError> {
    if let Some(baseline) = baseline
        && let Some(found) = cheapest(&baseline.quality, candidates)?
    {
        return Ok(Some(found));
    }
    let accuracy = |candidate: &&Candidate| candidate.quality.accuracy.value;
    match candidates.iter().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))) {
        Some(best) => cheapest(&best.quality, candidates),
        None => Ok(None),
    }
}

fn cheapest(bar: &Quality, candidates: &[Candidate]) -> Result<Option<usize>, QualityError> {
    let mut found: Option<usize> = None;
    for (i, candidate) in candidates.iter().enumerate() {
        if !candidate.quality.against(bar)?.is_some_and(|paired| reaches(&paired)) {
            continue;
        }
        let key = |candidate: &Candidate| {
            (candidate.cost_per_million.unwrap_or(f64::INFINITY), -candidate.quality.accuracy.value)
        };
        let is_better = |other: usize| {
            let (new, old) = (key(candidate), key(&candidates[other]));
            new.0.total_cmp(&old.0).then(new.1.total_cmp(&old.1)).is_lt()
        };
        if found.is_none_or(is_better) {
            found = Some(i);
        }
    }
    Ok(found)
}

fn reaches(paired: &Paired) -> bool {
    let is_worse = paired.difference.value < 0.0 && paired.p_value < SIGNIFICANT;
    paired.difference.value >= -MARGIN && !is_worse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::{ConfidenceKind, Judged, Judgements, Kind, Prediction};

    /// The first `right` of 200 rows are right, those from `from` on.
    fn candidate(right: std::ops::Range<usize>, cost: Option<f64>) -> Candidate {
        let labels = ["a".to_owned(), "b".to_owned()];
        let row = |row: usize| {
            let labels = vec![usize::from(!right.contains(&row))];
            let predicted = Some(Prediction { labels, ..Prediction::default() });
            Judged { row, truth: vec![0], predicted, latency: None }
        };
        let rows: Vec<Judged> = (0..200).map(row).collect();
        let judged = Judgements {
            kind: Kind::Single,
            labels: &labels,
            out_of_scope: None,
            confidence: ConfidenceKind::Raw,
            threshold: None,
            targets: &[],
            rows: &rows,
            wall_seconds: None,
        };
        let quality = Quality::new(&judged).unwrap();
        Candidate { name: String::new(), quality, ram_bytes: None, cost_per_million: cost, notes: Vec::new() }
    }

    #[test]
    fn the_cheapest_that_is_as_good_is_taken() {
        let all = [candidate(0..190, Some(5.0)), candidate(0..188, Some(1.0)), candidate(0..120, Some(0.1))];
        assert_eq!(winner(None, &all).unwrap(), Some(1));
        assert_eq!(winner(None, &[]).unwrap(), None);
    }

    #[test]
    fn the_llm_is_the_bar_where_it_can_be_reached() {
        let all = [candidate(0..190, Some(5.0)), candidate(0..160, Some(1.0)), candidate(0..150, Some(0.1))];
        assert_eq!(winner(Some(&candidate(0..161, Some(400.0))), &all).unwrap(), Some(1));
        assert_eq!(winner(Some(&candidate(0..200, Some(400.0))), &all).unwrap(), Some(0));
    }

    #[test]
    fn a_difference_that_is_small_but_sure_is_one() {
        // 190 right and 10 others wrong, against 200: 5 points. Within the margin, 6 rows of 200 are enough to be sure.
        assert_eq!(winner(None, &[candidate(0..200, Some(5.0)), candidate(0..190, Some(1.0))]).unwrap(), Some(0));
        assert_eq!(winner(None, &[candidate(0..200, Some(5.0)), candidate(0..197, Some(1.0))]).unwrap(), Some(1));
    }

    #[test]
    fn without_costs_accuracy_decides() {
        assert_eq!(winner(None, &[candidate(0..196, None), candidate(0..198, None)]).unwrap(), Some(1));
        assert_eq!(winner(None, &[candidate(0..198, None), candidate(0..197, Some(3.0))]).unwrap(), Some(1));
    }
}
