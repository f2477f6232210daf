//! The portable level, which is the specification of every operation.

use half::{bf16, f16};

use super::{Isa, IsaLevel, LANES};

/// Portable Rust.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

type F = [f32; LANES];
type I = [i32; LANES];

macro_rules! lanes {
    ($i:ident => $lane:expr) => {{
        let mut out = [Default::default(); LANES];
        let mut $i = 0;
        while $i < LANES {
            out[$i] = $lane;
            $i += 1;
        }
        out
    }};
}

/// Applies a shift to the two 16-bit halves of a lane.
macro_rules! halves {
    ($x:expr, $h:ident => $half:expr) => {{
        let x = $x as u32;
        let $h = x as u16;
        let low: u16 = $half;
        let $h = (x >> 16) as u16;
        let high: u16 = $half;
        (u32::from(high) << 16 | u32::from(low)) as i32
    }};
}

// SAFETY: plain Rust, available everywhere.
unsafe impl Isa for Scalar {
    type F = F;
    type I = I;
    type M = [bool; LANES];

    const LEVEL: IsaLevel = IsaLevel::Scalar;
    const TILED: bool = false;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> F {
        lanes!(i => x[..LANES][i])
    }
    #[inline(always)]
    fn store(self, v: F, out: &mut [f32]) {
        out[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        lanes!(i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        lanes!(i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        lanes!(i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        lanes!(i => a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        lanes!(i => a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        lanes!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        lanes!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        lanes!(i => a[i].sqrt())
    }
    #[inline(always)]
    fn neg(self, a: F) -> F {
        lanes!(i => -a[i])
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        lanes!(i => a[i].abs())
    }
    #[inline(always)]
    fn round_even(self, a: F) -> F {
        lanes!(i => a[i].round_ties_even())
    }
    #[inline(always)]
    fn floor(self, a: F) -> F {
        lanes!(i => a[i].floor())
    }

    #[inline(always)]
    fn to_i32(self, a: F) -> I {
        const END: f32 = 2_147_483_648.0;
        lanes!(i => if (-END..END).contains(&a[i]) { a[i].round_ties_even() as i32 } else { i32::MIN })
    }
    #[inline(always)]
    fn to_f32(self, a: I) -> F {
        lanes!(i => a[i] as f32)
    }
    #[inline(always)]
    fn cast_i(self, a: F) -> I {
        lanes!(i => a[i].to_bits() as i32)
    }
    #[inline(always)]
    fn cast_f(self, a: I) -> F {
        lanes!(i => f32::from_bits(a[i] as u32))
    }

    #[inline(always)]
    fn lt(self, a: F, b: F) -> Self::M {
        lanes!(i => a[i] < b[i])
    }
    #[inline(always)]
    fn le(self, a: F, b: F) -> Self::M {
        lanes!(i => a[i] <= b[i])
    }
    #[inline(always)]
    fn eq(self, a: F, b: F) -> Self::M {
        lanes!(i => a[i] == b[i])
    }
    #[inline(always)]
    fn gt_i(self, a: I, b: I) -> Self::M {
        lanes!(i => a[i] > b[i])
    }
    #[inline(always)]
    fn eq_i(self, a: I, b: I) -> Self::M {
        lanes!(i => a[i] == b[i])
    }
    #[inline(always)]
    fn mask_bits(self, m: Self::M) -> u16 {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= u16::from(m[i]) << i;
        }
        bits
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: F, b: F) -> F {
        lanes!(i => if m[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> I {
        [x; LANES]
    }
    #[inline(always)]
    fn load_i(self, x: &[i32]) -> I {
        lanes!(i => x[..LANES][i])
    }
    #[inline(always)]
    fn store_i(self, v: I, out: &mut [i32]) {
        out[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn add_i(self, a: I, b: I) -> I {
        lanes!(i => a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub_i(self, a: I, b: I) -> I {
        lanes!(i => a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn mul_i(self, a: I, b: I) -> I {
        lanes!(i => a[i].wrapping_mul(b[i]))
    }
    #[inline(always)]
    fn and_i(self, a: I, b: I) -> I {
        lanes!(i => a[i] & b[i])
    }
    #[inline(always)]
    fn or_i(self, a: I, b: I) -> I {
        lanes!(i => a[i] | b[i])
    }
    #[inline(always)]
    fn xor_i(self, a: I, b: I) -> I {
        lanes!(i => a[i] ^ b[i])
    }
    #[inline(always)]
    fn shl_i(self, a: I, n: u32) -> I {
        lanes!(i => a[i].wrapping_shl(n))
    }
    #[inline(always)]
    fn shr_i(self, a: I, n: u32) -> I {
        lanes!(i => a[i].wrapping_shr(n))
    }
    #[inline(always)]
    fn shr_u(self, a: I, n: u32) -> I {
        lanes!(i => (a[i] as u32).wrapping_shr(n) as i32)
    }
    #[inline(always)]
    fn shl_16(self, a: I, n: u32) -> I {
        lanes!(i => halves!(a[i], h => h.wrapping_shl(n)))
    }
    #[inline(always)]
    fn shr_16(self, a: I, n: u32) -> I {
        lanes!(i => halves!(a[i], h => h.wrapping_shr(n)))
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8]) -> I {
        let x = &x[..4 * LANES];
        lanes!(i => i32::from_le_bytes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]]))
    }
    #[inline(always)]
    fn widen_u8(self, x: &[u8]) -> I {
        lanes!(i => i32::from(x[..LANES][i]))
    }
    #[inline(always)]
    fn widen_i8(self, x: &[u8]) -> I {
        lanes!(i => i32::from(x[..LANES][i] as i8))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16]) -> F {
        lanes!(i => f16::from_bits(x[..LANES][i]).to_f32())
    }
    #[inline(always)]
    fn store_f16(self, v: F, out: &mut [u16]) {
        out[..LANES].copy_from_slice(&lanes!(i => f16::from_f32(v[i]).to_bits()));
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16]) -> F {
        lanes!(i => bf16::from_bits(x[..LANES][i]).to_f32())
    }
    #[inline(always)]
    fn load_f16_le(self, x: &[u8]) -> F {
        let x = &x[..2 * LANES];
        lanes!(i => f16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_bf16_le(self, x: &[u8]) -> F {
        let x = &x[..2 * LANES];
        lanes!(i => bf16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
    }

    #[inline(always)]
    fn prefetch<X: ?Sized>(self, _: &X, _: usize) {}

    #[inline(always)]
    fn dot<const BITS: u32, const CHUNKS: usize, const U: usize, const T: usize>(
        self,
        w: [&[I; CHUNKS]; U],
        a: [&[i32; CHUNKS]; T],
        init: [I; T],
    ) -> [[I; T]; U] {
        let mut sums = [init; U];
        for u in 0..U {
            for t in 0..T {
                for c in 0..CHUNKS {
                    let x = a[t][c].to_le_bytes();
                    for i in 0..LANES {
                        let q = w[u][c][i].to_le_bytes();
                        for j in 0..4 {
                            sums[u][t][i] += i32::from(q[j]) * i32::from(x[j] as i8);
                        }
                    }
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn mac_bytes(self, mut sum: I, w: I, x: I) -> I {
        for i in 0..LANES {
            let (w, x) = (w[i].to_le_bytes(), x[i].to_le_bytes());
            for j in 0..4 {
                sum[i] = sum[i].wrapping_add(i32::from(w[j]) * i32::from(x[j] as i8));
            }
        }
        sum
    }

    #[inline(always)]
    fn pack_i8(self, a: I, b: I) -> [i32; 8] {
        let mut words = [0; 8];
        for i in 0..4 {
            words[i] = i32::from_le_bytes([0, 1, 2, 3].map(|j| a[4 * i + j] as u8));
            words[4 + i] = i32::from_le_bytes([0, 1, 2, 3].map(|j| b[4 * i + j] as u8));
        }
        words
    }

    #[inline(always)]
    fn sums_i(self, a: I, b: I) -> [i32; 2] {
        [a, b].map(|lanes| lanes.into_iter().fold(0, i32::wrapping_add))
    }

    #[inline(always)]
    fn reduce_sum(self, mut a: F) -> f32 {
        let mut n = LANES / 2;
        while n > 0 {
            for i in 0..n {
                a[i] += a[i + n];
            }
            n /= 2;
        }
        a[0]
    }
    #[inline(always)]
    fn reduce_max(self, mut a: F) -> f32 {
        let mut n = LANES / 2;
        while n > 0 {
            for i in 0..n {
                a[i] = if a[i] > a[i + n] { a[i] } else { a[i + n] };
            }
            n /= 2;
        }
        a[0]
    }
}
