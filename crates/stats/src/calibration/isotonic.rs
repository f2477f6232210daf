use crate::error::{StatsError, check_finite, check_len, check_min};

/// The non-decreasing map from score to value with the least squared error, by pooling adjacent violators; straight lines
/// between the levels, flat beyond the ends.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<(f64, f64)>", into = "Vec<(f64, f64)>")]
pub struct Isotonic {
    /// (score, value), both ascending.
    points: Vec<(f64, f64)>,
}

/// Rows that got one level.
struct Block {
    first: f64,
    last: f64,
    sum: f64,
    rows: f64,
}

impl Isotonic {
    /// Fits `targets` (1 and 0 for right and wrong, or any numbers) by scores in any order; equal scores get one value.
    ///
    /// # Errors
    /// Without rows, if the two differ in length, and if a number is not finite.
    pub fn fit(scores: &[f64], targets: &[f64]) -> Result<Self, StatsError> {
        check_len("targets", targets.len(), scores.len())?;
        check_min("scores", scores.len(), 1)?;
        check_finite("scores", scores)?;
        check_finite("targets", targets)?;
        let mut rows: Vec<(f64, f64)> = scores.iter().copied().zip(targets.iter().copied()).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut blocks: Vec<Block> = Vec::new();
        for tied in rows.chunk_by(|a, b| a.0 == b.0) {
            let sum = tied.iter().map(|row| row.1).sum();
            let mut block = Block { first: tied[0].0, last: tied[0].0, sum, rows: tied.len() as f64 };
            while let Some(before) = blocks.pop_if(|before| before.sum * block.rows >= block.sum * before.rows) {
                block.sum += before.sum;
                block.rows += before.rows;
                block.first = before.first;
            }
            blocks.push(block);
        }
        let mut points = Vec::new();
        for block in blocks {
            let value = block.sum / block.rows;
            points.push((block.first, value));
            if block.last > block.first {
                points.push((block.last, value));
            }
        }
        Ok(Self { points })
    }

    /// The value that belongs to a score.
    #[must_use]
    pub fn apply(&self, score: f64) -> f64 {
        let above = self.points.partition_point(|point| point.0 < score);
        let (Some(&low), Some(&high)) = (self.points.get(above.wrapping_sub(1)), self.points.get(above)) else {
            let end = if above == 0 { self.points.first() } else { self.points.last() };
            return end.map_or(f64::NAN, |point| point.1);
        };
        low.1 + (high.1 - low.1) * ((score - low.0) / (high.0 - low.0))
    }
}

impl TryFrom<Vec<(f64, f64)>> for Isotonic {
    type Error = StatsError;
    fn try_from(points: Vec<(f64, f64)>) -> Result<Self, StatsError> {
        check_min("points", points.len(), 1)?;
        if let Some(row) = points.iter().position(|point| !(point.0.is_finite() && point.1.is_finite())) {
            return Err(StatsError::NotFinite { name: "points", row });
        }
        match points.windows(2).find(|pair| pair[1].0 <= pair[0].0 || pair[1].1 < pair[0].1) {
            Some(pair) => Err(StatsError::Range { name: "points", value: pair[1].0, expected: "in ascending order" }),
            None => Ok(Self { points }),
        }
    }
}

impl From<Isotonic> for Vec<(f64, f64)> {
    fn from(isotonic: Isotonic) -> Self {
        isotonic.points
    }
}

#[cfg(test)]
mod tests {
    use super::Isotonic;
    use proptest::prelude::*;

    #[test]
    fn pools_what_falls_and_joins_with_lines() {
        let fit = Isotonic::fit(&[4.0, 1.0, 2.0, 3.0, 5.0], &[1.0, 0.0, 1.0, 0.0, 1.0]).unwrap();
        let values: Vec<f64> = [0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 9.0].iter().map(|&x| fit.apply(x)).collect();
        assert_eq!(values, [0.0, 0.0, 0.5, 0.5, 0.5, 0.75, 1.0]);
        let json = serde_json::to_string(&fit).unwrap();
        assert_eq!(serde_json::from_str::<Isotonic>(&json).unwrap(), fit);
        for bad in ["[]", "[[1,0],[0,1]]", "[[0,1],[1,0]]"] {
            assert!(serde_json::from_str::<Isotonic>(bad).is_err(), "{bad}");
        }
        assert!(Isotonic::fit(&[f64::NAN], &[0.0]).is_err() && Isotonic::fit(&[], &[]).is_err());
    }

    proptest! {
        /// The min-max formula: the value at i is max over a <= i of min over b >= i of the mean of a..=b.
        #[test]
        fn is_the_least_squares_fit(targets in proptest::collection::vec(-3_i32..4, 1..12)) {
            let scores: Vec<f64> = (0..targets.len()).map(|i| i as f64).collect();
            let targets: Vec<f64> = targets.into_iter().map(f64::from).collect();
            let fit = Isotonic::fit(&scores, &targets).unwrap();
            for i in 0..targets.len() {
                let mean = |a: usize, b: usize| targets[a..=b].iter().sum::<f64>() / (b - a + 1) as f64;
                let least = |a| (i..targets.len()).map(|b| mean(a, b)).fold(f64::INFINITY, f64::min);
                let value = (0..=i).map(least).fold(f64::NEG_INFINITY, f64::max);
                prop_assert!((fit.apply(scores[i]) - value).abs() < 1e-12);
            }
        }
    }
}
