//! What attention costs: `cargo run --release -p bantam-kernels --example attention_speed [threads]`.
//!
//! SmolLM2-135M's shape (9 heads over 3 key-value heads of 64) and two more, one layer, 16-bit and 8-bit pages: prefill
//! chunks and single queries at several context lengths. Prints the best time of several, the multiply-add rate and, for
//! single queries, the rate at which keys and values are read.

use std::error::Error;
use std::time::Instant;

use bantam_kernels::attention::{AttnParams, AttnSeq, KvPages, KvType, Mask, PAGE_TOKENS, attention};
use bantam_kernels::{Cpu, CpuConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let n_threads = std::env::args().nth(1).map_or(Ok(0), |arg| arg.parse())?;
    let cpu = Cpu::new(CpuConfig { n_threads, ..CpuConfig::default() })?;
    println!("{} threads, {}", cpu.n_threads(), cpu.isa());
    for (n_heads, n_kv_heads, head_dim) in [(9, 3, 64), (4, 1, 256), (12, 12, 64)] {
        let (scale, soft_cap, window, mask) = (0.125, None, None, Mask::Causal);
        let params = AttnParams { n_heads, n_kv_heads, head_dim, scale, soft_cap, window, mask };
        for kv_type in [KvType::F16, KvType::I8] {
            println!("{n_heads} heads over {n_kv_heads} x {head_dim}, {kv_type:?}");
            for (context, n_queries) in [(512, 512), (4096, 512), (512, 1), (4096, 1)] {
                measure(&cpu, &params, kv_type, (context, n_queries))?;
            }
        }
    }
    Ok(())
}

fn measure(
    cpu: &Cpu,
    params: &AttnParams,
    kv_type: KvType,
    (context, n_queries): (usize, usize),
) -> Result<(), Box<dyn Error>> {
    let AttnParams { n_heads, n_kv_heads, head_dim, .. } = *params;
    let mut kv = KvPages::new(kv_type, context / PAGE_TOKENS, n_kv_heads, head_dim)?;
    let slots: Vec<_> = (0..context).map(|i| ((i / PAGE_TOKENS) as u32, (i % PAGE_TOKENS) as u8)).collect();
    let values = |n: usize| -> Vec<f32> { (0..n).map(|i| (i * 7919 % 1013) as f32 / 506.0 - 1.0).collect() };
    let (k, q) = (values(context * n_kv_heads * head_dim), values(n_queries * n_heads * head_dim));
    let write = best(5, || kv.write(cpu, &slots, &k, &k)) / context as f64;
    let pages: Vec<u32> = (0..(context / PAGE_TOKENS) as u32).collect();
    let first_pos = context - n_queries;
    let seq = AttnSeq { pages: &pages, q_start_row: 0, n_queries, first_pos };
    let mut out = vec![0.0; q.len()];
    let seconds = best(if n_queries == 1 { 300 } else { 12 }, || attention(cpu, &kv, params, &[seq], &q, &mut out));
    let keys: usize = (0..n_queries).map(|i| first_pos + i + 1).sum();
    let multiply_adds = (keys * n_heads * head_dim * 2) as f64;
    let read = kv.n_bytes() as f64;
    println!(
        "  context {context:5}, queries {n_queries:4}: {:9.1} us, {:6.1} GFLOP/s, {:5.1} GB/s; write {:.0} ns/token",
        seconds * 1e6,
        2.0 * multiply_adds / seconds / 1e9,
        read / seconds / 1e9,
        write * 1e9,
    );
    Ok(())
}

/// The shortest of `n` runs, in seconds.
fn best(n: usize, mut run: impl FnMut()) -> f64 {
    (0..n)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
