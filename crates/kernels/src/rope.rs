//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864), half-split ("NEOX") pairing: element `i` of a head
//! turns with element `i + rotary_dim / 2`. Models with interleaved pairs permute their projection rows at load.
//!
//! A table of cos and sin up to the context length would be large for long contexts, and computing each pair anew would
//! be slow. Angles are linear in the position, so [`RopeTable`] keeps one block of positions in f64, turns it to the
//! block that a position lies in by the addition theorems, and rounds to f32 at the end. The f64 error of that is far
//! below half an f32 ulp of 1, at any context length. Sines come from the `libm` crate.

use thiserror::Error;

use crate::Cpu;
use crate::isa::{Isa, dispatch};

/// Positions that the table holds; a power of two.
const BLOCK: usize = 256;
/// Beyond this a rotary dimension is taken for a broken file.
const MAX_ROTARY_DIM: usize = 1 << 14;
/// Elements per work item, so that short batches stay on the calling thread.
const ITEM_ELEMENTS: usize = 1 << 14;

/// How a model's positions turn.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the inverse frequencies: pair `i` turns by `theta^(-2i / rotary_dim)` per position.
    pub theta: f32,
    /// Elements of a head that turn, from its first; even. The others are left as they are.
    pub rotary_dim: usize,
    /// One divisor per pair (`rotary_dim / 2` of them), as GGUF's `rope_freqs`, `rope_factors_short` and
    /// `rope_factors_long` hold them: Llama 3's three bands, longrope. Empty means none.
    pub frequency_divisors: Vec<f32>,
    /// Positions are multiplied by this: 1 / factor for linear scaling, else 1.
    pub position_scale: f32,
    /// Multiplies every cos and sin (longrope's and YaRN's attention factor), else 1.
    pub attention_factor: f32,
}

impl Default for RopeConfig {
    /// Plain RoPE with base 10000; `rotary_dim` must be set.
    fn default() -> Self {
        Self {
            theta: 10_000.0,
            rotary_dim: 0,
            frequency_divisors: Vec::new(),
            position_scale: 1.0,
            attention_factor: 1.0,
        }
    }
}

/// Why a [`RopeConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RopeError {
    /// `rotary_dim` is odd, zero or absurd.
    #[error("rotary_dim is {rotary_dim}: it must be even, from 2 to {MAX_ROTARY_DIM}")]
    RotaryDim {
        /// The value given.
        rotary_dim: usize,
    },
    /// A factor that must be a positive finite number is not.
    #[error("{field} is {value}: it must be positive and finite")]
    Factor {
        /// The field of [`RopeConfig`].
        field: &'static str,
        /// Its value, or the first bad one of several.
        value: f32,
    },
    /// The divisors do not fit `rotary_dim`.
    #[error("frequency_divisors holds {n} values: rotary_dim needs {expected}")]
    DivisorCount {
        /// The number given.
        n: usize,
        /// `rotary_dim / 2`.
        expected: usize,
    },
}

/// The rotations of one inverse-frequency set, for any position.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// Radians per position, one per pair.
    frequencies: Vec<f64>,
    /// (cos, sin), `[BLOCK][n_pairs]`, positions `0..BLOCK`.
    block: Vec<(f64, f64)>,
    attention_factor: f64,
}

/// The cos and sin of a batch's positions, made once per batch and used by all layers that share a table.
#[derive(Debug, Clone, Default)]
pub struct RopeRows {
    n_pairs: usize,
    /// `[rows][n_pairs]` each.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Checks `config` and computes the first block of positions.
    ///
    /// # Errors
    /// [`RopeError`] names the field that is wrong.
    pub fn new(config: &RopeConfig) -> Result<Self, RopeError> {
        let RopeConfig { theta, rotary_dim, ref frequency_divisors, position_scale, attention_factor } = *config;
        if rotary_dim < 2 || !rotary_dim.is_multiple_of(2) || rotary_dim > MAX_ROTARY_DIM {
            return Err(RopeError::RotaryDim { rotary_dim });
        }
        let n_pairs = rotary_dim / 2;
        if !frequency_divisors.is_empty() && frequency_divisors.len() != n_pairs {
            return Err(RopeError::DivisorCount { n: frequency_divisors.len(), expected: n_pairs });
        }
        let singles =
            [("theta", theta), ("position_scale", position_scale), ("attention_factor", attention_factor)].into_iter();
        let divisors = frequency_divisors.iter().map(|&d| ("frequency_divisors", d));
        if let Some((field, value)) = singles.chain(divisors).find(|&(_, v)| !(v.is_finite() && v > 0.0)) {
            return Err(RopeError::Factor { field, value });
        }

        let frequencies: Vec<f64> = (0..n_pairs)
            .map(|i| {
                let exponent = -((2 * i) as f64) / rotary_dim as f64;
                let divisor = frequency_divisors.get(i).map_or(1.0, |&d| f64::from(d));
                libm::pow(f64::from(theta), exponent) * f64::from(position_scale) / divisor
            })
            .collect();
        let block = (0..BLOCK).flat_map(|p| frequencies.iter().map(move |&f| rotation(p, f))).collect();
        Ok(Self { frequencies, block, attention_factor: f64::from(attention_factor) })
    }

    /// Elements of a head that turn.
    #[must_use]
    pub fn rotary_dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Fills `rows` with the rotations of `positions`, one row each. Neighbours in one block of 256 share work.
    pub fn fill(&self, positions: impl IntoIterator<Item = usize>, rows: &mut RopeRows) {
        let n_pairs = self.frequencies.len();
        rows.n_pairs = n_pairs;
        rows.cos.clear();
        rows.sin.clear();
        let mut start_of_block = None;
        let mut start: Vec<(f64, f64)> = Vec::with_capacity(n_pairs);
        for position in positions {
            let (base, within) = (position - position % BLOCK, position % BLOCK);
            if start_of_block != Some(base) {
                start.clear();
                start.extend(self.frequencies.iter().map(|&f| rotation(base, f)));
                start_of_block = Some(base);
            }
            let fine = &self.block[within * n_pairs..][..n_pairs];
            for (&(cos_a, sin_a), &(cos_b, sin_b)) in start.iter().zip(fine) {
                rows.cos.push(((cos_a * cos_b - sin_a * sin_b) * self.attention_factor) as f32);
                rows.sin.push(((sin_a * cos_b + cos_a * sin_b) * self.attention_factor) as f32);
            }
        }
    }
}

impl RopeRows {
    /// No rows yet; see [`RopeTable::fill`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows filled.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.cos.len().checked_div(self.n_pairs).unwrap_or(0)
    }

    /// Turns `x`, `[n_rows][n_heads][head_dim]`, in place: each row by its own position, all its heads alike.
    ///
    /// # Panics
    /// When `x` has not `n_rows` rows or a head is shorter than the rotary dimension.
    pub fn apply(&self, cpu: &Cpu, x: &mut [f32], n_heads: usize, head_dim: usize) {
        let row_len = n_heads * head_dim;
        assert_eq!(x.len(), self.n_rows() * row_len, "x must hold one row per position");
        assert!(2 * self.n_pairs <= head_dim, "rotary_dim {} exceeds head_dim {head_dim}", 2 * self.n_pairs);
        if x.is_empty() {
            return;
        }
        let rows_per_item = (ITEM_ELEMENTS / row_len).max(1);
        cpu.for_each_chunk_mut(x, rows_per_item * row_len, |item, x| {
            for (i, row) in x.chunks_exact_mut(row_len).enumerate() {
                let at = (item * rows_per_item + i) * self.n_pairs;
                let (cos, sin) = (&self.cos[at..][..self.n_pairs], &self.sin[at..][..self.n_pairs]);
                for head in row.chunks_exact_mut(head_dim) {
                    turn(cpu.isa(), head, cos, sin);
                }
            }
        });
    }
}

dispatch! {
    /// Turns one head.
    fn turn(head: &mut [f32], cos: &[f32], sin: &[f32]) = turn_kernel;
}

/// Plain Rust: no operation here may be fused, so the compiler's vector code rounds as the scalar code does.
#[inline(always)]
fn turn_kernel<S: Isa>(_: S, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

fn rotation(position: usize, frequency: f64) -> (f64, f64) {
    let angle = position as f64 * frequency;
    (libm::cos(angle), libm::sin(angle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuConfig;
    use proptest::prelude::*;

    fn cpu(n_threads: usize) -> Cpu {
        Cpu::new(CpuConfig { n_threads, ..CpuConfig::default() }).unwrap()
    }

    /// Element `i` of a head against the definition, in f64 with the standard library.
    fn reference(config: &RopeConfig, position: usize, head: &[f32], i: usize) -> f64 {
        let half = config.rotary_dim / 2;
        if i >= config.rotary_dim {
            return f64::from(head[i]);
        }
        let pair = i % half;
        let mut angle = position as f64 * f64::from(config.position_scale);
        angle *= f64::from(config.theta).powf(-2.0 * pair as f64 / config.rotary_dim as f64);
        angle /= config.frequency_divisors.get(pair).map_or(1.0, |&d| f64::from(d));
        let (sin, cos) = angle.sin_cos();
        let (a, b) = (f64::from(head[pair]), f64::from(head[pair + half]));
        let turned = if i < half { a * cos - b * sin } else { b * cos + a * sin };
        turned * f64::from(config.attention_factor)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn turns_as_defined(
            half in 1usize..40,
            rest in 0usize..20,
            theta in 100f32..1e6,
            divisors in prop::option::of(prop::collection::vec(1f32..50.0, 40)),
            position_scale in prop::sample::select(vec![1f32, 0.25, 0.125]),
            attention_factor in 0.5f32..1.5,
            positions in prop::collection::vec(0usize..200_000, 1..6),
            seed in prop::collection::vec(-2f32..2.0, 97),
        ) {
            let config = RopeConfig {
                theta,
                rotary_dim: 2 * half,
                frequency_divisors: divisors.map_or(vec![], |d| d[..half].to_vec()),
                position_scale,
                attention_factor,
            };
            let (n_heads, head_dim) = (3, 2 * half + rest);
            let x: Vec<f32> = (0..positions.len() * n_heads * head_dim).map(|i| seed[i % seed.len()]).collect();
            let mut rows = RopeRows::new();
            RopeTable::new(&config).unwrap().fill(positions.iter().copied(), &mut rows);
            let mut y = x.clone();
            rows.apply(&cpu(1), &mut y, n_heads, head_dim);
            for (h, (before, after)) in x.chunks(head_dim).zip(y.chunks(head_dim)).enumerate() {
                for i in 0..head_dim {
                    let expected = reference(&config, positions[h / n_heads], before, i);
                    prop_assert!((f64::from(after[i]) - expected).abs() < 2e-6, "{} {expected}", after[i]);
                }
            }
        }
    }

    #[test]
    fn rows_do_not_depend_on_their_neighbours_or_the_threads() {
        let table = RopeTable::new(&RopeConfig { rotary_dim: 64, ..RopeConfig::default() }).unwrap();
        let positions: Vec<usize> = (0..700).map(|i| i * 37 % 5000).collect();
        let (n_heads, head_dim) = (2, 80);
        let x: Vec<f32> = (0..positions.len() * n_heads * head_dim).map(|i| (i % 1013) as f32 / 500.0 - 1.0).collect();
        let mut rows = RopeRows::new();
        table.fill(positions.iter().copied(), &mut rows);
        assert_eq!(rows.n_rows(), positions.len());
        let (mut one, mut three) = (x.clone(), x.clone());
        rows.apply(&cpu(1), &mut one, n_heads, head_dim);
        rows.apply(&cpu(3), &mut three, n_heads, head_dim);
        assert_eq!(one, three);
        for (i, &position) in positions.iter().enumerate() {
            let at = i * n_heads * head_dim..(i + 1) * n_heads * head_dim;
            let mut alone = x[at.clone()].to_vec();
            table.fill([position], &mut rows);
            rows.apply(&cpu(1), &mut alone, n_heads, head_dim);
            assert_eq!(alone, one[at]);
        }
    }

    #[test]
    fn bad_configurations_name_the_field() {
        let good = RopeConfig { rotary_dim: 8, ..RopeConfig::default() };
        let error = |config| RopeTable::new(&config).unwrap_err();
        for rotary_dim in [0, 7, MAX_ROTARY_DIM + 2] {
            assert_eq!(error(RopeConfig { rotary_dim, ..good.clone() }), RopeError::RotaryDim { rotary_dim });
        }
        let divisors = |frequency_divisors| RopeConfig { frequency_divisors, ..good.clone() };
        assert_eq!(error(divisors(vec![1.0; 3])), RopeError::DivisorCount { n: 3, expected: 4 });
        assert!(error(divisors(vec![1.0, 0.0, 1.0, 1.0])).to_string().starts_with("frequency_divisors is 0"));
        assert!(error(RopeConfig { theta: f32::NAN, ..good.clone() }).to_string().starts_with("theta"));
        assert!(error(RopeConfig { position_scale: 0.0, ..good.clone() }).to_string().starts_with("position_scale"));
        let infinite = RopeConfig { attention_factor: f32::INFINITY, ..good.clone() };
        assert!(error(infinite).to_string().starts_with("attention_factor"));
    }
}
