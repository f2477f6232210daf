//! An encoder's weights, from the tensors of a Hugging Face directory.

use std::collections::HashSet;

use bantam_formats::SafetensorsDir;
use bantam_formats::safetensors::FloatType;
use bantam_kernels::{BlockType, Cpu, PackedMatrix, Packer, quantize_q8_0};

use super::spec::EncoderSpec;
use crate::error::ModelError;
use crate::tensors::{LoadProgress, RawTensor, pack_error};

/// How an encoder's matrices are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// As in the file.
    Float,
    /// Quantised to 8 bits while loading (`Q8_0`): four times as fast and a quarter of the memory of single precision.
    #[default]
    Int8,
}

/// All weights; sizes are those of [`EncoderSpec`].
#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocab_size][hidden_size]`
    pub(super) tokens: Vec<f32>,
    /// `[context_length][hidden_size]`, that of the first token type included.
    pub(super) positions: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

#[derive(Debug)]
pub(super) struct Layer {
    /// `[hidden_size, hidden_size]`, as `k`, `v` and `output`
    pub(super) q: Linear,
    pub(super) k: Linear,
    pub(super) v: Linear,
    pub(super) output: Linear,
    pub(super) output_norm: Norm,
    /// `[ffn_size, hidden_size]`
    pub(super) up: Linear,
    /// `[hidden_size, ffn_size]`
    pub(super) down: Linear,
    pub(super) ffn_norm: Norm,
}

/// A projection and its bias, one element per row.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: PackedMatrix,
    pub(super) bias: Vec<f32>,
}

/// The parameters of a LayerNorm, `[hidden_size]` each.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

pub(super) struct Loader<'a> {
    files: &'a SafetensorsDir,
    packer: Packer<'a>,
    precision: Precision,
    /// What all names begin with: `bert.` in files that were saved with a head.
    prefix: &'static str,
    used: HashSet<String>,
    progress: &'a mut dyn FnMut(LoadProgress),
    done: LoadProgress,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        cpu: &'a Cpu,
        files: &'a SafetensorsDir,
        precision: Precision,
        progress: &'a mut dyn FnMut(LoadProgress),
    ) -> Self {
        let total_bytes: u64 =
            files.names().filter_map(|name| files.tensor(name).ok()).map(|t| t.data.len() as u64).sum();
        let prefix = if files.contains("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        Loader {
            files,
            packer: Packer::new(cpu, usize::try_from(total_bytes).unwrap_or(usize::MAX)),
            precision,
            prefix,
            used: HashSet::new(),
            progress,
            done: LoadProgress { done_bytes: 0, total_bytes },
        }
    }

    pub(super) fn load(mut self, spec: &EncoderSpec) -> Result<Weights, ModelError> {
        let hidden = spec.hidden_size;
        let tokens = self.floats("embeddings.word_embeddings.weight", &[spec.vocab_size, hidden])?;
        let n_positions = self.shape("embeddings.position_embeddings.weight")?.first().copied().unwrap_or(0);
        let mut positions = self.floats("embeddings.position_embeddings.weight", &[n_positions, hidden])?;
        positions.truncate(spec.context_length.saturating_mul(hidden));
        let n_types = self.shape("embeddings.token_type_embeddings.weight")?.first().copied().unwrap_or(0);
        let types = self.floats("embeddings.token_type_embeddings.weight", &[n_types, hidden])?;
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&types).for_each(|(x, ty)| *x += ty);
        }
        let weights = Weights {
            tokens,
            positions,
            norm: self.norm("embeddings.LayerNorm", hidden)?,
            layers: (0..spec.n_layers).map(|i| self.layer(spec, i)).collect::<Result<_, _>>()?,
        };
        self.finish()?;
        Ok(weights)
    }

    fn layer(&mut self, spec: &EncoderSpec, i: usize) -> Result<Layer, ModelError> {
        let (hidden, ffn) = (spec.hidden_size, spec.ffn_size);
        let name = |part: &str| format!("encoder.layer.{i}.{part}");
        Ok(Layer {
            q: self.linear(&name("attention.self.query"), hidden, hidden)?,
            k: self.linear(&name("attention.self.key"), hidden, hidden)?,
            v: self.linear(&name("attention.self.value"), hidden, hidden)?,
            output: self.linear(&name("attention.output.dense"), hidden, hidden)?,
            output_norm: self.norm(&name("attention.output.LayerNorm"), hidden)?,
            up: self.linear(&name("intermediate.dense"), ffn, hidden)?,
            down: self.linear(&name("output.dense"), hidden, ffn)?,
            ffn_norm: self.norm(&name("output.LayerNorm"), hidden)?,
        })
    }

    fn linear(&mut self, name: &str, n_rows: usize, k: usize) -> Result<Linear, ModelError> {
        let bias = self.floats(&format!("{name}.bias"), &[n_rows])?;
        let tensor = self.tensor(&format!("{name}.weight"), &[n_rows, k])?;
        let error = |source| pack_error(&tensor.name, source);
        let row_bytes = tensor.ty.row_bytes(k).map_err(error)?;
        let row = |row: usize| &tensor.data[row * row_bytes..(row + 1) * row_bytes];
        let weight = match self.precision {
            Precision::Float => self.packer.pack(tensor.ty, n_rows, k, row).map_err(error)?,
            Precision::Int8 => {
                let row_bytes = BlockType::Q8_0.row_bytes(k).map_err(error)?;
                let quantized: Vec<u8> = values(&tensor)?.chunks_exact(k).flat_map(quantize_q8_0).collect();
                let row = |row: usize| &quantized[row * row_bytes..(row + 1) * row_bytes];
                self.packer.pack(BlockType::Q8_0, n_rows, k, row).map_err(error)?
            }
        };
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, name: &str, len: usize) -> Result<Norm, ModelError> {
        // Checkpoints that began in TensorFlow have its names.
        let old = self.files.contains(&format!("{}{name}.gamma", self.prefix));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            weight: self.floats(&format!("{name}.{weight}"), &[len])?,
            bias: self.floats(&format!("{name}.{bias}"), &[len])?,
        })
    }
}

impl<'a> Loader<'a> {
    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn shape(&self, name: &str) -> Result<&'a [usize], ModelError> {
        Ok(self.files.tensor(&self.full_name(name))?.shape)
    }

    /// The tensor of this name, which must have exactly this shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<RawTensor<'a>, ModelError> {
        let name = self.full_name(name);
        let tensor = self.files.tensor(&name)?;
        if tensor.shape != shape {
            let found = tensor.shape.to_vec();
            return Err(ModelError::TensorShape { name, expected: shape.to_vec(), found });
        }
        let ty = match tensor.ty {
            FloatType::F32 => BlockType::F32,
            FloatType::F16 => BlockType::F16,
            FloatType::Bf16 => BlockType::BF16,
        };
        self.used.insert(name.clone());
        self.done.done_bytes += tensor.data.len() as u64;
        (self.progress)(self.done);
        Ok(RawTensor { name, ty, shape: shape.to_vec(), data: tensor.data })
    }

    /// The tensor's elements, all of them finite.
    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let tensor = self.tensor(name, shape)?;
        values(&tensor)
    }

    /// Any tensor that was not read is one that we do not understand.
    fn finish(&self) -> Result<(), ModelError> {
        // The pooler serves only what it was pre-trained for; the positions are 0, 1, 2..
        let is_ignorable =
            |name: &str| name.contains("pooler.") || name.ends_with("position_ids") || name.starts_with("cls.");
        let left = self.files.names().filter(|name| !self.used.contains(*name) && !is_ignorable(name));
        match left.min() {
            Some(name) => Err(ModelError::UnexpectedTensor { name: name.to_owned(), family: "bert".to_owned() }),
            None => Ok(()),
        }
    }
}

fn values(tensor: &RawTensor<'_>) -> Result<Vec<f32>, ModelError> {
    let values: Vec<f32> = match tensor.ty {
        BlockType::F32 => tensor.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        BlockType::BF16 => {
            tensor.data.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => tensor.data.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
    };
    match values.iter().all(|x| x.is_finite()) {
        true => Ok(values),
        false => Err(ModelError::TensorNotFinite { name: tensor.name.clone() }),
    }
}
