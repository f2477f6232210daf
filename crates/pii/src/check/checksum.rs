//! The arithmetic that checksums of many countries share.

/// The sum of products; of the shorter of both.
pub(super) fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| d * w).sum()
}

/// ISO/IEC 7812-1, annex B, over all digits, the check digit being the last.
pub(super) fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &d)| match (i % 2, d * 2) {
            (0, _) => d,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO/IEC 7064, MOD 11,10.
pub(super) fn mod_11_10(digits: &[u32]) -> bool {
    let Some((&check, digits)) = digits.split_last() else { return false };
    let product = digits.iter().fold(10, |product, &d| {
        let sum = (d + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == check
}

/// Verhoeff's scheme (1969): multiplication in the dihedral group of order 10.
pub(super) fn verhoeff(digits: &[u32]) -> bool {
    const PERMUTED: [[u32; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    // Elements below 5 are rotations, the others reflections.
    let product = |a: u32, b: u32| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b) % 5,
        (false, true) => 5 + (a + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let permuted = |i: usize, d: u32| PERMUTED[i % 8].get(d as usize).copied().unwrap_or(0);
    digits.iter().rev().enumerate().fold(0, |sum, (i, &d)| product(sum, permuted(i, d))) == 0
}

/// EAN-13, over all 13 digits.
pub(super) fn ean13(digits: &[u32]) -> bool {
    weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passing(check: fn(&[u32]) -> bool, mut digits: Vec<u32>) -> Vec<u32> {
        digits.push(0);
        let last = digits.len() - 1;
        for d in 0..10 {
            digits[last] = d;
            if check(&digits) {
                return digits;
            }
        }
        panic!("no check digit fits {digits:?}");
    }

    proptest! {
        /// Each scheme finds every wrong digit; Verhoeff's every swap of neighbours too.
        #[test]
        fn a_wrong_digit_is_found(digits in proptest::collection::vec(0_u32..10, 4..18), at in 0_usize..4, by in 1_u32..10) {
            let schemes: [fn(&[u32]) -> bool; 3] = [luhn, mod_11_10, verhoeff];
            for check in schemes {
                let good = passing(check, digits.clone());
                let mut bad = good.clone();
                bad[at] = (bad[at] + by) % 10;
                prop_assert!(!check(&bad));
                let mut swapped = good.clone();
                swapped.swap(at, at + 1);
                prop_assert!(swapped == good || !verhoeff(&swapped) || !verhoeff(&good));
            }
        }
    }

    #[test]
    fn published_examples() {
        assert!(luhn(&[7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 3]));
        assert!(mod_11_10(&[0, 7, 9, 4, 5]));
        assert!(verhoeff(&[2, 3, 6, 3]));
        assert!(ean13(&[4, 0, 0, 6, 3, 8, 1, 3, 3, 3, 9, 3, 1]));
    }
}
