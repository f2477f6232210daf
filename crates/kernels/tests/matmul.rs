//! The matrix product: right, and the same bits on every level, for every batch size and thread count.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_kernels::{
    BlockType, Cpu, CpuConfig, IsaLevel, MatInput, PackedMatrix, Packer, Product, QuantizedRows, Store, matmul,
};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Roughly normal.
    fn float(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..4 {
            sum += (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5;
        }
        sum * 1.7
    }
}

/// Rows of random bits, with f16 scales that are finite.
fn raw_weights(random: &mut Random, ty: BlockType, n_rows: usize, k: usize) -> Vec<Vec<u8>> {
    let scale_offsets: &[usize] = match ty {
        BlockType::Q4_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
        BlockType::Q6_K => &[208],
        _ => &[0],
    };
    let mut row = |_| {
        let mut row: Vec<u8> = (0..ty.row_bytes(k).unwrap()).map(|_| random.next() as u8).collect();
        for block in row.chunks_mut(ty.block_bytes()) {
            match ty {
                BlockType::F32 => block.copy_from_slice(&random.float().to_le_bytes()),
                BlockType::F16 => block.copy_from_slice(&half::f16::from_f32(random.float()).to_le_bytes()),
                BlockType::BF16 => block.copy_from_slice(&half::bf16::from_f32(random.float()).to_le_bytes()),
                _ => {
                    for &at in scale_offsets {
                        let d = half::f16::from_f32(random.float() * 0.02);
                        block[at..at + 2].copy_from_slice(&d.to_le_bytes());
                    }
                }
            }
        }
        row
    };
    (0..n_rows).map(&mut row).collect()
}

fn cpu(isa: IsaLevel, n_threads: usize) -> Cpu {
    Cpu::new(CpuConfig { n_threads, isa: Some(isa) }).unwrap()
}

fn levels() -> Vec<IsaLevel> {
    let levels: Vec<_> = IsaLevel::ALL.into_iter().filter(|level| level.is_available()).collect();
    println!("levels: {levels:?}");
    levels
}

fn product(cpu: &Cpu, w: &PackedMatrix, x: &[f32]) -> Vec<f32> {
    let (k, n_tokens) = (w.k(), x.len() / w.k());
    let mut q8 = QuantizedRows::new();
    if !w.block_type().is_float() {
        q8.quantize(cpu, x, n_tokens, k);
    }
    let mut y = vec![f32::NAN; n_tokens * w.n_rows()];
    let x = MatInput { f32: x, q8: &q8, n_tokens, k };
    matmul(cpu, &x, &mut [Product { w, y: &mut y, store: Store::Write }]);
    y
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// k that have whole and broken panels, for every type.
fn shapes(ty: BlockType) -> Vec<(usize, usize)> {
    match ty.block_len() {
        1 => vec![(1, 1), (16, 7), (35, 40), (50, 64)],
        32 => vec![(1, 32), (16, 96), (35, 288), (50, 576)],
        _ => vec![(1, 256), (35, 512), (50, 768)],
    }
}

fn packed(random: &mut Random, ty: BlockType, n_rows: usize, k: usize) -> PackedMatrix {
    let rows = raw_weights(random, ty, n_rows, k);
    Packer::new(&cpu(IsaLevel::Scalar, 1), 0).pack(ty, n_rows, k, |i| &rows[i]).unwrap()
}

#[test]
fn levels_batches_and_threads_give_the_same_bits() {
    let mut random = Random(1);
    for ty in BlockType::ALL {
        for (n_rows, k) in shapes(ty) {
            let w = packed(&mut random, ty, n_rows, k);
            // More tokens than share a panel.
            let n_tokens = 150;
            let x: Vec<f32> = (0..n_tokens * k).map(|_| random.float()).collect();
            let scalar = cpu(IsaLevel::Scalar, 1);
            let want: Vec<f32> = x.chunks(k).flat_map(|x| product(&scalar, &w, x)).collect();
            assert!(want.iter().all(|y| y.is_finite()));
            for level in levels() {
                for n_threads in [1, 2, 3] {
                    let cpu = cpu(level, n_threads);
                    let batches: Vec<usize> =
                        if n_threads == 1 { (1..=33).chain([128, 150]).collect() } else { vec![1, 7, 33] };
                    for n in batches {
                        let got = product(&cpu, &w, &x[..n * k]);
                        assert_eq!(
                            bits(&got),
                            bits(&want[..n * n_rows]),
                            "{ty} {n_rows} x {k}, {n} tokens, {level}, {n_threads} threads"
                        );
                    }
                }
            }
        }
    }
}

/// The activations as the contract quantises them.
fn dequantized(x: &[f32]) -> Vec<f64> {
    x.chunks(32)
        .flat_map(|x| {
            let scale = x.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
            x.iter().map(move |x| f64::from((x / scale).round_ties_even()) * f64::from(scale))
        })
        .collect()
}

#[test]
fn products_are_those_of_the_dequantised_operands() {
    let mut random = Random(2);
    for ty in BlockType::ALL {
        for (n_rows, k) in shapes(ty) {
            let w = packed(&mut random, ty, n_rows, k);
            let n_tokens = 5;
            let x: Vec<f32> = (0..n_tokens * k).map(|_| random.float()).collect();
            let y = product(&cpu(IsaLevel::best(), 2), &w, &x);
            let mut row = vec![0.0; k];
            for n in 0..n_rows {
                w.dequantize_row(n, &mut row);
                for t in 0..n_tokens {
                    let x = &x[t * k..(t + 1) * k];
                    let x = if ty.is_float() { x.iter().map(|&x| f64::from(x)).collect() } else { dequantized(x) };
                    let terms = row.iter().zip(&x).map(|(&w, x)| f64::from(w) * x);
                    let (want, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    // Each of the few roundings per 16 or 32 k is of a part of the sum; minima may cancel quants, which
                    // makes parts larger than their sum.
                    let got = f64::from(y[t * n_rows + n]);
                    let bound = 16.0 * f64::from(f32::EPSILON) * size + 1e-12;
                    assert!((got - want).abs() <= bound, "{ty} {n_rows} x {k}: {got} for {want}, bound {bound}");
                }
            }
        }
    }
}

#[test]
fn extreme_quants_do_not_saturate() {
    for ty in [
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q8_0,
        BlockType::Q4_K,
        BlockType::Q5_K,
        BlockType::Q6_K,
    ] {
        let k = 512;
        for quant in [0x00u8, 0x7f, 0x80, 0xff] {
            let mut random = Random(3);
            let mut rows = raw_weights(&mut random, ty, 16, k);
            for block in rows.iter_mut().flat_map(|row| row.chunks_mut(ty.block_bytes())) {
                // All but the f16 scales.
                let scales = match ty {
                    BlockType::Q6_K => 208..210,
                    BlockType::Q4_1 | BlockType::Q4_K | BlockType::Q5_K => 0..4,
                    _ => 0..2,
                };
                for (i, byte) in block.iter_mut().enumerate() {
                    *byte = if scales.contains(&i) { *byte } else { quant };
                }
            }
            let w = Packer::new(&cpu(IsaLevel::Scalar, 1), 0).pack(ty, 16, k, |i| &rows[i]).unwrap();
            for x in [1.0f32, -1.0] {
                // Every activation is +-127 steps.
                let x = vec![x; 6 * k];
                let want = product(&cpu(IsaLevel::Scalar, 1), &w, &x);
                let mut row = vec![0.0; k];
                w.dequantize_row(3, &mut row);
                let sum: f64 = row.iter().map(|&w| f64::from(w)).sum();
                let size: f64 = row.iter().map(|&w| f64::from(w).abs()).sum();
                assert!((f64::from(want[3].abs()) - sum.abs()).abs() <= 1e-5 * size, "{ty} {} for {sum}", want[3]);
                for level in levels() {
                    assert_eq!(bits(&product(&cpu(level, 1), &w, &x)), bits(&want), "{ty} {level}");
                    assert_eq!(bits(&product(&cpu(level, 1), &w, &x[..k])), bits(&want[..16]), "{ty} {level}");
                }
            }
        }
    }
}

#[test]
fn a_token_that_is_not_finite_does_not_touch_the_others() {
    let mut random = Random(4);
    for ty in BlockType::ALL {
        let (n_rows, k) = (20, 256);
        let w = packed(&mut random, ty, n_rows, k);
        let mut x: Vec<f32> = (0..9 * k).map(|_| random.float()).collect();
        let clean = product(&cpu(IsaLevel::best(), 1), &w, &x);
        x[4 * k + 77] = f32::INFINITY;
        let y = product(&cpu(IsaLevel::best(), 1), &w, &x);
        for t in 0..9 {
            let (got, want) = (&y[t * n_rows..][..n_rows], &clean[t * n_rows..][..n_rows]);
            if t == 4 {
                assert!(got.iter().all(|y| !y.is_finite()), "{ty}");
            } else {
                assert_eq!(bits(got), bits(want), "{ty}");
            }
        }
    }
}

#[test]
fn no_tokens_are_fine_and_wrong_shapes_are_not() {
    let w = packed(&mut Random(5), BlockType::Q8_0, 16, 64);
    let cpu = cpu(IsaLevel::best(), 1);
    assert_eq!(product(&cpu, &w, &[]), Vec::<f32>::new());
    let mut q8 = QuantizedRows::new();
    q8.quantize(&cpu, &[1.0; 64], 1, 64);
    let fails = |x: MatInput<'_>, n: usize| {
        let run = std::panic::AssertUnwindSafe(|| {
            matmul(&cpu, &x, &mut [Product { w: &w, y: &mut vec![0.0; n], store: Store::Write }]);
        });
        std::panic::catch_unwind(run).is_err()
    };
    assert!(!fails(MatInput { f32: &[], q8: &q8, n_tokens: 1, k: 64 }, 16));
    assert!(fails(MatInput { f32: &[], q8: &q8, n_tokens: 1, k: 64 }, 15));
    assert!(fails(MatInput { f32: &[], q8: &q8, n_tokens: 2, k: 64 }, 32));
    assert!(fails(MatInput { f32: &[], q8: &q8, n_tokens: 2, k: 32 }, 32));
    assert!(fails(MatInput { f32: &[], q8: &QuantizedRows::new(), n_tokens: 1, k: 64 }, 16));
}

#[test]
fn products_of_one_input_and_sums_equal_those_made_alone() {
    let mut random = Random(11);
    for (types, k) in [([BlockType::Q4_1, BlockType::Q8_0, BlockType::Q6_K], 512), ([BlockType::F16; 3], 48)] {
        let weights: Vec<_> =
            types.into_iter().zip([100, 16, 57]).map(|(ty, n)| packed(&mut random, ty, n, k)).collect();
        for n_tokens in [1, 3, 7, 20] {
            let x: Vec<f32> = (0..n_tokens * k).map(|_| random.float()).collect();
            for level in levels() {
                let cpu = cpu(level, 2);
                let mut q8 = QuantizedRows::new();
                q8.quantize(&cpu, &x, n_tokens, k);
                let before = 0.25;
                let mut y: Vec<_> = weights.iter().map(|w| vec![before; n_tokens * w.n_rows()]).collect();
                let stores = [Store::Write, Store::Add, Store::Add];
                let mut products: Vec<_> =
                    weights.iter().zip(&mut y).zip(stores).map(|((w, y), store)| Product { w, y, store }).collect();
                matmul(&cpu, &MatInput { f32: &x, q8: &q8, n_tokens, k }, &mut products);
                for ((w, y), store) in weights.iter().zip(&y).zip(stores) {
                    let mut alone = product(&cpu, w, &x);
                    if store == Store::Add {
                        alone.iter_mut().for_each(|y| *y += before);
                    }
                    assert_eq!(bits(y), bits(&alone), "{} {n_tokens} tokens, {level}", w.block_type());
                }
            }
        }
    }
}
