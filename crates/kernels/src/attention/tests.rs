use super::*;
use crate::isa::IsaLevel;
use crate::ops::tests::{every_cpu, values};
use half::f16;
use proptest::prelude::*;

/// A sequence of `n` tokens and everything its attention needs.
#[derive(Debug, Clone)]
struct Case {
    params: AttnParams,
    ty: KvType,
    n: usize,
    pages: Vec<u32>,
    /// `[n][heads * head_dim]`
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Case {
    fn new(params: AttnParams, ty: KvType, n: usize) -> Self {
        let n_pages = n.div_ceil(PAGE_TOKENS) as u32;
        // Scattered, with page 0 left to others.
        let pages = (0..n_pages).map(|i| n_pages - i).collect();
        let kv = params.n_kv_heads * params.head_dim;
        // Large enough that the weights are far from equal.
        let q = values(1, n * params.n_heads * params.head_dim).iter().map(|x| 2.0 * x).collect();
        Self { params, ty, n, pages, q, k: values(2, n * kv), v: values(3, n * kv) }
    }

    fn kv(&self, cpu: &Cpu) -> KvPages {
        let n_pages = self.pages.len() + 1;
        let mut kv = KvPages::new(self.ty, n_pages, self.params.n_kv_heads, self.params.head_dim).unwrap();
        // What other sequences left behind must not matter, whatever it is.
        let all: Vec<(u32, u8)> =
            (0..n_pages as u32).flat_map(|p| (0..PAGE_TOKENS as u8).map(move |o| (p, o))).collect();
        let garbage = vec![f32::NAN; all.len() * self.params.n_kv_heads * self.params.head_dim];
        kv.write(cpu, &all, &garbage, &garbage);
        kv
    }

    /// The whole sequence in chunks of these lengths, the last one taking the rest.
    fn run(&self, cpu: &Cpu, chunks: &[usize]) -> Vec<f32> {
        let mut kv = self.kv(cpu);
        let mut out = vec![f32::NAN; self.q.len()];
        let width = self.params.n_heads * self.params.head_dim;
        let kv_width = self.params.n_kv_heads * self.params.head_dim;
        let mut pos = 0;
        for &chunk in chunks.iter().chain([&self.n]) {
            let end = self.n.min(pos + chunk);
            let slots: Vec<_> = (pos..end).map(|p| (self.pages[p / PAGE_TOKENS], (p % PAGE_TOKENS) as u8)).collect();
            kv.write(cpu, &slots, &self.k[pos * kv_width..end * kv_width], &self.v[pos * kv_width..end * kv_width]);
            let seq = AttnSeq { pages: &self.pages, q_start_row: 0, n_queries: end - pos, first_pos: pos };
            let rows = pos * width..end * width;
            attention(cpu, &kv, &self.params, &[seq], &self.q[rows.clone()], &mut out[rows]);
            pos = end;
        }
        out
    }

    /// What a page makes of keys or values.
    fn stored(&self, x: &[f32]) -> Vec<f64> {
        let heads = x.chunks(self.params.head_dim);
        heads
            .flat_map(|head| {
                let scale = head.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
                head.iter().map(move |&x| match self.ty {
                    KvType::F32 => f64::from(x),
                    KvType::F16 => f64::from(f16::from_f32(x).to_f32()),
                    KvType::I8 if scale == 0.0 => 0.0,
                    KvType::I8 => f64::from((x / scale).round_ties_even()) * f64::from(scale),
                })
            })
            .collect()
    }

    /// The definition without segments, in f64 with the standard library.
    fn exact(&self) -> Vec<f64> {
        let AttnParams { n_heads, n_kv_heads, head_dim, scale, soft_cap, window, mask } = self.params;
        let (k, v) = (self.stored(&self.k), self.stored(&self.v));
        let mut out = Vec::new();
        for position in 0..self.n {
            for head in 0..n_heads {
                let kv_head = head / (n_heads / n_kv_heads);
                let q = &self.q[(position * n_heads + head) * head_dim..][..head_dim];
                let first = window.map_or(0, |w| (position + 1).saturating_sub(w));
                let end = if mask == Mask::Causal { position + 1 } else { self.n };
                let scores: Vec<f64> = (first..end)
                    .map(|key| {
                        let k = &k[(key * n_kv_heads + kv_head) * head_dim..][..head_dim];
                        let dot: f64 = q.iter().zip(k).map(|(&q, &k)| f64::from(q) * k).sum();
                        let score = dot * f64::from(scale);
                        soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let weighted = weights
                        .iter()
                        .enumerate()
                        .map(|(i, weight)| weight / sum * v[((first + i) * n_kv_heads + kv_head) * head_dim + d]);
                    out.push(weighted.sum());
                }
            }
        }
        out
    }
}

fn params(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> AttnParams {
    let scale = 1.0 / (head_dim as f32).sqrt();
    AttnParams { n_heads, n_kv_heads, head_dim, scale, soft_cap: None, window: None, mask: Mask::Causal }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Families' shapes and odd ones, short and beyond one and two segments.
fn cases() -> Vec<Case> {
    let capped = AttnParams { soft_cap: Some(5.0), ..params(4, 2, 32) };
    let window = |w, p| AttnParams { window: Some(w), ..p };
    vec![
        Case::new(params(9, 3, 64), KvType::F16, 70),
        Case::new(params(9, 3, 64), KvType::F32, 33),
        Case::new(params(3, 3, 96), KvType::F16, 50),
        Case::new(params(4, 1, 256), KvType::F16, 40),
        Case::new(params(2, 2, 8), KvType::F32, 100),
        Case::new(params(4, 2, 20), KvType::F16, 65),
        Case::new(params(5, 1, 7), KvType::F32, 30),
        Case::new(params(50, 1, 16), KvType::F16, 20),
        Case::new(params(2, 1, 16), KvType::F16, 1100),
        Case::new(params(1, 1, 16), KvType::F32, 1030),
        Case::new(capped, KvType::F16, 530),
        Case::new(params(9, 3, 64), KvType::I8, 70),
        Case::new(params(4, 1, 20), KvType::I8, 1040),
        Case::new(capped, KvType::I8, 530),
        Case::new(window(20, params(5, 1, 7)), KvType::I8, 100),
        Case::new(window(1, params(2, 1, 16)), KvType::F16, 40),
        Case::new(window(20, params(4, 2, 16)), KvType::F32, 600),
        Case::new(window(512, params(2, 1, 16)), KvType::F16, 1100),
        Case::new(window(700, AttnParams { soft_cap: Some(9.0), ..params(2, 1, 16) }), KvType::F16, 1250),
    ]
}

#[test]
fn agrees_with_the_definition() {
    let cpu = &every_cpu()[every_cpu().len() - 1];
    for case in cases() {
        let out = case.run(cpu, &[]);
        for (i, (&x, exact)) in out.iter().zip(case.exact()).enumerate() {
            assert!((f64::from(x) - exact).abs() < 2e-5, "{x} {exact} at {i} of {:?} {}", case.params, case.n);
        }
    }
}

#[test]
fn every_level_thread_count_and_chunking_gives_the_same_bits() {
    let cpus = every_cpu();
    let splits = [vec![], vec![16; 3], vec![1; 20], vec![7, 510, 3, 1, 1, 40]];
    for case in cases() {
        let expected = bits(&case.run(&cpus[0], &[]));
        for cpu in &cpus {
            // The scalar level is slow: once in one piece (above), once in pieces.
            let pieces = if cpu.isa() == IsaLevel::Scalar { &splits[3..] } else { &splits[..] };
            for chunks in pieces {
                let out = bits(&case.run(cpu, chunks));
                assert!(out == expected, "{:?} {} in chunks {chunks:?} on {cpu:?}", case.params, case.n);
            }
        }
    }
}

#[test]
fn without_a_mask_a_query_sees_all_keys() {
    let cpus = every_cpu();
    for (p, ty, n) in [
        (params(12, 12, 32), KvType::F32, 1),
        (params(12, 12, 32), KvType::F32, 37),
        (params(2, 1, 16), KvType::F16, 600),
        (params(3, 3, 20), KvType::F32, 1030),
    ] {
        let case = Case::new(AttnParams { mask: Mask::None, ..p }, ty, n);
        let expected = case.run(&cpus[0], &[]);
        for (&x, exact) in expected.iter().zip(case.exact()) {
            assert!((f64::from(x) - exact).abs() < 2e-5, "{x} {exact} {p:?} {n}");
        }
        for cpu in &cpus[1..] {
            assert!(bits(&case.run(cpu, &[])) == bits(&expected), "{p:?} {n} on {cpu:?}");
        }
    }
}

#[test]
fn single_queries_are_what_they_are_in_a_batch() {
    let cpus = every_cpu();
    let case = Case::new(AttnParams { window: Some(900), ..params(4, 2, 24) }, KvType::F16, 1060);
    let expected = bits(&case.run(&cpus[0], &[]));
    for cpu in &cpus {
        // From an earlier position on, one query per call: many segments, few rows.
        let out = bits(&case.run(cpu, &[vec![1030], vec![1; 30]].concat()));
        assert!(out == expected, "{cpu:?}");
    }
}

#[test]
fn sequences_of_one_call_do_not_touch_each_other() {
    let p = params(4, 2, 16);
    let cpus = every_cpu();
    let lens = [3, 600, 17, 1];
    // Each sequence's cases share the values but not the pages.
    let cases: Vec<Case> = lens.iter().map(|&n| Case::new(p, KvType::F16, n)).collect();
    let expected: Vec<Vec<f32>> = cases.iter().map(|case| case.run(&cpus[0], &[])).collect();
    for cpu in &cpus {
        let n_pages: usize = cases.iter().map(|case| case.pages.len()).sum();
        let mut kv = KvPages::new(KvType::F16, n_pages, 2, 16).unwrap();
        let (mut q, mut pages, mut next) = (vec![9.0; 64], Vec::new(), 0);
        for case in &cases {
            let ids: Vec<u32> = (next..next + case.pages.len() as u32).collect();
            next += case.pages.len() as u32;
            let slots: Vec<_> = (0..case.n).map(|i| (ids[i / PAGE_TOKENS], (i % PAGE_TOKENS) as u8)).collect();
            kv.write(cpu, &slots, &case.k, &case.v);
            q.extend_from_slice(&case.q);
            pages.push(ids);
        }
        let mut row = 1;
        let mut seqs = Vec::new();
        for (case, pages) in cases.iter().zip(&pages) {
            seqs.push(AttnSeq { pages, q_start_row: row, n_queries: case.n, first_pos: 0 });
            row += case.n;
        }
        let mut out = vec![7.0; q.len()];
        attention(cpu, &kv, &p, &seqs, &q, &mut out);
        assert_eq!(out[..64], [7.0; 64], "a row that no sequence has");
        assert!(bits(&out[64..]) == bits(&expected.concat()), "{cpu:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_shape_and_split(
        group in 1usize..9,
        n_kv_heads in 1usize..3,
        head_dim in 1usize..35,
        n in 1usize..600,
        ty in prop::sample::select(vec![KvType::F16, KvType::F32, KvType::I8]),
        soft_cap in prop::option::of(1f32..20.0),
        window in prop::option::of(1usize..700),
        chunks in prop::collection::vec(1usize..300, 0..5),
    ) {
        let p = AttnParams { soft_cap, window, ..params(group * n_kv_heads, n_kv_heads, head_dim) };
        let case = Case::new(p, ty, n);
        let cpus = every_cpu();
        let whole = case.run(&cpus[cpus.len() - 1], &[]);
        let split = case.run(&cpus[cpus.len() - 2], &chunks);
        prop_assert!(bits(&whole) == bits(&split));
        let n_exact = Case { n: n.min(60), ..case.clone() }.exact();
        for (&x, exact) in whole.iter().zip(n_exact) {
            prop_assert!((f64::from(x) - exact).abs() < 2e-5, "{} {}", x, exact);
        }
    }
}

#[test]
fn a_poisoned_sequence_stays_alone() {
    let p = params(2, 1, 16);
    let cpu = &every_cpu()[0];
    for ty in [KvType::F32, KvType::F16, KvType::I8] {
        poison_one(cpu, &p, ty);
    }
}

fn poison_one(cpu: &Cpu, p: &AttnParams, ty: KvType) {
    let mut kv = KvPages::new(ty, 2, 1, 16).unwrap();
    let fine = values(4, 5 * 16);
    let slots = |page| (0..5).map(|i| (page, i)).collect::<Vec<_>>();
    kv.write(cpu, &slots(0), &fine, &fine);
    kv.write(cpu, &slots(1), &[f32::NAN; 80], &[f32::INFINITY; 80]);
    let seqs = [
        AttnSeq { pages: &[1], q_start_row: 0, n_queries: 1, first_pos: 4 },
        AttnSeq { pages: &[0], q_start_row: 1, n_queries: 1, first_pos: 4 },
    ];
    let mut out = vec![0.0; 64];
    attention(cpu, &kv, p, &seqs, &values(5, 64), &mut out);
    assert!(out[..32].iter().all(|x| x.is_nan()));
    assert!(out[32..].iter().all(|x| x.is_finite()));
}

#[test]
fn bytes_follow_the_type() {
    for (ty, page_bytes) in [(KvType::F16, 1664), (KvType::F32, 3328), (KvType::I8, 832 + 2 * 16 * 4)] {
        assert_eq!(KvPages::page_bytes(ty, 1, 20), page_bytes);
        assert_eq!(KvPages::new(ty, 4, 1, 20).unwrap().n_bytes(), 4 * page_bytes);
    }
}

#[test]
fn impossible_pools_are_errors() {
    let error = |n_pages, n_kv_heads, head_dim| KvPages::new(KvType::F16, n_pages, n_kv_heads, head_dim).unwrap_err();
    assert!(matches!(error(4, 0, 64), KvError::Shape { .. }));
    assert!(matches!(error(usize::MAX / 4, 8, 128), KvError::Shape { .. }));
    assert!(matches!(error(1 << 40, 8, 128), KvError::OutOfMemory { .. }));
    assert_eq!(KvPages::new(KvType::F16, 0, 8, 128).unwrap().n_bytes(), 0);
}

#[test]
fn wrong_arguments_are_named() {
    let cpu = &every_cpu()[0];
    let kv = KvPages::new(KvType::F16, 2, 1, 16).unwrap();
    let message = |p: AttnParams, seqs: &[AttnSeq<'_>]| {
        let mut out = [0.0; 64];
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            attention(cpu, &kv, &p, seqs, &[0.0; 64], &mut out);
        }));
        let payload = panic.unwrap_err();
        payload
            .downcast_ref::<&str>()
            .map_or_else(|| payload.downcast_ref::<String>().unwrap().clone(), |s| s.to_string())
    };
    let p = params(2, 1, 16);
    let seq = AttnSeq { pages: &[0], q_start_row: 0, n_queries: 1, first_pos: 0 };
    assert!(message(params(2, 1, 8), &[seq]).contains("pages are of 1 heads x 16"));
    assert!(message(p, &[AttnSeq { pages: &[2], ..seq }]).contains("page Some(2)"));
    assert!(message(p, &[AttnSeq { first_pos: 16, ..seq }]).contains("do not reach"));
    assert!(message(p, &[AttnSeq { first_pos: usize::MAX, ..seq }]).contains("do not reach"));
    assert!(message(p, &[AttnSeq { n_queries: 3, ..seq }]).contains("only 2 rows"));
    assert!(message(p, &[seq, seq]).contains("order of their rows"));
}
