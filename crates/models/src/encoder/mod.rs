//! BERT-family encoders: a text's tokens all see each other, and their vectors become one.
//!
//! A batch is the tokens of all its texts one after another, without padding. What a text's vector is, to the last bit,
//! does not depend on what else is in the batch, as for decoders.

mod spec;
mod weights;

use std::ops::Range;
use std::path::Path;

use bantam_formats::SafetensorsDir;
use bantam_kernels::attention::{AttnParams, AttnSeq, KvPages, KvType, Mask, PAGE_TOKENS, attention};
use bantam_kernels::ops::{self, LayerNorm};
use bantam_kernels::{Cpu, PackedMatrix, Product, Store};

pub use spec::{EncoderSpec, Pooling};
pub use weights::Precision;

use crate::error::{EmbedError, ModelError};
use crate::forward::multiply;
use crate::scratch::Input;
use crate::tensors::LoadProgress;
use weights::{Layer, Loader, Norm, Weights};

/// An encoder ready to run.
#[derive(Debug)]
pub struct Encoder {
    spec: EncoderSpec,
    weights: Weights,
}

/// Working memory of [`Encoder::embed`].
#[derive(Debug, Default)]
pub struct EncoderScratch {
    /// The vectors of all tokens, `[rows][hidden_size]`.
    x: Input,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    heads: Input,
    /// What a block adds, `[rows][hidden_size]`.
    delta: Vec<f32>,
    /// `[rows][ffn_size]`
    ffn: Input,
    /// Keys and values of the layer that is being computed.
    pages: Option<KvPages>,
    /// Rows with a number that is not finite.
    faults: Vec<bool>,
    /// `[texts][hidden_size]`
    out: Vec<f32>,
}

impl Encoder {
    /// Loads a directory as Transformers and sentence-transformers save it, and tells `progress` how far it is.
    ///
    /// # Errors
    /// [`ModelError`] names the file, key or tensor that is missing, wrong or not supported.
    pub fn load(
        cpu: &Cpu,
        dir: &Path,
        precision: Precision,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, ModelError> {
        let files = SafetensorsDir::open(dir)?;
        let spec = EncoderSpec::read(dir, files.config())?;
        let weights = Loader::new(cpu, &files, precision, progress).load(&spec)?;
        Ok(Self { spec, weights })
    }

    /// The description that the encoder was built from.
    #[must_use]
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// The vectors of some texts, `[texts][hidden_size]`, from their tokens, the special ones included.
    ///
    /// # Errors
    /// [`EmbedError`] names the text by its index. Nothing is computed if a text cannot be; a number that is not finite
    /// is an error of all texts of the call.
    pub fn embed<'s>(
        &self,
        cpu: &Cpu,
        scratch: &'s mut EncoderScratch,
        texts: &[&[u32]],
    ) -> Result<&'s [f32], EmbedError> {
        self.check(texts)?;
        let rows = rows_of(texts);
        scratch.reset(&self.spec, rows.last().map_or(0, |rows| rows.end), texts.len());
        Pass { encoder: self, cpu, s: scratch }.run(texts, &rows)?;
        Ok(&scratch.out)
    }

    fn check(&self, texts: &[&[u32]]) -> Result<(), EmbedError> {
        let (max, vocab_size) = (self.spec.context_length, self.spec.vocab_size);
        for (text, tokens) in texts.iter().enumerate() {
            if tokens.is_empty() {
                return Err(EmbedError::Empty { text });
            }
            if tokens.len() > max {
                return Err(EmbedError::TooLong { text, found: tokens.len(), max });
            }
            if let Some(&token) = tokens.iter().find(|token| **token as usize >= vocab_size) {
                return Err(EmbedError::Token { text, token, vocab_size });
            }
        }
        Ok(())
    }
}

/// Where the texts' rows lie.
fn rows_of(texts: &[&[u32]]) -> Vec<Range<usize>> {
    let mut end = 0;
    let mut rows = |text: &&[u32]| {
        let start = end;
        end += text.len();
        start..end
    };
    texts.iter().map(&mut rows).collect()
}

impl EncoderScratch {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn reset(&mut self, spec: &EncoderSpec, n_rows: usize, n_texts: usize) {
        let hidden = n_rows * spec.hidden_size;
        let buffers =
            [&mut self.x.values, &mut self.q, &mut self.k, &mut self.v, &mut self.heads.values, &mut self.delta];
        buffers.into_iter().for_each(|buffer| buffer.resize(hidden, 0.0));
        self.ffn.values.resize(n_rows * spec.ffn_size, 0.0);
        self.out.resize(n_texts * spec.hidden_size, 0.0);
        self.faults.clear();
        self.faults.resize(n_rows, false);
    }
}

/// One run of the encoder over one batch.
struct Pass<'a> {
    encoder: &'a Encoder,
    cpu: &'a Cpu,
    s: &'a mut EncoderScratch,
}

impl Pass<'_> {
    fn run(&mut self, texts: &[&[u32]], rows: &[Range<usize>]) -> Result<(), EmbedError> {
        let spec = &self.encoder.spec;
        // Each text begins a page. A layer's keys and values are not needed by the next.
        let pages_of = |rows: &Range<usize>| rows.len().div_ceil(PAGE_TOKENS);
        let n_pages: usize = rows.iter().map(pages_of).sum();
        let mut kv = match self.s.pages.take().filter(|kv| kv.n_pages() >= n_pages && kv.n_kv_heads() == spec.n_heads) {
            Some(kv) => kv,
            None => KvPages::new(KvType::F32, n_pages.next_power_of_two(), spec.n_heads, spec.head_dim())?,
        };
        let ids: Vec<u32> = (0..n_pages as u32).collect();
        let (mut seqs, mut slots, mut first_page) = (Vec::new(), Vec::new(), 0);
        for rows in rows {
            let pages = &ids[first_page..first_page + pages_of(rows)];
            slots.extend((0..rows.len()).map(|i| (pages[i / PAGE_TOKENS], (i % PAGE_TOKENS) as u8)));
            seqs.push(AttnSeq { pages, q_start_row: rows.start, n_queries: rows.len(), first_pos: 0 });
            first_page += pages.len();
        }
        self.embed(texts);
        for layer in &self.encoder.weights.layers {
            self.attention(layer, &mut kv, &seqs, &slots);
            self.feed_forward(layer);
        }
        self.s.pages = Some(kv);
        self.pool(rows);
        // A row's fault is in every later block, and so in its text's vector.
        let vectors = self.s.out.chunks_exact(spec.hidden_size);
        match vectors.zip(0..).find(|(vector, _)| vector.iter().any(|x| !x.is_finite())) {
            Some((_, text)) => Err(EmbedError::NonFinite { text }),
            None => Ok(()),
        }
    }

    /// Tokens and positions, normalised.
    fn embed(&mut self, texts: &[&[u32]]) {
        let Weights { tokens, positions, norm, layers } = &self.encoder.weights;
        let hidden = self.encoder.spec.hidden_size;
        let flat: Vec<(u32, usize)> = texts.iter().flat_map(|text| text.iter().copied().zip(0..)).collect();
        self.renew(norm, &layers[0].q.weight, |row, x| {
            let (token, position) = flat[row];
            let token = &tokens[token as usize * hidden..][..hidden];
            let position = &positions[position * hidden..][..hidden];
            for ((x, token), position) in x.iter_mut().zip(token).zip(position) {
                *x = token + position;
            }
        });
    }

    /// Lets `change` write or change each row, normalises it, and makes it ready for products with weights like `next`.
    fn renew(&mut self, norm: &Norm, next: &PackedMatrix, change: impl Fn(usize, &mut [f32]) + Sync) {
        let (cpu, eps) = (self.cpu, self.encoder.spec.norm_eps);
        let s = &mut *self.s;
        s.x.make(cpu, &[next], &mut s.faults, |row, x| {
            change(row, x);
            ops::layer_norm_in_place(cpu, x, LayerNorm { weight: &norm.weight, bias: Some(&norm.bias), eps });
        });
    }

    /// Adds what a block found to each row and normalises it.
    fn add(&mut self, norm: &Norm, next: &PackedMatrix, bias: &[f32]) {
        let (cpu, delta) = (self.cpu, std::mem::take(&mut self.s.delta));
        self.renew(norm, next, |row, x| {
            ops::add_assign(cpu, x, &delta[row * x.len()..(row + 1) * x.len()]);
            ops::add_assign(cpu, x, bias);
        });
        self.s.delta = delta;
    }

    fn attention(&mut self, layer: &Layer, kv: &mut KvPages, seqs: &[AttnSeq<'_>], slots: &[(u32, u8)]) {
        let (cpu, spec) = (self.cpu, &self.encoder.spec);
        let s = &mut *self.s;
        let linears = [(&layer.q, &mut s.q), (&layer.k, &mut s.k), (&layer.v, &mut s.v)];
        multiply(cpu, &s.x, &mut linears.map(|(linear, y)| Product { w: &linear.weight, y, store: Store::Write }));
        for (linear, y) in [(&layer.q, &mut s.q), (&layer.k, &mut s.k), (&layer.v, &mut s.v)] {
            ops::add_bias(cpu, y, &linear.bias);
        }
        kv.write(cpu, slots, &s.k, &s.v);
        let params = AttnParams {
            n_heads: spec.n_heads,
            n_kv_heads: spec.n_heads,
            head_dim: spec.head_dim(),
            scale: 1.0 / (spec.head_dim() as f32).sqrt(),
            soft_cap: None,
            window: None,
            mask: Mask::None,
        };
        attention(cpu, kv, &params, seqs, &s.q, &mut s.heads.values);
        let output = &layer.output;
        s.heads.prepare(cpu, &[&output.weight], &mut s.faults);
        multiply(cpu, &s.heads, &mut [Product { w: &output.weight, y: &mut s.delta, store: Store::Write }]);
        self.add(&layer.output_norm, &layer.up.weight, &output.bias);
    }

    fn feed_forward(&mut self, layer: &Layer) {
        let cpu = self.cpu;
        let Layer { up, down, ffn_norm, .. } = layer;
        let s = &mut *self.s;
        multiply(cpu, &s.x, &mut [Product { w: &up.weight, y: &mut s.ffn.values, store: Store::Write }]);
        s.ffn.make(cpu, &[&down.weight], &mut s.faults, |_, row| {
            ops::add_assign(cpu, row, &up.bias);
            ops::gelu_erf(cpu, row);
        });
        multiply(cpu, &s.ffn, &mut [Product { w: &down.weight, y: &mut s.delta, store: Store::Write }]);
        self.add(ffn_norm, &layer.q.weight, &down.bias);
    }

    /// One vector per text.
    fn pool(&mut self, rows: &[Range<usize>]) {
        let EncoderSpec { hidden_size, pooling, normalize, .. } = self.encoder.spec;
        let s = &mut *self.s;
        for (rows, out) in rows.iter().zip(s.out.chunks_exact_mut(hidden_size)) {
            let mut tokens = s.x.values[rows.start * hidden_size..rows.end * hidden_size].chunks_exact(hidden_size);
            out.fill(0.0);
            match pooling {
                Pooling::Cls => out.copy_from_slice(tokens.next().unwrap_or(&[])),
                Pooling::Mean => {
                    tokens.for_each(|token| out.iter_mut().zip(token).for_each(|(sum, x)| *sum += x));
                    out.iter_mut().for_each(|sum| *sum /= rows.len() as f32);
                }
            }
            if normalize {
                let length = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt().max(1e-12) as f32;
                out.iter_mut().for_each(|x| *x /= length);
            }
        }
    }
}
