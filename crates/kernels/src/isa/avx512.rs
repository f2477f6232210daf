//! AVX-512 with VNNI: a vector is one 512-bit register.

use std::arch::x86_64::*;

use super::avx2::{max8, sum8, sums8};
use super::{Isa, IsaLevel, LANES, intrinsics};

/// Proof that the machine has AVX-512 F, BW, VL, DQ and VNNI, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, where the machine and the build have the level.
    #[must_use]
    pub fn new() -> Option<Self> {
        IsaLevel::Avx512.is_available().then_some(Avx512(()))
    }
}

type F = __m512;
type I = __m512i;

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;

// SAFETY: an `Avx512` is made only by `new`, after detection.
unsafe impl Isa for Avx512 {
    type F = F;
    type I = I;
    type M = __mmask16;

    const LEVEL: IsaLevel = IsaLevel::Avx512;
    const TILED: bool = true;
    const WIDE: bool = true;

    intrinsics! {
        fn splat(self, x: f32) -> F {
            _mm512_set1_ps(x)
        }
        fn load(self, x: &[f32]) -> F {
            _mm512_loadu_ps(x[..LANES].as_ptr())
        }
        fn store(self, v: F, out: &mut [f32]) {
            _mm512_storeu_ps(out[..LANES].as_mut_ptr(), v)
        }
        fn add(self, a: F, b: F) -> F {
            _mm512_add_ps(a, b)
        }
        fn sub(self, a: F, b: F) -> F {
            _mm512_sub_ps(a, b)
        }
        fn mul(self, a: F, b: F) -> F {
            _mm512_mul_ps(a, b)
        }
        fn div(self, a: F, b: F) -> F {
            _mm512_div_ps(a, b)
        }
        fn fma(self, a: F, b: F, c: F) -> F {
            _mm512_fmadd_ps(a, b, c)
        }
        fn min(self, a: F, b: F) -> F {
            _mm512_min_ps(a, b)
        }
        fn max(self, a: F, b: F) -> F {
            _mm512_max_ps(a, b)
        }
        fn sqrt(self, a: F) -> F {
            _mm512_sqrt_ps(a)
        }
        fn neg(self, a: F) -> F {
            _mm512_xor_ps(a, _mm512_set1_ps(-0.0))
        }
        fn abs(self, a: F) -> F {
            _mm512_andnot_ps(_mm512_set1_ps(-0.0), a)
        }
        fn round_even(self, a: F) -> F {
            _mm512_roundscale_ps::<NEAREST>(a)
        }
        fn floor(self, a: F) -> F {
            _mm512_roundscale_ps::<DOWN>(a)
        }

        fn to_i32(self, a: F) -> I {
            _mm512_cvtps_epi32(a)
        }
        fn to_f32(self, a: I) -> F {
            _mm512_cvtepi32_ps(a)
        }
        fn cast_i(self, a: F) -> I {
            _mm512_castps_si512(a)
        }
        fn cast_f(self, a: I) -> F {
            _mm512_castsi512_ps(a)
        }

        fn lt(self, a: F, b: F) -> __mmask16 {
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b)
        }
        fn le(self, a: F, b: F) -> __mmask16 {
            _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b)
        }
        fn eq(self, a: F, b: F) -> __mmask16 {
            _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b)
        }
        fn gt_i(self, a: I, b: I) -> __mmask16 {
            _mm512_cmpgt_epi32_mask(a, b)
        }
        fn eq_i(self, a: I, b: I) -> __mmask16 {
            _mm512_cmpeq_epi32_mask(a, b)
        }
        fn mask_bits(self, m: __mmask16) -> u16 {
            m
        }
        fn select(self, m: __mmask16, a: F, b: F) -> F {
            _mm512_mask_blend_ps(m, b, a)
        }

        fn splat_i(self, x: i32) -> I {
            _mm512_set1_epi32(x)
        }
        fn load_i(self, x: &[i32]) -> I {
            _mm512_loadu_si512(x[..LANES].as_ptr().cast())
        }
        fn store_i(self, v: I, out: &mut [i32]) {
            _mm512_storeu_si512(out[..LANES].as_mut_ptr().cast(), v)
        }
        fn add_i(self, a: I, b: I) -> I {
            _mm512_add_epi32(a, b)
        }
        fn sub_i(self, a: I, b: I) -> I {
            _mm512_sub_epi32(a, b)
        }
        fn mul_i(self, a: I, b: I) -> I {
            _mm512_mullo_epi32(a, b)
        }
        fn and_i(self, a: I, b: I) -> I {
            _mm512_and_si512(a, b)
        }
        fn or_i(self, a: I, b: I) -> I {
            _mm512_or_si512(a, b)
        }
        fn xor_i(self, a: I, b: I) -> I {
            _mm512_xor_si512(a, b)
        }
        fn shl_i(self, a: I, n: u32) -> I {
            _mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32))
        }
        fn shr_i(self, a: I, n: u32) -> I {
            _mm512_sra_epi32(a, _mm_cvtsi32_si128(n as i32))
        }
        fn shr_u(self, a: I, n: u32) -> I {
            _mm512_srl_epi32(a, _mm_cvtsi32_si128(n as i32))
        }
        fn shl_16(self, a: I, n: u32) -> I {
            _mm512_sll_epi16(a, _mm_cvtsi32_si128(n as i32))
        }
        fn shr_16(self, a: I, n: u32) -> I {
            _mm512_srl_epi16(a, _mm_cvtsi32_si128(n as i32))
        }

        fn load_bytes(self, x: &[u8]) -> I {
            _mm512_loadu_si512(x[..4 * LANES].as_ptr().cast())
        }
        fn widen_u8(self, x: &[u8]) -> I {
            _mm512_cvtepu8_epi32(_mm_loadu_si128(x[..LANES].as_ptr().cast()))
        }
        fn widen_i8(self, x: &[u8]) -> I {
            _mm512_cvtepi8_epi32(_mm_loadu_si128(x[..LANES].as_ptr().cast()))
        }
        fn load_f16(self, x: &[u16]) -> F {
            _mm512_cvtph_ps(_mm256_loadu_si256(x[..LANES].as_ptr().cast()))
        }
        fn store_f16(self, v: F, out: &mut [u16]) {
            let p = out[..LANES].as_mut_ptr().cast();
            _mm256_storeu_si256(p, _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v))
        }
        fn load_bf16(self, x: &[u16]) -> F {
            let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x[..LANES].as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x))
        }
        fn load_f16_le(self, x: &[u8]) -> F {
            _mm512_cvtph_ps(_mm256_loadu_si256(x[..2 * LANES].as_ptr().cast()))
        }
        fn load_bf16_le(self, x: &[u8]) -> F {
            let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x[..2 * LANES].as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x))
        }

        fn mac_bytes(self, sum: I, w: I, x: I) -> I {
            _mm512_dpbusd_epi32(sum, w, x)
        }

        fn pack_i8(self, a: I, b: I) -> [i32; 8] {
            let mut words = [0; 8];
            let p = words.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(p, _mm512_cvtepi32_epi8(a));
            _mm_storeu_si128(p.add(1), _mm512_cvtepi32_epi8(b));
            words
        }

        fn sums_i(self, a: I, b: I) -> [i32; 2] {
            sums8(
                _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a)),
                _mm256_add_epi32(_mm512_castsi512_si256(b), _mm512_extracti64x4_epi64::<1>(b)),
            )
        }

        fn reduce_sum(self, a: F) -> f32 {
            sum8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
        }
        fn reduce_max(self, a: F) -> f32 {
            max8(_mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
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
        // SAFETY: `self` exists only where AVX-512 VNNI was detected.
        unsafe {
            for c in 0..CHUNKS {
                for t in 0..T {
                    let x = _mm512_set1_epi32(a[t][c]);
                    for u in 0..U {
                        sums[u][t] = _mm512_dpbusd_epi32(sums[u][t], w[u][c], x);
                    }
                }
            }
        }
        sums
    }
}
