//! The arithmetic of one tile: the queries of one key-value head at neighbouring positions against one segment.
//!
//! A row is one query head of one token; rows of a token are neighbours. Rows are computed in groups of up to [`GROUP`],
//! which is what the 16 registers of AVX2 hold as accumulators; where there are more registers, two groups go together
//! with two pages. The grouping decides only what is loaded how often.

use super::kv::{KvBuffers, KvElement, KvShape, PAGE_TOKENS};
use super::{AttnParams, Mask, first_visible};
use crate::isa::{Isa, LANES, dispatch};
use crate::math::exp_lanes;
use crate::ops::soft_cap_lanes;

/// Keys that are exponentiated against one maximum. Part of the arithmetic, see the module above.
pub(super) const SEGMENT: usize = 512;

/// From one row's scores to the next's: not a power of two, so that one page of all rows fits the first-level cache.
const SCORE_STRIDE: usize = SEGMENT + LANES;

/// Rows whose accumulators fit the register file.
const GROUP: usize = 6;

const PAGES_PER_SEGMENT: usize = SEGMENT / PAGE_TOKENS;
const _: () = assert!(PAGE_TOKENS == LANES && SEGMENT.is_multiple_of(PAGE_TOKENS));

/// Queries and the keys and values they read.
pub(super) struct Tile<'a, E: KvElement> {
    pub(super) shape: KvShape,
    pub(super) kv: &'a KvBuffers<E>,
    /// Of the sequence, from position 0 on.
    pub(super) pages: &'a [u32],
    pub(super) kv_head: usize,
    pub(super) params: &'a AttnParams,
    /// Query heads of this key-value head.
    pub(super) group: usize,
    pub(super) n_queries: usize,
    pub(super) first_pos: usize,
    /// Of the whole sequence.
    pub(super) n_keys: usize,
    /// The call's queries from this tile's first one on.
    pub(super) q: &'a [f32],
    /// Where `q` begins in the call's queries.
    pub(super) q_offset: usize,
}

impl<'a, E: KvElement> Tile<'a, E> {
    pub(super) fn n_rows(&self) -> usize {
        self.n_queries * self.group
    }

    /// Where a row begins in `q`.
    pub(super) fn row_offset(&self, row: usize) -> usize {
        let width = self.params.n_heads * self.shape.head_dim;
        row / self.group * width + row % self.group * self.shape.head_dim
    }

    /// The keys `lo..hi` that a row sees.
    fn visible(&self, row: usize) -> (usize, usize) {
        let position = self.first_pos + row / self.group;
        match self.params.mask {
            Mask::Causal => (first_visible(position, self.params.window), position + 1),
            Mask::None => (0, self.n_keys),
        }
    }

    /// [`Tile::visible`] within a segment and relative to its start; empty ranges have `lo >= hi`.
    fn visible_in(&self, row: usize, segment: usize) -> (usize, usize) {
        let (lo, hi) = self.visible(row);
        (lo.saturating_sub(segment * SEGMENT), hi.saturating_sub(segment * SEGMENT).min(SEGMENT))
    }

    /// Where a page's part of this head comes, among the parts of all heads and pages.
    fn block(&self, page: usize) -> usize {
        self.pages[page] as usize * self.shape.n_kv_heads + self.kv_head
    }

    /// One page's keys, `[head_dim][16 tokens]`.
    fn k_page(&self, page: usize) -> &'a [E] {
        &self.kv.k[self.block(page) * self.shape.k_block()..][..self.shape.k_block()]
    }

    /// One page's values, `[16 tokens][v_stride]`.
    fn v_page(&self, page: usize) -> &'a [E] {
        &self.kv.v[self.block(page) * self.shape.v_block()..][..self.shape.v_block()]
    }

    /// The scales of one page's keys and of its values, where there are scales.
    fn scales(&self, page: usize) -> [&'a [f32]; 2] {
        let at = self.block(page) * PAGE_TOKENS;
        [&self.kv.k_scales[at..at + PAGE_TOKENS], &self.kv.v_scales[at..at + PAGE_TOKENS]]
    }
}

/// What a tile needs while it works on one segment.
pub(super) struct Scratch<'a> {
    /// The queries in groups: `[head_dim][rows of the group]` each.
    q: &'a mut [f32],
    /// `[rows][SCORE_STRIDE]`: scaled dot products, then weights.
    scores: &'a mut [f32],
    /// Two pages as f32.
    pages: &'a mut [f32],
}

impl<'a> Scratch<'a> {
    pub(super) fn len(n_rows: usize, shape: KvShape) -> usize {
        n_rows * (shape.head_dim + SCORE_STRIDE) + 2 * shape.v_block()
    }

    pub(super) fn new(memory: &'a mut [f32], n_rows: usize, shape: KvShape) -> Self {
        let (q, rest) = memory.split_at_mut(n_rows * shape.head_dim);
        let (scores, rest) = rest.split_at_mut(n_rows * SCORE_STRIDE);
        Self { q, scores, pages: &mut rest[..2 * shape.v_block()] }
    }

    /// Brings the tile's queries into the order in which the score kernel reads them.
    pub(super) fn pack<E: KvElement>(&mut self, tile: &Tile<'_, E>) {
        let (n_rows, head_dim) = (tile.n_rows(), tile.shape.head_dim);
        for first in (0..n_rows).step_by(GROUP) {
            let n = GROUP.min(n_rows - first);
            let packed = &mut self.q[first * head_dim..][..n * head_dim];
            for i in 0..n {
                let q = &tile.q[tile.row_offset(first + i)..][..head_dim];
                for (packed, &q) in packed[i..].iter_mut().step_by(n).zip(q) {
                    *packed = q;
                }
            }
        }
    }
}

/// The sums of each row, of a segment or of several merged.
pub(super) struct State<'a> {
    /// `[rows]`
    max: &'a mut [f32],
    /// `[rows]`
    sum: &'a mut [f32],
    /// `[rows][v_stride]`
    out: &'a mut [f32],
    v_stride: usize,
}

impl<'a> State<'a> {
    pub(super) fn len(n_rows: usize, shape: KvShape) -> usize {
        n_rows * (shape.v_stride() + 2)
    }

    pub(super) fn new(memory: &'a mut [f32], n_rows: usize, shape: KvShape) -> Self {
        let (max, rest) = memory.split_at_mut(n_rows);
        let (sum, rest) = rest.split_at_mut(n_rows);
        Self { max, sum, out: &mut rest[..n_rows * shape.v_stride()], v_stride: shape.v_stride() }
    }

    /// The attention output of a row.
    pub(super) fn finish(&self, row: usize, out: &mut [f32]) {
        let inverse = 1.0 / self.sum[row];
        for (out, &sum) in out.iter_mut().zip(&self.out[row * self.v_stride..]) {
            *out = sum * inverse;
        }
    }
}

dispatch! {
    /// The sums of all rows over one segment, from scratch. Rows that see nothing there are left undefined.
    pub(super) fn segment[E: KvElement][E](tile: &Tile<'_, E>, segment: usize, scratch: &mut Scratch<'_>, state: &mut State<'_>) = segment_kernel;
}
dispatch! {
    /// Adds a segment's sums to those of the segments before it.
    pub(super) fn merge[E: KvElement][E](tile: &Tile<'_, E>, segment: usize, into: &mut State<'_>, from: &State<'_>) = merge_kernel;
}

#[inline(always)]
fn segment_kernel<S: Isa, E: KvElement>(
    s: S,
    tile: &Tile<'_, E>,
    segment: usize,
    scratch: &mut Scratch<'_>,
    state: &mut State<'_>,
) {
    let n_rows = tile.n_rows();
    // Both ends grow with the row's position.
    let lo = tile.visible_in(0, segment).0;
    let hi = tile.visible_in(n_rows - 1, segment).1;
    let pages = lo / PAGE_TOKENS..hi.div_ceil(PAGE_TOKENS);
    if n_rows <= GROUP {
        scores_of_few(s, tile, segment, pages.clone(), scratch);
    } else {
        scores_of_many(s, tile, segment, pages.clone(), scratch);
    }
    for row in 0..n_rows {
        let (lo, hi) = tile.visible_in(row, segment);
        if lo < hi {
            let scores = &mut scratch.scores[row * SCORE_STRIDE..][..SEGMENT];
            let seen = lo / PAGE_TOKENS..hi.div_ceil(PAGE_TOKENS);
            if E::SCALED {
                scale_scores(s, scores, seen.clone(), |page| tile.scales(segment * PAGES_PER_SEGMENT + page)[0]);
            }
            (state.max[row], state.sum[row]) = exponentiate(s, tile.params.soft_cap, scores, lo, hi);
            if E::SCALED {
                scale_scores(s, scores, seen, |page| tile.scales(segment * PAGES_PER_SEGMENT + page)[1]);
            }
        }
    }
    state.out.fill(0.0);
    for page in pages {
        let stored = tile.v_page(segment * PAGES_PER_SEGMENT + page);
        if n_rows <= GROUP {
            page_values(s, tile, segment, page, stored, scratch.scores, state);
        } else {
            let wide = E::widen(s, stored, scratch.pages);
            page_values(s, tile, segment, page, wide, scratch.scores, state);
        }
    }
}

/// Scores of a single group: several pages at once where the group alone does not keep the arithmetic units busy.
#[inline(always)]
fn scores_of_few<S: Isa, E: KvElement>(
    s: S,
    tile: &Tile<'_, E>,
    segment: usize,
    pages: std::ops::Range<usize>,
    scratch: &mut Scratch<'_>,
) {
    let n_rows = tile.n_rows();
    let at_once = match (n_rows, S::WIDE) {
        (1, false) | (2..=4, true) => 4,
        (1, true) => 8,
        (2, false) | (_, true) => 2,
        _ => 1,
    };
    let (params, q) = (tile.params, &*scratch.q);
    let mut page = pages.start;
    while page < pages.end {
        let first = segment * PAGES_PER_SEGMENT + page;
        let n = if pages.end - page >= at_once { at_once } else { 1 };
        // Pages lie anywhere: the hardware does not guess where the next ones are, nor that the values follow.
        for next in page..pages.end.min(page + n) {
            let next = segment * PAGES_PER_SEGMENT + next;
            prefetch_page(s, tile.v_page(next));
            if next + n < (segment * PAGES_PER_SEGMENT) + pages.end {
                prefetch_page(s, tile.k_page(next + n));
            }
        }
        let scores = &mut scratch.scores[page * PAGE_TOKENS..];
        match (n_rows, n) {
            (1, 8) => score_block::<S, E, 1, 8>(s, params, q, k_pages(tile, first), scores),
            (1, 4) => score_block::<S, E, 1, 4>(s, params, q, k_pages(tile, first), scores),
            (2, 4) => score_block::<S, E, 2, 4>(s, params, q, k_pages(tile, first), scores),
            (2, 2) => score_block::<S, E, 2, 2>(s, params, q, k_pages(tile, first), scores),
            (3, 4) => score_block::<S, E, 3, 4>(s, params, q, k_pages(tile, first), scores),
            (4, 4) => score_block::<S, E, 4, 4>(s, params, q, k_pages(tile, first), scores),
            (5, 2) => score_block::<S, E, 5, 2>(s, params, q, k_pages(tile, first), scores),
            (GROUP, 2) => score_block::<S, E, GROUP, 2>(s, params, q, k_pages(tile, first), scores),
            (rows, _) => score_page(s, params, q, rows, tile.k_page(first), scores),
        }
        page += n;
    }
}

/// Neighbouring pages of keys.
#[inline(always)]
fn k_pages<'a, E: KvElement, const P: usize>(tile: &Tile<'a, E>, first: usize) -> [&'a [E]; P] {
    let mut pages = [tile.k_page(first); P];
    for p in 1..P {
        pages[p] = tile.k_page(first + p);
    }
    pages
}

/// Asks for a page's keys or values, or for their first 2 KiB: what follows the hardware guesses.
#[inline(always)]
fn prefetch_page<S: Isa, E: KvElement>(s: S, x: &[E]) {
    for at in (0..size_of_val(x).min(2048)).step_by(64) {
        s.prefetch(x, at);
    }
}

/// Scores of several groups: each page is widened once for all of them.
#[inline(always)]
fn scores_of_many<S: Isa, E: KvElement>(
    s: S,
    tile: &Tile<'_, E>,
    segment: usize,
    pages: std::ops::Range<usize>,
    scratch: &mut Scratch<'_>,
) {
    let (n_rows, head_dim) = (tile.n_rows(), tile.shape.head_dim);
    // Keys that one of the rows sees, of all pages.
    let seen =
        |rows: std::ops::Range<usize>| tile.visible_in(rows.start, segment).0..tile.visible_in(rows.end - 1, segment).1;
    let mut page = pages.start;
    while page < pages.end {
        let first_page = segment * PAGES_PER_SEGMENT + page;
        let (k, rest) = scratch.pages.split_at_mut(tile.shape.v_block());
        let k = E::widen(s, tile.k_page(first_page), k);
        let is_pair = S::WIDE && page + 1 < pages.end;
        let next = if is_pair { E::widen(s, tile.k_page(first_page + 1), rest) } else { k };
        let is_seen = |rows, page: usize| {
            let seen = seen(rows);
            page * PAGE_TOKENS < seen.end && (page + 1) * PAGE_TOKENS > seen.start
        };
        let mut first = 0;
        while first < n_rows {
            let n = GROUP.min(n_rows - first);
            let q = &scratch.q[first * head_dim..];
            let scores = &mut scratch.scores[first * SCORE_STRIDE + page * PAGE_TOKENS..];
            let pair = first..first + 2 * GROUP;
            if is_pair && pair.end <= n_rows && is_seen(pair.clone(), page) && is_seen(pair.clone(), page + 1) {
                score_pairs(s, tile.params, q, [k, next], scores);
                first = pair.end;
                continue;
            }
            if is_seen(first..first + n, page) {
                score_page(s, tile.params, q, n, k, scores);
            }
            if is_pair && is_seen(first..first + n, page + 1) {
                score_page(s, tile.params, q, n, next, &mut scores[PAGE_TOKENS..]);
            }
            first += n;
        }
        page += if is_pair { 2 } else { 1 };
    }
}

/// Two full groups against two pages.
#[inline(always)]
fn score_pairs<S: Isa, E: KvElement>(s: S, params: &AttnParams, q: &[f32], k: [&[E]; 2], scores: &mut [f32]) {
    let mut sums = [[s.zero(); 2]; 2 * GROUP];
    let (q, next) = q.split_at(GROUP * params.head_dim);
    let (q, next) = (q.as_chunks::<GROUP>().0, &next.as_chunks::<GROUP>().0[..params.head_dim]);
    for (d, (q, next)) in q.iter().zip(next).enumerate() {
        let k = [E::load(s, &k[0][d * PAGE_TOKENS..]), E::load(s, &k[1][d * PAGE_TOKENS..])];
        for r in 0..GROUP {
            let (q, next) = (s.splat(q[r]), s.splat(next[r]));
            for p in 0..2 {
                sums[r][p] = s.fma(q, k[p], sums[r][p]);
                sums[GROUP + r][p] = s.fma(next, k[p], sums[GROUP + r][p]);
            }
        }
    }
    store_scaled(s, params.scale, &sums, scores);
}

/// One page against a group of `n` rows.
#[inline(always)]
fn score_page<S: Isa, E: KvElement>(s: S, params: &AttnParams, q: &[f32], n: usize, k: &[E], scores: &mut [f32]) {
    match n {
        1 => score_block::<S, E, 1, 1>(s, params, q, [k], scores),
        2 => score_block::<S, E, 2, 1>(s, params, q, [k], scores),
        3 => score_block::<S, E, 3, 1>(s, params, q, [k], scores),
        4 => score_block::<S, E, 4, 1>(s, params, q, [k], scores),
        5 => score_block::<S, E, 5, 1>(s, params, q, [k], scores),
        _ => score_block::<S, E, GROUP, 1>(s, params, q, [k], scores),
    }
}

/// `R` rows of a group against `P` pages.
#[inline(always)]
fn score_block<S: Isa, E: KvElement, const R: usize, const P: usize>(
    s: S,
    params: &AttnParams,
    q: &[f32],
    k: [&[E]; P],
    scores: &mut [f32],
) {
    let mut sums = [[s.zero(); P]; R];
    let (q, _) = q.as_chunks::<R>();
    for (d, q) in q[..params.head_dim].iter().enumerate() {
        for p in 0..P {
            let k = E::load(s, &k[p][d * PAGE_TOKENS..]);
            for r in 0..R {
                sums[r][p] = s.fma(s.splat(q[r]), k, sums[r][p]);
            }
        }
    }
    store_scaled(s, params.scale, &sums, scores);
}

/// Row `r` of page `p` goes to `scores[r * SCORE_STRIDE + p * PAGE_TOKENS..]`.
#[inline(always)]
fn store_scaled<S: Isa, const R: usize, const P: usize>(s: S, scale: f32, sums: &[[S::F; P]; R], scores: &mut [f32]) {
    let scale = s.splat(scale);
    for r in 0..R {
        for p in 0..P {
            s.store(s.mul(sums[r][p], scale), &mut scores[r * SCORE_STRIDE + p * PAGE_TOKENS..]);
        }
    }
}

/// Multiplies the scores or weights of some pages of a row by the scales of their keys or values.
#[inline(always)]
fn scale_scores<'a, S: Isa>(
    s: S,
    scores: &mut [f32],
    pages: std::ops::Range<usize>,
    scales: impl Fn(usize) -> &'a [f32],
) {
    for page in pages {
        let scores = &mut scores[page * PAGE_TOKENS..];
        s.store(s.mul(s.load(scores), s.load(scales(page))), scores);
    }
}

/// Turns the scaled dot products `lo..hi` of a row into weights, the others of the same pages into zeros; gives the largest
/// score and the sum of the weights.
#[inline(always)]
fn exponentiate<S: Isa>(s: S, soft_cap: Option<f32>, scores: &mut [f32], lo: usize, hi: usize) -> (f32, f32) {
    let hidden = s.splat(f32::NEG_INFINITY);
    let first = lo / LANES * LANES;
    let end = hi.next_multiple_of(LANES);
    if let Some(cap) = soft_cap {
        for scores in scores[first..end].chunks_exact_mut(LANES) {
            s.store(soft_cap_lanes(s, s.load(scores), s.splat(cap)), scores);
        }
    }
    // Only the first and the last vector can hold keys that are out of sight.
    scores[first..lo].fill(f32::NEG_INFINITY);
    scores[hi..end].fill(f32::NEG_INFINITY);
    let scores = &mut scores[first..end];
    // Several, so that one does not wait for the other.
    let mut maxima = [hidden; 4];
    for (i, scores) in scores.chunks_exact(LANES).enumerate() {
        maxima[i % 4] = s.max(s.load(scores), maxima[i % 4]);
    }
    let max = s.reduce_max(s.max(s.max(maxima[0], maxima[1]), s.max(maxima[2], maxima[3])));
    let mut sum = s.zero();
    for scores in scores.chunks_exact_mut(LANES) {
        let weight = exp_lanes(s, s.sub(s.load(scores), s.splat(max)));
        sum = s.add(sum, weight);
        s.store(weight, scores);
    }
    (max, s.reduce_sum(sum))
}

/// Adds one page's values to all rows that see it.
#[inline(always)]
fn page_values<S: Isa, E: KvElement, V: KvElement>(
    s: S,
    tile: &Tile<'_, E>,
    segment: usize,
    page: usize,
    v: &[V],
    weights: &[f32],
    state: &mut State<'_>,
) {
    let start = page * PAGE_TOKENS;
    // The keys of this page that a row sees, relative to the page.
    let seen = |row| {
        let (lo, hi) = tile.visible_in(row, segment);
        (lo.saturating_sub(start), hi.saturating_sub(start).min(PAGE_TOKENS))
    };
    let n_rows = tile.n_rows();
    let v_stride = state.v_stride;
    let mut first = 0;
    while first < n_rows {
        let (lo, hi) = seen(first);
        let mut n = 1;
        while n < GROUP && first + n < n_rows && seen(first + n) == (lo, hi) {
            n += 1;
        }
        if lo < hi {
            let weights = &weights[first * SCORE_STRIDE + start..];
            let out = &mut state.out[first * v_stride..][..n * v_stride];
            match n {
                1 => value_rows::<S, V, 1, 4>(s, weights, v, lo, hi, out),
                2 => value_rows::<S, V, 2, 2>(s, weights, v, lo, hi, out),
                3 if S::WIDE => value_rows::<S, V, 3, 4>(s, weights, v, lo, hi, out),
                4 if S::WIDE => value_rows::<S, V, 4, 4>(s, weights, v, lo, hi, out),
                GROUP if S::WIDE => value_rows::<S, V, GROUP, 4>(s, weights, v, lo, hi, out),
                3 => value_rows::<S, V, 3, 1>(s, weights, v, lo, hi, out),
                4 => value_rows::<S, V, 4, 1>(s, weights, v, lo, hi, out),
                5 => value_rows::<S, V, 5, 1>(s, weights, v, lo, hi, out),
                _ => value_rows::<S, V, GROUP, 1>(s, weights, v, lo, hi, out),
            }
        }
        first += n;
    }
}

/// Adds the values `lo..hi` of a page to `R` rows, `D` vectors of the head at a time.
#[inline(always)]
fn value_rows<S: Isa, V: KvElement, const R: usize, const D: usize>(
    s: S,
    weights: &[f32],
    v: &[V],
    lo: usize,
    hi: usize,
    out: &mut [f32],
) {
    let v_stride = out.len() / R;
    let mut d = 0;
    while d + D * LANES <= v_stride {
        value_block::<S, V, R, D>(s, weights, v, (lo, hi), out, d);
        d += D * LANES;
    }
    while d < v_stride {
        value_block::<S, V, R, 1>(s, weights, v, (lo, hi), out, d);
        d += LANES;
    }
}

#[inline(always)]
fn value_block<S: Isa, V: KvElement, const R: usize, const D: usize>(
    s: S,
    weights: &[f32],
    v: &[V],
    (lo, hi): (usize, usize),
    out: &mut [f32],
    d: usize,
) {
    let v_stride = out.len() / R;
    let mut sums = [[s.zero(); D]; R];
    for r in 0..R {
        for i in 0..D {
            sums[r][i] = s.load(&out[r * v_stride + d + i * LANES..]);
        }
    }
    let mut row_weights = [&weights[..0]; R];
    for r in 0..R {
        row_weights[r] = &weights[r * SCORE_STRIDE..][..PAGE_TOKENS];
    }
    for j in lo..hi {
        for i in 0..D {
            let v = V::load(s, &v[j * v_stride + d + i * LANES..]);
            for r in 0..R {
                sums[r][i] = s.fma(s.splat(row_weights[r][j]), v, sums[r][i]);
            }
        }
    }
    for r in 0..R {
        for i in 0..D {
            s.store(sums[r][i], &mut out[r * v_stride + d + i * LANES..]);
        }
    }
}

#[inline(always)]
fn merge_kernel<S: Isa, E: KvElement>(
    s: S,
    tile: &Tile<'_, E>,
    segment: usize,
    into: &mut State<'_>,
    from: &State<'_>,
) {
    let v_stride = into.v_stride;
    for row in 0..tile.n_rows() {
        let (lo, hi) = tile.visible_in(row, segment);
        if lo >= hi {
            continue;
        }
        let at = row * v_stride..(row + 1) * v_stride;
        let (out, add) = (&mut into.out[at.clone()], &from.out[at]);
        if tile.visible(row).0 / SEGMENT == segment {
            (into.max[row], into.sum[row]) = (from.max[row], from.sum[row]);
            out.copy_from_slice(add);
            continue;
        }
        let (old, new) = (s.splat(into.max[row]), s.splat(from.max[row]));
        let max = s.max(old, new);
        let (a, b) = (exp_lanes(s, s.sub(old, max)), exp_lanes(s, s.sub(new, max)));
        for (out, add) in out.chunks_exact_mut(LANES).zip(add.chunks_exact(LANES)) {
            s.store(s.fma(s.load(add), b, s.mul(s.load(out), a)), out);
        }
        let sum = s.fma(s.splat(from.sum[row]), b, s.mul(s.splat(into.sum[row]), a));
        into.max[row] = s.to_array(max)[0];
        into.sum[row] = s.to_array(sum)[0];
    }
}
