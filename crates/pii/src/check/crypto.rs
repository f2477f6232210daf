//! Addresses of wallets.

use sha2::{Digest as _, Sha256};
use sha3::Keccak256;

/// Bitcoin's base58check: a version, 20 bytes and the head of a double SHA-256.
pub(crate) fn base58check(text: &str) -> bool {
    let mut bytes = [0; 25];
    if bs58::decode(text).onto(&mut bytes[..]) != Ok(25) {
        return false;
    }
    let (payload, check) = bytes.split_at(21);
    // Pay to a key, pay to a script.
    matches!(payload.first(), Some(0x00 | 0x05)) && Sha256::digest(Sha256::digest(payload)).starts_with(check)
}

/// Bitcoin's segregated witness: bech32 (BIP 173) or bech32m (BIP 350), as the version asks for.
pub(crate) fn segwit(text: &str) -> bool {
    bech32::segwit::decode(text).is_ok()
}

/// Ethereum: an address in mixed case carries its checksum in the cases (EIP-55).
pub(crate) fn ethereum(text: &str) -> bool {
    let Some(address) = text.get(2..) else { return false };
    let lower = address.to_ascii_lowercase();
    if address == lower || address == address.to_ascii_uppercase() {
        return true;
    }
    let hash = Keccak256::digest(&lower);
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    address
        .bytes()
        .zip(nibbles)
        .all(|(byte, nibble)| !byte.is_ascii_alphabetic() || byte.is_ascii_uppercase() == (nibble >= 8))
}
