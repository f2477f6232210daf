//! The text of a key: `sk-bantam-<id>-<secret>`, both parts in base 62.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::LedgerError;
use crate::time::Timestamp;

const PREFIX: &str = "sk-bantam-";
const ID_LENGTH: usize = 12;
/// 62^43 is more than 2^256.
const SECRET_LENGTH: usize = 43;

/// The part of a key that is no secret: 12 letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for KeyId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole key, shown once when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The key, to be given to its user and kept nowhere.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// A new one for a key.
    pub(crate) fn new(id: &KeyId) -> Result<Self, LedgerError> {
        Ok(Self(format!("{PREFIX}{id}-{}", base62(SECRET_LENGTH)?)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A new id.
pub(super) fn new_id() -> Result<KeyId, LedgerError> {
    Ok(KeyId(base62(ID_LENGTH)?.into()))
}

fn base62(length: usize) -> Result<String, LedgerError> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        // 248 is a multiple of 62: without what is above it, all digits are equally likely.
        let fair = crate::random::bytes::<64>()?.into_iter().filter(|byte| *byte < 248);
        text.extend(fair.map(|byte| char::from(DIGITS[usize::from(byte % 62)])).take(length - text.len()));
    }
    Ok(text)
}

/// The id that a key names, if it has the form of a key.
pub(super) fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('-')?;
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric());
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && digits(id) && digits(secret)).then_some(id)
}

/// What is stored of a secret: HMAC-SHA256 of the whole key under the ledger's pepper. A secret has 256 random bits, so nothing slower is
/// needed to keep it from being guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretHash {
    pub(crate) hash: crate::request::Hash,
    /// Until when it is good, for one that was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Timestamp>,
}

/// The digest of a key as somebody shows it.
pub(super) struct Shown([u8; 32]);

impl Shown {
    pub(super) fn new(pepper: &[u8], text: &str) -> Self {
        // A MAC takes keys of any length; the error cannot be.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(pepper) else { return Self([0; 32]) };
        // Longer ones are no keys; their time should not grow with their length.
        mac.update(&text.as_bytes()[..text.len().min(128)]);
        Self(mac.finalize().into_bytes().into())
    }

    pub(super) fn hash(&self) -> crate::request::Hash {
        crate::request::Hash(self.0)
    }

    /// Compared in a time that does not depend on where they differ.
    pub(super) fn is(&self, stored: &SecretHash) -> bool {
        bool::from(self.0.ct_eq(&stored.hash.0))
    }
}
