//! Elementary functions whose bits do not depend on the machine: our own polynomials, or the `libm` crate's code, never
//! the system's library.
//!
//! The functions on vectors are generic over [`Isa`]; those on single numbers are lane 0 of the scalar level, so a
//! kernel and a plain call agree to the last bit. Coefficients are minimax fits in relative error made for these
//! intervals, rounded to f32 one by one with the others fitted again. NaN passes through.

use crate::isa::{Isa, Scalar};

/// 1.5 * 2^23: adding it leaves the nearest integer (ties to even) in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;
const LN_2_LOW: f32 = -1.904_654_2e-9;

/// e^x, within 2 ulp; gives infinity from 88.73 on and 0 below -103.98, with subnormals in between.
#[inline(always)]
pub(crate) fn exp_lanes<S: Isa>(s: S, x: S::F) -> S::F {
    // The limits keep the exponent below within range; both lie beyond where the result is infinity or 0.
    let bounded = s.min(s.max(x, s.splat(-105.0)), s.splat(89.0));
    let rounded = s.fma(bounded, s.splat(std::f32::consts::LOG2_E), s.splat(ROUNDER));
    let n = s.sub(rounded, s.splat(ROUNDER));
    // x = n ln 2 + r with |r| <= ln 2 / 2
    let r = s.fma(n, s.splat(-std::f32::consts::LN_2), bounded);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let p = poly(s, r, [0.499_999_94, 0.166_665_21, 0.041_668_266, 0.008_368_677, 0.001_382_070_8]);
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    // Two factors, so that neither leaves the normal range; the second product rounds where the result is subnormal.
    let n = s.sub_i(s.cast_i(rounded), s.splat_i(ROUNDER.to_bits() as i32));
    let half = s.shr_i(n, 1);
    let y = s.mul(s.mul(p, power_of_two(s, half)), power_of_two(s, s.sub_i(n, half)));
    s.select(s.eq(x, x), y, x)
}

/// tanh x, within 2 ulp.
#[inline(always)]
pub(crate) fn tanh_lanes<S: Isa>(s: S, x: S::F) -> S::F {
    let magnitude = s.abs(x);
    let square = s.mul(x, x);
    let p = poly(s, square, [-0.333_332_8, 0.133_314_12, -0.053_737_435, 0.020_632_321, -0.005_698_03]);
    let small = s.fma(s.mul(magnitude, square), p, magnitude);
    // 1 - 2 / (e^2|x| + 1), which rounds to 1 long before e^2|x| becomes infinite
    let denominator = s.add(exp_lanes(s, s.add(magnitude, magnitude)), s.splat(1.0));
    let large = s.sub(s.splat(1.0), s.div(s.splat(2.0), denominator));
    let y = s.select(s.lt(magnitude, s.splat(0.625)), small, large);
    s.select(s.eq(x, x), with_sign_of(s, y, x), x)
}

/// erf x, within 2 ulp.
#[inline(always)]
pub(crate) fn erf_lanes<S: Isa>(s: S, x: S::F) -> S::F {
    let square = s.mul(x, x);
    let p = [0.128_379_17, -0.376_126_3, 0.112_836_26, -0.026_855_728, 0.005_192_377, -0.000_804_917_4, 7.992_796e-5];
    // 1 - e^q(|x|) with q a fit of ln erfc; at 4 it has rounded to 1
    let magnitude = s.min(s.abs(x), s.splat(4.0));
    let small = s.fma(magnitude, poly(s, square, p), magnitude);
    #[rustfmt::skip]
    let q = [0.000_173_979_72, -1.129_511_6, -0.633_353_53, -0.108_272_94, 0.025_114_905, -0.004_169_388_7,
        0.000_434_127_14, -2.106_703_3e-5];
    let tail = exp_lanes(s, poly(s, magnitude, q));
    let y = s.select(s.lt(magnitude, s.splat(0.921_875)), small, s.sub(s.splat(1.0), tail));
    s.select(s.eq(x, x), with_sign_of(s, y, x), x)
}

/// x / (1 + e^-x).
#[inline(always)]
pub(crate) fn silu_lanes<S: Isa>(s: S, x: S::F) -> S::F {
    s.div(x, s.add(s.splat(1.0), exp_lanes(s, s.neg(x))))
}

/// x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), written with the logistic function, which is the same and keeps
/// its precision for negative x.
#[inline(always)]
pub(crate) fn gelu_tanh_lanes<S: Isa>(s: S, x: S::F) -> S::F {
    let cubic = s.fma(s.mul(x, x), s.splat(0.044_715), s.splat(1.0));
    let inner = s.mul(s.mul(x, cubic), s.splat(-1.595_769_2));
    s.div(x, s.add(s.splat(1.0), exp_lanes(s, inner)))
}

/// x / 2 * (1 + erf(x / sqrt 2)).
#[inline(always)]
pub(crate) fn gelu_erf_lanes<S: Isa>(s: S, x: S::F) -> S::F {
    let erf = erf_lanes(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
    s.mul(s.mul(x, s.splat(0.5)), s.add(s.splat(1.0), erf))
}

/// `c[0] + c[1] x + c[2] x^2 + ...` by Horner's rule.
#[inline(always)]
fn poly<S: Isa, const N: usize>(s: S, x: S::F, c: [f32; N]) -> S::F {
    let mut y = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        y = s.fma(y, x, s.splat(c[i]));
    }
    y
}

/// 2^n for n in the range of normal exponents.
#[inline(always)]
fn power_of_two<S: Isa>(s: S, n: S::I) -> S::F {
    s.cast_f(s.shl_i(s.add_i(n, s.splat_i(127)), 23))
}

/// `magnitude`, which is not negative, with the sign of `x`.
#[inline(always)]
fn with_sign_of<S: Isa>(s: S, magnitude: S::F, x: S::F) -> S::F {
    let sign = s.and_i(s.cast_i(x), s.splat_i(i32::MIN));
    s.cast_f(s.or_i(s.cast_i(magnitude), sign))
}

macro_rules! lane_zero {
    ($($(#[$meta:meta])* $name:ident = $lanes:ident;)*) => {$(
        $(#[$meta])*
        #[must_use]
        pub fn $name(x: f32) -> f32 {
            Scalar.to_array($lanes(Scalar, Scalar.splat(x)))[0]
        }
    )*};
}

lane_zero! {
    /// e^x within 2 ulp; overflows to infinity, underflows through the subnormals to 0.
    exp = exp_lanes;
    /// The hyperbolic tangent within 2 ulp.
    tanh = tanh_lanes;
    /// The error function within 2 ulp.
    erf = erf_lanes;
}

/// The sine of `x` radians.
#[must_use]
pub fn sin(x: f32) -> f32 {
    libm::sinf(x)
}

/// The cosine of `x` radians.
#[must_use]
pub fn cos(x: f32) -> f32 {
    libm::cosf(x)
}

/// The natural logarithm.
#[must_use]
pub fn ln(x: f32) -> f32 {
    libm::logf(x)
}

/// `x` to the power of `y`.
#[must_use]
pub fn powf(x: f32, y: f32) -> f32 {
    libm::powf(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{IsaLevel, LANES, dispatch};

    const N_FUNCTIONS: usize = 6;

    #[inline(always)]
    fn all_kernel<S: Isa>(s: S, x: &[f32; LANES]) -> [[f32; LANES]; N_FUNCTIONS] {
        let x = s.load(x);
        [
            s.to_array(exp_lanes(s, x)),
            s.to_array(tanh_lanes(s, x)),
            s.to_array(erf_lanes(s, x)),
            s.to_array(silu_lanes(s, x)),
            s.to_array(gelu_tanh_lanes(s, x)),
            s.to_array(gelu_erf_lanes(s, x)),
        ]
    }
    dispatch! {
        fn all(x: &[f32; LANES]) -> [[f32; LANES]; N_FUNCTIONS] = all_kernel;
    }

    /// Bit patterns from all over the `f32` range, every `step`-th.
    fn sweep(step: usize) -> impl Iterator<Item = [f32; LANES]> {
        (0..u64::from(u32::MAX))
            .step_by(step * LANES)
            .map(move |i| std::array::from_fn(|lane| f32::from_bits((i as u32).wrapping_add((lane * step) as u32))))
    }

    /// The distance of `y` from `exact` in units of the last place of an f32 there.
    fn ulps(y: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        if y == nearest || (y.is_nan() && nearest.is_nan()) {
            return 0.0;
        }
        let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
        (f64::from(y) - exact).abs() / 2f64.powi(exponent - 23)
    }

    #[test]
    fn exp_is_within_2_ulp() {
        for x in sweep(1999) {
            for (x, y) in x.iter().zip(all(IsaLevel::best(), &x)[0]) {
                assert!(ulps(y, f64::from(*x).exp()) <= 2.0, "exp({x}) = {y}");
            }
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert!(exp(88.722).is_finite());
        assert_eq!(exp(88.73), f32::INFINITY);
        assert_eq!(exp(-103.0), f32::from_bits(1));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_2_ulp() {
        for x in sweep(3001) {
            for (x, y) in x.iter().zip(all(IsaLevel::best(), &x)[1]) {
                assert!(ulps(y, f64::from(*x).tanh()) <= 2.0, "tanh({x}) = {y}");
            }
        }
        assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn erf_is_within_2_ulp() {
        for x in sweep(3001) {
            for (x, y) in x.iter().zip(all(IsaLevel::best(), &x)[2]) {
                assert!(ulps(y, libm::erf(f64::from(*x))) <= 2.0, "erf({x}) = {y}");
            }
        }
        assert_eq!(erf(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn activations_follow_their_formulas() {
        for i in -4000..4000 {
            let x = i as f32 / 300.0;
            let [_, _, _, silu, gelu_tanh, gelu_erf] = all(IsaLevel::best(), &[x; LANES]).map(|y| f64::from(y[0]));
            let x = f64::from(x);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs() + 1e-37;
            assert!(near(silu, x / (1.0 + (-x).exp())), "silu({x}) = {silu}");
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            // The logistic form; for large |x| the argument's own rounding counts as many times as it is large.
            let exact = x / (1.0 + (-2.0 * inner).exp());
            let tolerance = 1e-6 * exact.abs() * (1.0 + inner.abs()) + 1e-37;
            assert!((gelu_tanh - exact).abs() <= tolerance, "gelu_tanh({x}) = {gelu_tanh}");
            let exact = 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()));
            assert!((gelu_erf - exact).abs() <= 2e-7 * x.abs(), "gelu_erf({x}) = {gelu_erf}");
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        for level in IsaLevel::ALL.into_iter().filter(|l| l.is_available()) {
            for x in sweep(40_009) {
                let (a, b) = (all(IsaLevel::Scalar, &x), all(level, &x));
                for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
                    assert!(same(*a, *b), "{level} differs from scalar near {x:?}: {b} {a}");
                }
                for (i, &x) in x.iter().enumerate() {
                    assert!(same(exp(x), a[0][i]) && same(tanh(x), a[1][i]) && same(erf(x), a[2][i]));
                }
            }
        }
    }
}
