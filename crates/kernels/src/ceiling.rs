//! What the machine can do at best, read on it: the ceilings that measured figures are shares of.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use crate::cpu::Cpu;
use crate::isa::{Isa, LANES, dispatch};

/// Rounds of arithmetic per reading, some tens of milliseconds.
const ROUNDS: usize = 8_000_000;
/// Bytes read per reading: far more than any cache of the machines that small models run on.
const READ_BYTES: usize = 512 << 20;
/// Readings of which the best counts.
const READINGS: usize = 5;

/// What all threads of a [`Cpu`] reach together in a loop that does nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// Multiplications and additions of 8-bit integers per second.
    pub int8_ops: f64,
    /// Fused multiplications and additions of f32 per second, two each.
    pub f32_ops: f64,
    /// Bytes read from memory per second.
    pub read_bandwidth: f64,
}

impl Ceilings {
    /// Reads them on this machine, with the instruction set and the threads of `cpu`. Takes about a second and
    /// half a gigabyte.
    #[must_use]
    pub fn measure(cpu: &Cpu) -> Self {
        let rate = |round: &(dyn Fn() -> usize + Sync)| {
            // Vectors per round are the same in every thread.
            let vectors = AtomicUsize::new(0);
            let seconds = best_seconds(|| cpu.for_each(cpu.n_threads(), |_| vectors.store(round(), Relaxed)));
            (2 * LANES * ROUNDS * cpu.n_threads() * vectors.into_inner()) as f64 / seconds
        };
        let int8_ops = 4.0 * rate(&|| int8(cpu.isa(), ROUNDS));
        let f32_ops = rate(&|| float(cpu.isa(), ROUNDS));

        let memory = vec![1_u8; READ_BYTES];
        let part = READ_BYTES / cpu.n_threads() / STRIDE * STRIDE;
        let seconds = best_seconds(|| {
            cpu.for_each_range(part * cpu.n_threads(), part, |range| {
                black_box(read(cpu.isa(), &memory[range]));
            });
        });
        Ceilings { int8_ops, f32_ops, read_bandwidth: (part * cpu.n_threads()) as f64 / seconds }
    }
}

fn best_seconds(run: impl Fn()) -> f64 {
    let time = |()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    std::iter::repeat_n((), READINGS).map(time).fold(f64::INFINITY, f64::min)
}

/// Bytes per step of [`read`].
const STRIDE: usize = 4 * 4 * LANES;

dispatch! {
    /// Gives the vectors per round.
    fn int8(rounds: usize) -> usize = int8_kernel;
}
dispatch! {
    /// Gives the vectors per round.
    fn float(rounds: usize) -> usize = float_kernel;
}
dispatch! {
    fn read(bytes: &[u8]) -> i32 = read_kernel;
}

#[inline(always)]
fn int8_kernel<S: Isa>(s: S, rounds: usize) -> usize {
    if S::WIDE { int8_sums::<S, 12>(s, rounds) } else { int8_sums::<S, 6>(s, rounds) }
}

#[inline(always)]
fn float_kernel<S: Isa>(s: S, rounds: usize) -> usize {
    if S::WIDE { float_sums::<S, 12>(s, rounds) } else { float_sums::<S, 6>(s, rounds) }
}

/// `N` independent sums: enough to hide the latency of an instruction, few enough for the registers.
#[inline(always)]
fn int8_sums<S: Isa, const N: usize>(s: S, rounds: usize) -> usize {
    let (w, x) = (s.splat_i(black_box(0x0102_0304)), s.splat_i(black_box(0x0101_0101)));
    let mut sums = [s.splat_i(0); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = s.mac_bytes(*sum, w, x);
        }
    }
    for sum in sums {
        black_box(s.to_array_i(sum));
    }
    N
}

#[inline(always)]
fn float_sums<S: Isa, const N: usize>(s: S, rounds: usize) -> usize {
    let (w, x) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut sums = [s.zero(); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = s.fma(*sum, w, x);
        }
    }
    for sum in sums {
        black_box(s.to_array(sum));
    }
    N
}

#[inline(always)]
fn read_kernel<S: Isa>(s: S, bytes: &[u8]) -> i32 {
    let mut sums = [s.splat_i(0); 4];
    for chunk in bytes.chunks_exact(STRIDE) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = s.add_i(*sum, s.load_bytes(&chunk[4 * LANES * i..]));
        }
    }
    sums.map(|sum| s.to_array_i(sum)[0]).into_iter().fold(0, i32::wrapping_add)
}
