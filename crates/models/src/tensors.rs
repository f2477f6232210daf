//! Finding tensors and turning them into weights, the same for every file format.
//!
//! A [`TensorSource`] says how its format calls each tensor; the [`Loader`] checks shapes against the spec, packs
//! matrices in parallel, and at the end makes sure that nothing in the file was left unread: a tensor that the spec
//! has no place for means that the model computes something that we would not.

use std::collections::HashSet;
use std::ops::Range;

use bantam_kernels::{BlockType, Cpu, PackedMatrix, Packer};

use crate::error::ModelError;
use crate::family::FamilyRules;

/// A tensor of the model, by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    TokenEmbedding,
    OutputNorm,
    Output,
    Layer(usize, LayerSlot),
}

/// A tensor of one layer, by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerSlot {
    AttentionNorm,
    Q,
    K,
    V,
    /// Q, K and V stacked.
    Qkv,
    QNorm,
    KNorm,
    AttentionOutput,
    PostAttentionNorm,
    FfnNorm,
    Gate,
    Up,
    /// Gate and up stacked.
    GateUp,
    Down,
    PostFfnNorm,
}

/// A tensor as it lies in the file.
#[derive(Debug)]
pub(crate) struct RawTensor<'a> {
    pub(crate) name: String,
    pub(crate) ty: BlockType,
    /// Outermost dimension first: `[rows, columns]`.
    pub(crate) shape: Vec<usize>,
    pub(crate) data: &'a [u8],
}

/// Where the two elements of a rotated pair lie among a head's rows of Q or K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// `i` and `i + head_dim / 2`, as our kernels rotate them.
    Halves,
    /// `2i` and `2i + 1`.
    Neighbours,
}

impl RowOrder {
    /// The row of the file that is row `row` of the halves order.
    fn file_row(self, row: usize, head_dim: usize) -> usize {
        match self {
            RowOrder::Halves => row,
            RowOrder::Neighbours => {
                let (head, i) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (i % half) + i / half
            }
        }
    }
}

/// A model file, or directory, of some format.
pub(crate) trait TensorSource {
    fn rules(&self) -> &'static FamilyRules;
    /// The format's name for a tensor; `part` is "weight" or "bias".
    fn name(&self, slot: Slot, part: &str) -> String;
    fn find(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError>;
    fn names(&self) -> Vec<&str>;
    /// Tensors that the weights do not need.
    fn is_ignorable(&self, name: &str) -> bool;
    fn qk_rows(&self) -> RowOrder;
    /// Norm weights are stored less one.
    fn norms_lack_one(&self) -> bool;
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights packed so far.
    pub done_bytes: u64,
    /// Bytes of weights in the file.
    pub total_bytes: u64,
}

/// The rows of a file's tensor that make up one matrix.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) slot: Slot,
    /// Rows of the whole tensor.
    pub(crate) total: usize,
    /// The part wanted.
    pub(crate) range: Range<usize>,
    /// Rows per head where the file's order matters.
    pub(crate) heads: Option<usize>,
}

impl Rows {
    pub(crate) fn all(slot: Slot, total: usize) -> Self {
        Self { slot, total, range: 0..total, heads: None }
    }
}

pub(crate) struct Loader<'a, S> {
    cpu: &'a Cpu,
    packer: Packer<'a>,
    source: &'a S,
    used: HashSet<String>,
    progress: &'a mut dyn FnMut(LoadProgress),
    done: LoadProgress,
}

impl<'a, S: TensorSource> Loader<'a, S> {
    pub(crate) fn new(
        cpu: &'a Cpu,
        source: &'a S,
        progress: &'a mut dyn FnMut(LoadProgress),
    ) -> Result<Self, ModelError> {
        let mut total_bytes = 0;
        for name in source.names() {
            total_bytes += source.find(name)?.map_or(0, |tensor| tensor.data.len() as u64);
        }
        let packer = Packer::new(cpu, usize::try_from(total_bytes).unwrap_or(usize::MAX));
        Ok(Self {
            cpu,
            packer,
            source,
            used: HashSet::new(),
            progress,
            done: LoadProgress { done_bytes: 0, total_bytes },
        })
    }

    pub(crate) fn rules(&self) -> &'static FamilyRules {
        self.source.rules()
    }

    /// The tensor called `name`, which must have exactly `shape`.
    fn tensor(&mut self, name: String, shape: &[usize]) -> Result<RawTensor<'a>, ModelError> {
        let Some(tensor) = self.source.find(&name)? else { return Err(ModelError::MissingTensor { name }) };
        if tensor.shape != shape {
            return Err(ModelError::TensorShape { name, expected: shape.to_vec(), found: tensor.shape });
        }
        self.used.insert(name);
        Ok(tensor)
    }

    fn report(&mut self, n_bytes: usize) {
        self.done.done_bytes += n_bytes as u64;
        (self.progress)(self.done);
    }

    fn row_order(&self, rows: &Rows) -> impl Fn(usize) -> usize + Sync + use<S> {
        let (start, heads, order) = (rows.range.start, rows.heads, self.source.qk_rows());
        move |row| start + heads.map_or(row, |head_dim| order.file_row(row, head_dim))
    }

    /// A `[rows.range.len(), k]` matrix.
    pub(crate) fn matrix(&mut self, rows: Rows, k: usize) -> Result<PackedMatrix, ModelError> {
        let name = self.source.name(rows.slot, "weight");
        let tensor = self.tensor(name, &[rows.total, k])?;
        let wrong_size = || ModelError::TensorSize { name: tensor.name.clone(), found: tensor.data.len() };
        let row_bytes = tensor.ty.row_bytes(k).map_err(|source| pack_error(&tensor.name, source))?;
        if row_bytes.checked_mul(rows.total) != Some(tensor.data.len()) {
            return Err(wrong_size());
        }
        let order = self.row_order(&rows);
        let file_row = |row: usize| {
            let row = order(row);
            &tensor.data[row * row_bytes..(row + 1) * row_bytes]
        };
        let packed = self
            .packer
            .pack(tensor.ty, rows.range.len(), k, file_row)
            .map_err(|source| pack_error(&tensor.name, source))?;
        self.report(rows.range.len() * row_bytes);
        Ok(packed)
    }

    /// The bias of a matrix, its elements ordered as the matrix's rows.
    pub(crate) fn bias(&mut self, rows: Rows) -> Result<Vec<f32>, ModelError> {
        let name = self.source.name(rows.slot, "bias");
        let tensor = self.tensor(name, &[rows.total])?;
        let values = vector(self.cpu, &tensor)?;
        self.report(tensor.data.len());
        let order = self.row_order(&rows);
        Ok((0..rows.range.len()).map(|row| values[order(row)]).collect())
    }

    /// A normalisation weight, ready to multiply.
    pub(crate) fn norm(&mut self, slot: Slot, len: usize) -> Result<Vec<f32>, ModelError> {
        let name = self.source.name(slot, "weight");
        let tensor = self.tensor(name, &[len])?;
        let mut values = vector(self.cpu, &tensor)?;
        self.report(tensor.data.len());
        if self.source.norms_lack_one() {
            values.iter_mut().for_each(|v| *v += 1.0);
        }
        Ok(values)
    }

    /// Call when everything has been read: any tensor left is one that we do not understand.
    pub(crate) fn finish(self) -> Result<(), ModelError> {
        // The first by name, because a format may list them in any order.
        let is_left = |name: &&str| !self.used.contains(*name) && !self.source.is_ignorable(name);
        // The first by name, because a format may list them in any order.
        match self.source.names().into_iter().filter(is_left).min() {
            Some(name) => {
                let family = self.source.rules().gguf_architecture.to_owned();
                Err(ModelError::UnexpectedTensor { name: name.to_owned(), family })
            }
            None => Ok(()),
        }
    }
}

pub(crate) fn pack_error(name: &str, source: bantam_kernels::PackError) -> ModelError {
    ModelError::Pack { name: name.to_owned(), source }
}

/// A one-dimensional tensor as floats, all of them finite.
pub(crate) fn vector(cpu: &Cpu, tensor: &RawTensor<'_>) -> Result<Vec<f32>, ModelError> {
    let [len] = tensor.shape[..] else {
        let found = tensor.shape.clone();
        return Err(ModelError::TensorShape {
            name: tensor.name.clone(),
            expected: found.iter().copied().reduce(usize::saturating_mul).into_iter().collect(),
            found,
        });
    };
    let row = Packer::new(cpu, 0)
        .pack(tensor.ty, 1, len, |_| tensor.data)
        .map_err(|source| pack_error(&tensor.name, source))?;
    let mut values = vec![0.0; len];
    row.dequantize_row(0, &mut values);
    if values.iter().any(|v| !v.is_finite()) {
        return Err(ModelError::TensorNotFinite { name: tensor.name.clone() });
    }
    Ok(values)
}
