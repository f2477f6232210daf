//! The forward pass: one batch of pieces of many sequences through all layers.
//!
//! All rows of the batch go through each product together; only rotation, the KV write and attention know which
//! sequence a row belongs to. A row's numbers depend on its own sequence alone, so a batch gives what its pieces would
//! give one by one, bit for bit. After the last attention only the rows whose logits are wanted go on.

use bantam_kernels::attention::{AttnParams, AttnSeq, Mask, PAGE_TOKENS, attention};
use bantam_kernels::rope::RopeRows;
use bantam_kernels::{Cpu, PackedMatrix, Product, Store, matmul, ops};

use crate::batch::SeqChunk;
use crate::error::{ForwardError, NonFinite};
use crate::kv::KvPool;
use crate::model::{LayerWeights, Linear, Model};
use crate::scratch::{ChunkRows, Input, Scratch};
use crate::spec::{Activation, ArchSpec, RopeSet};

/// Logits of one forward pass, borrowed from its scratch.
#[derive(Debug)]
pub struct ForwardOutput<'a> {
    logits: &'a [f32],
    vocab_size: usize,
    chunks: &'a [ChunkRows],
}

impl<'a> ForwardOutput<'a> {
    /// The logits of a chunk, `[rows wanted][vocab_size]`; empty where none were wanted.
    ///
    /// # Errors
    /// [`NonFinite`] when this sequence, and only it, produced NaN or infinity.
    ///
    /// # Panics
    /// When `chunk` is not an index into the batch.
    pub fn rows(&self, chunk: usize) -> Result<&'a [f32], NonFinite> {
        let ChunkRows { wanted, non_finite, .. } = &self.chunks[chunk];
        match non_finite {
            Some(fault) => Err(*fault),
            None => Ok(&self.logits[wanted.start * self.vocab_size..wanted.end * self.vocab_size]),
        }
    }
}

impl Model {
    /// Runs a batch. Keys and values of its tokens are written to `kv`, then each token attends to the tokens up to
    /// itself in its own page table.
    ///
    /// Chunks are independent: two of one batch must not be pieces of one sequence, and a page that one writes to may
    /// not be in another's table. Memory for the logits is `vocab_size` floats for each row wanted, so a caller who
    /// wants all rows of a long text gives it in pieces.
    ///
    /// # Errors
    /// [`ForwardError`] before any work is done. Numbers that are not finite are an error of one sequence, told by
    /// [`ForwardOutput::rows`].
    pub fn forward<'s>(
        &self,
        cpu: &Cpu,
        kv: &mut KvPool,
        scratch: &'s mut Scratch,
        chunks: &[SeqChunk<'_>],
    ) -> Result<ForwardOutput<'s>, ForwardError> {
        validate(&self.spec, kv, chunks)?;
        let n_rows = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        let n_wanted = chunks.iter().map(|chunk| chunk.logits.rows(chunk.tokens.len()).len()).sum();
        scratch.reset(&self.spec, n_rows, n_wanted)?;
        if n_rows > 0 {
            Pass { model: self, cpu, kv, s: scratch }.run(chunks);
        }
        Ok(ForwardOutput { logits: &scratch.logits, vocab_size: self.spec.vocab_size, chunks: &scratch.chunks })
    }
}

fn validate(spec: &ArchSpec, kv: &KvPool, chunks: &[SeqChunk<'_>]) -> Result<(), ForwardError> {
    if !kv.fits(spec) {
        return Err(ForwardError::KvShape);
    }
    let (context_length, vocab_size, n_pages) = (spec.context_length, spec.vocab_size, kv.n_pages());
    for (i, chunk) in chunks.iter().enumerate() {
        if chunk.tokens.is_empty() {
            return Err(ForwardError::EmptyChunk { chunk: i });
        }
        if let Some(&token) = chunk.tokens.iter().find(|token| **token as usize >= vocab_size) {
            return Err(ForwardError::Token { chunk: i, token, vocab_size });
        }
        let end = chunk.first_pos.saturating_add(chunk.tokens.len());
        if end > context_length {
            return Err(ForwardError::ContextLength { chunk: i, end, context_length });
        }
        let needed = end.div_ceil(PAGE_TOKENS);
        if chunk.pages.len() < needed {
            return Err(ForwardError::TooFewPages { chunk: i, needed, found: chunk.pages.len() });
        }
        if let Some(&page) = chunk.pages.iter().find(|page| **page as usize >= n_pages) {
            return Err(ForwardError::Page { chunk: i, page, n_pages });
        }
        if chunk.rope == RopeSet::Long && spec.rope_set(usize::MAX) != RopeSet::Long {
            return Err(ForwardError::RopeSet { chunk: i });
        }
    }
    Ok(())
}

/// One run of the model over one batch.
struct Pass<'a> {
    model: &'a Model,
    cpu: &'a Cpu,
    kv: &'a mut KvPool,
    s: &'a mut Scratch,
}

impl Pass<'_> {
    fn run(&mut self, chunks: &[SeqChunk<'_>]) {
        let model = self.model;
        self.lay_out(chunks);
        self.fill_ropes(chunks);
        self.embed(chunks);
        let seqs: Vec<AttnSeq<'_>> = chunks
            .iter()
            .zip(&self.s.chunks)
            .map(|(chunk, at)| AttnSeq {
                pages: chunk.pages,
                q_start_row: at.rows.start,
                n_queries: at.rows.len(),
                first_pos: at.first_pos,
            })
            .collect();
        for (index, layer) in model.weights.layers.iter().enumerate() {
            self.attention(index, layer, &seqs);
            if index + 1 == model.spec.n_layers() {
                self.s.check_residual(model.spec.hidden_size);
                self.s.keep_wanted(&model.spec);
                if self.s.n_rows == 0 {
                    return;
                }
            }
            self.attention_output(layer);
            self.feed_forward(layer);
        }
        self.head();
    }

    /// Notes which rows belong to which chunk and where their keys and values go.
    fn lay_out(&mut self, chunks: &[SeqChunk<'_>]) {
        let s = &mut *self.s;
        let (mut row, mut wanted) = (0, 0);
        for chunk in chunks {
            let rows = row..row + chunk.tokens.len();
            let wanted_of_chunk = chunk.logits.rows(chunk.tokens.len());
            let wanted_rows = wanted..wanted + wanted_of_chunk.len();
            s.wanted_rows.extend(wanted_of_chunk.map(|i| row + i));
            let positions = chunk.first_pos..chunk.first_pos + chunk.tokens.len();
            s.slots.extend(positions.map(|pos| (chunk.pages[pos / PAGE_TOKENS], (pos % PAGE_TOKENS) as u8)));
            match s.rope_runs.last_mut() {
                Some((set, run)) if *set == chunk.rope => run.end = rows.end,
                _ => s.rope_runs.push((chunk.rope, rows.clone())),
            }
            (row, wanted) = (rows.end, wanted_rows.end);
            s.chunks.push(ChunkRows { first_pos: chunk.first_pos, rows, wanted: wanted_rows, non_finite: None });
        }
    }

    fn fill_ropes(&mut self, chunks: &[SeqChunk<'_>]) {
        let s = &mut *self.s;
        let positions: Vec<usize> =
            chunks.iter().flat_map(|chunk| chunk.first_pos..chunk.first_pos + chunk.tokens.len()).collect();
        s.rope_rows.resize_with(self.model.ropes.len() * s.rope_runs.len(), RopeRows::new);
        let mut rows = s.rope_rows.iter_mut();
        for rope in &self.model.ropes {
            for ((set, run), rows) in s.rope_runs.iter().zip(&mut rows) {
                rope.table(*set).fill(positions[run.clone()].iter().copied(), rows);
            }
        }
    }

    fn embed(&mut self, chunks: &[SeqChunk<'_>]) {
        let (spec, embedding) = (&self.model.spec, &self.model.weights.token_embedding);
        let tokens = chunks.iter().flat_map(|chunk| chunk.tokens);
        for (token, row) in tokens.zip(self.s.x.chunks_exact_mut(spec.hidden_size)) {
            embedding.dequantize_row(*token as usize, row);
        }
        if spec.embedding_scale != 1.0 {
            ops::scale(self.cpu, &mut self.s.x, spec.embedding_scale);
        }
    }

    /// Norm, projections, rotation, KV write and attention; what the heads found is left in `heads`.
    fn attention(&mut self, index: usize, layer: &LayerWeights, seqs: &[AttnSeq<'_>]) {
        let (cpu, spec) = (self.cpu, &self.model.spec);
        self.norm(&layer.attention_norm, &[&layer.q.weight, &layer.k.weight, &layer.v.weight]);
        let s = &mut *self.s;
        project(
            cpu,
            &s.normed,
            &mut [
                (&layer.q, &mut s.q, Store::Write),
                (&layer.k, &mut s.k, Store::Write),
                (&layer.v, &mut s.v, Store::Write),
            ],
        );
        if let Some(norm) = &layer.qk_norm {
            ops::rms_norm_in_place(cpu, &mut s.q, &norm.q, spec.norm_eps);
            ops::rms_norm_in_place(cpu, &mut s.k, &norm.k, spec.norm_eps);
        }
        let layer_spec = &spec.layers[index];
        let rope_rows = &s.rope_rows[layer_spec.rope * s.rope_runs.len()..];
        for ((_, run), rope) in s.rope_runs.iter().zip(rope_rows) {
            let rows = |width: usize| run.start * width..run.end * width;
            rope.apply(cpu, &mut s.q[rows(spec.q_size())], spec.n_heads, spec.head_dim);
            rope.apply(cpu, &mut s.k[rows(spec.kv_size())], spec.n_kv_heads, spec.head_dim);
        }
        let pages = self.kv.layer_mut(index);
        pages.write(cpu, &s.slots, &s.k, &s.v);
        let params = AttnParams {
            n_heads: spec.n_heads,
            n_kv_heads: spec.n_kv_heads,
            head_dim: spec.head_dim,
            scale: spec.attention_scale,
            soft_cap: spec.attention_soft_cap,
            window: layer_spec.window,
            mask: Mask::Causal,
        };
        attention(cpu, pages, &params, seqs, &s.q, &mut s.heads.values);
    }

    /// The residual stream, normalised, as input for `weights`.
    fn norm(&mut self, norm: &[f32], weights: &[&PackedMatrix]) {
        let (cpu, eps) = (self.cpu, self.model.spec.norm_eps);
        let s = &mut *self.s;
        let x = &s.x;
        s.normed.make(cpu, weights, &mut s.faults, |row, out| {
            ops::rms_norm(cpu, &x[row * norm.len()..(row + 1) * norm.len()], norm, eps, out);
        });
    }

    fn attention_output(&mut self, layer: &LayerWeights) {
        let s = &mut *self.s;
        s.heads.prepare(self.cpu, &[&layer.attention_output.weight], &mut s.faults);
        match layer.post_attention_norm.as_deref() {
            None if layer.attention_output.bias.is_none() => {
                project(self.cpu, &s.heads, &mut [(&layer.attention_output, &mut s.x, Store::Add)]);
            }
            norm => {
                project(self.cpu, &s.heads, &mut [(&layer.attention_output, &mut s.delta, Store::Write)]);
                match norm {
                    None => ops::add_assign(self.cpu, &mut s.x, &s.delta),
                    Some(norm) => {
                        ops::add_rms_norm(self.cpu, &mut s.x, &s.delta, norm, self.model.spec.norm_eps);
                    }
                }
            }
        }
    }

    fn feed_forward(&mut self, layer: &LayerWeights) {
        let (cpu, spec) = (self.cpu, &self.model.spec);
        self.norm(&layer.ffn_norm, &[&layer.gate, &layer.up]);
        let s = &mut *self.s;
        multiply(
            cpu,
            &s.normed,
            &mut [
                Product { w: &layer.gate, y: &mut s.gate.values, store: Store::Write },
                Product { w: &layer.up, y: &mut s.up, store: Store::Write },
            ],
        );
        let up = &s.up;
        s.gate.make(cpu, &[&layer.down], &mut s.faults, |row, gate| {
            let up = &up[row * gate.len()..(row + 1) * gate.len()];
            match spec.activation {
                Activation::Silu => ops::silu_mul(cpu, gate, up),
                Activation::GeluTanh => ops::gelu_tanh_mul(cpu, gate, up),
            }
        });
        match layer.post_ffn_norm.as_deref() {
            None => multiply(cpu, &s.gate, &mut [Product { w: &layer.down, y: &mut s.x, store: Store::Add }]),
            Some(norm) => {
                multiply(cpu, &s.gate, &mut [Product { w: &layer.down, y: &mut s.delta, store: Store::Write }]);
                ops::add_rms_norm(cpu, &mut s.x, &s.delta, norm, spec.norm_eps);
            }
        }
    }

    /// Logits of the wanted rows.
    fn head(&mut self) {
        let (cpu, spec, weights) = (self.cpu, &self.model.spec, &self.model.weights);
        let output = weights.output.as_ref().unwrap_or(&weights.token_embedding);
        self.norm(&weights.output_norm, &[output]);
        let s = &mut *self.s;
        multiply(cpu, &s.normed, &mut [Product { w: output, y: &mut s.logits, store: Store::Write }]);
        // Before the soft cap, which would hide an infinity.
        s.check_logits(spec.vocab_size);
        s.settle_faults();
        if let Some(cap) = spec.logit_soft_cap {
            ops::soft_cap(cpu, &mut s.logits, cap);
        }
    }
}

/// Products with weights that may have a bias, all of the same input.
fn project<const N: usize>(cpu: &Cpu, x: &Input, linears: &mut [(&Linear, &mut Vec<f32>, Store); N]) {
    let mut products = linears.each_mut().map(|(linear, y, store)| Product { w: &linear.weight, y, store: *store });
    multiply(cpu, x, &mut products);
    for (linear, y, _) in linears {
        if let Some(bias) = &linear.bias {
            ops::add_bias(cpu, y, bias);
        }
    }
}

/// `x` times the weights of each product.
pub(crate) fn multiply(cpu: &Cpu, x: &Input, products: &mut [Product<'_>]) {
    let Some(Product { w, y, .. }) = products.first() else { return };
    let (n_tokens, k) = (y.len() / w.n_rows(), w.k());
    matmul(cpu, &x.rows(n_tokens, k), products);
}
