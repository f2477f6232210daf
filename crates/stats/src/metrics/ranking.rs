use crate::error::{StatsError, check_finite, check_len, check_min};

/// The area under the ROC curve: how likely a positive scores above a negative, ties counting half (Mann-Whitney).
///
/// # Errors
/// If the two differ in length, a score is not finite, or one of the two kinds is missing.
pub fn roc_auc(scores: &[f64], positive: &[bool]) -> Result<f64, StatsError> {
    check_len("positive", positive.len(), scores.len())?;
    check_finite("scores", scores)?;
    let positives = positive.iter().filter(|&&p| p).count();
    check_min("positive rows", positives, 1)?;
    check_min("negative rows", positive.len() - positives, 1)?;
    let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of (negative, positive) pairs in the right order; -0.0 and 0.0 are a tie.
    let (mut doubled, mut below) = (0_u128, 0_u128);
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        let up = tied.iter().filter(|row| row.1).count() as u128;
        let down = tied.len() as u128 - up;
        doubled += up * (2 * below + down);
        below += down;
    }
    Ok(doubled as f64 / (2.0 * positives as f64 * (positive.len() - positives) as f64))
}

#[cfg(test)]
mod tests {
    use super::roc_auc;
    use proptest::prelude::*;

    #[test]
    fn one_kind_alone_has_no_area() {
        assert!(roc_auc(&[1.0, 2.0], &[true, true]).is_err() && roc_auc(&[1.0], &[true, false]).is_err());
        assert!(roc_auc(&[1.0, f64::NAN], &[true, false]).is_err());
    }

    proptest! {
        /// Against the definition, over all pairs.
        #[test]
        fn is_the_share_of_pairs_in_order(rows in proptest::collection::vec((0_u8..6, any::<bool>()), 2..40)) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0) - 2.5).collect();
            let positive: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let (mut won, mut pairs) = (0.0, 0.0);
            for (a, _) in rows.iter().filter(|row| row.1) {
                for (b, _) in rows.iter().filter(|row| !row.1) {
                    pairs += 1.0;
                    won += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            match roc_auc(&scores, &positive) {
                Ok(area) => prop_assert!((area - won / pairs).abs() < 1e-12),
                Err(_) => prop_assert_eq!(pairs, 0.0),
            }
        }
    }
}
