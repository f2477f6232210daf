//! Numbers that countries of the Americas give to people and firms.

use super::checksum::{luhn, weighted};
use super::date::{exists_in_some_century, pair};
use super::{alphanumerics, base36, digits, uniform};

/// Numbers that the Social Security Administration gives; not those of advertisements.
pub(crate) fn us_ssn(text: &str) -> bool {
    let d = digits(text);
    let (area, group) = (pair(&d, 0) * 10 + d.get(2).unwrap_or(&0), pair(&d, 3));
    let serial = d.iter().skip(5).fold(0, |n, d| n * 10 + d);
    let separators: Vec<char> = text.chars().filter(|c| !c.is_ascii_digit()).collect();
    d.len() == 9
        && separators.windows(2).all(|pair| pair[0] == pair[1])
        && !matches!(area, 0 | 666 | 900..)
        && group != 0
        && serial != 0
        && !uniform(&d)
        && !matches!(d[..], [0, 7, 8, 0, 5, 1, 1, 2, 0] | [2, 1, 9, 0, 9, 9, 9, 9, 9] | [1, 2, 3, 4, 5, 6, 7, 8, 9])
}

/// Health care providers: Luhn over the number behind 80840.
pub(crate) fn us_npi(text: &str) -> bool {
    luhn(&[vec![8, 0, 8, 4, 0], digits(text)].concat())
}

/// Registrations of the Drug Enforcement Administration.
pub(crate) fn us_dea(text: &str) -> bool {
    let d = digits(text);
    d.len() == 7 && (d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])) % 10 == d[6]
}

/// Social insurance; 0 and 8 begin none.
pub(crate) fn ca_sin(text: &str) -> bool {
    let d = digits(text);
    luhn(&d) && !matches!(d.first(), Some(0 | 8)) && !uniform(&d)
}

fn brazilian(d: &[u32], weights: &[u32]) -> bool {
    // The second check digit covers the first.
    let check = |n: usize, weights: &[u32]| weighted(&d[..n], weights) * 10 % 11 % 10;
    let n = d.len() - 2;
    !uniform(d) && check(n, &weights[1..]) == d[n] && check(n + 1, weights) == d[n + 1]
}

/// People of Brazil.
pub(crate) fn br_cpf(text: &str) -> bool {
    let d = digits(text);
    d.len() == 11 && brazilian(&d, &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2])
}

/// Firms of Brazil.
pub(crate) fn br_cnpj(text: &str) -> bool {
    let d = digits(text);
    d.len() == 14 && brazilian(&d, &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
}

/// People of Mexico; the alphabet has an Ñ.
pub(crate) fn mx_curp(text: &str) -> bool {
    let code = alphanumerics(text);
    let Some((&check, body)) = code.split_last() else { return false };
    let value = |byte: u8| base36(byte) + u32::from(byte > b'N');
    let sum: u32 = body.iter().zip((2..=18).rev()).map(|(&byte, weight)| value(byte) * weight).sum();
    let d: Vec<u32> = code.iter().skip(4).take(6).map(|&byte| base36(byte)).collect();
    exists_in_some_century(pair(&d, 0), pair(&d, 2), pair(&d, 4)) && (10 - sum % 10) % 10 == base36(check)
}

/// Taxpayers of Mexico: the day in it exists.
pub(crate) fn mx_rfc(text: &str) -> bool {
    let code = alphanumerics(text);
    let letters = code.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let d: Vec<u32> = code.iter().skip(letters).take(6).map(|&byte| base36(byte)).collect();
    exists_in_some_century(pair(&d, 0), pair(&d, 2), pair(&d, 4))
}

/// Taxpayers of Argentina.
pub(crate) fn ar_cuit(text: &str) -> bool {
    let d = digits(text);
    d.len() == 11 && (11 - weighted(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11) % 11 == d[10]
}

/// People of Chile.
pub(crate) fn cl_rut(text: &str) -> bool {
    let code = alphanumerics(text);
    let Some((&check, body)) = code.split_last() else { return false };
    let sum: u32 = body.iter().rev().zip((2..=7).cycle()).map(|(&byte, weight)| base36(byte) * weight).sum();
    match (11 - sum % 11) % 11 {
        10 => check == b'K',
        digit => check.is_ascii_digit() && base36(check) == digit,
    }
}
