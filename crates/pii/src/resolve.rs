//! From findings that overlap to disjoint ones.
//!
//! The order in which findings win is the same everywhere: higher score, then longer, then earlier in the text, then as they were given.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::finding::Finding;

fn order(a: &Finding, b: &Finding) -> Ordering {
    (b.score.total_cmp(&a.score))
        .then_with(|| b.range.len().cmp(&a.range.len()))
        .then_with(|| a.range.start.cmp(&b.range.start))
}

/// Disjoint ranges, by start.
#[derive(Default)]
struct Taken(BTreeMap<usize, usize>);

impl Taken {
    /// Those that overlap `range`, from the last to the first.
    fn overlapping(&self, range: &Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        let start = range.start;
        self.0.range(..range.end).rev().map(|(&start, &end)| start..end).take_while(move |taken| taken.end > start)
    }

    fn take(&mut self, range: &Range<usize>) {
        self.0.insert(range.start, range.end);
    }
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| finding.range.start);
    findings
}

/// The winners; those that overlap one are dropped. For findings that are guesses about the same characters.
pub(crate) fn best(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(order);
    let mut taken = Taken::default();
    findings.retain(|finding| {
        let free = taken.overlapping(&finding.range).next().is_none();
        if free {
            taken.take(&finding.range);
        }
        free
    });
    sorted(findings)
}

/// The winners, and of the others what no winner covers: the covered text stays the same.
pub(crate) fn cover(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(order);
    let mut taken = Taken::default();
    let mut disjoint = Vec::with_capacity(findings.len());
    for finding in findings {
        let mut gaps = Vec::new();
        let mut end = finding.range.end;
        for other in taken.overlapping(&finding.range) {
            if other.end < end {
                gaps.push(other.end..end);
            }
            end = other.start;
        }
        if finding.range.start < end {
            gaps.push(finding.range.start..end);
        }
        for range in gaps {
            taken.take(&range);
            disjoint.push(Finding { range, ..finding.clone() });
        }
    }
    sorted(disjoint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn findings() -> impl Strategy<Value = Vec<Finding>> {
        let one = (0_usize..40, 1_usize..12, 0_u8..5).prop_map(|(start, len, score)| Finding {
            entity: format!("E{start}").into(),
            range: start..start + len,
            score: f32::from(score) / 4.0,
            recogniser: "r".into(),
        });
        proptest::collection::vec(one, 0..20)
    }

    fn covered(findings: &[Finding]) -> Vec<bool> {
        (0..64).map(|at| findings.iter().any(|f| f.range.contains(&at))).collect()
    }

    proptest! {
        #[test]
        fn what_is_left_is_disjoint(all in findings()) {
            for left in [best(all.clone()), cover(all.clone())] {
                prop_assert!(left.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{left:?}");
                prop_assert!(left.iter().all(|f| !f.range.is_empty()));
            }
            prop_assert_eq!(covered(&cover(all.clone())), covered(&all));
            // Nobody was dropped but for a better one, and who won everything is whole.
            let winners = best(all.clone());
            for one in &all {
                prop_assert!(winners.iter().any(|w| w.range.start < one.range.end && one.range.start < w.range.end && order(w, one).is_le()));
            }
        }
    }

    #[test]
    fn score_goes_before_length_and_length_before_place() {
        let of = |range: Range<usize>, score| Finding { entity: "E".into(), range, score, recogniser: "r".into() };
        let first = |all: Vec<Finding>| best(all).remove(0).range;
        assert_eq!(first(vec![of(0..9, 0.5), of(2..4, 0.6)]), 2..4);
        assert_eq!(first(vec![of(0..3, 0.5), of(2..6, 0.5)]), 2..6);
        assert_eq!(first(vec![of(2..5, 0.5), of(0..3, 0.5)]), 0..3);
        let ranges: Vec<_> = cover(vec![of(0..9, 0.5), of(2..4, 0.6)]).into_iter().map(|f| f.range).collect();
        assert_eq!(ranges, [0..2, 2..4, 4..9]);
    }
}
