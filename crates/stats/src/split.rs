//! Splits by a hash of the text: a row falls on the same side in every run, on every machine, whatever rows stand around
//! it, and two rows with the same text never fall on different sides.

use sha2::{Digest, Sha256};

/// What counts as the same text: ASCII letters in lower case, runs of white space as one space, none at the ends.
#[must_use]
pub fn normalise(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.extend(word.chars().map(|c| c.to_ascii_lowercase()));
    }
    normal
}

/// The first 8 bytes, big-endian, of SHA-256 over the salt, one zero byte, and the text as [`normalise`] gives it. This
/// definition does not change between versions.
#[must_use]
pub fn hash(text: &str, salt: &str) -> u64 {
    hash_bytes(normalise(text).as_bytes(), salt)
}

pub(crate) fn hash_bytes(bytes: &[u8], salt: &str) -> u64 {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(bytes).finalize();
    digest.iter().take(8).fold(0, |hash, &byte| (hash << 8) | u64::from(byte))
}

/// A number in `[0, 1)` from the high 53 bits of the [`hash`]: `unit(text, salt) < 0.2` holds out a fifth.
#[must_use]
pub fn unit(text: &str, salt: &str) -> f64 {
    (hash(text, salt) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Which of `folds` folds the text belongs to: `floor(hash * folds / 2^64)`; 0 if there are none.
#[must_use]
pub fn fold(text: &str, salt: &str, folds: usize) -> usize {
    scale(hash(text, salt), folds)
}

pub(crate) fn scale(hash: u64, folds: usize) -> usize {
    ((u128::from(hash) * folds as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::{fold, hash, normalise, unit};

    /// `printf 'a\0how do i top up?' | sha256sum`
    #[test]
    fn is_the_hash_that_the_documentation_says() {
        assert_eq!(normalise("  How do\tI  top\nup? "), "how do i top up?");
        assert_eq!(hash(" How DO I top up?", "a"), 0xa3e3_4468_a98b_3edd);
    }

    #[test]
    fn salts_and_texts_spread_evenly_and_folds_agree_with_units() {
        let texts: Vec<String> = (0..20_000).map(|i| format!("text {i}")).collect();
        let mut counts = [0; 5];
        for text in &texts {
            let of = fold(text, "s", 5);
            assert_eq!(of, (unit(text, "s") * 5.0) as usize);
            counts[of] += 1;
        }
        assert!(counts.iter().all(|n| (3_800..4_200).contains(n)), "{counts:?}");
        let both = texts.iter().filter(|text| unit(text, "a") < 0.2 && unit(text, "b") < 0.2).count();
        assert!((700..900).contains(&both), "{both}");
        assert_eq!(fold("x", "s", 0), 0);
    }
}
