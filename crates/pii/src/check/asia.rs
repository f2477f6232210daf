//! Numbers that countries of Asia, Oceania and Africa give to people and firms.

use super::checksum::{luhn, verhoeff, weighted};
use super::date::{exists, exists_in_some_century, pair};
use super::{alphanumerics, base36, digits, uniform};

/// People of India: Verhoeff's check, and no palindrome.
pub(crate) fn in_aadhaar(text: &str) -> bool {
    let d = digits(text);
    verhoeff(&d) && !d.iter().eq(d.iter().rev())
}

/// Taxable persons of India.
pub(crate) fn in_gstin(text: &str) -> bool {
    let code = alphanumerics(text);
    let Some((&check, body)) = code.split_last() else { return false };
    let product = |(i, &byte): (usize, &u8)| base36(byte) * (1 + (i % 2) as u32);
    let sum: u32 = body.iter().enumerate().map(product).map(|product| product / 36 + product % 36).sum();
    (36 - sum % 36) % 36 == base36(check)
}

/// Taxpayers of Australia.
pub(crate) fn au_tfn(text: &str) -> bool {
    let d = digits(text);
    d.len() == 9 && weighted(&d, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11) && !uniform(&d)
}

/// Businesses of Australia: 1 is taken off the first digit.
pub(crate) fn au_abn(text: &str) -> bool {
    let d = digits(text);
    let sum = weighted(&d, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    d.len() == 11 && d[0] != 0 && (sum - 10).is_multiple_of(89)
}

/// Companies of Australia.
pub(crate) fn au_acn(text: &str) -> bool {
    let d = digits(text);
    d.len() == 9 && (10 - weighted(&d, &[8, 7, 6, 5, 4, 3, 2, 1]) % 10) % 10 == d[8] && !uniform(&d)
}

/// Australia's Medicare cards.
pub(crate) fn au_medicare(text: &str) -> bool {
    let d = digits(text);
    d.len() >= 10 && weighted(&d, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == d[8]
}

/// People of Singapore: each series has its row of letters.
pub(crate) fn sg_nric_fin(text: &str) -> bool {
    let code = alphanumerics(text);
    let (Some(series), Some(&check)) = (code.first(), code.last()) else { return false };
    let (added, letters): (u32, &[u8; 11]) = match series {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        _ => (3, b"XWUTRQPNJLK"),
    };
    letters[((weighted(&digits(text), &[2, 7, 6, 5, 4, 3, 2]) + added) % 11) as usize] == check
}

/// People of Korea. Numbers given since October 2020 have no checksum: the day decides.
pub(crate) fn kr_rrn(text: &str) -> bool {
    let d = digits(text);
    exists_in_some_century(pair(&d, 0), pair(&d, 2), pair(&d, 4))
}

/// People of China: ISO 7064, MOD 11-2.
pub(crate) fn cn_resident_id(text: &str) -> bool {
    const CHECK: &[u8; 11] = b"10X98765432";
    let code = alphanumerics(text);
    let (Some(body), Some(check)) = (code.get(..17), code.get(17)) else { return false };
    let d: Vec<u32> = body.iter().map(|&byte| base36(byte)).collect();
    let sum = weighted(&d, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    exists(pair(&d, 6) * 100 + pair(&d, 8), pair(&d, 10), pair(&d, 12)) && CHECK[(sum % 11) as usize] == *check
}

/// People of Taiwan: letters stand for numbers, in no order of the alphabet.
pub(crate) fn tw_national_id(text: &str) -> bool {
    const LETTERS: [u32; 26] =
        [10, 11, 12, 13, 14, 15, 16, 17, 34, 18, 19, 20, 21, 22, 35, 23, 24, 25, 26, 27, 28, 29, 32, 30, 31, 33];
    let code = alphanumerics(text);
    let letter = code.first().map_or(0, |&byte| base36(byte).saturating_sub(10));
    let area = LETTERS.get(letter as usize).copied().unwrap_or(0);
    let sum = area / 10 + area % 10 * 9 + weighted(&digits(text), &[8, 7, 6, 5, 4, 3, 2, 1, 1]);
    sum.is_multiple_of(10)
}

/// People of Hong Kong; a missing first letter counts as 36.
pub(crate) fn hk_id(text: &str) -> bool {
    let code = alphanumerics(text);
    let mut values: Vec<u32> = code.iter().map(|&byte| base36(byte)).collect();
    if values.len() == 8 {
        values.insert(0, 36);
    }
    weighted(&values, &[9, 8, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// People of Japan.
pub(crate) fn jp_my_number(text: &str) -> bool {
    let d = digits(text);
    let rest = weighted(&d, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    d.len() == 12 && (if rest <= 1 { 0 } else { 11 - rest }) == d[11] && !uniform(&d)
}

/// People of Thailand.
pub(crate) fn th_national_id(text: &str) -> bool {
    let d = digits(text);
    let sum = weighted(&d, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    d.len() == 13 && (11 - sum % 11) % 10 == d[12]
}

/// People of Israel.
pub(crate) fn il_id(text: &str) -> bool {
    let d = digits(text);
    luhn(&d) && !uniform(&d)
}

/// People of the United Arab Emirates.
pub(crate) fn ae_id(text: &str) -> bool {
    luhn(&digits(text))
}

/// People of South Africa: a day, and whether citizen or resident.
pub(crate) fn za_id(text: &str) -> bool {
    let d = digits(text);
    luhn(&d) && exists_in_some_century(pair(&d, 0), pair(&d, 2), pair(&d, 4)) && matches!(d.get(10), Some(0..=2))
}
