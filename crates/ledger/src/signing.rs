//! The key that signs checkpoints.

use std::io::Write;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::error::LedgerError;

/// Signs checkpoints.
pub(crate) struct CheckpointSigner {
    key: SigningKey,
    id: String,
}

impl std::fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointSigner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl CheckpointSigner {
    /// Reads the key, or makes it (mode 0600, the public key beside it).
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let key = match fs_err::read_to_string(path) {
            Ok(text) => {
                let mut seed = [0; 32];
                if !crate::hex::decode(text.trim(), &mut seed) {
                    return Err(file(path, "a signing key has 64 hexadecimal digits"));
                }
                SigningKey::from_bytes(&seed)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let seed = crate::random::bytes::<32>()?;
                write_private(path, &crate::hex::encode(&seed))?;
                SigningKey::from_bytes(&seed)
            }
            Err(e) => return Err(file(path, e)),
        };
        let public = PublicKey(key.verifying_key());
        let beside = beside(path);
        if !beside.exists() {
            fs_err::write(&beside, format!("{public}\n")).map_err(|e| file(&beside, e))?;
        }
        Ok(Self { id: public.id(), key })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// The key that checkpoints are verified with: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From its digits; white space around them is let pass.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if !crate::hex::decode(text.trim(), &mut bytes) {
            return None;
        }
        VerifyingKey::from_bytes(&bytes).ok().map(Self)
    }

    /// Reads the file that stands beside the signing key.
    ///
    /// # Errors
    /// When it cannot be read, or holds no key.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let text = fs_err::read_to_string(path).map_err(|e| file(path, e))?;
        Self::from_hex(&text).ok_or_else(|| file(path, "a public key has 64 hexadecimal digits"))
    }

    /// Its identity in checkpoints: the first 16 digits of its digest.
    #[must_use]
    pub fn id(&self) -> String {
        crate::hex::encode(&Sha256::digest(self.0.as_bytes())[..8])
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::hex::encode(self.0.as_bytes()))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Where the public key of a signing key's file stands.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

fn write_private(path: &Path, text: &str) -> Result<(), LedgerError> {
    if let Some(dir) = path.parent() {
        fs_err::create_dir_all(dir).map_err(|e| file(dir, e))?;
    }
    let mut options = fs_err::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    {
        use fs_err::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut out = options.open(path).map_err(|e| file(path, e))?;
    writeln!(out, "{text}").and_then(|()| out.sync_all()).map_err(|e| file(path, e))
}

fn file(path: &Path, why: impl ToString) -> LedgerError {
    LedgerError::File { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/ledger.key");
        let signer = CheckpointSigner::open(&path).unwrap();
        let again = CheckpointSigner::open(&path).unwrap();
        assert_eq!(signer.public(), again.public());
        let public = PublicKey::read(&beside(&path)).unwrap();
        assert_eq!(public.id(), signer.id());
        assert!(public.verifies(b"m", &signer.sign(b"m")));
        assert!(!public.verifies(b"n", &signer.sign(b"m")) && !public.verifies(b"m", b"short"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs_err::write(&path, "no key").unwrap();
        let error = CheckpointSigner::open(&path).unwrap_err();
        assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
    }
}
