//! Attention over paged keys and values.
//!
//! What a query's result is, to the last bit, does not depend on what is computed beside it, on the chunk its tokens
//! came in, nor on the thread count:
//!
//! - A query at position `p` sees the keys `lo..=p`, with `lo = 0`, or `p + 1 - window` where a window is set and that
//!   is more; without a mask it sees all keys of its sequence. Keys outside have no part in the arithmetic.
//! - Positions are cut into absolute segments of 512, the first at position 0. Within a segment the score of a key is
//!   `dot * scale`, the dot product one fma per ascending dimension, then soft-capped where the model does so; `m` is
//!   the largest score, `w = exp(score - m)`, `l` the sum of `w` in 16 partial sums (a key belongs to lane
//!   `position % 16`) and the fixed tree, and `o` the sum of `w * value`, one fma per ascending key.
//! - Keys and values of 8 bits enter as the integers they are: the product with `scale` is multiplied by the key's own
//!   scale, and in `o`, not in `l`, the value's scale multiplies `w`.
//! - The segments that hold visible keys are merged in ascending order: with `m' = max(m, m2)`, `a = exp(m - m')` and
//!   `b = exp(m2 - m')`, `l' = fma(l2, b, l * a)` and `o' = fma(o2, b, o * a)`. The output is `o * (1 / l)`.
//!
//! All queries of a key-value head, and those of several tokens, are computed as one tile so that a page is read once.
//! Where there are fewer tiles than threads could use, the segments of a tile are computed in parallel too.

mod kv;
mod tile;
mod zeroed;

#[cfg(test)]
mod tests;

pub use kv::{KvError, KvPages, KvType, PAGE_TOKENS};

use std::cell::RefCell;

use crate::Cpu;
use crate::cpu::SendPtr;
use kv::{KvBuffers, KvElement, KvShape, KvStore, with_buffers};
use tile::{SEGMENT, Scratch, State, Tile};

/// Most rows (queries times heads) of a tile: its scores then fit the second-level cache.
const MAX_TILE_ROWS: usize = 48;
/// Rows below which smaller tiles, made for the sake of more threads, would cost more than they bring.
const MIN_TILE_ROWS: usize = 24;

/// What the layers' attention has in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttnParams {
    /// Query heads, a multiple of `n_kv_heads`; query head `h` reads key-value head `h / (n_heads / n_kv_heads)`.
    pub n_heads: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Scores are multiplied by this, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// A query sees this many keys at most, its own included.
    pub window: Option<usize>,
    /// Whether a query sees what comes after it.
    pub mask: Mask,
}

/// Whether a query sees what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// No: a decoder's.
    Causal,
    /// Yes: an encoder's, whose sequences come as a whole.
    None,
}

/// Neighbouring queries of one sequence. Their own keys and values must have been written.
#[derive(Debug, Clone, Copy)]
pub struct AttnSeq<'a> {
    /// The sequence's pages from position 0 on. Those that lie before all windows are not looked at.
    pub pages: &'a [u32],
    /// The row of the first query in `q` and `out`.
    pub q_start_row: usize,
    /// Queries, in as many rows.
    pub n_queries: usize,
    /// The position of the first query.
    pub first_pos: usize,
}

impl AttnSeq<'_> {
    /// The position after the last query's.
    fn end(&self) -> usize {
        self.first_pos + self.n_queries
    }
}

/// A few neighbouring queries of one sequence; with a key-value head, a piece of work.
#[derive(Debug, Clone, Copy)]
struct Span {
    seq: usize,
    first_query: usize,
    n_queries: usize,
    /// Segments with keys that one of the queries sees.
    first_segment: usize,
    n_segments: usize,
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes the attention of the queries of all `seqs`; `q` and `out` are `[rows][n_heads * head_dim]`. Rows of `out`
/// that belong to no sequence are left as they are.
///
/// # Panics
/// When the dimensions do not fit each other, a page does not exist, or the sequences' rows are not in `q`, ascending
/// and apart.
pub fn attention(cpu: &Cpu, kv: &KvPages, params: &AttnParams, seqs: &[AttnSeq<'_>], q: &[f32], out: &mut [f32]) {
    check(kv, params, seqs, q, out);
    with_buffers!(&kv.store, kv_buffers => Job { cpu, shape: kv.shape(), kv: kv_buffers, params, seqs, q }.run(out));
}

fn check(kv: &KvPages, p: &AttnParams, seqs: &[AttnSeq<'_>], q: &[f32], out: &[f32]) {
    let (n_kv_heads, head_dim) = (kv.n_kv_heads(), kv.head_dim());
    assert!((p.n_kv_heads, p.head_dim) == (n_kv_heads, head_dim), "pages are of {n_kv_heads} heads x {head_dim}");
    assert!(p.n_heads > 0 && p.n_heads.is_multiple_of(n_kv_heads), "{} heads over {n_kv_heads}", p.n_heads);
    assert!(p.window != Some(0), "a window must let a query see its own key");
    let is_whole = |seq: &AttnSeq<'_>| seq.first_pos == 0;
    assert!(p.mask == Mask::Causal || (p.window.is_none() && seqs.iter().all(is_whole)), "no mask: whole sequences");
    let width = p.n_heads * head_dim;
    assert!(q.len() == out.len() && q.len().is_multiple_of(width), "q and out must be equal rows of {width}");
    let n_rows = q.len() / width;
    let mut next_row = 0;
    for seq in seqs {
        assert!(seq.q_start_row >= next_row, "sequences must come in the order of their rows");
        assert!(seq.n_queries <= n_rows.saturating_sub(seq.q_start_row), "q has only {n_rows} rows");
        next_row = seq.q_start_row + seq.n_queries;
        if seq.n_queries > 0 {
            let end = seq.first_pos.checked_add(seq.n_queries).map(|end| end.div_ceil(PAGE_TOKENS));
            assert!(
                end.is_some_and(|end| end <= seq.pages.len()),
                "{} pages do not reach the queries",
                seq.pages.len()
            );
            let seen = first_visible(seq.first_pos, p.window) / PAGE_TOKENS..seq.end().div_ceil(PAGE_TOKENS);
            let missing = seq.pages[seen].iter().find(|&&page| page as usize >= kv.n_pages());
            assert!(missing.is_none(), "page {missing:?} is not among {}", kv.n_pages());
        }
    }
}

/// The first key that a query sees.
fn first_visible(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// One call of [`attention`] with its element type known.
struct Job<'a, E: KvElement> {
    cpu: &'a Cpu,
    shape: KvShape,
    kv: &'a KvBuffers<E>,
    params: &'a AttnParams,
    seqs: &'a [AttnSeq<'a>],
    q: &'a [f32],
}

impl<E: KvElement> Job<'_, E> {
    /// Query heads per key-value head.
    fn group(&self) -> usize {
        self.params.n_heads / self.params.n_kv_heads
    }

    /// Cuts the sequences into tiles: as large as the cache allows, but several per thread.
    fn spans(&self) -> Vec<Span> {
        let n_queries: usize = self.seqs.iter().map(|seq| seq.n_queries).sum();
        let rows_per_item = n_queries * self.params.n_heads / (4 * self.cpu.n_threads());
        let tokens = (rows_per_item.clamp(MIN_TILE_ROWS, MAX_TILE_ROWS) / self.group()).max(1);
        let mut spans = Vec::new();
        for (index, seq) in self.seqs.iter().enumerate() {
            for first_query in (0..seq.n_queries).step_by(tokens) {
                let n_queries = tokens.min(seq.n_queries - first_query);
                let first_pos = seq.first_pos + first_query;
                let first_segment = first_visible(first_pos, self.params.window) / SEGMENT;
                let last_key = match self.params.mask {
                    Mask::Causal => first_pos + n_queries,
                    Mask::None => seq.end(),
                } - 1;
                let last_segment = last_key / SEGMENT;
                let n_segments = last_segment - first_segment + 1;
                spans.push(Span { seq: index, first_query, n_queries, first_segment, n_segments });
            }
        }
        spans
    }

    fn tile(&self, span: &Span, kv_head: usize) -> Tile<'_, E> {
        let seq = &self.seqs[span.seq];
        let width = self.params.n_heads * self.shape.head_dim;
        let group = self.group();
        let from = (seq.q_start_row + span.first_query) * width + kv_head * group * self.shape.head_dim;
        Tile {
            shape: self.shape,
            kv: self.kv,
            pages: seq.pages,
            kv_head,
            params: self.params,
            group,
            n_queries: span.n_queries,
            first_pos: seq.first_pos + span.first_query,
            n_keys: seq.end(),
            q: &self.q[from..],
            q_offset: from,
        }
    }

    fn run(&self, out: &mut [f32]) {
        let spans = self.spans();
        let n_heads = self.params.n_kv_heads;
        let n_tiles = spans.len() * n_heads;
        let n_segments = spans.iter().map(|span| span.n_segments).sum::<usize>() * n_heads;
        let out = Output { start: SendPtr(out.as_mut_ptr()), len: out.len() };
        let n_threads = self.cpu.n_threads();
        if n_threads > 1 && n_tiles < 4 * n_threads && n_segments > n_tiles {
            self.run_segments(&spans, &out);
        } else {
            // The last tiles of a sequence see the most keys: they go first, so that no thread is left with one.
            self.cpu.for_each(n_tiles, |item| {
                let item = n_tiles - 1 - item;
                self.run_tile(&spans[item / n_heads], item % n_heads, &out);
            });
        }
    }

    /// All segments of one tile, one after the other.
    fn run_tile(&self, span: &Span, kv_head: usize, out: &Output) {
        let tile = self.tile(span, kv_head);
        SCRATCH.with_borrow_mut(|memory| {
            let state_len = State::len(tile.n_rows(), self.shape);
            let total = 2 * state_len + Scratch::len(tile.n_rows(), self.shape);
            if memory.len() < total {
                memory.resize(total, 0.0);
            }
            let (merged, rest) = memory.split_at_mut(state_len);
            let (segment_state, rest) = rest.split_at_mut(state_len);
            let mut merged = State::new(merged, tile.n_rows(), self.shape);
            let mut state = State::new(segment_state, tile.n_rows(), self.shape);
            let mut scratch = Scratch::new(rest, tile.n_rows(), self.shape);
            scratch.pack(&tile);
            for segment in span.first_segment..span.first_segment + span.n_segments {
                tile::segment(self.cpu.isa(), &tile, segment, &mut scratch, &mut state);
                tile::merge(self.cpu.isa(), &tile, segment, &mut merged, &state);
            }
            self.finish(&tile, &merged, out);
        });
    }

    /// All segments of all tiles in parallel, then the merging of each tile.
    fn run_segments(&self, spans: &[Span], out: &Output) {
        let n_heads = self.params.n_kv_heads;
        // (span, head, segment within the span, where its state begins), grouped by tile.
        let mut items = Vec::new();
        let mut tiles = Vec::new();
        let mut total = 0;
        for span in spans {
            let state_len = State::len(span.n_queries * self.group(), self.shape);
            for head in 0..n_heads {
                tiles.push((span, head, total));
                for segment in span.first_segment..span.first_segment + span.n_segments {
                    items.push((span, head, segment, total));
                    total += state_len;
                }
            }
        }
        let mut states = vec![0.0f32; total];
        let shared = SendPtr(states.as_mut_ptr());
        self.cpu.for_each(items.len(), |item| {
            let (span, head, segment, at) = items[item];
            let tile = self.tile(span, head);
            let state_len = State::len(tile.n_rows(), self.shape);
            // SAFETY: `at` and `state_len` were counted above into `total`; each item has its own part of `states`.
            let state = unsafe { std::slice::from_raw_parts_mut(shared.get().add(at), state_len) };
            SCRATCH.with_borrow_mut(|memory| {
                let len = Scratch::len(tile.n_rows(), self.shape);
                if memory.len() < len {
                    memory.resize(len, 0.0);
                }
                let mut scratch = Scratch::new(memory, tile.n_rows(), self.shape);
                scratch.pack(&tile);
                tile::segment(
                    self.cpu.isa(),
                    &tile,
                    segment,
                    &mut scratch,
                    &mut State::new(state, tile.n_rows(), self.shape),
                );
            });
        });
        self.cpu.for_each(tiles.len(), |item| {
            let (span, head, at) = tiles[item];
            let tile = self.tile(span, head);
            let state_len = State::len(tile.n_rows(), self.shape);
            // SAFETY: as above; all segments of a tile belong to one item here.
            let all = unsafe { std::slice::from_raw_parts_mut(shared.get().add(at), state_len * span.n_segments) };
            SCRATCH.with_borrow_mut(|memory| {
                if memory.len() < state_len {
                    memory.resize(state_len, 0.0);
                }
                let mut merged = State::new(memory, tile.n_rows(), self.shape);
                for (i, state) in all.chunks_exact_mut(state_len).enumerate() {
                    let state = State::new(state, tile.n_rows(), self.shape);
                    tile::merge(self.cpu.isa(), &tile, span.first_segment + i, &mut merged, &state);
                }
                self.finish(&tile, &merged, out);
            });
        });
    }

    fn finish(&self, tile: &Tile<'_, E>, merged: &State<'_>, out: &Output) {
        for row in 0..tile.n_rows() {
            let at = tile.q_offset + tile.row_offset(row);
            assert!(at + self.shape.head_dim <= out.len);
            // SAFETY: within `out` (checked), which `attention` has borrowed mutably; each head of each row belongs to
            // one tile, because the sequences' rows are apart (see `check`).
            let head = unsafe { std::slice::from_raw_parts_mut(out.start.get().add(at), self.shape.head_dim) };
            merged.finish(row, head);
        }
    }
}

/// The output that several tiles write at once.
struct Output {
    start: SendPtr<f32>,
    len: usize,
}
