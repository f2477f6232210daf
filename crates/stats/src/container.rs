//! Fitted things as bytes: 8 bytes that name the kind, the version and the length of the header (u32, little-endian), the
//! header, a body, and the SHA-256 of all that.

use sha2::{Digest, Sha256};

const PREFIX: usize = 16;
const DIGEST: usize = 32;

/// Which container: what its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The first 8 bytes.
    pub magic: &'static [u8; 8],
    /// The one version that is read and written.
    pub version: u32,
}

/// What a container holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Usually JSON.
    pub header: &'a [u8],
    /// The rest.
    pub body: &'a [u8],
}

/// Why bytes are no such container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// Other bytes.
    #[error("it begins with other bytes than such a file")]
    Kind,
    /// From another version.
    #[error("it has format version {found}, but this program reads {expected}; make it again")]
    Version {
        /// What the bytes say.
        found: u32,
        /// What is read.
        expected: u32,
    },
    /// Bytes were changed or are missing.
    #[error("its checksum does not match; copy or make it again")]
    Checksum,
    /// The header's length is wrong.
    #[error("its header is longer than the file")]
    Header,
}

/// Header and body as bytes, for [`open`].
#[must_use]
pub fn seal(kind: Kind, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        [&kind.magic[..], &kind.version.to_le_bytes(), &(header.len() as u32).to_le_bytes(), header, body].concat();
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// Reads what [`seal`] wrote, without a copy.
///
/// # Errors
/// [`ContainerError`].
pub fn open(kind: Kind, bytes: &[u8]) -> Result<Opened<'_>, ContainerError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Err(ContainerError::Kind) };
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    let (found, header_len) = (number(8), number(12) as usize);
    if !prefix.starts_with(kind.magic) {
        return Err(ContainerError::Kind);
    }
    if found != kind.version {
        return Err(ContainerError::Version { found, expected: kind.version });
    }
    let Some((rest, digest)) = rest.split_last_chunk::<DIGEST>() else { return Err(ContainerError::Checksum) };
    if Sha256::digest(&bytes[..bytes.len() - DIGEST])[..] != digest[..] {
        return Err(ContainerError::Checksum);
    }
    let (header, body) = rest.split_at_checked(header_len).ok_or(ContainerError::Header)?;
    Ok(Opened { header, body })
}
