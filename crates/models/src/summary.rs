//! What a loaded model is made of, for catalogues and displays.

use bantam_kernels::{BlockType, PackedMatrix};
use serde::Serialize;

use crate::model::{LayerWeights, Model};

/// Size and make-up of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelSummary {
    /// Name of the family.
    pub family: &'static str,
    /// Weights; a tied output head counts once.
    pub n_parameters: u64,
    /// Bytes of weights in memory.
    pub n_bytes: u64,
    /// The matrices of all layers, which every token is multiplied with.
    pub layers: MatrixShare,
    /// The output head, which every position is multiplied with whose logits are wanted.
    pub head: MatrixShare,
    /// Longest sequence.
    pub context_length: usize,
    /// Parameters by the format they are stored in, most first.
    pub formats: Vec<FormatShare>,
}

/// The matrices of one part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MatrixShare {
    /// Weights: a multiplication and an addition each.
    pub n_parameters: u64,
    /// Bytes in memory, all of which one token reads.
    pub n_bytes: u64,
}

impl MatrixShare {
    fn of<'a>(matrices: impl IntoIterator<Item = &'a PackedMatrix>) -> Self {
        matrices.into_iter().fold(MatrixShare { n_parameters: 0, n_bytes: 0 }, |sum, matrix| MatrixShare {
            n_parameters: sum.n_parameters + n_parameters(matrix),
            n_bytes: sum.n_bytes + matrix.n_bytes() as u64,
        })
    }
}

fn n_parameters(matrix: &PackedMatrix) -> u64 {
    matrix.n_rows() as u64 * matrix.k() as u64
}

/// The part of a model that is stored in one format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FormatShare {
    /// The format's name, as in `Q4_K`.
    pub format: String,
    /// Parameters stored in it.
    pub n_parameters: u64,
}

impl Model {
    /// Size and make-up of the model.
    #[must_use]
    pub fn summary(&self) -> ModelSummary {
        let mut matrices = vec![&self.weights.token_embedding];
        matrices.extend(&self.weights.output);
        matrices.extend(self.weights.layers.iter().flat_map(LayerWeights::matrices));
        let vectors = self.weights.layers.iter().flat_map(LayerWeights::vectors);
        let n_floats: usize = vectors.chain([&self.weights.output_norm]).map(Vec::len).sum();
        let in_format = |ty: BlockType| {
            let floats = if ty == BlockType::F32 { n_floats as u64 } else { 0 };
            matrices.iter().filter(|matrix| matrix.block_type() == ty).map(|matrix| n_parameters(matrix)).sum::<u64>()
                + floats
        };
        let mut formats: Vec<FormatShare> = BlockType::ALL
            .into_iter()
            .map(|ty| FormatShare { format: ty.to_string(), n_parameters: in_format(ty) })
            .filter(|share| share.n_parameters > 0)
            .collect();
        formats.sort_by_key(|share| std::cmp::Reverse(share.n_parameters));
        ModelSummary {
            family: self.spec.family.name(),
            n_parameters: formats.iter().map(|share| share.n_parameters).sum(),
            n_bytes: matrices.iter().map(|matrix| matrix.n_bytes() as u64).sum::<u64>() + 4 * n_floats as u64,
            layers: MatrixShare::of(self.weights.layers.iter().flat_map(LayerWeights::matrices)),
            head: MatrixShare::of([self.weights.output.as_ref().unwrap_or(&self.weights.token_embedding)]),
            context_length: self.spec.context_length,
            formats,
        }
    }
}

impl LayerWeights {
    fn matrices(&self) -> [&PackedMatrix; 7] {
        let (q, k, v) = (&self.q.weight, &self.k.weight, &self.v.weight);
        [q, k, v, &self.attention_output.weight, &self.gate, &self.up, &self.down]
    }

    fn vectors(&self) -> impl Iterator<Item = &Vec<f32>> {
        let biases = [&self.q.bias, &self.k.bias, &self.v.bias, &self.attention_output.bias];
        let optional = biases.into_iter().chain([&self.post_attention_norm, &self.post_ffn_norm]).flatten();
        let heads = self.qk_norm.iter().flat_map(|norm| [&norm.q, &norm.k]);
        [&self.attention_norm, &self.ffn_norm].into_iter().chain(optional).chain(heads)
    }
}
