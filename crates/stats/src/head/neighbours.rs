//! The nearest training rows by cosine similarity, in 8-bit integers.

use super::Link;
use super::fit::lowest;
use super::targets::Targets;
use crate::parallel;

/// Rows that are kept; of more, those with the lowest keys.
pub(crate) const MAX_ROWS: usize = 32_768;
/// Neighbours that vote.
const VOTERS: usize = 30;
/// A vote fades with e^((similarity - 1) / WIDTH).
const WIDTH: f64 = 0.05;
/// Votes that every class has.
const FLOOR: f64 = 1e-4;
/// Neighbours whose mean similarity says how near the training rows are.
const NEAREST: usize = 5;

/// Rows of length 1 to compare with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Index {
    pub(crate) width: usize,
    /// `[rows][width]`, each from -127 to 127: 16 bits, because their products add up in one instruction.
    pub(crate) values: Vec<i16>,
    /// What one unit of each row's values is worth.
    pub(crate) scales: Vec<f32>,
}

impl Index {
    /// The rows named of `rows`, each of length 1.
    pub(crate) fn new(rows: &[f32], width: usize, kept: &[usize]) -> Self {
        let mut index = Self { width, values: Vec::new(), scales: Vec::new() };
        for &row in kept {
            let (values, scale) = quantise(&rows[row * width..][..width]);
            index.values.extend(values);
            index.scales.push(scale);
        }
        index
    }

    /// The cosine similarity and number of the `most` nearest rows, nearest first.
    pub(crate) fn nearest(&self, row: &[f32], most: usize) -> Vec<(f64, usize)> {
        let (values, scale) = quantise(row);
        let compare = |(other, other_scale): (&[i16], &f32)| {
            let dot: i32 = values.iter().zip(other).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            f64::from(dot) * f64::from(scale) * f64::from(*other_scale)
        };
        let all = self.values.chunks_exact(self.width).zip(&self.scales).map(compare);
        let mut nearest: Vec<(f64, usize)> = all.zip(0..).collect();
        // Ties go to the earlier row, so the choice does not depend on the way of selecting.
        let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if most > 0 && nearest.len() > most {
            nearest.select_nth_unstable_by(most - 1, order);
        }
        nearest.truncate(most);
        nearest.sort_by(order);
        nearest
    }
}

/// Training rows that vote.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Neighbours {
    pub(crate) index: Index,
    pub(crate) targets: Targets,
}

/// What the neighbours of one row say.
pub(crate) struct Vote {
    /// Log-probabilities or logits, as the link of the targets asks.
    pub(crate) scores: Vec<f64>,
    /// The mean cosine similarity of the nearest five.
    pub(crate) similarity: f64,
}

impl Neighbours {
    /// Keeps `rows` of width `width`, each of length 1, by their `keys`.
    pub(crate) fn new(rows: &[f32], width: usize, targets: &Targets, keys: &[u64]) -> Self {
        let kept = lowest((0..targets.len()).collect(), keys, MAX_ROWS);
        Self { index: Index::new(rows, width, &kept), targets: targets.select(&kept) }
    }

    /// One vote per row of `rows`.
    pub(crate) fn votes(&self, threads: usize, rows: &[f32]) -> Vec<Vote> {
        let mut votes: Vec<Option<Vote>> = rows.chunks_exact(self.index.width).map(|_| None).collect();
        let chunks = rows.chunks_exact(self.index.width).zip(&mut votes).collect();
        parallel::for_each(threads, chunks, |(row, vote)| *vote = Some(self.vote(row)));
        votes.into_iter().flatten().collect()
    }

    fn vote(&self, row: &[f32]) -> Vote {
        let nearest = self.index.nearest(row, VOTERS);
        let mut votes = vec![FLOOR; self.targets.classes];
        let mut total = 0.0;
        for &(similarity, other) in &nearest {
            let weight = libm::exp((similarity - 1.0) / WIDTH);
            total += weight;
            self.targets.of(other).iter().for_each(|&label| votes[label as usize] += weight);
        }
        let scores = match self.targets.link {
            Link::Softmax => {
                let all = libm::log(total + FLOOR * votes.len() as f64);
                votes.iter().map(|vote| libm::log(*vote) - all).collect()
            }
            Link::Sigmoid => {
                votes.iter().map(|vote| libm::log(*vote) - libm::log(total + 2.0 * FLOOR - vote)).collect()
            }
        };
        let near = &nearest[..nearest.len().min(NEAREST)];
        let similarity = near.iter().map(|near| near.0).sum::<f64>() / near.len().max(1) as f64;
        Vote { scores, similarity }
    }
}

fn quantise(row: &[f32]) -> (Vec<i16>, f32) {
    let max = row.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let scale = max / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    (row.iter().map(|x| libm::rintf(x * inverse) as i16).collect(), scale)
}

#[cfg(test)]
mod tests {
    use super::super::targets::Labels;
    use super::*;

    #[test]
    fn near_rows_outvote_far_ones() {
        let angle = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let rows: Vec<f32> = [0.0, 5.0, 60.0, 62.0, 64.0, 170.0].into_iter().flat_map(angle).collect();
        let keys = [0; 6];
        let one = Targets::new(Labels::One(&[0, 0, 1, 1, 1, 2]), 3, 6).unwrap();
        let neighbours = Neighbours::new(&rows, 2, &one, &keys);
        let votes = neighbours.votes(2, &[angle(4.0), angle(61.0)].concat());
        for (vote, class) in votes.iter().zip([0, 1]) {
            let sum: f64 = vote.scores.iter().map(|s| libm::exp(*s)).sum();
            assert!((sum - 1.0).abs() < 1e-12 && vote.scores[class] > -0.1, "{:?}", vote.scores);
        }
        let away = neighbours.votes(1, &angle(-90.0));
        assert!(away[0].similarity < votes[0].similarity);
        let many = Targets::new(Labels::Many(&[vec![0, 1], vec![0], vec![1], vec![1], vec![], vec![2]]), 3, 6).unwrap();
        let vote = &Neighbours::new(&rows, 2, &many, &keys).votes(1, &angle(1.0))[0];
        assert!(vote.scores[0] > 3.0 && vote.scores[1] > -3.0 && vote.scores[2] < -3.0, "{:?}", vote.scores);
    }

    #[test]
    fn similarity_is_the_cosine_to_8_bits() {
        let row: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let row: Vec<f32> = row.iter().map(|x| x / length).collect();
        let targets = Targets::new(Labels::One(&[0]), 2, 1).unwrap();
        let vote = &Neighbours::new(&row, 64, &targets, &[0]).votes(1, &row)[0];
        assert!((vote.similarity - 1.0).abs() < 0.005);
        assert_eq!(quantise(&[0.0; 3]), (vec![0; 3], 0.0));
    }
}
