//! The keys and values of one layer, in pages of 16 tokens.
//!
//! Keys lie as `[page][kv_head][head_dim][16 tokens]`, so that one vector lane is one key and scores need no horizontal
//! sums; values as `[page][kv_head][16 tokens][head_dim]`, so that one lane is one output element. A value row is padded
//! to whole vectors with zeros where `head_dim` is not a multiple of 16.

use thiserror::Error;

use super::zeroed::{Plain, Zeroed};
use crate::Cpu;
use crate::cpu::SendPtr;
use crate::isa::{Isa, LANES, dispatch};
use crate::ops::load_chunk;

/// Tokens of a page.
pub const PAGE_TOKENS: usize = 16;

/// Fewer elements than this are written by the calling thread alone.
const SHARED_WRITE: usize = 1 << 13;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KvType {
    /// IEEE half precision.
    #[default]
    F16,
    /// Single precision.
    F32,
}

impl KvType {
    /// Bytes of an element.
    #[must_use]
    pub fn n_bytes(self) -> usize {
        match self {
            KvType::F16 => 2,
            KvType::F32 => 4,
        }
    }
}

/// Why pages could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KvError {
    /// A dimension is zero or the size does not fit the address space.
    #[error("{n_pages} pages of {n_kv_heads} heads x {head_dim} cannot be made: dimensions must be positive and fit")]
    Shape {
        /// Pages asked for.
        n_pages: usize,
        /// Key-value heads.
        n_kv_heads: usize,
        /// Elements of a head.
        head_dim: usize,
    },
    /// There is not so much memory.
    #[error("no memory for {n_bytes} bytes of keys and values: use fewer pages")]
    OutOfMemory {
        /// Bytes asked for.
        n_bytes: usize,
    },
}

/// Pages of keys and values of one layer. Which page belongs to whom is the caller's business.
#[derive(Debug)]
pub struct KvPages {
    shape: KvShape,
    n_pages: usize,
    pub(super) store: KvStore,
}

/// The dimensions that a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KvShape {
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
}

#[derive(Debug)]
pub(super) enum KvStore {
    F16(KvBuffers<u16>),
    F32(KvBuffers<f32>),
}

#[derive(Debug)]
pub(super) struct KvBuffers<E: Plain> {
    pub(super) k: Zeroed<E>,
    pub(super) v: Zeroed<E>,
}

/// An element as stored.
pub(super) trait KvElement: Plain {
    const ZERO: Self;

    fn load<S: Isa>(s: S, x: &[Self]) -> S::F;
    fn store<S: Isa>(s: S, v: S::F, out: &mut [Self]);

    /// The same elements as f32, in `buffer` where they are not stored so.
    fn widen<'a, S: Isa>(s: S, x: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32];
}

impl KvElement for u16 {
    const ZERO: u16 = 0;

    #[inline(always)]
    fn load<S: Isa>(s: S, x: &[u16]) -> S::F {
        s.load_f16(x)
    }
    #[inline(always)]
    fn store<S: Isa>(s: S, v: S::F, out: &mut [u16]) {
        s.store_f16(v, out);
    }
    #[inline(always)]
    fn widen<'a, S: Isa>(s: S, x: &'a [u16], buffer: &'a mut [f32]) -> &'a [f32] {
        let buffer = &mut buffer[..x.len()];
        for (x, wide) in x.chunks_exact(LANES).zip(buffer.chunks_exact_mut(LANES)) {
            s.store(s.load_f16(x), wide);
        }
        buffer
    }
}

impl KvElement for f32 {
    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn load<S: Isa>(s: S, x: &[f32]) -> S::F {
        s.load(x)
    }
    #[inline(always)]
    fn store<S: Isa>(s: S, v: S::F, out: &mut [f32]) {
        s.store(v, out);
    }
    #[inline(always)]
    fn widen<'a, S: Isa>(_: S, x: &'a [f32], _: &'a mut [f32]) -> &'a [f32] {
        x
    }
}

impl KvShape {
    /// Elements from one value row to the next: `head_dim` in whole vectors.
    pub(super) fn v_stride(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Elements of one head's keys in one page.
    pub(super) fn k_block(self) -> usize {
        self.head_dim * PAGE_TOKENS
    }

    /// Elements of one head's values in one page.
    pub(super) fn v_block(self) -> usize {
        self.v_stride() * PAGE_TOKENS
    }

    /// The number of (keys, values) in `n_pages`, if it and its bytes fit.
    fn n_elements(self, n_pages: usize) -> Option<(usize, usize)> {
        let heads = n_pages.checked_mul(self.n_kv_heads)?.checked_mul(PAGE_TOKENS)?;
        let k = heads.checked_mul(self.head_dim)?;
        let v = heads.checked_mul(self.head_dim.checked_next_multiple_of(LANES)?)?;
        k.checked_add(v)?.checked_mul(size_of::<f32>())?;
        Some((k, v))
    }
}

impl<E: KvElement> KvBuffers<E> {
    fn new((k, v): (usize, usize)) -> Option<Self> {
        Some(Self { k: Zeroed::new(k)?, v: Zeroed::new(v)? })
    }

    fn grow(&mut self, n_elements: (usize, usize)) -> Option<()> {
        let mut grown = Self::new(n_elements)?;
        grown.k[..self.k.len()].copy_from_slice(&self.k);
        grown.v[..self.v.len()].copy_from_slice(&self.v);
        *self = grown;
        Some(())
    }

    fn copy_page(&mut self, shape: KvShape, from: usize, to: usize) {
        let (k, v) = (shape.n_kv_heads * shape.k_block(), shape.n_kv_heads * shape.v_block());
        self.k.copy_within(from * k..(from + 1) * k, to * k);
        self.v.copy_within(from * v..(from + 1) * v, to * v);
    }

    /// Writes all rows; the items are (head, 16 elements of it), so that no two touch the same memory whatever the
    /// slots are.
    fn write(&mut self, cpu: &Cpu, shape: KvShape, rows: &Rows<'_>) {
        let n_chunks = shape.head_dim.div_ceil(LANES);
        let n_items = shape.n_kv_heads * n_chunks;
        let target = Target {
            shape,
            k: SendPtr(self.k.as_mut_ptr()),
            v: SendPtr(self.v.as_mut_ptr()),
            lens: (self.k.len(), self.v.len()),
        };
        let write = |item| write_chunk::<E>(cpu.isa(), &target, rows, item / n_chunks, item % n_chunks);
        if rows.k.len() < SHARED_WRITE { (0..n_items).for_each(write) } else { cpu.for_each(n_items, write) }
    }
}

/// New rows and where they go.
struct Rows<'a> {
    slots: &'a [(u32, u8)],
    /// `[rows][n_kv_heads * head_dim]`, as `v`.
    k: &'a [f32],
    v: &'a [f32],
}

/// The buffers that several items write at once.
struct Target<E> {
    shape: KvShape,
    k: SendPtr<E>,
    v: SendPtr<E>,
    /// Elements behind the two pointers.
    lens: (usize, usize),
}

dispatch! {
    fn write_chunk[E: KvElement][E](target: &Target<E>, rows: &Rows<'_>, head: usize, chunk: usize) = write_kernel;
}

#[inline(always)]
fn write_kernel<S: Isa, E: KvElement>(s: S, target: &Target<E>, rows: &Rows<'_>, head: usize, chunk: usize) {
    let shape = target.shape;
    let width = shape.n_kv_heads * shape.head_dim;
    let first = chunk * LANES;
    let n = LANES.min(shape.head_dim - first);
    let mut lanes = [E::ZERO; LANES];
    for (row, &(page, offset)) in rows.slots.iter().enumerate() {
        let from = row * width + head * shape.head_dim + first;
        let block = page as usize * shape.n_kv_heads + head;
        let offset = usize::from(offset);

        E::store(s, load_chunk(s, &rows.k[from..from + n], 0.0), &mut lanes);
        let to = block * shape.k_block() + first * PAGE_TOKENS + offset;
        assert!(to + (n - 1) * PAGE_TOKENS < target.lens.0);
        for (i, &x) in lanes[..n].iter().enumerate() {
            // SAFETY: within the buffer (checked above), which the caller of `write` has borrowed mutably; other items
            // write other heads or other elements of the head.
            unsafe { target.k.get().add(to + i * PAGE_TOKENS).write(x) };
        }

        E::store(s, load_chunk(s, &rows.v[from..from + n], 0.0), &mut lanes);
        let to = block * shape.v_block() + offset * shape.v_stride() + first;
        assert!(to + LANES <= target.lens.1);
        // SAFETY: as above; the padding after the last elements of a head belongs to the same item.
        unsafe { target.v.get().add(to).copy_from_nonoverlapping(lanes.as_ptr(), LANES) };
    }
}

impl KvPages {
    /// `n_pages` pages of zeros.
    ///
    /// # Errors
    /// When a dimension is zero or too large, or memory is short.
    pub fn new(ty: KvType, n_pages: usize, n_kv_heads: usize, head_dim: usize) -> Result<Self, KvError> {
        let shape = KvShape { n_kv_heads, head_dim };
        let n = Self::checked(shape, n_pages)?;
        let store = match ty {
            KvType::F16 => KvBuffers::new(n).map(KvStore::F16),
            KvType::F32 => KvBuffers::new(n).map(KvStore::F32),
        };
        let store = store.ok_or(KvError::OutOfMemory { n_bytes: (n.0 + n.1) * ty.n_bytes() })?;
        Ok(Self { shape, n_pages, store })
    }

    fn checked(shape: KvShape, n_pages: usize) -> Result<(usize, usize), KvError> {
        let KvShape { n_kv_heads, head_dim } = shape;
        let n = if n_kv_heads == 0 || head_dim == 0 { None } else { shape.n_elements(n_pages) };
        n.ok_or(KvError::Shape { n_pages, n_kv_heads, head_dim })
    }

    /// How elements are stored.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        match self.store {
            KvStore::F16(_) => KvType::F16,
            KvStore::F32(_) => KvType::F32,
        }
    }

    /// Pages there are.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Key-value heads.
    #[must_use]
    pub fn n_kv_heads(&self) -> usize {
        self.shape.n_kv_heads
    }

    /// Elements of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.shape.head_dim
    }

    /// Bytes of all pages.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.n_pages * Self::page_bytes(self.kv_type(), self.shape.n_kv_heads, self.shape.head_dim)
    }

    /// Bytes of one page of these dimensions, keys and values together; saturates where they are absurd.
    #[must_use]
    pub fn page_bytes(ty: KvType, n_kv_heads: usize, head_dim: usize) -> usize {
        let n = KvShape { n_kv_heads, head_dim }.n_elements(1);
        n.map_or(usize::MAX, |(k, v)| (k + v) * ty.n_bytes())
    }

    pub(super) fn shape(&self) -> KvShape {
        self.shape
    }

    /// Makes the pool at least `n_pages` large; what was there stays, new pages are zeros.
    ///
    /// # Errors
    /// As [`KvPages::new`]; the pool is as it was then.
    pub fn grow(&mut self, n_pages: usize) -> Result<(), KvError> {
        if n_pages <= self.n_pages {
            return Ok(());
        }
        let n = Self::checked(self.shape, n_pages)?;
        let n_bytes = (n.0 + n.1) * self.kv_type().n_bytes();
        match &mut self.store {
            KvStore::F16(buffers) => buffers.grow(n),
            KvStore::F32(buffers) => buffers.grow(n),
        }
        .ok_or(KvError::OutOfMemory { n_bytes })?;
        self.n_pages = n_pages;
        Ok(())
    }

    /// Makes page `to` a copy of page `from`.
    ///
    /// # Panics
    /// When one of them does not exist.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let (from, to) = (from as usize, to as usize);
        assert!(from.max(to) < self.n_pages, "page {from} or {to} is not among {}", self.n_pages);
        match &mut self.store {
            KvStore::F16(buffers) => buffers.copy_page(self.shape, from, to),
            KvStore::F32(buffers) => buffers.copy_page(self.shape, from, to),
        }
    }

    /// Stores row `i` of `k` and `v`, `[rows][n_kv_heads * head_dim]` each, at `slots[i]`: a page and the token's
    /// offset in it.
    ///
    /// # Panics
    /// When a length does not fit the slots or a slot does not exist.
    pub fn write(&mut self, cpu: &Cpu, slots: &[(u32, u8)], k: &[f32], v: &[f32]) {
        let n = slots.len() * self.shape.n_kv_heads * self.shape.head_dim;
        assert!(k.len() == n && v.len() == n, "{} slots need {n} keys and values", slots.len());
        for &(page, offset) in slots {
            let exists = (page as usize) < self.n_pages && usize::from(offset) < PAGE_TOKENS;
            assert!(exists, "slot ({page}, {offset}) is not among {} pages of {PAGE_TOKENS}", self.n_pages);
        }
        let rows = Rows { slots, k, v };
        match &mut self.store {
            KvStore::F16(buffers) => buffers.write(cpu, self.shape, &rows),
            KvStore::F32(buffers) => buffers.write(cpu, self.shape, &rows),
        }
    }
}
