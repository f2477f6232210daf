//! The two products that training needs: rows times weights, and rows transposed times residuals.
//!
//! Weights and residuals have their columns (classes) padded to whole vectors of [`LANES`]; the padding stays 0. Every sum
//! runs in one order, whatever the number of threads.

use crate::parallel;

/// Columns that are computed side by side.
pub(crate) const LANES: usize = 8;
/// Rows of a block: what one thread takes, and what a partial sum runs over.
const BLOCK: usize = 128;
/// Features of a block of the transposed product.
const FEATURES: usize = 64;
/// Columns that one pass over sparse rows sums, so that their sums stay in the cache.
const GROUP: usize = 16;
/// Rows of the result that share a load of the right-hand side.
const TILE: usize = 4;

/// Columns with padding.
pub(crate) fn padded(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// Rows of features.
pub(crate) enum Design<'a> {
    /// `[rows][width]`
    Dense { values: &'a [f32], width: usize },
    /// Few entries that are not 0.
    Sparse(&'a Sparse),
}

/// Rows with few entries that are not 0.
#[derive(Debug, Clone)]
pub(crate) struct Sparse {
    /// Where each row begins and the last ends.
    starts: Vec<usize>,
    entries: Vec<(u32, f32)>,
    width: usize,
}

impl Sparse {
    pub(crate) fn new(width: usize) -> Self {
        Self { starts: vec![0], entries: Vec::new(), width }
    }

    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        self.entries.extend(row);
        self.starts.push(self.entries.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn row(&self, row: usize) -> &[(u32, f32)] {
        &self.entries[self.starts[row]..self.starts[row + 1]]
    }
}

/// A matrix that is read by rows or, with the strides exchanged, by columns.
#[derive(Clone, Copy)]
struct Strided<'a> {
    values: &'a [f32],
    row: usize,
    step: usize,
}

impl Design<'_> {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Dense { values, width } => values.len() / width,
            Self::Sparse(rows) => rows.len(),
        }
    }

    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Dense { width, .. } => *width,
            Self::Sparse(rows) => rows.width,
        }
    }

    /// Fills `out`, `[rows][columns]`, with bias + row * `weights`, and lets `then` change each block of rows and give a
    /// number. The numbers are added in the order of the blocks.
    pub(crate) fn multiply(
        &self,
        threads: usize,
        (weights, bias): (&[f32], &[f32]),
        out: &mut [f32],
        then: impl Fn(usize, &mut [f32]) -> f64 + Sync,
    ) -> f64 {
        let columns = bias.len();
        let mut results = vec![0.0; self.rows().div_ceil(BLOCK)];
        let blocks = out.chunks_mut(BLOCK * columns).zip(&mut results).enumerate();
        parallel::for_each(threads, blocks.collect(), |(block, (out, result))| {
            let first = block * BLOCK;
            out.chunks_exact_mut(columns).for_each(|row| row.copy_from_slice(bias));
            match self {
                Self::Dense { values, width } => {
                    let a = Strided { values: &values[first * width..], row: *width, step: 1 };
                    add_product(a, weights, *width, (out, columns));
                }
                Self::Sparse(rows) => {
                    for (out, row) in out.chunks_exact_mut(columns).zip(first..) {
                        add_sparse(rows.row(row), weights, out);
                    }
                }
            }
            *result = then(first, out);
        });
        results.iter().sum()
    }

    /// Fills `out`, `[width][columns]`, with the rows transposed times `residuals`, `[rows][columns]`.
    pub(crate) fn multiply_transposed(&self, threads: usize, residuals: &[f32], columns: usize, out: &mut [f32]) {
        match self {
            Self::Dense { values, width } => {
                let blocks = out.chunks_mut(FEATURES * columns).enumerate().collect();
                parallel::for_each(threads, blocks, |(block, out)| {
                    out.fill(0.0);
                    for (values, residuals) in values.chunks(BLOCK * width).zip(residuals.chunks(BLOCK * columns)) {
                        let a = Strided { values: &values[block * FEATURES..], row: 1, step: *width };
                        add_product(a, residuals, residuals.len() / columns, (&mut *out, columns));
                    }
                });
            }
            Self::Sparse(rows) => {
                let mut groups: Vec<Vec<f32>> = vec![Vec::new(); columns.div_ceil(GROUP)];
                let todo = groups.iter_mut().zip((0..columns).step_by(GROUP)).collect();
                parallel::for_each(threads, todo, |(sums, first): (&mut Vec<f32>, usize)| {
                    let width = GROUP.min(columns - first);
                    sums.resize(rows.width * width, 0.0);
                    for (row, residuals) in residuals.chunks_exact(columns).enumerate() {
                        let residuals = &residuals[first..first + width];
                        for &(feature, value) in rows.row(row) {
                            let sums = &mut sums[feature as usize * width..][..width];
                            sums.iter_mut().zip(residuals).for_each(|(sum, r)| *sum += value * r);
                        }
                    }
                });
                for (feature, out) in out.chunks_exact_mut(columns).enumerate() {
                    for (out, sums) in out.chunks_mut(GROUP).zip(&groups) {
                        out.copy_from_slice(&sums[feature * out.len()..][..out.len()]);
                    }
                }
            }
        }
    }
}

/// Adds sparse row * `matrix` to `out`.
pub(crate) fn add_sparse(row: &[(u32, f32)], matrix: &[f32], out: &mut [f32]) {
    let columns = out.len();
    for &(at, value) in row {
        let line = &matrix[at as usize * columns..][..columns];
        out.iter_mut().zip(line).for_each(|(out, x)| *out += value * x);
    }
}

/// Adds a * b to `out`, `[rows][columns]`; `b` is `[depth][columns]`.
fn add_product(a: Strided<'_>, b: &[f32], depth: usize, (out, columns): (&mut [f32], usize)) {
    for column in (0..columns).step_by(LANES) {
        for (i, out) in out.chunks_mut(TILE * columns).enumerate() {
            let a = Strided { values: &a.values[i * TILE * a.row..], ..a };
            let b = (b, depth, columns, column);
            if out.len() == TILE * columns {
                store::<TILE>(tile(a, b), out, columns, column);
            } else {
                for (row, out) in out.chunks_exact_mut(columns).enumerate() {
                    let a = Strided { values: &a.values[row * a.row..], ..a };
                    store::<1>(tile(a, b), out, columns, column);
                }
            }
        }
    }
}

#[inline(always)]
fn tile<const N: usize>(
    a: Strided<'_>,
    (b, depth, columns, column): (&[f32], usize, usize, usize),
) -> [[f32; LANES]; N] {
    let mut sums = [[0.0; LANES]; N];
    for (k, line) in b.chunks_exact(columns).take(depth).enumerate() {
        let Some(line) = line[column..].first_chunk::<LANES>() else { break };
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = a.values[row * a.row + k * a.step];
            sums.iter_mut().zip(line).for_each(|(sum, b)| *sum += x * b);
        }
    }
    sums
}

fn store<const N: usize>(sums: [[f32; LANES]; N], out: &mut [f32], columns: usize, column: usize) {
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(columns)) {
        out[column..column + LANES].iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn numbers(rng: &mut Rng, n: usize) -> Vec<f32> {
        (0..n).map(|_| rng.below(2_001) as f32 / 1_000.0 - 1.0).collect()
    }

    /// Sizes around blocks and tiles, dense and sparse, against plain loops; and the same bits with three threads.
    #[test]
    fn products_are_those_of_plain_loops() {
        let mut rng = Rng::new(1);
        for (rows, width, columns) in [(1, 1, 8), (5, 3, 8), (131, 67, 16), (300, 130, 24)] {
            let mut x = numbers(&mut rng, rows * width);
            x.iter_mut().for_each(|x| *x = if *x < 0.3 { 0.0 } else { *x });
            let (w, bias, g) =
                (numbers(&mut rng, width * columns), numbers(&mut rng, columns), numbers(&mut rng, rows * columns));
            let mut sparse = Sparse::new(width);
            for row in x.chunks(width) {
                sparse.push(row.iter().zip(0..).filter(|(x, _)| **x != 0.0).map(|(x, i)| (i, *x)));
            }
            for design in [Design::Dense { values: &x, width }, Design::Sparse(&sparse)] {
                assert_eq!((design.rows(), design.width()), (rows, width));
                let run = |threads| {
                    let (mut z, mut dw) = (vec![9.0; rows * columns], vec![9.0; width * columns]);
                    let sum = design
                        .multiply(threads, (&w, &bias), &mut z, |first, z| (first + z.len()) as f64 + f64::from(z[0]));
                    design.multiply_transposed(threads, &g, columns, &mut dw);
                    (sum.to_bits(), z, dw)
                };
                let (sum, z, dw) = run(1);
                assert_eq!((sum, z.clone(), dw.clone()), run(3));
                for i in 0..rows {
                    for c in 0..columns {
                        let plain = bias[c] + (0..width).map(|j| x[i * width + j] * w[j * columns + c]).sum::<f32>();
                        assert!((z[i * columns + c] - plain).abs() < 1e-4);
                    }
                }
                for j in 0..width {
                    for c in 0..columns {
                        let plain = (0..rows).map(|i| x[i * width + j] * g[i * columns + c]).sum::<f32>();
                        assert!((dw[j * columns + c] - plain).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
