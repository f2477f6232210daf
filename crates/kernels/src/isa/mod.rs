//! The instruction sets and the one vocabulary that kernels are written in.
//!
//! A kernel is a single `#[inline(always)]` function, generic over [`Isa`]: a machine with vectors of 16 `f32` lanes
//! and 16 `i32` lanes (which are 64 bytes as well). `dispatch!` compiles it once per level inside a
//! `#[target_feature]` wrapper and picks the wrapper at run time. Because every level runs the same operations on the
//! same lanes in the same order, and each operation is defined to the last bit (NaN payloads aside), all levels give
//! the same results.
//!
//! The types that implement [`Isa`] are proofs: `Avx2` exists only where detection found AVX2, so its methods need no
//! `unsafe` at the call. Closures inside a generic kernel do not inherit the wrapper's target features; use loops.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

mod scalar;
pub use scalar::Scalar;

#[cfg(all(target_arch = "x86_64", not(feature = "scalar-only")))]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(feature = "scalar-only")))]
mod avx512;
#[cfg(all(target_arch = "x86_64", not(feature = "scalar-only")))]
pub use {avx2::Avx2, avx512::Avx512};

/// Lanes of a vector: 16 `f32` or 16 `i32`.
pub const LANES: usize = 16;

/// The environment variable that forces a level: `scalar`, `avx2` or `avx512`.
pub const ISA_ENV: &str = "BANTAM_ISA";

/// An instruction set, from the slowest to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IsaLevel {
    /// Portable Rust; the specification of every kernel.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI, with FMA and F16C.
    Avx512,
}

/// Why a level cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The name is none of the known ones.
    #[error("BANTAM_ISA: unknown instruction set \"{name}\": use scalar, avx2 or avx512")]
    Unknown {
        /// What was given.
        name: String,
    },
    /// This machine (or this build) does not have it.
    #[error("instruction set {level} is not available here: use {best} or a lower one")]
    Unsupported {
        /// What was asked for.
        level: IsaLevel,
        /// The best level that would work.
        best: IsaLevel,
    },
}

impl IsaLevel {
    /// All levels, slowest first.
    pub const ALL: [IsaLevel; 3] = [IsaLevel::Scalar, IsaLevel::Avx2, IsaLevel::Avx512];

    /// The best level that this machine and this build have; detected once.
    #[must_use]
    pub fn best() -> IsaLevel {
        static BEST: OnceLock<IsaLevel> = OnceLock::new();
        *BEST.get_or_init(detect)
    }

    /// Whether this machine and this build have the level.
    #[must_use]
    pub fn is_available(self) -> bool {
        self <= IsaLevel::best()
    }

    /// The level to run: `forced` if given, else the one that the environment variable [`ISA_ENV`] names, else the
    /// best one.
    ///
    /// # Errors
    /// An unknown name in the environment, or a level that is not available here.
    pub fn choose(forced: Option<IsaLevel>) -> Result<IsaLevel, IsaError> {
        let level = match (forced, std::env::var_os(ISA_ENV)) {
            (Some(level), _) => level,
            (None, Some(name)) if !name.is_empty() => name.to_string_lossy().parse()?,
            (None, _) => return Ok(IsaLevel::best()),
        };
        if level.is_available() { Ok(level) } else { Err(IsaError::Unsupported { level, best: IsaLevel::best() }) }
    }
}

impl fmt::Display for IsaLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IsaLevel::Scalar => "scalar",
            IsaLevel::Avx2 => "avx2",
            IsaLevel::Avx512 => "avx512",
        })
    }
}

impl FromStr for IsaLevel {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        let lower = name.trim().to_ascii_lowercase();
        IsaLevel::ALL
            .into_iter()
            .find(|level| level.to_string() == lower)
            .ok_or_else(|| IsaError::Unknown { name: name.to_owned() })
    }
}

#[cfg(all(target_arch = "x86_64", not(feature = "scalar-only")))]
fn detect() -> IsaLevel {
    use std::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma") && has!("f16c")) {
        IsaLevel::Scalar
    } else if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("avx512vnni") {
        IsaLevel::Avx512
    } else {
        IsaLevel::Avx2
    }
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "scalar-only"))))]
fn detect() -> IsaLevel {
    IsaLevel::Scalar
}

/// A machine with vectors of 16 lanes. See the module's text for the rules.
///
/// Operations without a suffix are on `f32` lanes, those ending in `_i` on `i32` lanes. `i32` arithmetic wraps.
/// Slices handed to loads and stores must hold at least a vector (16 elements, 64 bytes); the rest is ignored, and a
/// shorter one panics. The `_partial` forms take any length.
///
/// # Safety
/// A value of the type must be proof that the instructions its methods use are available.
pub unsafe trait Isa: Copy + Send + Sync + 'static {
    /// 16 lanes of `f32`.
    type F: Copy;
    /// 16 lanes of `i32`; as bytes, 64 of them, lane 0's lowest byte first.
    type I: Copy;
    /// 16 truth values.
    type M: Copy;

    /// The level that this type stands for.
    const LEVEL: IsaLevel;
    /// Registers hold the sums of four tokens, which then share each load of weights. Where not, one token at a time is
    /// computed, and less code is compiled.
    const TILED: bool;
    /// Registers hold a tile of two units and six tokens.
    const WIDE: bool;
    /// Up to this many tokens, weights are unpacked in registers.
    const FEW: usize = if Self::WIDE {
        8
    } else if Self::TILED {
        4
    } else {
        usize::MAX
    };
    /// Tokens of a tile.
    const TILE_TOKENS: usize = if Self::WIDE { 6 } else { 4 };

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// The first 16 elements.
    fn load(self, x: &[f32]) -> Self::F;
    /// Writes the 16 lanes to the first 16 elements.
    fn store(self, v: Self::F, out: &mut [f32]);
    /// Lane-wise sum.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// Lane-wise difference.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// Lane-wise product.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// Lane-wise quotient.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: with a NaN in either, `b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: with a NaN in either, `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// Sign flipped (also of zero and NaN).
    fn neg(self, a: Self::F) -> Self::F;
    /// Sign cleared (also of zero and NaN).
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round_even(self, a: Self::F) -> Self::F;
    /// To the nearest integer below.
    fn floor(self, a: Self::F) -> Self::F;

    /// To the nearest `i32`, ties to even; NaN and what does not fit give `i32::MIN`.
    fn to_i32(self, a: Self::F) -> Self::I;
    /// To the nearest `f32`, ties to even.
    fn to_f32(self, a: Self::I) -> Self::F;
    /// The bits of the floats as integers.
    fn cast_i(self, a: Self::F) -> Self::I;
    /// The floats that have these bits.
    fn cast_f(self, a: Self::I) -> Self::F;

    /// `a < b`; false with a NaN.
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a <= b`; false with a NaN.
    fn le(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a == b`; false with a NaN.
    fn eq(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a > b`, signed.
    fn gt_i(self, a: Self::I, b: Self::I) -> Self::M;
    /// `a == b`.
    fn eq_i(self, a: Self::I, b: Self::I) -> Self::M;
    /// Lane i of the mask as bit i.
    fn mask_bits(self, m: Self::M) -> u16;
    /// `if m { a } else { b }`.
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;

    /// All lanes `x`.
    fn splat_i(self, x: i32) -> Self::I;
    /// The first 16 elements.
    fn load_i(self, x: &[i32]) -> Self::I;
    /// Writes the 16 lanes to the first 16 elements.
    fn store_i(self, v: Self::I, out: &mut [i32]);
    /// Lane-wise sum.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Lane-wise difference.
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Lane-wise product, low 32 bits.
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise and.
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise exclusive or.
    fn xor_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Left shift of each lane by `n < 32` bits.
    fn shl_i(self, a: Self::I, n: u32) -> Self::I;
    /// Right shift of each lane by `n < 32` bits, filling with the sign.
    fn shr_i(self, a: Self::I, n: u32) -> Self::I;
    /// Right shift of each lane by `n < 32` bits, filling with zeros.
    fn shr_u(self, a: Self::I, n: u32) -> Self::I;
    /// Left shift of each 16-bit half lane by `n < 16` bits.
    fn shl_16(self, a: Self::I, n: u32) -> Self::I;
    /// Right shift of each 16-bit half lane by `n < 16` bits, filling with zeros.
    fn shr_16(self, a: Self::I, n: u32) -> Self::I;

    /// The first 64 bytes.
    fn load_bytes(self, x: &[u8]) -> Self::I;
    /// The first 16 bytes, each widened to a lane without sign.
    fn widen_u8(self, x: &[u8]) -> Self::I;
    /// The first 16 bytes, each widened to a lane with its sign.
    fn widen_i8(self, x: &[u8]) -> Self::I;
    /// The first 16 elements as IEEE half precision.
    fn load_f16(self, x: &[u16]) -> Self::F;
    /// Rounds to IEEE half precision (to nearest even, overflow to infinity) into the first 16 elements.
    fn store_f16(self, v: Self::F, out: &mut [u16]);
    /// The first 16 elements as bfloat16.
    fn load_bf16(self, x: &[u16]) -> Self::F;
    /// The first 32 bytes as 16 little-endian IEEE halves.
    fn load_f16_le(self, x: &[u8]) -> Self::F;
    /// The first 32 bytes as 16 little-endian bfloat16.
    fn load_bf16_le(self, x: &[u8]) -> Self::F;

    /// Asks for the cache line `offset` bytes after the start of `x`, which need not lie within `x`; changes nothing.
    fn prefetch<X: ?Sized>(self, x: &X, offset: usize);

    /// For each of `U` units and `T` tokens the dot products of `4 * CHUNKS` weights of 16 rows with as many activations,
    /// added to `init[t]` in exact integers.
    ///
    /// `w[u][c]` holds for each lane (row) the 4 weights `4c..4c+4`, as unsigned bytes of at most `BITS` bits (4, 5, 6 or
    /// 8). `a[t][c]` packs the activations `4c..4c+4` of token `t`, signed bytes in -127..=127, the first one lowest.
    /// `CHUNKS` is 4 or 8.
    fn dot<const BITS: u32, const CHUNKS: usize, const U: usize, const T: usize>(
        self,
        w: [&[Self::I; CHUNKS]; U],
        a: [&[i32; CHUNKS]; T],
        init: [Self::I; T],
    ) -> [[Self::I; T]; U];

    /// `sum` plus the products of the unsigned bytes of `w` and the signed bytes of `x`, by the instructions that do the
    /// most of them per second: a yardstick, for the sums may wrap in 16 bits.
    fn mac_bytes(self, sum: Self::I, w: Self::I, x: Self::I) -> Self::I;

    /// The lanes of `a` and then of `b`, each within -128..=127, as bytes packed in order: the first is the lowest byte
    /// of the first word.
    fn pack_i8(self, a: Self::I, b: Self::I) -> [i32; 8];

    /// The sums of the lanes of `a` and of `b`, which wrap.
    fn sums_i(self, a: Self::I, b: Self::I) -> [i32; 2];
    /// The sum of the lanes, by one fixed tree: lane i + lane i+8, then i+4, i+2, i+1.
    fn reduce_sum(self, a: Self::F) -> f32;
    /// The largest lane, by [`Isa::max`] in the tree of [`Isa::reduce_sum`].
    fn reduce_max(self, a: Self::F) -> f32;

    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }

    /// The elements there are, at most 16, followed by zeros.
    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> Self::F {
        let mut lanes = [0.0; LANES];
        let n = x.len().min(LANES);
        lanes[..n].copy_from_slice(&x[..n]);
        self.load(&lanes)
    }

    /// Writes as many of the first lanes as there are elements, at most 16.
    #[inline(always)]
    fn store_partial(self, v: Self::F, out: &mut [f32]) {
        let lanes = self.to_array(v);
        let n = out.len().min(LANES);
        out[..n].copy_from_slice(&lanes[..n]);
    }

    /// The lanes as an array.
    #[inline(always)]
    fn to_array(self, v: Self::F) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes
    }

    /// The lanes as an array.
    #[inline(always)]
    fn to_array_i(self, v: Self::I) -> [i32; LANES] {
        let mut lanes = [0; LANES];
        self.store_i(v, &mut lanes);
        lanes
    }

    /// `if m { a } else { b }`.
    #[inline(always)]
    fn select_i(self, m: Self::M, a: Self::I, b: Self::I) -> Self::I {
        self.cast_i(self.select(m, self.cast_f(a), self.cast_f(b)))
    }
}

/// Compiles a generic kernel for every level and picks one at run time.
///
/// ```text
/// #[inline(always)]
/// fn scale_kernel<S: Isa>(s: S, x: &mut [f32], by: f32) { .. }
/// dispatch! {
///     /// Multiplies by a number.
///     pub(crate) fn scale(x: &mut [f32], by: f32) = scale_kernel;
/// }
/// scale(cpu.isa(), x, 2.0);
/// ```
///
/// Further generic parameters of the kernel (after `S`) are given twice, as declared and as used:
/// `fn tile[F: Format, const T: usize][F, T](..) -> f32 = tile_kernel;`.
///
/// A level that the machine lacks runs the scalar code; the result is the same.
#[allow(unused_macros)]
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $([$($decl:tt)*][$($used:tt)*])? ($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? = $kernel:ident;) => {
        $(#[$meta])*
        $vis fn $name $(<$($decl)*>)? (isa: $crate::isa::IsaLevel, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(all(target_arch = "x86_64", not(feature = "scalar-only")))]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2 $(<$($decl)*>)? (s: $crate::isa::Avx2, $($arg: $ty),*) $(-> $ret)? {
                    $kernel $(::<_, $($used)*>)? (s, $($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                fn avx512 $(<$($decl)*>)? (s: $crate::isa::Avx512, $($arg: $ty),*) $(-> $ret)? {
                    $kernel $(::<_, $($used)*>)? (s, $($arg),*)
                }
                if isa == $crate::isa::IsaLevel::Avx512 && let Some(s) = $crate::isa::Avx512::new() {
                    // SAFETY: `s` exists, so the machine has the features.
                    return unsafe { avx512 $(::<$($used)*>)? (s, $($arg),*) };
                }
                if isa == $crate::isa::IsaLevel::Avx2 && let Some(s) = $crate::isa::Avx2::new() {
                    // SAFETY: `s` exists, so the machine has the features.
                    return unsafe { avx2 $(::<$($used)*>)? (s, $($arg),*) };
                }
            }
            let _ = isa;
            $kernel $(::<_, $($used)*>)? ($crate::isa::Scalar, $($arg),*)
        }
    };
}
#[allow(unused_imports)]
pub(crate) use dispatch;

/// Methods of an [`Isa`] on x86 whose bodies may use the level's intrinsics.
#[cfg(all(target_arch = "x86_64", not(feature = "scalar-only")))]
macro_rules! intrinsics {
    ($(fn $name:ident ($self:ident $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[inline(always)]
            #[allow(unused_unsafe)]
            fn $name($self $(, $arg: $ty)*) $(-> $ret)? {
                // SAFETY: `self` exists only where the level's features were detected; pointers come from slices
                // whose length the body has checked.
                unsafe { $body }
            }
        )*
    };
}
#[cfg(all(target_arch = "x86_64", not(feature = "scalar-only")))]
use intrinsics;

#[cfg(test)]
mod tests;
