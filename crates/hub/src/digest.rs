//! SHA-256 digests: the identity of a model file.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cancel::Cancel;
use crate::error::Stop;

/// The SHA-256 of a file. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is not a SHA-256.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a SHA-256: give 64 hexadecimal digits")]
pub struct DigestError {
    /// What was given, shortened.
    pub text: String,
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let fail = || DigestError { text: text.chars().take(80).collect() };
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(fail());
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| fail())?;
            // from_str_radix takes a sign, which is not a digit here.
            if pair.starts_with('+') {
                return Err(fail());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| fail())?;
        }
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// A digest in the making, with the number of bytes it has seen.
#[derive(Clone, Default)]
pub(crate) struct Hasher {
    sha: Sha256,
    n_bytes: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.n_bytes = self.n_bytes.saturating_add(bytes.len() as u64);
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.sha.finalize().into())
    }
}

/// Feeds all of `input` to `hasher` and, where there is one, to `output`, a quarter of a megabyte at a time.
pub(crate) fn pump(
    input: &mut dyn Read,
    output: Option<&mut dyn Write>,
    hasher: &mut Hasher,
    mut tick: impl FnMut(u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut output = output;
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                if let Some(output) = output.as_deref_mut() {
                    output.write_all(&buffer[..n])?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        tick(hasher.n_bytes())?;
    }
}

/// The hasher after the whole file at `path`.
pub(crate) fn hash_file(path: &Path, cancel: &Cancel) -> Result<Hasher, Stop> {
    let mut hasher = Hasher::default();
    pump(&mut fs_err::File::open(path)?, None, &mut hasher, |_| cancel.check())?;
    Ok(hasher)
}

/// The SHA-256 of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_input_has_the_published_digest() {
        let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_of(b"").to_string(), known);
        assert_eq!(known.parse::<Digest>().unwrap(), digest_of(b""));
        assert_eq!(known.to_uppercase().parse::<Digest>().unwrap(), digest_of(b""));
    }

    #[test]
    fn what_is_not_64_hex_digits_is_refused() {
        for bad in ["", "abc", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
