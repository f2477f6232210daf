//! Buffers of a forward pass, reused from one batch to the next and sized by the largest so far.

use std::ops::Range;

use bantam_kernels::rope::RopeRows;
use bantam_kernels::{Cpu, MatInput, PackedMatrix, QuantizedRows};

use crate::error::{ForwardError, NonFinite};
use crate::spec::{ArchSpec, RopeSet};

/// Working memory of [`crate::Model::forward`]. One is enough for an engine; it belongs to no model.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Rows that are still computed: those of the batch, after the last attention those whose logits are wanted.
    pub(crate) n_rows: usize,
    /// The residual stream, `[n_rows][hidden_size]`.
    pub(crate) x: Vec<f32>,
    /// What a block reads, `[n_rows][hidden_size]`.
    pub(crate) normed: Input,
    /// `[n_rows][q_size]`
    pub(crate) q: Vec<f32>,
    /// `[n_rows][kv_size]`
    pub(crate) k: Vec<f32>,
    /// `[n_rows][kv_size]`
    pub(crate) v: Vec<f32>,
    /// What the heads found, `[n_rows][q_size]`.
    pub(crate) heads: Input,
    /// `[n_rows][ffn_size]`; becomes the activated product of gate and up.
    pub(crate) gate: Input,
    /// `[n_rows][ffn_size]`
    pub(crate) up: Vec<f32>,
    /// What a block adds to the residual stream, `[n_rows][hidden_size]`.
    pub(crate) delta: Vec<f32>,
    /// `[wanted rows][vocab_size]`
    pub(crate) logits: Vec<f32>,
    /// One per chunk.
    pub(crate) chunks: Vec<ChunkRows>,
    /// Rows of the batch whose logits are wanted, ascending.
    pub(crate) wanted_rows: Vec<usize>,
    /// Rows in which a number that is not finite was seen, `[n_rows]`.
    pub(crate) faults: Vec<bool>,
    /// Page and offset that each row is written to.
    pub(crate) slots: Vec<(u32, u8)>,
    /// Neighbouring rows that use one rope set.
    pub(crate) rope_runs: Vec<(RopeSet, Range<usize>)>,
    /// Rotations, `[ropes of the spec][rope_runs]`.
    pub(crate) rope_rows: Vec<RopeRows>,
}

/// Where one chunk's rows lie, and whether its numbers are sound.
#[derive(Debug, Clone)]
pub(crate) struct ChunkRows {
    pub(crate) first_pos: usize,
    /// In the batch.
    pub(crate) rows: Range<usize>,
    /// In the logits.
    pub(crate) wanted: Range<usize>,
    pub(crate) non_finite: Option<NonFinite>,
}

/// Rows that are multiplied with weights: as floats, and quantised if any of the weights are.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) values: Vec<f32>,
    quantized: QuantizedRows,
}

impl Input {
    /// Makes the rows in `values` ready for `weights`, once for all of them.
    pub(crate) fn prepare(&mut self, cpu: &Cpu, weights: &[&PackedMatrix], faults: &mut [bool]) {
        let Some(quantized) = weights.iter().find(|weight| !weight.block_type().is_float()) else { return };
        self.quantized.quantize(cpu, &self.values, faults.len(), quantized.k());
        for (row, fault) in faults.iter_mut().enumerate() {
            *fault |= self.quantized.non_finite(row);
        }
    }

    /// Lets `make(row, values)` write each row and makes it ready for `weights`, which have the same k.
    pub(crate) fn make(
        &mut self,
        cpu: &Cpu,
        weights: &[&PackedMatrix],
        faults: &mut [bool],
        make: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let k = weights[0].k();
        if weights.iter().all(|weight| weight.block_type().is_float()) {
            cpu.for_each_chunk_mut(&mut self.values, k, make);
            return;
        }
        self.quantized.make_and_quantize(cpu, &mut self.values, (faults.len(), k), make);
        for (row, fault) in faults.iter_mut().enumerate() {
            *fault |= self.quantized.non_finite(row);
        }
    }

    pub(crate) fn rows(&self, n_tokens: usize, k: usize) -> MatInput<'_> {
        MatInput { f32: &self.values, q8: &self.quantized, n_tokens, k }
    }
}

impl Scratch {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for a batch and clears what the last one left.
    pub(crate) fn reset(&mut self, spec: &ArchSpec, n_rows: usize, n_wanted: usize) -> Result<(), ForwardError> {
        self.n_rows = n_rows;
        let (hidden, ffn, q, kv) = (spec.hidden_size, spec.ffn_size, spec.q_size(), spec.kv_size());
        let buffers = [
            (&mut self.x, n_rows, hidden),
            (&mut self.normed.values, n_rows, hidden),
            (&mut self.delta, n_rows, hidden),
            (&mut self.q, n_rows, q),
            (&mut self.k, n_rows, kv),
            (&mut self.v, n_rows, kv),
            (&mut self.heads.values, n_rows, q),
            (&mut self.gate.values, n_rows, ffn),
            (&mut self.up, n_rows, ffn),
            (&mut self.logits, n_wanted, spec.vocab_size),
        ];
        for (buffer, rows, width) in buffers {
            resize(buffer, rows, width)?;
        }
        self.chunks.clear();
        self.wanted_rows.clear();
        self.slots.clear();
        self.rope_runs.clear();
        self.faults.clear();
        self.faults.resize(n_rows, false);
        Ok(())
    }

    /// Marks rows of the residual stream that hold NaN or infinity.
    pub(crate) fn check_residual(&mut self, hidden_size: usize) {
        check_rows(&self.x, hidden_size, &mut self.faults);
    }

    /// Marks rows of the logits that hold NaN or infinity.
    pub(crate) fn check_logits(&mut self, vocab_size: usize) {
        check_rows(&self.logits, vocab_size, &mut self.faults);
    }

    /// Drops the rows whose logits are not wanted from what later blocks read; faults seen so far go to their chunks.
    pub(crate) fn keep_wanted(&mut self, spec: &ArchSpec) {
        for chunk in &mut self.chunks {
            let row = self.faults[chunk.rows.clone()].iter().position(|fault| *fault);
            chunk.non_finite = row.map(|row| NonFinite { position: chunk.first_pos + row });
        }
        gather(&mut self.x, spec.hidden_size, &self.wanted_rows);
        gather(&mut self.heads.values, spec.q_size(), &self.wanted_rows);
        self.n_rows = self.wanted_rows.len();
        for (buffer, width) in [
            (&mut self.normed.values, spec.hidden_size),
            (&mut self.delta, spec.hidden_size),
            (&mut self.gate.values, spec.ffn_size),
            (&mut self.up, spec.ffn_size),
        ] {
            buffer.truncate(self.n_rows * width);
        }
        self.faults.clear();
        self.faults.resize(self.n_rows, false);
    }

    /// Tells chunks of faults seen in wanted rows.
    pub(crate) fn settle_faults(&mut self) {
        for chunk in &mut self.chunks {
            let Some(i) = chunk.wanted.clone().find(|i| self.faults[*i]) else { continue };
            let position = chunk.first_pos + self.wanted_rows[i] - chunk.rows.start;
            chunk.non_finite.get_or_insert(NonFinite { position });
        }
    }
}

fn resize(buffer: &mut Vec<f32>, rows: usize, width: usize) -> Result<(), ForwardError> {
    let len = rows.saturating_mul(width);
    let out_of_memory = |_| ForwardError::OutOfMemory { what: "a batch", bytes: len.saturating_mul(size_of::<f32>()) };
    buffer.try_reserve(len.saturating_sub(buffer.len())).map_err(out_of_memory)?;
    buffer.resize(len, 0.0);
    Ok(())
}

fn check_rows(values: &[f32], width: usize, faults: &mut [bool]) {
    for (row, fault) in values.chunks_exact(width).zip(faults) {
        *fault |= row.iter().any(|v| !v.is_finite());
    }
}

/// Moves the given rows, ascending, to the front and drops the rest.
fn gather(buffer: &mut Vec<f32>, width: usize, rows: &[usize]) {
    for (to, &from) in rows.iter().enumerate() {
        buffer.copy_within(from * width..(from + 1) * width, to * width);
    }
    buffer.truncate(rows.len() * width);
}
