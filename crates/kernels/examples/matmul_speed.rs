//! Speed of the matrix product by format, shape, tokens and threads, beside the machine's ceilings: `cargo run --release -p
//! bantam-kernels --example matmul_speed [format ...]`. Figures are the best of several runs; an operation is one
//! multiplication or addition.

use std::time::Instant;

use anyhow::{Context, Result};
use bantam_kernels::{BlockType, Ceilings, Cpu, CpuConfig, MatInput, Packer, Product, QuantizedRows, Store, matmul};

/// (output rows, k)
const SHAPES: [(usize, usize); 3] = [(1536, 576), (576, 1536), (2048, 2048)];
const TOKENS: [usize; 5] = [1, 4, 8, 16, 512];

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut types = vec![BlockType::Q4_1, BlockType::Q4_K, BlockType::Q5_0, BlockType::Q8_0, BlockType::Q6_K];
    if !wanted.is_empty() {
        types = BlockType::ALL.into_iter().filter(|ty| wanted.contains(&ty.to_string())).collect();
    }
    for n_threads in [1, 2] {
        let cpu = Cpu::new(CpuConfig { n_threads, isa: None }).context("threads")?;
        let Ceilings { int8_ops, read_bandwidth, .. } = Ceilings::measure(&cpu);
        println!(
            "{}, {n_threads} threads: int8 {:.0} GOP/s, memory {:.1} GB/s",
            cpu.isa(),
            int8_ops / 1e9,
            read_bandwidth / 1e9
        );
        println!(
            "{:>6} {:>12} {:>7} {:>9} {:>8} {:>8} {:>8}",
            "format", "rows x k", "tokens", "GOP/s", "of int8", "GB/s", "of memory"
        );
        for &ty in &types {
            for (n_rows, k) in SHAPES {
                for n_tokens in TOKENS {
                    let (seconds, bytes) = measure(&cpu, ty, n_rows, k, n_tokens)?;
                    let gops = 2.0 * (n_rows * k * n_tokens) as f64 / seconds / 1e9;
                    let shape = format!("{n_rows}x{k}");
                    let bandwidth = bytes as f64 / seconds;
                    println!(
                        "{ty:>6} {shape:>12} {n_tokens:>7} {gops:>9.1} {:>7.0}% {:>8.1} {:>7.0}%",
                        100e9 * gops / int8_ops,
                        bandwidth / 1e9,
                        100.0 * bandwidth / read_bandwidth,
                    );
                }
            }
        }
    }
    Ok(())
}

/// Best seconds per product, and bytes of weights.
fn measure(cpu: &Cpu, ty: BlockType, n_rows: usize, k: usize, n_tokens: usize) -> Result<(f64, usize)> {
    let row_bytes = ty.row_bytes(k)?;
    // Bytes below 0x3c make every f16 scale a small number.
    let data: Vec<u8> = (0..n_rows * row_bytes).map(|i| ((i * 2_654_435_761) >> 7) as u8 % 0x3c).collect();
    // Several copies, so that the weights of few tokens come from memory as they do in a model.
    let n_copies = if n_tokens < 64 { (64 << 20) / data.len() + 1 } else { 1 };
    let packer = Packer::new(cpu, n_copies * data.len());
    let pack = || packer.pack(ty, n_rows, k, |i| &data[i * row_bytes..(i + 1) * row_bytes]);
    let copies = (0..n_copies).map(|_| pack()).collect::<Result<Vec<_>, _>>()?;
    let x: Vec<f32> = (0..n_tokens * k).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let mut q8 = QuantizedRows::new();
    q8.quantize(cpu, &x, n_tokens, k);
    let input = MatInput { f32: &x, q8: &q8, n_tokens, k };
    let mut y = vec![0.0; n_tokens * n_rows];
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for w in &copies {
            matmul(cpu, &input, &mut [Product { w, y: &mut y, store: Store::Write }]);
        }
        best = best.min(start.elapsed().as_secs_f64() / n_copies as f64);
    }
    Ok((best, data.len()))
}
