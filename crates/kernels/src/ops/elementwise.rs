//! Operations on single elements, alone or in pairs.

use super::{ITEM_ELEMENTS, for_each_rows};
use crate::Cpu;
use crate::isa::{Isa, LANES, dispatch};
use crate::math::{gelu_erf_lanes, gelu_tanh_lanes, silu_lanes, tanh_lanes};

/// A function of one element; `c` is a constant that some of them need.
trait Unary {
    fn apply<S: Isa>(s: S, x: S::F, c: f32) -> S::F;
}

/// A function of an element and its partner.
trait Binary {
    fn apply<S: Isa>(s: S, x: S::F, y: S::F) -> S::F;
}

#[inline(always)]
fn unary_kernel<S: Isa, O: Unary>(s: S, x: &mut [f32], c: f32) {
    let (whole, rest) = x.split_at_mut(x.len() / LANES * LANES);
    for x in whole.chunks_exact_mut(LANES) {
        s.store(O::apply(s, s.load(x), c), x);
    }
    s.store_partial(O::apply(s, s.load_partial(rest), c), rest);
}

#[inline(always)]
fn binary_kernel<S: Isa, O: Binary>(s: S, x: &mut [f32], y: &[f32]) {
    let (whole, rest) = x.split_at_mut(x.len() / LANES * LANES);
    let (y_whole, y_rest) = y.split_at(whole.len());
    for (x, y) in whole.chunks_exact_mut(LANES).zip(y_whole.chunks_exact(LANES)) {
        s.store(O::apply(s, s.load(x), s.load(y)), x);
    }
    s.store_partial(O::apply(s, s.load_partial(rest), s.load_partial(y_rest)), rest);
}

dispatch! {
    fn unary_slice[O: Unary][O](x: &mut [f32], c: f32) = unary_kernel;
}
dispatch! {
    fn binary_slice[O: Binary][O](x: &mut [f32], y: &[f32]) = binary_kernel;
}

fn unary<O: Unary>(cpu: &Cpu, x: &mut [f32], c: f32) {
    cpu.for_each_chunk_mut(x, ITEM_ELEMENTS, |_, x| unary_slice::<O>(cpu.isa(), x, c));
}

fn binary<O: Binary>(cpu: &Cpu, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both sides must have the same length");
    cpu.for_each_chunk_mut(x, ITEM_ELEMENTS, |item, x| {
        binary_slice::<O>(cpu.isa(), x, &y[item * ITEM_ELEMENTS..][..x.len()]);
    });
}

macro_rules! unary_ops {
    ($($(#[$meta:meta])* $name:ident, $op:ident = |$s:ident, $x:ident| $body:expr;)*) => {$(
        struct $op;
        impl Unary for $op {
            #[inline(always)]
            fn apply<S: Isa>($s: S, $x: S::F, _: f32) -> S::F {
                $body
            }
        }
        $(#[$meta])*
        pub fn $name(cpu: &Cpu, x: &mut [f32]) {
            unary::<$op>(cpu, x, 0.0);
        }
    )*};
}

macro_rules! constant_ops {
    ($($(#[$meta:meta])* $name:ident, $op:ident = |$s:ident, $x:ident, $c:ident| $body:expr;)*) => {$(
        struct $op;
        impl Unary for $op {
            #[inline(always)]
            fn apply<S: Isa>($s: S, $x: S::F, $c: f32) -> S::F {
                $body
            }
        }
        $(#[$meta])*
        pub fn $name(cpu: &Cpu, x: &mut [f32], $c: f32) {
            unary::<$op>(cpu, x, $c);
        }
    )*};
}

macro_rules! binary_ops {
    ($($(#[$meta:meta])* $name:ident($x:ident, $y:ident), $op:ident = |$s:ident| $body:expr;)*) => {$(
        struct $op;
        impl Binary for $op {
            #[inline(always)]
            fn apply<S: Isa>($s: S, $x: S::F, $y: S::F) -> S::F {
                $body
            }
        }
        $(#[$meta])*
        ///
        /// # Panics
        /// When the lengths differ.
        pub fn $name(cpu: &Cpu, $x: &mut [f32], $y: &[f32]) {
            binary::<$op>(cpu, $x, $y);
        }
    )*};
}

unary_ops! {
    /// `x = x / (1 + e^-x)`.
    silu, Silu = |s, x| silu_lanes(s, x);
    /// `x = gelu(x)` with the tanh formula (`gelu_pytorch_tanh`, `gelu_new`).
    gelu_tanh, GeluTanh = |s, x| gelu_tanh_lanes(s, x);
    /// `x = gelu(x)` with the error function (plain `gelu`).
    gelu_erf, GeluErf = |s, x| gelu_erf_lanes(s, x);
}

constant_ops! {
    /// `x = x * by`.
    scale, Scale = |s, x, by| s.mul(x, s.splat(by));
    /// `x = cap * tanh(x / cap)`, as Gemma 2 bounds its scores and logits.
    soft_cap, SoftCap = |s, x, cap| soft_cap_lanes(s, x, s.splat(cap));
}

binary_ops! {
    /// `x = x + y`.
    add_assign(x, y), Add = |s| s.add(x, y);
    /// `gate = silu(gate) * up`.
    silu_mul(gate, up), SiluMul = |s| s.mul(silu_lanes(s, gate), up);
    /// `gate = gelu_tanh(gate) * up`.
    gelu_tanh_mul(gate, up), GeluTanhMul = |s| s.mul(gelu_tanh_lanes(s, gate), up);
    /// `gate = gelu_erf(gate) * up`.
    gelu_erf_mul(gate, up), GeluErfMul = |s| s.mul(gelu_erf_lanes(s, gate), up);
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
pub(crate) fn soft_cap_lanes<S: Isa>(s: S, x: S::F, cap: S::F) -> S::F {
    s.mul(cap, tanh_lanes(s, s.div(x, cap)))
}

/// Adds `bias` to every row of `x`, `[rows][bias.len()]`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn add_bias(cpu: &Cpu, x: &mut [f32], bias: &[f32]) {
    for_each_rows(cpu, x, bias.len(), |_, rows| {
        for row in rows.chunks_exact_mut(bias.len()) {
            binary_slice::<Add>(cpu.isa(), row, bias);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math;
    use crate::ops::tests::{every_cpu, values};

    /// Lengths around a vector and around a work item.
    const LENGTHS: [usize; 7] = [0, 1, 15, 16, 37, ITEM_ELEMENTS, 2 * ITEM_ELEMENTS + 21];

    /// Each operation as the library runs it, and the definition of its result for one element.
    type Case = (&'static str, fn(&Cpu, &mut [f32], &[f32]), fn(f32, f32) -> f32);

    fn one(lanes: fn(crate::isa::Scalar, [f32; LANES]) -> [f32; LANES], x: f32) -> f32 {
        lanes(crate::isa::Scalar, [x; LANES])[0]
    }

    const CASES: [Case; 9] = [
        ("add_assign", add_assign, |x, y| x + y),
        ("scale", |cpu, x, _| scale(cpu, x, 1.7), |x, _| x * 1.7),
        ("soft_cap", |cpu, x, _| soft_cap(cpu, x, 30.0), |x, _| 30.0 * math::tanh(x / 30.0)),
        ("silu", |cpu, x, _| silu(cpu, x), |x, _| x / (1.0 + math::exp(-x))),
        ("silu_mul", silu_mul, |x, y| x / (1.0 + math::exp(-x)) * y),
        ("gelu_tanh", |cpu, x, _| gelu_tanh(cpu, x), |x, _| one(gelu_tanh_lanes, x)),
        ("gelu_tanh_mul", gelu_tanh_mul, |x, y| one(gelu_tanh_lanes, x) * y),
        ("gelu_erf", |cpu, x, _| gelu_erf(cpu, x), |x, _| one(gelu_erf_lanes, x)),
        ("gelu_erf_mul", gelu_erf_mul, |x, y| one(gelu_erf_lanes, x) * y),
    ];

    #[test]
    fn every_element_by_its_definition_on_every_level() {
        for (name, op, definition) in CASES {
            for n in LENGTHS {
                let (x, y) = (values(1, n), values(2, n));
                let expected: Vec<f32> = x.iter().zip(&y).map(|(&x, &y)| definition(x, y)).collect();
                for cpu in every_cpu() {
                    let mut out = x.clone();
                    op(&cpu, &mut out, &y);
                    assert_eq!(out, expected, "{name} of {n} values on {cpu:?}");
                }
            }
        }
    }

    #[test]
    fn bias_is_added_to_every_row() {
        let bias = values(3, 21);
        let x = values(4, 21 * 900);
        let expected: Vec<f32> = x.iter().enumerate().map(|(i, x)| x + bias[i % 21]).collect();
        for cpu in every_cpu() {
            let mut out = x.clone();
            add_bias(&cpu, &mut out, &bias);
            assert_eq!(out, expected);
        }
    }

    #[test]
    #[should_panic(expected = "same length")]
    fn lengths_are_checked() {
        add_assign(&every_cpu()[0], &mut [1.0; 3], &[1.0; 4]);
    }
}
