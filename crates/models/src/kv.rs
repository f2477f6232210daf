//! The KV pool: pages of keys and values, one set per layer, with page ids shared by all layers.

use bantam_kernels::attention::{KvPages, KvType};

use crate::error::ForwardError;
use crate::model::Model;
use crate::spec::ArchSpec;

/// Keys and values of all sequences. A page holds [`PAGE_TOKENS`](bantam_kernels::attention::PAGE_TOKENS) positions of one sequence in every layer; who owns
/// which page is the caller's business.
///
/// A page takes memory when it is first written, so a caller that hands out low ids first pays for what it uses.
#[derive(Debug)]
pub struct KvPool {
    layers: Vec<KvPages>,
    shape: KvShape,
    n_pages: usize,
}

/// What must agree between a pool and the model that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KvShape {
    n_layers: usize,
    n_kv_heads: usize,
    head_dim: usize,
}

impl KvShape {
    fn of(spec: &ArchSpec) -> Self {
        Self { n_layers: spec.n_layers(), n_kv_heads: spec.n_kv_heads, head_dim: spec.head_dim }
    }

    fn bytes_per_page(self, kv_type: KvType) -> usize {
        KvPages::page_bytes(kv_type, self.n_kv_heads, self.head_dim).saturating_mul(self.n_layers)
    }
}

impl KvPool {
    /// A pool of `n_pages` pages for `model`.
    ///
    /// # Errors
    /// [`ForwardError::OutOfMemory`] when `n_pages` is beyond what page ids can name or the system lets be reserved.
    pub fn new(model: &Model, kv_type: KvType, n_pages: usize) -> Result<Self, ForwardError> {
        let spec = model.spec();
        let bytes = model.kv_bytes_per_page(kv_type).saturating_mul(n_pages);
        let out_of_memory = || ForwardError::OutOfMemory { what: "the KV pool", bytes };
        if u32::try_from(n_pages).is_err() || isize::try_from(bytes).is_err() {
            return Err(out_of_memory());
        }
        let layer = |_| KvPages::new(kv_type, n_pages, spec.n_kv_heads, spec.head_dim).map_err(|_| out_of_memory());
        let layers = (0..spec.n_layers()).map(layer).collect::<Result<_, _>>()?;
        Ok(Self { layers, shape: KvShape::of(spec), n_pages })
    }

    /// Pages that the pool may hold; ids below this are valid.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut KvPages {
        &mut self.layers[layer]
    }

    pub(crate) fn fits(&self, spec: &ArchSpec) -> bool {
        self.shape == KvShape::of(spec)
    }
}

impl Model {
    /// Bytes that one page takes in a [`KvPool`], over all layers.
    #[must_use]
    pub fn kv_bytes_per_page(&self, kv_type: KvType) -> usize {
        KvShape::of(self.spec()).bytes_per_page(kv_type)
    }
}
