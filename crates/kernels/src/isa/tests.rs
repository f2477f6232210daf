//! Every level against the scalar one, operation by operation, on ordinary and on awkward lanes.

use super::*;

const AWKWARD: [f32; 16] = [
    0.0,
    -0.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    1.0e-42,
    -f32::MIN_POSITIVE,
    65504.0,
    65520.0,
    -2_147_483_648.0,
    2_147_483_648.0,
    0.5,
    1.5,
    -2.5,
    3.0e38,
    6.0e-8,
];

fn numbers(seed: u64, n: usize) -> Vec<u64> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        })
        .collect()
}

/// NaNs compare equal: their payload is the one thing that levels may choose.
fn bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }
}

/// Runs every operation and records what it gives, as words.
#[inline(always)]
fn trace_kernel<S: Isa>(s: S, a: &[f32], b: &[f32], ints: &[i32], bytes: &[u8], out: &mut Vec<u32>) {
    let (x, y) = (s.load(a), s.load(b));
    let floats = [
        s.add(x, y),
        s.sub(x, y),
        s.mul(x, y),
        s.div(x, y),
        s.fma(x, y, s.splat(0.1)),
        s.min(x, y),
        s.max(x, y),
        s.sqrt(x),
        s.neg(x),
        s.abs(x),
        s.round_even(x),
        s.floor(x),
        s.to_f32(s.load_i(ints)),
        s.cast_f(s.cast_i(x)),
        s.select(s.lt(x, y), x, y),
        s.load_partial(&a[..5]),
        s.load_f16_le(bytes),
        s.load_bf16_le(bytes),
        s.zero(),
    ];
    for v in floats {
        out.extend(s.to_array(v).map(bits));
    }
    out.extend([bits(s.reduce_sum(x)), bits(s.reduce_max(x)), bits(s.reduce_sum(y)), bits(s.reduce_max(y))]);
    out.extend(s.sums_i(s.load_i(ints), s.cast_i(x)).map(|sum| sum as u32));
    let masks = [
        s.lt(x, y),
        s.le(x, y),
        s.eq(x, x),
        s.gt_i(s.load_i(ints), s.splat_i(3)),
        s.eq_i(s.load_i(ints), s.splat_i(7)),
    ];
    for m in masks {
        out.push(u32::from(s.mask_bits(m)));
    }
    let (i, j) = (s.load_i(ints), s.load_bytes(bytes));
    let integers = [
        s.to_i32(x),
        s.to_i32(y),
        s.add_i(i, j),
        s.sub_i(i, j),
        s.mul_i(i, j),
        s.and_i(i, j),
        s.or_i(i, j),
        s.xor_i(i, j),
        s.shl_i(i, 7),
        s.shr_i(i, 7),
        s.shr_u(i, 7),
        s.shl_16(j, 3),
        s.shr_16(j, 3),
        s.widen_u8(bytes),
        s.widen_i8(bytes),
        s.select_i(s.gt_i(i, j), i, j),
    ];
    for v in integers {
        out.extend(s.to_array_i(v).map(|x| x as u32));
    }
    let mut halves = [0u16; 16];
    s.store_f16(x, &mut halves);
    // A NaN's payload may differ.
    let nan = s.load_f16(&halves);
    out.extend(s.to_array(nan).map(bits));
    s.store_f16(y, &mut halves);
    out.extend(s.to_array(s.load_f16(&halves)).map(bits));
    out.extend(s.to_array(s.load_bf16(&halves)).map(bits));
    let (low, high) = (s.widen_i8(bytes), s.widen_i8(&bytes[16..]));
    out.extend(s.pack_i8(low, high).map(|x| x as u32));
    let mut tail = [9.0; 3];
    s.store_partial(x, &mut tail);
    out.extend(tail.map(bits));
}
dispatch! { fn trace(a: &[f32], b: &[f32], ints: &[i32], bytes: &[u8], out: &mut Vec<u32>) = trace_kernel; }

#[inline(always)]
fn dot_kernel<S: Isa, const BITS: u32, const CHUNKS: usize>(s: S, w: &[u8], a: &[[i32; CHUNKS]; 3]) -> Vec<i32> {
    let mut v = [s.splat_i(0); CHUNKS];
    for c in 0..CHUNKS {
        v[c] = s.load_bytes(&w[64 * c..]);
    }
    let mut other = v;
    other.reverse();
    let init = [s.splat_i(-1000), s.splat_i(0), s.splat_i(7)];
    let mut out = Vec::new();
    for sum in s.dot::<BITS, CHUNKS, 2, 3>([&v, &other], [&a[0], &a[1], &a[2]], init).into_iter().flatten() {
        out.extend(s.to_array_i(sum));
    }
    out
}
dispatch! {
    fn dot[const BITS: u32, const CHUNKS: usize][BITS, CHUNKS](w: &[u8], a: &[[i32; CHUNKS]; 3]) -> Vec<i32> = dot_kernel;
}

fn levels() -> Vec<IsaLevel> {
    let levels: Vec<_> = IsaLevel::ALL.into_iter().filter(|l| l.is_available()).collect();
    println!("levels: {levels:?}");
    levels
}

#[test]
fn operations_agree_on_every_level() {
    for round in 0..200u64 {
        let n = numbers(round, 64);
        let float = |x: u64| f32::from_bits((x >> 13) as u32);
        let small = |x: u64| ((x >> 20) as i32 as f32) / 65536.0;
        let mut a: Vec<f32> = n[..16].iter().map(|&x| if round % 2 == 0 { float(x) } else { small(x) }).collect();
        let mut b: Vec<f32> = n[16..32].iter().map(|&x| if round % 3 == 0 { float(x) } else { small(x) }).collect();
        if round < 16 {
            a = AWKWARD.to_vec();
            b = (0..16).map(|i| AWKWARD[(i + round as usize) % 16]).collect();
        }
        let ints: Vec<i32> = n[32..48].iter().map(|&x| if x % 3 == 0 { (x % 9) as i32 } else { x as i32 }).collect();
        let bytes: Vec<u8> = n[48..56].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut want = Vec::new();
        trace(IsaLevel::Scalar, &a, &b, &ints, &bytes, &mut want);
        for level in levels() {
            let mut got = Vec::new();
            trace(level, &a, &b, &ints, &bytes, &mut got);
            assert_eq!(got, want, "{level} round {round}");
        }
    }
}

fn check_dot<const BITS: u32, const CHUNKS: usize>() {
    let mask = (1u32 << BITS) as u8;
    for round in 0..50u64 {
        // The first rounds hold the extremes, which is where 16-bit sums would overflow.
        let w: Vec<u8> = numbers(round, 64 * CHUNKS)
            .iter()
            .map(|&x| if round < 4 { mask.wrapping_sub(1) } else { (x >> 11) as u8 & mask.wrapping_sub(1) })
            .collect();
        let acts: Vec<i8> = numbers(round + 1000, 12 * CHUNKS)
            .iter()
            .map(|&x| match round {
                0 => 127,
                1 => -127,
                _ => ((x >> 17) % 255) as i8 as i16 as i8,
            })
            .map(|x: i8| x.max(-127))
            .collect();
        let mut a = [[0i32; CHUNKS]; 3];
        for t in 0..3 {
            for c in 0..CHUNKS {
                a[t][c] = i32::from_le_bytes([0, 1, 2, 3].map(|j| acts[4 * (CHUNKS * t + c) + j] as u8));
            }
        }
        let mut want = Vec::new();
        // The second unit has the first one's chunks in reverse.
        for unit in 0..2 {
            for (t, init) in [-1000, 0, 7].into_iter().enumerate() {
                for lane in 0..16 {
                    let mut sum = init;
                    for k in 0..4 * CHUNKS {
                        let chunk = if unit == 0 { k / 4 } else { CHUNKS - 1 - k / 4 };
                        sum += i32::from(w[64 * chunk + 4 * lane + k % 4]) * i32::from(acts[4 * CHUNKS * t + k]);
                    }
                    want.push(sum);
                }
            }
        }
        for level in levels() {
            assert_eq!(dot::<BITS, CHUNKS>(level, &w, &a), want, "{level}, {BITS} bits, round {round}");
        }
    }
}

#[test]
fn dot_is_exact_for_every_width() {
    check_dot::<4, 8>();
    check_dot::<5, 8>();
    check_dot::<6, 8>();
    check_dot::<6, 4>();
    check_dot::<8, 8>();
    check_dot::<8, 4>();
}
