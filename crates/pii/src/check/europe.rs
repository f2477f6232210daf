//! Numbers that countries of Europe give to people and firms.

use super::checksum::{ean13, luhn, mod_11_10, weighted};
use super::date::{exists_in_some_century, pair};
use super::{alphanumerics, base36, digits, number, uniform};

/// Whether the six digits from `at` are a day, month and year in this order.
fn day_first(d: &[u32], at: usize) -> bool {
    exists_in_some_century(pair(d, at + 4), pair(d, at + 2), pair(d, at))
}

/// The same, year first.
fn year_first(d: &[u32], at: usize) -> bool {
    exists_in_some_century(pair(d, at), pair(d, at + 2), pair(d, at + 4))
}

/// The National Health Service.
pub(crate) fn uk_nhs(text: &str) -> bool {
    let d = digits(text);
    let check = (11 - weighted(&d[..d.len().min(9)], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    d.len() == 10 && check == d[9] && !uniform(&d)
}

/// National insurance: prefixes that are not given.
pub(crate) fn uk_nino(text: &str) -> bool {
    let code = alphanumerics(text);
    !matches!(code.get(..2), Some(b"BG" | b"GB" | b"NK" | b"KN" | b"TN" | b"NT" | b"ZZ") | None)
}

const NIF_LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

/// People of Spain, and foreigners there (X, Y and Z stand for 0, 1 and 2).
pub(crate) fn es_nif(text: &str) -> bool {
    let code = alphanumerics(text);
    let Some((&letter, body)) = code.split_last() else { return false };
    let n = body.iter().fold(0, |n, &byte| {
        n * 10 + (if byte.is_ascii_digit() { byte - b'0' } else { byte.wrapping_sub(b'X') }) as usize
    });
    NIF_LETTERS[n % 23] == letter
}

/// People of Italy.
pub(crate) fn it_fiscal_code(text: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let code = alphanumerics(text);
    let Some((&check, body)) = code.split_last() else { return false };
    let index = |byte: u8| if byte.is_ascii_digit() { base36(byte) } else { base36(byte) - 10 };
    let value = |(i, &byte): (usize, &u8)| match i % 2 {
        0 => ODD.get(index(byte) as usize).copied().unwrap_or(0),
        _ => index(byte),
    };
    body.iter().enumerate().map(value).sum::<u32>() % 26 == index(check) && check.is_ascii_alphabetic()
}

/// Firms of Italy.
pub(crate) fn it_vat(text: &str) -> bool {
    let d = digits(text);
    luhn(&d) && !uniform(&d)
}

/// People of Poland; the month says the century.
pub(crate) fn pl_pesel(text: &str) -> bool {
    let d = digits(text);
    weighted(&d, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
        && exists_in_some_century(pair(&d, 0), pair(&d, 2) % 20, pair(&d, 4))
}

/// Taxpayers of Poland.
pub(crate) fn pl_nip(text: &str) -> bool {
    let d = digits(text);
    d.len() == 10 && weighted(&d, &[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == d[9] && !uniform(&d)
}

/// Taxpayers of Germany: of the first ten digits, one is there two or three times, the others once at most.
pub(crate) fn de_tax_id(text: &str) -> bool {
    let d = digits(text);
    let count = |n: u32| d.iter().take(10).filter(|d| **d == n).count();
    let repeated: Vec<usize> = (0..10).map(count).filter(|count| *count > 1).collect();
    matches!(repeated[..], [2 | 3]) && d.first() != Some(&0) && mod_11_10(&d)
}

/// Firms of Germany.
pub(crate) fn de_vat(text: &str) -> bool {
    mod_11_10(&digits(text))
}

/// Germany's pension insurance: a letter counts as two digits, products as the sum of theirs.
pub(crate) fn de_social_security(text: &str) -> bool {
    let code = alphanumerics(text);
    let Some((&check, body)) = code.split_last() else { return false };
    let expanded: Vec<u32> = body
        .iter()
        .flat_map(|&byte| match base36(byte) {
            digit @ 0..10 => vec![digit],
            letter => vec![(letter - 9) / 10, (letter - 9) % 10],
        })
        .collect();
    let weights = [2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1];
    let sum: u32 = expanded.iter().zip(weights).map(|(d, w)| d * w / 10 + d * w % 10).sum();
    sum % 10 == base36(check) && day_first_or_unknown(&digits(text))
}

/// Days and months that are not known are 0 there.
fn day_first_or_unknown(d: &[u32]) -> bool {
    day_first(d, 2) || (pair(d, 2) <= 31 && pair(d, 4) <= 12)
}

/// Germany's identity cards and passports, and others after ICAO 9303.
pub(crate) fn de_document(text: &str) -> bool {
    let code = alphanumerics(text);
    let Some((&check, body)) = code.split_last() else { return false };
    let sum: u32 = body.iter().zip([7, 3, 1].into_iter().cycle()).map(|(&byte, weight)| base36(byte) * weight).sum();
    sum % 10 == base36(check) && body.iter().any(u8::is_ascii_digit) && body.iter().any(u8::is_ascii_alphabetic)
}

/// People of France; 2A and 2B are Corsica.
pub(crate) fn fr_nir(text: &str) -> bool {
    let code = alphanumerics(text);
    let Some((body, key)) = code.split_at_checked(13) else { return false };
    let corsica = match body.get(6) {
        Some(b'A') => 1_000_000,
        Some(b'B') => 2_000_000,
        _ => 0,
    };
    let d: Vec<u32> = body.iter().map(|&byte| if byte.is_ascii_digit() { base36(byte) } else { 0 }).collect();
    let key = number(&key.iter().map(|&byte| base36(byte)).collect::<Vec<_>>());
    97 - (number(&d).wrapping_sub(corsica)) % 97 == key
}

/// People of the Netherlands.
pub(crate) fn nl_bsn(text: &str) -> bool {
    let d = digits(text);
    let sum = weighted(&d, &[9, 8, 7, 6, 5, 4, 3, 2, 10]);
    d.len() == 9 && sum.is_multiple_of(11) && !uniform(&d)
}

/// People of Belgium; from 2000 on, a 2 stands before the number that is checked.
pub(crate) fn be_nrn(text: &str) -> bool {
    let d = digits(text);
    let (Some(body), check) = (d.get(..9), u64::from(pair(&d, 9))) else { return false };
    let n = number(body);
    // Days and months may be unknown.
    pair(&d, 2) <= 12 && pair(&d, 4) <= 31 && (97 - n % 97 == check || 97 - (2_000_000_000 + n) % 97 == check)
}

/// People of Sweden; coordination numbers add 60 to the day.
pub(crate) fn se_personnummer(text: &str) -> bool {
    let d = digits(text);
    let Some(d) = d.get(d.len().saturating_sub(10)..).filter(|d| d.len() == 10) else { return false };
    luhn(d) && exists_in_some_century(pair(d, 0), pair(d, 2), pair(d, 4) % 60)
}

/// People of Finland.
pub(crate) fn fi_hetu(text: &str) -> bool {
    const CHECK: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let code = text.to_ascii_uppercase();
    let Some((body, check)) = code.split_at_checked(10) else { return false };
    let d = digits(&[body.get(..6), body.get(7..)].map(Option::unwrap_or_default).concat());
    day_first(&d, 0) && check.as_bytes() == &CHECK[(number(&d) % 31) as usize..][..1]
}

/// People of Norway; D-numbers add 40 to the day.
pub(crate) fn no_fodselsnummer(text: &str) -> bool {
    let d = digits(text);
    d.len() == 11
        && exists_in_some_century(pair(&d, 4), pair(&d, 2) % 40, pair(&d, 0) % 40)
        && weighted(&d, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
        && weighted(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// People of Denmark: only the day is checked, numbers without a checksum have been given since 2007.
pub(crate) fn dk_cpr(text: &str) -> bool {
    day_first(&digits(text), 0)
}

/// People of Switzerland.
pub(crate) fn ch_ahv(text: &str) -> bool {
    ean13(&digits(text))
}

/// People of Austria.
pub(crate) fn at_svnr(text: &str) -> bool {
    let d = digits(text);
    let sum = weighted(&d, &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]);
    d.len() == 10 && day_first(&d, 4) && sum % 11 == d[3]
}

/// Taxpayers of Portugal.
pub(crate) fn pt_nif(text: &str) -> bool {
    let d = digits(text);
    let sum = weighted(&d, &[9, 8, 7, 6, 5, 4, 3, 2]);
    d.len() == 9 && (11 - sum % 11) % 11 % 10 == d[8] && !uniform(&d)
}

/// People of Ireland; a second letter counts, W as 0.
pub(crate) fn ie_pps(text: &str) -> bool {
    let code = alphanumerics(text);
    let value = |byte: u8| if byte == b'W' { 0 } else { base36(byte) - 9 };
    let sum = weighted(&digits(text), &[8, 7, 6, 5, 4, 3, 2]) + code.get(8).map_or(0, |&letter| 9 * value(letter));
    code.get(7).is_some_and(|&check| value(check) == sum % 23)
}

/// People of Czechia and Slovakia; women have 50 added to the month, full series 20.
pub(crate) fn cz_rodne_cislo(text: &str) -> bool {
    let d = digits(text);
    let date = exists_in_some_century(pair(&d, 0), pair(&d, 2) % 50 % 20, pair(&d, 4));
    match d.len() {
        // Before 1954, without a checksum.
        9 => date && pair(&d, 0) < 54,
        10 => date && (number(&d).is_multiple_of(11) || (number(&d[..9]) % 11 == 10 && d[9] == 0)),
        _ => false,
    }
}

/// People of Romania.
pub(crate) fn ro_cnp(text: &str) -> bool {
    let d = digits(text);
    let rest = weighted(&d, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    d.len() == 13 && year_first(&d, 1) && d[0] != 0 && (if rest == 10 { 1 } else { rest }) == d[12]
}

/// People of Bulgaria; the month says the century.
pub(crate) fn bg_egn(text: &str) -> bool {
    let d = digits(text);
    d.len() == 10
        && exists_in_some_century(pair(&d, 0), pair(&d, 2) % 20, pair(&d, 4))
        && weighted(&d, &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10 == d[9]
}

/// People and firms of Croatia.
pub(crate) fn hr_oib(text: &str) -> bool {
    let d = digits(text);
    mod_11_10(&d) && !uniform(&d)
}

/// People of Estonia and Lithuania: a second row of weights where the first gives 10.
pub(crate) fn baltic_id(text: &str) -> bool {
    let d = digits(text);
    let rest = |weights: [u32; 10]| weighted(&d, &weights) % 11;
    let check = match rest([1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) {
        10 => rest([3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 10,
        check => check,
    };
    d.len() == 11 && year_first(&d, 1) && check == d[10]
}

/// People of Türkiye.
pub(crate) fn tr_tckn(text: &str) -> bool {
    let d = digits(text);
    let (odd, even) = (weighted(&d, &[1, 0, 1, 0, 1, 0, 1, 0, 1]), weighted(&d, &[0, 1, 0, 1, 0, 1, 0, 1]));
    d.len() == 11 && d[0] != 0 && (odd * 7 + 90 - even) % 10 == d[9] && (odd + even + d[9]) % 10 == d[10]
}
