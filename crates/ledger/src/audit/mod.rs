//! Whether a ledger is what was written: from the ledger itself, or from an export of it, with nothing but the public key.
//!
//! What is found: entries that were altered, removed, inserted or put in another order; checkpoints that were removed or not signed by the
//! key; a tail that was cut off behind the last checkpoint that is still known; rows for searching, texts and sums of spending that are not
//! what the entries say. What cannot be found: entries after the last checkpoint that were cut off together with everything that points to
//! them. A checkpoint written down elsewhere ([`Claim`]) closes that gap up to itself.

mod chain;
mod export;
mod verify;

use std::fmt;

pub use export::{export, verify_export};
pub use verify::verify;

use crate::request::Hash;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The identity of the ledger.
    pub ledger: String,
    /// Its chains, as far as they were read.
    pub chains: Vec<ChainReport>,
    /// Texts whose digests were compared.
    pub texts: u64,
    /// The first thing that is wrong.
    pub broken: Option<Broken>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.broken.is_none()
    }
}

/// A chain that was read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChainReport {
    /// Its number.
    pub chain: u32,
    /// Its first entry: 1, unless older ones were purged.
    pub first: u64,
    /// Its last entry.
    pub last: u64,
    /// The last entry's hash.
    pub hash: Hash,
    /// The last entry that a checkpoint covers.
    pub covered: u64,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// The chain; nothing where it is not about one.
    pub chain: Option<u32>,
    /// The entry, or the place where one is missing.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Broken {
    pub(crate) fn at(chain: u32, seq: u64, what: impl Into<String>) -> Self {
        Self { chain: Some(chain), seq: Some(seq), what: what.into() }
    }

    pub(crate) fn elsewhere(what: impl Into<String>) -> Self {
        Self { chain: None, seq: None, what: what.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.chain, self.seq) {
            (Some(chain), Some(seq)) => write!(f, "entry {seq} of chain {chain}: {}", self.what),
            _ => f.write_str(&self.what),
        }
    }
}

/// A place of a chain that was written down elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The chain.
    pub chain: u32,
    /// The entry.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Reads `CHAIN:SEQ:HASH`, as [`ChainReport`]s show it.
impl std::str::FromStr for Claim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is no place of a chain; write CHAIN:SEQ:HASH");
        let mut parts = text.split(':');
        let (Some(chain), Some(seq), Some(digits), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(fault());
        };
        let mut hash = [0; 32];
        if !crate::hex::decode(digits, &mut hash) {
            return Err(fault());
        }
        let (chain, seq) = (chain.parse().map_err(|_| fault())?, seq.parse().map_err(|_| fault())?);
        Ok(Self { chain, seq, hash: Hash(hash) })
    }
}

/// What a ledger or an export is held against.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Keys that checkpoints may be signed with.
    pub keys: Vec<crate::PublicKey>,
    /// Places that must be in it.
    pub claims: Vec<Claim>,
}
