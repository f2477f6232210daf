//! Monthly cost by volume: a staircase of whole machines, a line for what is paid by the request, or both.

use super::scenario::DAYS_PER_MONTH;

/// Stairs up to which two curves are compared exactly.
const MAX_STAIRS: u32 = 20_000;

/// What something costs a month at any number of requests a day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Curve {
    /// Whatever the volume.
    pub(super) fixed: f64,
    /// By the request.
    pub(super) per_request: f64,
    /// In whole machines, at least one.
    pub(super) machines: Option<Stairs>,
}

/// Machines that come whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stairs {
    /// Requests a day that one machine can answer.
    pub(super) capacity: f64,
    /// What it costs a month.
    pub(super) dollars: f64,
}

impl Stairs {
    /// Machines for so many requests a day.
    pub(super) fn needed(&self, requests_per_day: f64) -> f64 {
        // A hair below a whole number is that number: volumes are computed, too.
        (requests_per_day / self.capacity * (1.0 - 1e-12)).ceil().max(1.0)
    }
}

/// From how many requests a day on something is cheaper than something else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Crossing {
    /// At any volume.
    Always,
    /// At none.
    Never,
    /// From `first` on, except right after some of the stairs, and from `steady` on without exception, if there is such a volume.
    From { first: f64, steady: Option<f64> },
}

impl Curve {
    pub(super) fn at(&self, requests_per_day: f64) -> f64 {
        let machines = self.machines.map_or(0.0, |stairs| stairs.needed(requests_per_day) * stairs.dollars);
        self.fixed + machines + requests_per_day * DAYS_PER_MONTH * self.per_request
    }

    /// Corners of the curve up to a volume, for drawing: both ends of each stair, or the ends of the line. At most `stairs` of them.
    pub(super) fn corners(&self, to: f64, stairs: u32) -> Vec<(f64, f64)> {
        let mut corners = vec![(0.0, self.at(0.0))];
        let capacity = self.machines.map_or(f64::INFINITY, |s| s.capacity);
        let drawn = to / capacity < f64::from(stairs);
        let edges = (1..).map(|k| f64::from(k) * capacity).take_while(|edge| drawn && *edge < to);
        for edge in edges {
            corners.push((edge, self.at(edge)));
            corners.push((edge, self.at(edge * (1.0 + 1e-9))));
        }
        corners.push((to, self.at(to)));
        corners
    }

    /// Where this is no dearer than `other`.
    ///
    /// Between two neighbouring stairs both are lines, so that looking at the ends of each such piece is exact. Beyond the last stair
    /// looked at the slopes decide: a curve is steadily cheaper only if its slope is.
    pub(super) fn crossing(&self, other: &Self) -> Crossing {
        let settled = self.settled(other);
        let edges = self.edges(other, settled);
        let difference = |at: f64| self.at(at) - other.at(at);
        let (mut first, mut violated) = (None, None);
        let (mut left, mut everywhere) = (0.0, true);
        for right in edges {
            // Just after the stair on the left, and on the one on the right.
            let start = left * (1.0 + 1e-9) + f64::MIN_POSITIVE;
            let (from, to) = (difference(start), difference(right));
            let zero = || left + (right - left) * from / (from - to);
            if from <= 0.0 || to <= 0.0 {
                let at = if from <= 0.0 { left } else { zero() };
                first.get_or_insert(at);
            }
            if from > 0.0 || to > 0.0 {
                everywhere = false;
                violated = Some(if to > 0.0 { right } else { zero() });
            }
            left = right;
        }
        let cheaper_in_the_end = self.slope() < other.slope() && settled <= left;
        match (first, violated) {
            _ if everywhere && self.slope() <= other.slope() => Crossing::Always,
            (Some(first), violated) => Crossing::From { first, steady: violated.filter(|_| cheaper_in_the_end) },
            (None, _) => Crossing::Never,
        }
    }

    /// The volume beyond which the slopes decide: no curve is further from its line than one stair and its fixed part.
    fn settled(&self, other: &Self) -> f64 {
        let stairs: f64 = [self, other].iter().filter_map(|curve| curve.machines.map(|stairs| stairs.dollars)).sum();
        ((self.fixed - other.fixed).abs() + stairs) / (self.slope() - other.slope()).abs().max(1e-18)
    }

    /// Volumes to look at, ascending: all stairs of both, up to where it is settled.
    fn edges(&self, other: &Self, settled: f64) -> Vec<f64> {
        let capacities = [self, other].into_iter().filter_map(|curve| curve.machines.map(|stairs| stairs.capacity));
        let smallest = capacities.clone().fold(f64::INFINITY, f64::min);
        let to = (1.01 * settled).clamp(1.0, 1e12).min(smallest * f64::from(MAX_STAIRS));
        let mut edges: Vec<f64> = capacities
            .flat_map(|capacity| (1..=MAX_STAIRS).map(move |k| f64::from(k) * capacity).take_while(|edge| *edge < to))
            .collect();
        edges.push(to);
        edges.sort_by(f64::total_cmp);
        edges
    }

    /// What one more request a day costs a month in the long run.
    fn slope(&self) -> f64 {
        self.machines.map_or(0.0, |stairs| stairs.dollars / stairs.capacity) + self.per_request * DAYS_PER_MONTH
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn line(fixed: f64, dollars_per_request: f64) -> Curve {
        Curve { fixed, per_request: dollars_per_request / DAYS_PER_MONTH, machines: None }
    }

    fn stairs(capacity: f64, dollars: f64) -> Curve {
        Curve { fixed: 0.0, per_request: 0.0, machines: Some(Stairs { capacity, dollars }) }
    }

    #[test]
    fn a_staircase_against_a_line() {
        // 100 dollars per 1,000 requests a day, against 0.2 dollars per daily request: cheaper from 500 on, dearer again nowhere.
        let (machines, hosted) = (stairs(1000.0, 100.0), line(0.0, 0.2));
        assert_eq!([machines.at(1.0), machines.at(1000.0), machines.at(1001.0)], [100.0, 100.0, 200.0]);
        match machines.crossing(&hosted) {
            Crossing::From { first, steady: Some(steady) } => {
                assert!((first - 500.0).abs() < 1e-3 && (steady - 500.0).abs() < 1e-3, "{first} {steady}");
            }
            other => panic!("{other:?}"),
        }
        // At 0.15: just after the first stair 200 dollars are dearer than 150, up to 1,333 requests; after the second, 300 are no dearer.
        match machines.crossing(&line(0.0, 0.15)) {
            Crossing::From { first, steady: Some(steady) } => {
                assert!((first - 666.667).abs() < 0.01 && (steady - 1333.333).abs() < 0.01, "{first} {steady}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(machines.crossing(&line(0.0, 0.09)), Crossing::Never);
        assert_eq!(machines.crossing(&line(300.0, 0.2)), Crossing::Always);
        assert_eq!(stairs(1000.0, 90.0).crossing(&machines), Crossing::Always);
        match line(10.0, 0.1).crossing(&line(0.0, 0.2)) {
            Crossing::From { first, steady: Some(steady) } => {
                assert!((first - 100.0).abs() < 1e-6 && (steady - 100.0).abs() < 1e-6);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn corners_are_both_ends_of_each_stair() {
        assert_eq!(
            stairs(10.0, 5.0).corners(25.0, 100),
            [(0.0, 5.0), (10.0, 5.0), (10.0, 10.0), (20.0, 10.0), (20.0, 15.0), (25.0, 15.0)]
        );
        assert_eq!(stairs(10.0, 5.0).corners(2500.0, 100).len(), 2);
    }

    proptest! {
        /// Against volumes tried one by one: below `first` nothing is cheaper, from `steady` on everything is.
        #[test]
        fn crossings_hold_at_every_volume(
            capacity in 50.0_f64..5000.0, dollars in 10.0_f64..500.0, fixed in 0.0_f64..300.0, line_fixed in 0.0_f64..50.0, price in 0.001_f64..1.0,
            tried in proptest::collection::vec(0.5_f64..200_000.0, 50),
        ) {
            let machines = Curve { fixed, ..stairs(capacity, dollars) };
            let hosted = line(line_fixed, price);
            let cheaper = |at: f64| machines.at(at) <= hosted.at(at) * (1.0 + 1e-6);
            match machines.crossing(&hosted) {
                Crossing::Always => prop_assert!(tried.iter().all(|at| cheaper(*at))),
                Crossing::Never => prop_assert!(tried.iter().all(|at| machines.at(*at) >= hosted.at(*at) * (1.0 - 1e-6))),
                Crossing::From { first, steady } => {
                    prop_assert!(tried.iter().filter(|at| **at < first * 0.999).all(|at| machines.at(*at) >= hosted.at(*at)));
                    let steady = steady.unwrap_or(f64::INFINITY);
                    prop_assert!(tried.iter().filter(|at| **at > steady * 1.001).all(|at| cheaper(*at)), "{first} {steady}");
                }
            }
        }
    }
}
