//! What a way of routing is worth: quality against the share of requests that the large model gets.
//!
//! PGR, the performance gap recovered, is the share of the distance between all-small and all-large that is won; APGR is its
//! mean over all shares of large calls, CPT(x) the share of large calls at which it first reaches x (Ong et al. 2024,
//! RouteLLM). Random routing has APGR 0.5. Rows with equal gains are drawn from at random, in expectation.

use bantam_stats::intervals::{Bootstrap, BootstrapConfig, bootstrap};
use bantam_stats::{StatsError, intervals::Interval};

use crate::rows::Costs;

/// A row of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The gain that routing expects of the large model; the largest go there first.
    pub gain: f64,
    /// How good the small model's answer is.
    pub small: f64,
    /// How good the large model's answer is.
    pub large: f64,
    /// What the two cost.
    pub costs: Costs,
    /// What is paid even if the large model answers: the small model's cost in a cascade.
    pub always: f64,
}

/// One point: so many requests to the large model, so much quality, so much cost, all means over the rows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// The share of requests that the large model answers.
    pub large: f64,
    /// The mean score of the answers.
    pub quality: f64,
    /// The mean cost of a request.
    pub cost: f64,
}

/// The figures of one way of routing, with percentile intervals over resampled rows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Figures {
    /// The mean performance gap recovered over all shares of large calls; 0.5 is random.
    pub apgr: Bootstrap,
    /// The share of large calls at which half the gap is recovered.
    pub cpt50: Bootstrap,
    /// The share of large calls at which 80 % of the gap is recovered.
    pub cpt80: Bootstrap,
}

/// The order of rows by expected gain, largest first, and where equal gains end.
struct Order<'a> {
    rows: &'a [Measured],
    order: Vec<usize>,
    /// Ends of runs of equal gains in `order`.
    ends: Vec<usize>,
}

impl<'a> Order<'a> {
    fn new(rows: &'a [Measured]) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| rows[*b].gain.total_cmp(&rows[*a].gain).then(a.cmp(b)));
        let differs = |pair: &[usize]| rows[pair[0]].gain != rows[pair[1]].gain;
        let mut ends: Vec<usize> =
            order.windows(2).enumerate().filter(|(_, w)| differs(w)).map(|(i, _)| i + 1).collect();
        ends.push(order.len());
        Self { rows, order, ends }
    }

    /// Share of large calls and share of the whole gain won, at the ends of runs; `count` says how often a row is there.
    /// `None` if the models do not differ on these rows.
    fn walk(&self, count: &[u32]) -> Option<Vec<(f64, f64)>> {
        let total: f64 = count.iter().map(|n| f64::from(*n)).sum();
        let (mut calls, mut won, mut begin) = (0.0, 0.0, 0);
        let mut points = vec![(0.0, 0.0)];
        for &end in &self.ends {
            for &row in &self.order[begin..end] {
                let n = f64::from(count[row]);
                calls += n;
                won += n * (self.rows[row].large - self.rows[row].small);
            }
            begin = end;
            points.push((calls / total, won));
        }
        // The large model must be the better one for a gap to be there.
        (won > 0.0).then(|| points.iter().map(|(share, w)| (*share, w / won)).collect())
    }
}

fn area(points: &[(f64, f64)]) -> f64 {
    points.windows(2).map(|w| (w[1].0 - w[0].0) * 0.5 * (w[0].1 + w[1].1)).sum()
}

fn first_at(points: &[(f64, f64)], level: f64) -> f64 {
    let crossing = points.windows(2).find(|w| w[1].1 >= level);
    crossing.map_or(1.0, |w| {
        let rise = w[1].1 - w[0].1;
        if rise > 0.0 { w[0].0 + (w[1].0 - w[0].0) * ((level - w[0].1) / rise).clamp(0.0, 1.0) } else { w[1].0 }
    })
}

/// APGR of rows as they are.
///
/// # Errors
/// Without rows, and if the large model is not better than the small one over them.
pub fn apgr(rows: &[Measured]) -> Result<f64, StatsError> {
    let value = Order::new(rows).walk(&vec![1; rows.len()]).map_or(f64::NAN, |points| area(&points));
    if value.is_finite() { Ok(value) } else { Err(no_gap(value)) }
}

fn no_gap(value: f64) -> StatsError {
    StatsError::Range { name: "large - small", value, expected: "above 0 on average: there must be a gap to recover" }
}

/// APGR, CPT(50%) and CPT(80%).
///
/// # Errors
/// As [`apgr`].
pub fn figures(rows: &[Measured], config: &BootstrapConfig) -> Result<Figures, StatsError> {
    apgr(rows)?;
    let order = Order::new(rows);
    let mut count = vec![0_u32; rows.len()];
    let mut of = |figure: fn(&[(f64, f64)]) -> f64| {
        bootstrap(rows.len(), config, |drawn| {
            count.fill(0);
            drawn.iter().for_each(|row| count[*row] += 1);
            order.walk(&count).map_or(f64::NAN, |points| figure(&points))
        })
    };
    Ok(Figures {
        apgr: of(area)?,
        cpt50: of(|points| first_at(points, 0.5))?,
        cpt80: of(|points| first_at(points, 0.8))?,
    })
}

/// The accuracy-cost curve: `parts` + 1 points at most, from no large call to all of them.
#[must_use]
pub fn points(rows: &[Measured], parts: usize) -> Vec<Point> {
    let n = rows.len().max(1) as f64;
    let order = Order::new(rows);
    let (mut quality, mut cost) =
        (rows.iter().map(|row| row.small).sum::<f64>(), rows.iter().map(|row| row.costs.small).sum::<f64>());
    let mut points = vec![Point { large: 0.0, quality: quality / n, cost: cost / n }];
    let (mut begin, mut next) = (0, 1);
    for &end in &order.ends {
        for &row in &order.order[begin..end] {
            let row = &rows[row];
            quality += row.large - row.small;
            cost += row.costs.large + row.always - row.costs.small;
        }
        begin = end;
        if end * parts >= next * rows.len() {
            points.push(Point { large: end as f64 / n, quality: quality / n, cost: cost / n });
            next = end * parts / rows.len().max(1) + 1;
        }
    }
    points
}

/// The mean of something over rows, with its interval.
///
/// # Errors
/// Without rows.
pub fn mean(values: &[f64], config: &BootstrapConfig) -> Result<Bootstrap, StatsError> {
    bootstrap(values.len(), config, |rows| rows.iter().map(|row| values[*row]).sum::<f64>() / rows.len() as f64)
}

/// Rows routed at a threshold: whether each goes to the large model, and its score and cost then.
#[must_use]
pub fn at_threshold(rows: &[Measured], threshold: f64) -> Vec<(bool, f64, f64)> {
    let one = |row: &Measured| {
        let large = row.gain > threshold;
        if large { (true, row.large, row.costs.large + row.always) } else { (false, row.small, row.costs.small) }
    };
    rows.iter().map(one).collect()
}

/// An interval of one number that is known exactly.
#[must_use]
pub fn exact(value: f64) -> Bootstrap {
    Bootstrap { estimate: value, interval: Interval { lower: value, upper: value } }
}

/// The plain baseline: the mean gain of the `k` nearest of `known` by the cosine of their vectors (of any length).
#[must_use]
pub fn knn_gains(known: (&[f32], &[f64]), asked: &[f32], dimensions: usize, k: usize) -> Vec<f64> {
    let unit = |row: &[f32]| -> Vec<f32> {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        row.iter().map(|x| x / length).collect()
    };
    let vectors: Vec<Vec<f32>> = known.0.chunks_exact(dimensions).map(unit).collect();
    let of_row = |row: &[f32]| {
        let row = unit(row);
        let dot = |other: &Vec<f32>| row.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let mut near: Vec<(f32, usize)> = vectors.iter().map(dot).zip(0..).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        near.truncate(k);
        near.iter().map(|(_, at)| known.1[*at]).sum::<f64>() / near.len().max(1) as f64
    };
    asked.chunks_exact(dimensions).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_stats::Rng;

    fn row(gain: f64, small: f64, large: f64) -> Measured {
        Measured { gain, small, large, costs: Costs { small: 1.0, large: 10.0 }, always: 0.0 }
    }

    #[test]
    fn figures_are_those_of_a_hand_worked_example() {
        // Two rows gain, one loses, one is even: the gap is 1 over 4 rows.
        let rows = [row(0.9, 0.0, 1.0), row(0.8, 0.0, 1.0), row(0.5, 1.0, 1.0), row(-0.5, 1.0, 0.0)];
        // PGR at 0, 1/4, 2/4, 3/4, 1: 0, 1, 2, 2, 1.
        assert!((apgr(&rows).unwrap() - (0.5 + 1.5 + 2.0 + 1.5) / 4.0).abs() < 1e-12);
        let found = figures(&rows, &BootstrapConfig::default()).unwrap();
        assert_eq!((found.cpt50.estimate, found.cpt80.estimate), (0.125, 0.2));
        let curve = points(&rows, 100);
        assert_eq!(curve.len(), 5);
        assert_eq!(curve[2], Point { large: 0.5, quality: 1.0, cost: 5.5 });
        let (large, quality, cost) = at_threshold(&rows, 0.6)[1];
        assert_eq!((large, quality, cost), (true, 1.0, 10.0));
        assert!(apgr(&[row(1.0, 1.0, 0.0)]).is_err());
    }

    #[test]
    fn ties_are_random_and_random_is_a_half() {
        let mut rng = Rng::new(3);
        let rows: Vec<Measured> =
            (0..500).map(|_| row(0.0, rng.below(2) as f64 * 0.5, 0.5 + rng.below(2) as f64 * 0.5)).collect();
        assert!((apgr(&rows).unwrap() - 0.5).abs() < 1e-12);
        let oracle: Vec<Measured> = rows.iter().map(|row| Measured { gain: row.large - row.small, ..*row }).collect();
        let found = figures(&oracle, &BootstrapConfig { resamples: 200, ..BootstrapConfig::default() }).unwrap();
        assert!(found.apgr.estimate > 0.6 && found.apgr.interval.lower > 0.6);
    }

    #[test]
    fn neighbours_lend_their_gains() {
        let known = [1.0, 0.0, 0.0, 2.0];
        assert_eq!(knn_gains((&known, &[0.25, -1.0]), &[3.0, 0.1], 2, 1), [0.25]);
        assert_eq!(knn_gains((&known, &[0.25, -1.0]), &[3.0, 0.1], 2, 5), [-0.375]);
    }
}
