//! The KV pool: pages of keys and values, one set per layer, with page ids shared by all layers.

use bantam_kernels::attention::{KvPages, KvType, PAGE_TOKENS};

use crate::error::ForwardError;
use crate::model::Model;
use crate::spec::ArchSpec;

/// Keys and values of all sequences. A page holds [`PAGE_TOKENS`] positions of one sequence in every layer; who owns
/// which page is the caller's business.
///
/// Memory is taken in steps as higher page ids come into use, up to the number of pages given, so a caller that hands
/// out low ids first pays for what it uses.
#[derive(Debug)]
pub struct KvPool {
    layers: Vec<KvPages>,
    shape: KvShape,
    kv_type: KvType,
    n_pages: usize,
    n_allocated: usize,
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

/// Pages by which a pool grows at least: 4096 positions.
const GROW_PAGES: usize = 4096 / PAGE_TOKENS;

impl KvPool {
    /// A pool of at most `n_pages` pages for `model`.
    ///
    /// # Errors
    /// [`ForwardError::OutOfMemory`] when `n_pages` is beyond what page ids or the address space can name.
    pub fn new(model: &Model, kv_type: KvType, n_pages: usize) -> Result<Self, ForwardError> {
        let spec = model.spec();
        let bytes = model.kv_bytes_per_page(kv_type).checked_mul(n_pages);
        if u32::try_from(n_pages).is_err() || bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return Err(out_of_memory(bytes.unwrap_or(usize::MAX)));
        }
        let layer = |_| KvPages::new(kv_type, 0, spec.n_kv_heads, spec.head_dim).map_err(|_| out_of_memory(0));
        let layers = (0..spec.n_layers()).map(layer).collect::<Result<_, _>>()?;
        Ok(Self { layers, shape: KvShape::of(spec), kv_type, n_pages, n_allocated: 0 })
    }

    /// Pages that the pool may hold; ids below this are valid.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// How keys and values are stored.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Bytes of memory taken so far.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.shape.bytes_per_page(self.kv_type).saturating_mul(self.n_allocated)
    }

    /// Copies page `from` onto page `to` in every layer, for a sequence that is about to write into a page it shares.
    ///
    /// # Errors
    /// [`ForwardError::CopyPage`] for ids outside the pool, [`ForwardError::OutOfMemory`].
    pub fn copy_page(&mut self, from: u32, to: u32) -> Result<(), ForwardError> {
        let last = from.max(to) as usize;
        if last >= self.n_pages {
            return Err(ForwardError::CopyPage { from, to, n_pages: self.n_pages });
        }
        self.reserve(last + 1)?;
        self.layers.iter_mut().for_each(|layer| layer.copy_page(from, to));
        Ok(())
    }

    /// Takes memory for pages `0..n_pages`.
    pub(crate) fn reserve(&mut self, n_pages: usize) -> Result<(), ForwardError> {
        if n_pages <= self.n_allocated {
            return Ok(());
        }
        let target = n_pages.max(self.n_allocated + self.n_allocated / 2 + GROW_PAGES).min(self.n_pages);
        let bytes = self.shape.bytes_per_page(self.kv_type).saturating_mul(target);
        for layer in &mut self.layers {
            layer.grow(target).map_err(|_| out_of_memory(bytes))?;
        }
        self.n_allocated = target;
        Ok(())
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

fn out_of_memory(bytes: usize) -> ForwardError {
    ForwardError::OutOfMemory { what: "the KV pool", bytes }
}
