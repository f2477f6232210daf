use crate::error::{StatsError, check_classes, check_len, check_min};
use crate::rows::Rows;

/// Mean negative log-likelihood in nats of the true classes; a probability counts as at least 1e-15.
///
/// # Errors
/// If the labels are not one per row and below the row width.
pub fn log_loss(probabilities: Rows<'_, f64>, labels: &[usize]) -> Result<f64, StatsError> {
    check_labels(probabilities, labels)?;
    let loss = probabilities.iter().zip(labels).map(|(row, &label)| -libm::log(row[label].max(1e-15)));
    Ok(loss.sum::<f64>() / labels.len() as f64)
}

/// Mean squared distance between the probabilities and the one-hot truth, from 0 to 2 (Brier 1950); for two classes it is
/// twice the one-column score.
///
/// # Errors
/// If the labels are not one per row and below the row width.
pub fn brier(probabilities: Rows<'_, f64>, labels: &[usize]) -> Result<f64, StatsError> {
    check_labels(probabilities, labels)?;
    let distance = |(row, &label): (&[f64], &usize)| -> f64 {
        row.iter().enumerate().map(|(class, p)| (p - f64::from(u8::from(class == label))).powi(2)).sum()
    };
    Ok(probabilities.iter().zip(labels).map(distance).sum::<f64>() / labels.len() as f64)
}

fn check_labels(probabilities: Rows<'_, f64>, labels: &[usize]) -> Result<(), StatsError> {
    check_len("labels", labels.len(), probabilities.len())?;
    check_classes("labels", labels, probabilities.width())
}

/// How confidences are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bins {
    /// So many intervals of the same width; a confidence on an edge belongs to the lower one.
    EqualWidth(usize),
    /// So many groups of about the same number of rows; equal confidences stay together.
    EqualMass(usize),
}

/// Rows of similar confidence.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ReliabilityBin {
    /// The lowest confidence in the bin.
    pub lowest: f64,
    /// The highest confidence in the bin.
    pub highest: f64,
    /// How many rows.
    pub rows: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them that is correct.
    pub accuracy: f64,
}

/// The points of a reliability diagram, by ascending confidence; empty bins are left out.
///
/// # Errors
/// Without rows or bins, if the two differ in length, and if a confidence is outside [0, 1].
pub fn reliability(confidences: &[f64], correct: &[bool], bins: Bins) -> Result<Vec<ReliabilityBin>, StatsError> {
    check_len("correct", correct.len(), confidences.len())?;
    check_min("confidences", confidences.len(), 1)?;
    let (Bins::EqualWidth(wanted) | Bins::EqualMass(wanted)) = bins;
    check_min("bins", wanted, 1)?;
    if let Some(&value) = confidences.iter().find(|c| !(0.0..=1.0).contains(*c)) {
        return Err(StatsError::Range { name: "confidences", value, expected: "between 0 and 1" });
    }
    let mut rows: Vec<(f64, bool)> = confidences.iter().copied().zip(correct.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Both rules give a bin that never falls as the confidence rises, so bins are runs.
    let n = rows.len();
    let mut bin = 0;
    let mut of_row = Vec::with_capacity(n);
    for (i, (confidence, _)) in rows.iter().enumerate() {
        bin = match bins {
            Bins::EqualWidth(wanted) => (confidence * wanted as f64).ceil().max(1.0) as usize - 1,
            Bins::EqualMass(_) if i > 0 && rows[i - 1].0 == *confidence => bin,
            Bins::EqualMass(wanted) => (i as u128 * wanted as u128 / n as u128) as usize,
        };
        of_row.push((bin, i));
    }
    Ok(of_row.chunk_by(|a, b| a.0 == b.0).map(|run| summarise(&rows[run[0].1..][..run.len()])).collect())
}

fn summarise(run: &[(f64, bool)]) -> ReliabilityBin {
    let n = run.len() as f64;
    ReliabilityBin {
        lowest: run[0].0,
        highest: run[run.len() - 1].0,
        rows: run.len(),
        confidence: run.iter().map(|row| row.0).sum::<f64>() / n,
        accuracy: run.iter().filter(|row| row.1).count() as f64 / n,
    }
}

/// The mean of |confidence - accuracy| over the bins, weighted by rows (Naeini et al. 2015).
#[must_use]
pub fn expected_calibration_error(bins: &[ReliabilityBin]) -> f64 {
    let rows: usize = bins.iter().map(|bin| bin.rows).sum();
    let gaps = bins.iter().map(|bin| bin.rows as f64 * (bin.confidence - bin.accuracy).abs());
    if rows == 0 { 0.0 } else { gaps.sum::<f64>() / rows as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_by_hand() {
        let rows = Rows::new("p", &[0.5, 0.25, 0.25, 0.0, 0.0, 1.0], 3).unwrap();
        assert!((log_loss(rows, &[0, 2]).unwrap() - 0.5 * std::f64::consts::LN_2).abs() < 1e-15);
        assert!((brier(rows, &[1, 2]).unwrap() - 0.5 * (0.25 + 0.5625 + 0.0625)).abs() < 1e-15);
        assert!(log_loss(rows, &[0, 1]).unwrap() < 20.0);
        assert!(log_loss(rows, &[0]).is_err() && brier(rows, &[0, 3]).is_err());
    }

    /// Five rows: 0.1 and 0.2 wrong, 0.6 right, 0.9 right and 1.0 wrong.
    #[test]
    fn calibration_error_by_hand() {
        let (confidences, correct) = ([0.9, 0.1, 1.0, 0.2, 0.6], [true, false, false, false, true]);
        let wide = reliability(&confidences, &correct, Bins::EqualWidth(2)).unwrap();
        assert_eq!(wide.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [2, 3]);
        // 2/5 |0.15 - 0| + 3/5 |2.5/3 - 2/3|
        assert!((expected_calibration_error(&wide) - (0.4 * 0.15 + 0.6 * (2.5 / 3.0 - 2.0 / 3.0))).abs() < 1e-12);
        let mass = reliability(&confidences, &correct, Bins::EqualMass(5)).unwrap();
        assert!((expected_calibration_error(&mass) - (0.1 + 0.2 + 0.4 + 0.1 + 1.0) / 5.0).abs() < 1e-12);
    }

    #[test]
    fn equal_confidences_share_a_bin_and_edges_belong_below() {
        let mass = reliability(&[0.5; 9], &[true; 9], Bins::EqualMass(3)).unwrap();
        assert_eq!((mass.len(), mass[0].rows, mass[0].accuracy), (1, 9, 1.0));
        let wide = reliability(&[0.0, 0.5, 0.500_001, 1.0], &[true; 4], Bins::EqualWidth(2)).unwrap();
        assert_eq!((wide[0].rows, wide[0].highest, wide[1].rows), (2, 0.5, 2));
        assert!(reliability(&[1.5], &[true], Bins::EqualMass(1)).is_err());
        assert!(reliability(&[0.5], &[true], Bins::EqualWidth(0)).is_err());
    }
}
