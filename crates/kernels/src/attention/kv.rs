//! The keys and values of one layer, in pages of 16 tokens.
//!
//! Keys lie as `[page][kv_head][head_dim][16 tokens]`, so that one vector lane is one key and scores need no horizontal
//! sums; values as `[page][kv_head][16 tokens][head_dim]`, so that one lane is one output element. A value row is padded
//! to whole vectors with zeros where `head_dim` is not a multiple of 16. Elements of 8 bits come with scales, one for each
//! token's keys of a head and one for its values: `[page][kv_head][16 tokens]`.

use thiserror::Error;

use super::zeroed::{Plain, Zeroed};
use crate::Cpu;
use crate::cpu::SendPtr;
use crate::isa::{Isa, LANES, dispatch};
use crate::ops::load_chunk;
use crate::quantize::quants;

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
    /// Signed 8-bit integers of `largest magnitude / 127` each, per token and head.
    I8,
}

impl KvType {
    /// Bytes of an element.
    fn n_bytes(self) -> usize {
        match self {
            KvType::I8 => 1,
            KvType::F16 => 2,
            KvType::F32 => 4,
        }
    }

    /// Bytes of the scales of one head in one page, keys and values together.
    fn scale_bytes(self) -> usize {
        match self {
            KvType::I8 => 2 * PAGE_TOKENS * size_of::<f32>(),
            KvType::F16 | KvType::F32 => 0,
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
    I8(KvBuffers<u8>),
}

/// Does the same with the buffers of whatever type they are.
macro_rules! with_buffers {
    ($store:expr, $buffers:ident => $then:expr) => {
        match $store {
            KvStore::F16($buffers) => $then,
            KvStore::F32($buffers) => $then,
            KvStore::I8($buffers) => $then,
        }
    };
}
pub(super) use with_buffers;

#[derive(Debug)]
pub(super) struct KvBuffers<E: Plain> {
    pub(super) k: Zeroed<E>,
    pub(super) v: Zeroed<E>,
    /// Empty where elements are not scaled.
    pub(super) k_scales: Zeroed<f32>,
    pub(super) v_scales: Zeroed<f32>,
}

/// An element as stored.
pub(super) trait KvElement: Plain {
    const ZERO: Self;
    /// What is stored is to be multiplied by its token's scale.
    const SCALED: bool = false;

    fn load<S: Isa>(s: S, x: &[Self]) -> S::F;
    /// Stores `v / scale`; `scale` is 1 where elements are not scaled.
    fn store<S: Isa>(s: S, v: S::F, scale: f32, out: &mut [Self]);

    /// The same elements as f32, in `buffer` where they are not stored so.
    #[inline(always)]
    fn widen<'a, S: Isa>(s: S, x: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        let buffer = &mut buffer[..x.len()];
        for (x, wide) in x.chunks_exact(LANES).zip(buffer.chunks_exact_mut(LANES)) {
            s.store(Self::load(s, x), wide);
        }
        buffer
    }
}

impl KvElement for u16 {
    const ZERO: u16 = 0;

    #[inline(always)]
    fn load<S: Isa>(s: S, x: &[u16]) -> S::F {
        s.load_f16(x)
    }
    #[inline(always)]
    fn store<S: Isa>(s: S, v: S::F, _: f32, out: &mut [u16]) {
        s.store_f16(v, out);
    }
}

impl KvElement for f32 {
    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn load<S: Isa>(s: S, x: &[f32]) -> S::F {
        s.load(x)
    }
    #[inline(always)]
    fn store<S: Isa>(s: S, v: S::F, _: f32, out: &mut [f32]) {
        s.store(v, out);
    }
    #[inline(always)]
    fn widen<'a, S: Isa>(_: S, x: &'a [f32], _: &'a mut [f32]) -> &'a [f32] {
        x
    }
}

/// The bits of an `i8`.
impl KvElement for u8 {
    const ZERO: u8 = 0;
    const SCALED: bool = true;

    #[inline(always)]
    fn load<S: Isa>(s: S, x: &[u8]) -> S::F {
        s.to_f32(s.widen_i8(x))
    }
    #[inline(always)]
    fn store<S: Isa>(s: S, v: S::F, scale: f32, out: &mut [u8]) {
        let words = if scale > 0.0 { s.pack_i8(quants(s, v, scale), s.splat_i(0)) } else { [0; 8] };
        for (out, word) in out[..LANES].as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *out = word.to_le_bytes();
        }
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
    fn new(shape: KvShape, n_pages: usize) -> Option<Self> {
        let (k, v) = shape.n_elements(n_pages)?;
        let scales = if E::SCALED { n_pages * shape.n_kv_heads * PAGE_TOKENS } else { 0 };
        Some(Self {
            k: Zeroed::new(k)?,
            v: Zeroed::new(v)?,
            k_scales: Zeroed::new(scales)?,
            v_scales: Zeroed::new(scales)?,
        })
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
            k_scales: SendPtr(self.k_scales.as_mut_ptr()),
            v_scales: SendPtr(self.v_scales.as_mut_ptr()),
            n_scales: self.k_scales.len(),
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
    /// Elements behind `k` and `v`.
    lens: (usize, usize),
    k_scales: SendPtr<f32>,
    v_scales: SendPtr<f32>,
    /// Elements behind each of the two.
    n_scales: usize,
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
        let (mut k_scale, mut v_scale) = (1.0, 1.0);
        if E::SCALED {
            let head = row * width + head * shape.head_dim..row * width + (head + 1) * shape.head_dim;
            (k_scale, v_scale) = (scale(s, &rows.k[head.clone()]), scale(s, &rows.v[head]));
            let at = block * PAGE_TOKENS + offset;
            if chunk == 0 {
                assert!(at < target.n_scales);
                // SAFETY: within the buffers (checked), borrowed mutably as below; only the first chunk's item writes it.
                unsafe {
                    target.k_scales.get().add(at).write(k_scale);
                    target.v_scales.get().add(at).write(v_scale);
                }
            }
        }

        E::store(s, load_chunk(s, &rows.k[from..from + n], 0.0), k_scale, &mut lanes);
        let to = block * shape.k_block() + first * PAGE_TOKENS + offset;
        assert!(to + (n - 1) * PAGE_TOKENS < target.lens.0);
        for (i, &x) in lanes[..n].iter().enumerate() {
            // SAFETY: within the buffer (checked above), which the caller of `write` has borrowed mutably; other items
            // write other heads or other elements of the head.
            unsafe { target.k.get().add(to + i * PAGE_TOKENS).write(x) };
        }

        E::store(s, load_chunk(s, &rows.v[from..from + n], 0.0), v_scale, &mut lanes);
        let to = block * shape.v_block() + offset * shape.v_stride() + first;
        assert!(to + LANES <= target.lens.1);
        // SAFETY: as above; the padding after the last elements of a head belongs to the same item.
        unsafe { target.v.get().add(to).copy_from_nonoverlapping(lanes.as_ptr(), LANES) };
    }
}

/// What one step of a head's 8-bit elements stands for, by the rules of [`crate::quantize`]: 0 where all are zeros, NaN
/// where one is not finite.
#[inline(always)]
fn scale<S: Isa>(s: S, head: &[f32]) -> f32 {
    let (mut max, mut finite) = (s.zero(), u16::MAX);
    for x in head.chunks(LANES) {
        let x = s.abs(load_chunk(s, x, 0.0));
        finite &= s.mask_bits(s.lt(x, s.splat(f32::INFINITY)));
        max = s.max(x, max);
    }
    let max = s.reduce_max(max);
    if finite != u16::MAX {
        f32::NAN
    } else if max < f32::MIN_POSITIVE {
        0.0
    } else {
        max / 127.0
    }
}

impl KvPages {
    /// `n_pages` pages of zeros, which take memory only as they are written.
    ///
    /// # Errors
    /// When a dimension is zero or too large, or memory is short.
    pub fn new(ty: KvType, n_pages: usize, n_kv_heads: usize, head_dim: usize) -> Result<Self, KvError> {
        let shape = KvShape { n_kv_heads, head_dim };
        let n_bytes = Self::checked(shape, ty, n_pages)?;
        let store = match ty {
            KvType::F16 => KvBuffers::new(shape, n_pages).map(KvStore::F16),
            KvType::F32 => KvBuffers::new(shape, n_pages).map(KvStore::F32),
            KvType::I8 => KvBuffers::new(shape, n_pages).map(KvStore::I8),
        };
        let store = store.ok_or(KvError::OutOfMemory { n_bytes })?;
        Ok(Self { shape, n_pages, store })
    }

    /// The bytes of so many pages, if that is a number.
    fn checked(shape: KvShape, ty: KvType, n_pages: usize) -> Result<usize, KvError> {
        let KvShape { n_kv_heads, head_dim } = shape;
        let is_empty = n_kv_heads == 0 || head_dim == 0;
        let n_bytes = if is_empty || shape.n_elements(n_pages).is_none() {
            None
        } else {
            Self::page_bytes(ty, n_kv_heads, head_dim).checked_mul(n_pages)
        };
        n_bytes.ok_or(KvError::Shape { n_pages, n_kv_heads, head_dim })
    }

    /// How elements are stored.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        match self.store {
            KvStore::F16(_) => KvType::F16,
            KvStore::F32(_) => KvType::F32,
            KvStore::I8(_) => KvType::I8,
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
        n.map_or(usize::MAX, |(k, v)| {
            ((k + v) * ty.n_bytes()).saturating_add(n_kv_heads.saturating_mul(ty.scale_bytes()))
        })
    }

    pub(super) fn shape(&self) -> KvShape {
        self.shape
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
        with_buffers!(&mut self.store, buffers => buffers.write(cpu, self.shape, &rows));
    }
}
