//! A loaded model: its description, its packed weights and its rotation tables.

use std::path::Path;

use bantam_formats::{Gguf, SafetensorsDir};
use bantam_kernels::{Cpu, PackedMatrix};

use crate::error::ModelError;
use crate::family::Projections;
use crate::gguf::GgufModel;
use crate::hf::HfModel;
use crate::rope::Rope;
use crate::spec::ArchSpec;
use crate::tensors::{LayerSlot, LoadProgress, Loader, Rows, Slot, TensorSource};

/// A decoder ready to run. Immutable; what a sequence has seen lives in a [`crate::KvPool`].
#[derive(Debug)]
pub struct Model {
    pub(crate) spec: ArchSpec,
    pub(crate) weights: Weights,
    /// One per entry of `spec.ropes`.
    pub(crate) ropes: Vec<Rope>,
}

/// All weights; sizes are those of [`ArchSpec`].
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[vocab_size, hidden_size]`; also the output head where `output` is `None`.
    pub(crate) token_embedding: PackedMatrix,
    /// `[vocab_size, hidden_size]`
    pub(crate) output: Option<PackedMatrix>,
    /// `[hidden_size]`
    pub(crate) output_norm: Vec<f32>,
    pub(crate) layers: Vec<LayerWeights>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// `[hidden_size]`, as all norms but those of Q and K
    pub(crate) attention_norm: Vec<f32>,
    /// `[q_size, hidden_size]`
    pub(crate) q: Linear,
    /// `[kv_size, hidden_size]`
    pub(crate) k: Linear,
    /// `[kv_size, hidden_size]`
    pub(crate) v: Linear,
    pub(crate) qk_norm: Option<QkNorm>,
    /// `[hidden_size, q_size]`
    pub(crate) attention_output: Linear,
    pub(crate) post_attention_norm: Option<Vec<f32>>,
    pub(crate) ffn_norm: Vec<f32>,
    /// `[ffn_size, hidden_size]`
    pub(crate) gate: PackedMatrix,
    /// `[ffn_size, hidden_size]`
    pub(crate) up: PackedMatrix,
    /// `[hidden_size, ffn_size]`
    pub(crate) down: PackedMatrix,
    pub(crate) post_ffn_norm: Option<Vec<f32>>,
}

/// A projection with an optional bias, one element per row.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: PackedMatrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The norms of Q and K heads, `[head_dim]` each.
#[derive(Debug)]
pub(crate) struct QkNorm {
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
}

impl Model {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// [`ModelError`] names the key or tensor that is missing, wrong or not supported.
    pub fn load_gguf(cpu: &Cpu, gguf: &Gguf) -> Result<Self, ModelError> {
        Self::load_gguf_with(cpu, gguf, &mut |_| {})
    }

    /// Loads a GGUF file and tells `progress` how far it is.
    ///
    /// # Errors
    /// As [`Model::load_gguf`].
    pub fn load_gguf_with(cpu: &Cpu, gguf: &Gguf, progress: &mut dyn FnMut(LoadProgress)) -> Result<Self, ModelError> {
        let source = GgufModel::new(gguf)?;
        Self::load(source.spec(cpu)?, Loader::new(cpu, &source, progress)?)
    }

    /// Loads a directory as Transformers saves it: `config.json` beside safetensors.
    ///
    /// # Errors
    /// [`ModelError`] names the file, key or tensor that is missing, wrong or not supported.
    pub fn load_safetensors(cpu: &Cpu, dir: &Path) -> Result<Self, ModelError> {
        Self::load_safetensors_with(cpu, dir, &mut |_| {})
    }

    /// Loads a directory as Transformers saves it and tells `progress` how far it is.
    ///
    /// # Errors
    /// As [`Model::load_safetensors`].
    pub fn load_safetensors_with(
        cpu: &Cpu,
        dir: &Path,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, ModelError> {
        let files = SafetensorsDir::open(dir)?;
        let source = HfModel::new(&files)?;
        Self::load(source.spec()?, Loader::new(cpu, &source, progress)?)
    }

    fn load<S: TensorSource>(spec: ArchSpec, mut loader: Loader<'_, S>) -> Result<Self, ModelError> {
        let ropes = spec.ropes.iter().map(Rope::new).collect::<Result<_, _>>()?;
        let weights = Weights::load(&spec, &mut loader)?;
        loader.finish()?;
        Ok(Self { spec, weights, ropes })
    }

    /// The description that the model was built from.
    #[must_use]
    pub fn spec(&self) -> &ArchSpec {
        &self.spec
    }
}

impl Weights {
    fn load<S: TensorSource>(spec: &ArchSpec, loader: &mut Loader<'_, S>) -> Result<Self, ModelError> {
        let vocab = |slot| Rows::all(slot, spec.vocab_size);
        Ok(Self {
            token_embedding: loader.matrix(vocab(Slot::TokenEmbedding), spec.hidden_size)?,
            output: match spec.tied_embeddings {
                true => None,
                false => Some(loader.matrix(vocab(Slot::Output), spec.hidden_size)?),
            },
            output_norm: loader.norm(Slot::OutputNorm, spec.hidden_size)?,
            layers: (0..spec.n_layers())
                .map(|layer| LayerWeights::load(spec, layer, loader))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl LayerWeights {
    fn load<S: TensorSource>(spec: &ArchSpec, layer: usize, loader: &mut Loader<'_, S>) -> Result<Self, ModelError> {
        let slot = |slot| Slot::Layer(layer, slot);
        let hidden = spec.hidden_size;
        let parts = parts(spec, layer, loader.rules().projections);
        let mut linear = |rows: Rows, k, with_bias: bool| {
            let bias = if with_bias { Some(loader.bias(rows.clone())?) } else { None };
            Ok::<_, ModelError>(Linear { weight: loader.matrix(rows, k)?, bias })
        };
        let q = linear(parts.q, hidden, spec.qkv_bias)?;
        let k = linear(parts.k, hidden, spec.qkv_bias)?;
        let v = linear(parts.v, hidden, spec.qkv_bias)?;
        let output_rows = Rows::all(slot(LayerSlot::AttentionOutput), hidden);
        let attention_output = linear(output_rows, spec.q_size(), spec.attention_output_bias)?;
        let qk_norm = match spec.qk_norm {
            true => Some(QkNorm {
                q: loader.norm(slot(LayerSlot::QNorm), spec.head_dim)?,
                k: loader.norm(slot(LayerSlot::KNorm), spec.head_dim)?,
            }),
            false => None,
        };
        let gate = loader.matrix(parts.gate, hidden)?;
        let up = loader.matrix(parts.up, hidden)?;
        let down = loader.matrix(Rows::all(slot(LayerSlot::Down), hidden), spec.ffn_size)?;
        let mut norm = |name| loader.norm(slot(name), hidden);
        let post_attention_norm = if spec.post_norms { Some(norm(LayerSlot::PostAttentionNorm)?) } else { None };
        let post_ffn_norm = if spec.post_norms { Some(norm(LayerSlot::PostFfnNorm)?) } else { None };
        Ok(Self {
            attention_norm: norm(LayerSlot::AttentionNorm)?,
            q,
            k,
            v,
            qk_norm,
            attention_output,
            post_attention_norm,
            ffn_norm: norm(LayerSlot::FfnNorm)?,
            gate,
            up,
            down,
            post_ffn_norm,
        })
    }
}

/// Where the rows of the projections that some files stack are to be found.
struct Parts {
    q: Rows,
    k: Rows,
    v: Rows,
    gate: Rows,
    up: Rows,
}

fn parts(spec: &ArchSpec, layer: usize, projections: Projections) -> Parts {
    let (q, kv, ffn) = (spec.q_size(), spec.kv_size(), spec.ffn_size);
    let rows = |slot, total, start, len, heads| Rows {
        slot: Slot::Layer(layer, slot),
        total,
        range: start..start + len,
        heads,
    };
    let head = Some(spec.head_dim);
    match projections {
        Projections::Separate => Parts {
            q: rows(LayerSlot::Q, q, 0, q, head),
            k: rows(LayerSlot::K, kv, 0, kv, head),
            v: rows(LayerSlot::V, kv, 0, kv, None),
            gate: rows(LayerSlot::Gate, ffn, 0, ffn, None),
            up: rows(LayerSlot::Up, ffn, 0, ffn, None),
        },
        Projections::Fused => Parts {
            q: rows(LayerSlot::Qkv, q + 2 * kv, 0, q, head),
            k: rows(LayerSlot::Qkv, q + 2 * kv, q, kv, head),
            v: rows(LayerSlot::Qkv, q + 2 * kv, q + kv, kv, None),
            gate: rows(LayerSlot::GateUp, 2 * ffn, 0, ffn, None),
            up: rows(LayerSlot::GateUp, 2 * ffn, ffn, ffn, None),
        },
    }
}
