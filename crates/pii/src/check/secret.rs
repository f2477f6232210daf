//! Secrets: where they end, and what is random enough to be one.

use std::ops::Range;

use super::boundary;

/// Longest body of a key in PEM that is looked for.
const MAX_PEM: usize = 16 << 10;
/// Longest part of a token that is taken.
const MAX_TOKEN: usize = 8 << 10;

/// From `-----BEGIN` to the end of its block, or of what is there of it.
pub(crate) fn pem(text: &str, begin: Range<usize>) -> Option<Range<usize>> {
    const END: &str = "-----END ";
    let stop = boundary(text, begin.end + MAX_PEM);
    let body = text.get(begin.end..stop)?;
    let end = match body.find(END) {
        Some(at) => {
            let label = body.get(at + END.len()..)?;
            let close = label.get(..label.len().min(64)).unwrap_or(label).find("-----").map_or(0, |at| at + 5);
            at + END.len() + close
        }
        // Cut off: what looks like its lines.
        None => body.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"+/=\r\n\\ :,-".contains(b)).count(),
    };
    Some(begin.start..begin.end + end)
}

/// A JSON web token from its header on: three parts of base64url.
pub(crate) fn jwt(text: &str, header: Range<usize>) -> Option<Range<usize>> {
    let rest = text.get(header.start..)?.as_bytes();
    let token = rest.iter().take(MAX_TOKEN).take_while(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b)).count();
    let parts: Vec<&[u8]> = rest.get(..token)?.split(|b| *b == b'.').collect();
    let full = matches!(parts[..], [_, claims, ..] if claims.len() >= 8);
    let parts = parts.get(..3).unwrap_or(&parts);
    let len = parts.iter().map(|part| part.len() + 1).sum::<usize>() - 1;
    full.then(|| header.start..header.start + len)
}

/// The value of `password = ...`, if it is no word.
pub(crate) fn password(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let value = value(text, range)?;
    let chosen = text.get(value.clone())?;
    let has = |test: fn(&u8) -> bool| usize::from(chosen.bytes().any(|b| test(&b)));
    let classes = has(u8::is_ascii_lowercase)
        + has(u8::is_ascii_uppercase)
        + has(u8::is_ascii_digit)
        + has(u8::is_ascii_punctuation);
    (classes >= 2 && has(u8::is_ascii_alphanumeric) > 0 && chosen.len() >= 6 && !placeholder(chosen)).then_some(value)
}

/// The value of `token = ...`, if it is random.
pub(crate) fn token(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let value = value(text, range)?;
    let chosen = text.get(value.clone())?;
    (chosen.len() >= 16 && entropy(chosen) >= 3.2 && chosen.bytes().any(|b| b.is_ascii_digit()) && !placeholder(chosen))
        .then_some(value)
}

/// The password in `scheme://user:password@host`.
pub(crate) fn url_password(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let matched = text.get(range.clone())?;
    let from = range.start + matched.find("://")? + 3;
    let colon = from + text.get(from..range.end)?.find(':')? + 1;
    let value = colon..range.end - 1;
    (!placeholder(text.get(value.clone())?)).then_some(value)
}

/// What stands behind the last separator of an assignment, without what ends a sentence.
fn value(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let matched = text.get(range.clone())?;
    let start = matched.rfind([' ', '=', ':', '"', '\'', '>'])? + 1;
    let value = matched.get(start..)?.trim_end_matches(['.', ',', ';', '!', '?', ')']);
    Some(range.start + start..range.start + start + value.len())
}

/// What documentation and templates write instead of a secret.
fn placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    lower.starts_with(['$', '%', '{'])
        || ["your", "xxxx", "****", "....", "changeme", "placeholder", "process.env"]
            .iter()
            .any(|mark| lower.contains(mark))
}

/// Shannon's entropy of the bytes, in bits each.
fn entropy(text: &str) -> f32 {
    let mut counts = [0_u16; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let n = text.len() as f32;
    counts.iter().filter(|count| **count > 0).map(|count| f32::from(*count) / n).map(|p| -p * p.log2()).sum()
}
