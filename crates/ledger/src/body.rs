//! Texts kept beside entries: as given, or encrypted.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::chain::Part;
use crate::config::{BodyStorage, EncryptionKey};
use crate::error::LedgerError;

/// A text as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The identity of the key that encrypted it, if one did.
    pub(crate) key: Option<String>,
    /// The text, or a nonce of 24 bytes and the cipher text.
    pub(crate) data: Vec<u8>,
}

impl EncryptionKey {
    /// Its identity: the first 16 digits of its digest.
    #[must_use]
    pub fn id(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"bantam.body-key.v1\0");
        hasher.update(self.0);
        crate::hex::encode(&hasher.finalize()[..8])
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

/// What is authenticated besides the text: whose it is.
fn owner(request: Uuid, part: Part) -> Vec<u8> {
    [b"bantam.body.v1\0".as_slice(), request.as_bytes(), &[part as u8]].concat()
}

/// The text as this ledger stores it; nothing where it stores none.
pub(crate) fn seal(
    storage: &BodyStorage,
    request: Uuid,
    part: Part,
    text: Vec<u8>,
) -> Result<Option<Stored>, LedgerError> {
    let key = match storage {
        BodyStorage::None => return Ok(None),
        BodyStorage::Redacted => return Ok(Some(Stored { key: None, data: text })),
        BodyStorage::Encrypted { key } => key,
    };
    let nonce = crate::random::bytes::<24>()?;
    let aad = owner(request, part);
    let sealed = key
        .cipher()
        .encrypt(&XNonce::from(nonce), Payload { msg: &text, aad: &aad })
        .map_err(|_| LedgerError::Invalid { field: "body", why: "it is too long to be encrypted".to_owned() })?;
    Ok(Some(Stored { key: Some(key.id()), data: [nonce.as_slice(), &sealed].concat() }))
}

/// The text again.
pub(crate) fn open(storage: &BodyStorage, request: Uuid, part: Part, stored: Stored) -> Result<Vec<u8>, LedgerError> {
    let Some(id) = stored.key else { return Ok(stored.data) };
    let key = match storage {
        BodyStorage::Encrypted { key } if key.id() == id => key,
        _ => return Err(LedgerError::WrongKey { needed: id }),
    };
    let damaged = || LedgerError::Damaged { what: format!("a body of request {request} does not decrypt") };
    let (nonce, sealed) = stored.data.split_first_chunk::<24>().ok_or_else(damaged)?;
    let aad = owner(request, part);
    key.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_where_it_belongs_only() {
        let key = EncryptionKey::from_hex(&"07".repeat(32)).unwrap();
        let storage = BodyStorage::Encrypted { key };
        let request = Uuid::from_u128(1);
        let stored = seal(&storage, request, Part::Request, b"hello".to_vec()).unwrap().unwrap();
        assert_eq!(open(&storage, request, Part::Request, stored.clone()).unwrap(), b"hello");
        assert!(open(&storage, request, Part::Response, stored.clone()).is_err());
        assert!(open(&storage, Uuid::from_u128(2), Part::Request, stored.clone()).is_err());
        let cut = Stored { data: stored.data[..20].to_vec(), ..stored.clone() };
        assert!(open(&storage, request, Part::Request, cut).is_err());
        let other = BodyStorage::Encrypted { key: EncryptionKey::from_hex(&"08".repeat(32)).unwrap() };
        let error = open(&other, request, Part::Request, stored).unwrap_err();
        assert!(matches!(error, LedgerError::WrongKey { .. }), "{error}");
    }

    #[test]
    fn nothing_is_kept_unless_configured() {
        assert_eq!(seal(&BodyStorage::None, Uuid::nil(), Part::Request, b"x".to_vec()).unwrap(), None);
        let stored = seal(&BodyStorage::Redacted, Uuid::nil(), Part::Request, b"x".to_vec()).unwrap().unwrap();
        assert_eq!(stored, Stored { key: None, data: b"x".to_vec() });
    }
}
