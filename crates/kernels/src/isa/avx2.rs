//! AVX2 with FMA and F16C: a vector is a pair of 256-bit registers.

use std::arch::x86_64::*;

use super::{Isa, IsaLevel, LANES, intrinsics};

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where the machine and the build have the level.
    #[must_use]
    pub fn new() -> Option<Self> {
        IsaLevel::Avx2.is_available().then_some(Avx2(()))
    }
}

type F = [__m256; 2];
type I = [__m256i; 2];

/// Applies an intrinsic to both registers.
macro_rules! both {
    ($f:expr, $a:expr) => {{
        let a = $a;
        [$f(a[0]), $f(a[1])]
    }};
    ($f:expr, $a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        [$f(a[0], b[0]), $f(a[1], b[1])]
    }};
}

/// Applies a shift by a uniform count to both registers; a constant count becomes an immediate.
macro_rules! shift {
    ($f:ident, $a:expr, $n:expr) => {{
        let n = _mm_cvtsi32_si128($n as i32);
        [$f($a[0], n), $f($a[1], n)]
    }};
}

/// The sum of 8 lanes by the fixed tree, from the pairwise sums of a vector's halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum8(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
}

/// The sums of 8 lanes each.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sums8(a: __m256i, b: __m256i) -> [i32; 2] {
    let pairs = _mm256_hadd_epi32(a, b);
    let x = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
    let x = _mm_hadd_epi32(x, x);
    [_mm_cvtsi128_si32(x), _mm_extract_epi32::<1>(x)]
}

/// The largest of 8 lanes by the fixed tree.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn max8(x: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps::<1>(x, x)))
}

/// Does nothing, in program order. Between tokens it keeps the compiler from going through one token after the other,
/// which would load all weights again for each.
#[inline]
#[target_feature(enable = "avx2")]
fn pin(mut x: __m256i) -> __m256i {
    // SAFETY: the assembly is empty.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
    x
}

/// Products of two bytes summed in 16 bits: how many such sums of `BITS`-bit weights can be added without overflow
/// (activations are within +-127, a pair gives at most 2 * 127 * (2^BITS - 1)).
const fn chain(bits: u32) -> usize {
    (i16::MAX as usize) / (2 * 127 * ((1 << bits) - 1))
}

impl Avx2 {
    /// Weights of at most 6 bits: `vpmaddubsw` cannot saturate there, and several of its sums fit 16 bits.
    #[inline(always)]
    fn dot_narrow<const BITS: u32, const CHUNKS: usize, const T: usize>(
        self,
        w: &[I; CHUNKS],
        a: [&[i32; CHUNKS]; T],
        mut sums: [I; T],
    ) -> [I; T] {
        // SAFETY: `self` exists only where AVX2 was detected.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let chain = if chain(BITS) < CHUNKS { chain(BITS) } else { CHUNKS };
            for link in 0..CHUNKS / chain {
                let first = link * chain;
                let mut pairs = [[_mm256_setzero_si256(); 2]; T];
                for c in first..first + chain {
                    for t in 0..T {
                        let x = _mm256_set1_epi32(a[t][c]);
                        for h in 0..2 {
                            let products = _mm256_maddubs_epi16(w[c][h], x);
                            let sum = if c == first { products } else { _mm256_add_epi16(pairs[t][h], products) };
                            pairs[t][h] = if T > 1 { pin(sum) } else { sum };
                        }
                    }
                }
                for t in 0..T {
                    for h in 0..2 {
                        sums[t][h] = _mm256_add_epi32(sums[t][h], _mm256_madd_epi16(pairs[t][h], ones));
                    }
                }
            }
            sums
        }
    }

    /// Weights of 8 bits, for which `vpmaddubsw` would saturate: even and odd bytes are widened to 16 bits.
    #[inline(always)]
    fn dot_wide<const CHUNKS: usize, const T: usize>(
        self,
        w: &[I; CHUNKS],
        a: [&[i32; CHUNKS]; T],
        mut sums: [I; T],
    ) -> [I; T] {
        // SAFETY: `self` exists only where AVX2 was detected.
        unsafe {
            let low = _mm256_set1_epi16(0x00ff);
            for c in 0..CHUNKS {
                let even = [_mm256_and_si256(w[c][0], low), _mm256_and_si256(w[c][1], low)];
                let odd = [_mm256_srli_epi16::<8>(w[c][0]), _mm256_srli_epi16::<8>(w[c][1])];
                for t in 0..T {
                    let x = _mm256_set1_epi32(a[t][c]);
                    let x_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                    let x_odd = _mm256_srai_epi16::<8>(x);
                    for h in 0..2 {
                        let sum = &mut sums[t][h];
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(even[h], x_even));
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(odd[h], x_odd));
                    }
                }
            }
            sums
        }
    }
}

// SAFETY: an `Avx2` is made only by `new`, after detection.
unsafe impl Isa for Avx2 {
    type F = F;
    type I = I;
    type M = [__m256; 2];

    const LEVEL: IsaLevel = IsaLevel::Avx2;
    const TILED: bool = true;
    const WIDE: bool = false;

    intrinsics! {
        fn splat(self, x: f32) -> F {
            [_mm256_set1_ps(x); 2]
        }
        fn load(self, x: &[f32]) -> F {
            let p = x[..LANES].as_ptr();
            [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))]
        }
        fn store(self, v: F, out: &mut [f32]) {
            let p = out[..LANES].as_mut_ptr();
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
        fn add(self, a: F, b: F) -> F {
            both!(_mm256_add_ps, a, b)
        }
        fn sub(self, a: F, b: F) -> F {
            both!(_mm256_sub_ps, a, b)
        }
        fn mul(self, a: F, b: F) -> F {
            both!(_mm256_mul_ps, a, b)
        }
        fn div(self, a: F, b: F) -> F {
            both!(_mm256_div_ps, a, b)
        }
        fn fma(self, a: F, b: F, c: F) -> F {
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
        }
        fn min(self, a: F, b: F) -> F {
            both!(_mm256_min_ps, a, b)
        }
        fn max(self, a: F, b: F) -> F {
            both!(_mm256_max_ps, a, b)
        }
        fn sqrt(self, a: F) -> F {
            both!(_mm256_sqrt_ps, a)
        }
        fn neg(self, a: F) -> F {
            both!(_mm256_xor_ps, a, [_mm256_set1_ps(-0.0); 2])
        }
        fn abs(self, a: F) -> F {
            both!(_mm256_andnot_ps, [_mm256_set1_ps(-0.0); 2], a)
        }
        fn round_even(self, a: F) -> F {
            both!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>, a)
        }
        fn floor(self, a: F) -> F {
            both!(_mm256_round_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>, a)
        }

        fn to_i32(self, a: F) -> I {
            both!(_mm256_cvtps_epi32, a)
        }
        fn to_f32(self, a: I) -> F {
            both!(_mm256_cvtepi32_ps, a)
        }
        fn cast_i(self, a: F) -> I {
            both!(_mm256_castps_si256, a)
        }
        fn cast_f(self, a: I) -> F {
            both!(_mm256_castsi256_ps, a)
        }

        fn lt(self, a: F, b: F) -> F {
            both!(_mm256_cmp_ps::<_CMP_LT_OQ>, a, b)
        }
        fn le(self, a: F, b: F) -> F {
            both!(_mm256_cmp_ps::<_CMP_LE_OQ>, a, b)
        }
        fn eq(self, a: F, b: F) -> F {
            both!(_mm256_cmp_ps::<_CMP_EQ_OQ>, a, b)
        }
        fn gt_i(self, a: I, b: I) -> F {
            both!(_mm256_castsi256_ps, both!(_mm256_cmpgt_epi32, a, b))
        }
        fn eq_i(self, a: I, b: I) -> F {
            both!(_mm256_castsi256_ps, both!(_mm256_cmpeq_epi32, a, b))
        }
        fn mask_bits(self, m: F) -> u16 {
            (_mm256_movemask_ps(m[0]) | _mm256_movemask_ps(m[1]) << 8) as u16
        }
        fn select(self, m: F, a: F, b: F) -> F {
            [_mm256_blendv_ps(b[0], a[0], m[0]), _mm256_blendv_ps(b[1], a[1], m[1])]
        }

        fn splat_i(self, x: i32) -> I {
            [_mm256_set1_epi32(x); 2]
        }
        fn load_i(self, x: &[i32]) -> I {
            let p = x[..LANES].as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))]
        }
        fn store_i(self, v: I, out: &mut [i32]) {
            let p = out[..LANES].as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(p, v[0]);
            _mm256_storeu_si256(p.add(1), v[1]);
        }
        fn add_i(self, a: I, b: I) -> I {
            both!(_mm256_add_epi32, a, b)
        }
        fn sub_i(self, a: I, b: I) -> I {
            both!(_mm256_sub_epi32, a, b)
        }
        fn mul_i(self, a: I, b: I) -> I {
            both!(_mm256_mullo_epi32, a, b)
        }
        fn and_i(self, a: I, b: I) -> I {
            both!(_mm256_and_si256, a, b)
        }
        fn or_i(self, a: I, b: I) -> I {
            both!(_mm256_or_si256, a, b)
        }
        fn xor_i(self, a: I, b: I) -> I {
            both!(_mm256_xor_si256, a, b)
        }
        fn shl_i(self, a: I, n: u32) -> I {
            shift!(_mm256_sll_epi32, a, n)
        }
        fn shr_i(self, a: I, n: u32) -> I {
            shift!(_mm256_sra_epi32, a, n)
        }
        fn shr_u(self, a: I, n: u32) -> I {
            shift!(_mm256_srl_epi32, a, n)
        }
        fn shl_16(self, a: I, n: u32) -> I {
            shift!(_mm256_sll_epi16, a, n)
        }
        fn shr_16(self, a: I, n: u32) -> I {
            shift!(_mm256_srl_epi16, a, n)
        }

        fn load_bytes(self, x: &[u8]) -> I {
            let p = x[..4 * LANES].as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))]
        }
        fn widen_u8(self, x: &[u8]) -> I {
            let x = _mm_loadu_si128(x[..LANES].as_ptr().cast());
            [_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(x, x))]
        }
        fn widen_i8(self, x: &[u8]) -> I {
            let x = _mm_loadu_si128(x[..LANES].as_ptr().cast());
            [_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x))]
        }
        fn load_f16(self, x: &[u16]) -> F {
            let p = x[..LANES].as_ptr().cast::<__m128i>();
            [_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))]
        }
        fn store_f16(self, v: F, out: &mut [u16]) {
            let p = out[..LANES].as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
        fn load_bf16(self, x: &[u16]) -> F {
            let p = x[..LANES].as_ptr().cast::<__m128i>();
            let x = [_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(1)))];
            both!(_mm256_castsi256_ps, both!(_mm256_slli_epi32::<16>, x))
        }
        fn load_f16_le(self, x: &[u8]) -> F {
            let p = x[..2 * LANES].as_ptr().cast::<__m128i>();
            [_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))]
        }
        fn load_bf16_le(self, x: &[u8]) -> F {
            let p = x[..2 * LANES].as_ptr().cast::<__m128i>();
            let x = [_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(1)))];
            both!(_mm256_castsi256_ps, both!(_mm256_slli_epi32::<16>, x))
        }

        fn mac_bytes(self, sum: I, w: I, x: I) -> I {
            // Pinned, or the product would be taken out of a loop in which it does not change.
            let products = [_mm256_maddubs_epi16(pin(w[0]), x[0]), _mm256_maddubs_epi16(pin(w[1]), x[1])];
            both!(_mm256_add_epi16, sum, products)
        }

        fn pack_i8(self, a: I, b: I) -> [i32; 8] {
            // Packing works within 128-bit halves; the permutation puts the words of four lanes back in order.
            let x = _mm256_packs_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(b[0], b[1]));
            let x = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            let mut words = [0; 8];
            _mm256_storeu_si256(words.as_mut_ptr().cast(), x);
            words
        }

        fn sums_i(self, a: I, b: I) -> [i32; 2] {
            sums8(_mm256_add_epi32(a[0], a[1]), _mm256_add_epi32(b[0], b[1]))
        }

        fn reduce_sum(self, a: F) -> f32 {
            sum8(_mm256_add_ps(a[0], a[1]))
        }
        fn reduce_max(self, a: F) -> f32 {
            max8(_mm256_max_ps(a[0], a[1]))
        }
    }

    #[inline(always)]
    fn prefetch<X: ?Sized>(self, x: &X, offset: usize) {
        // SAFETY: a prefetch reads nothing that the program could see, and the address need not be valid.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).cast::<i8>().wrapping_add(offset)) };
    }

    #[inline(always)]
    fn dot<const BITS: u32, const CHUNKS: usize, const U: usize, const T: usize>(
        self,
        w: [&[I; CHUNKS]; U],
        a: [&[i32; CHUNKS]; T],
        init: [I; T],
    ) -> [[I; T]; U] {
        let mut sums = [init; U];
        for u in 0..U {
            sums[u] = if BITS <= 6 {
                self.dot_narrow::<BITS, CHUNKS, T>(w[u], a, init)
            } else {
                self.dot_wide::<CHUNKS, T>(w[u], a, init)
            };
        }
        sums
    }
}
