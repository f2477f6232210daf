//! The hash chain: which bytes an entry's hash covers, and which a checkpoint's signature.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::request::Hash;
use crate::time::Timestamp;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request.
    Request = 1,
    /// An opinion on an answer.
    Feedback = 2,
    /// A key that was made or changed.
    Key = 3,
    /// Texts that were erased.
    Erased = 4,
    /// Entries that were removed because of their age.
    Purged = 5,
    /// A checkpoint, whose signature covers this entry and so all before it.
    Checkpoint = 6,
}

impl Kind {
    /// From its number.
    #[must_use]
    pub const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Feedback,
            3 => Self::Key,
            4 => Self::Erased,
            5 => Self::Purged,
            6 => Self::Checkpoint,
            _ => return None,
        })
    }
}

/// The identity of a ledger: a digest of the secret that keys are hashed with, so that neither can be exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LedgerId(pub(crate) [u8; 32]);

impl LedgerId {
    pub(crate) fn of_pepper(pepper: &[u8]) -> Self {
        Self(digest(&[b"bantam.ledger.v1\0", pepper]))
    }

    /// What stands for the hash before the first entry of a chain.
    pub(crate) fn genesis(&self, chain: u32) -> Hash {
        Hash(digest(&[b"bantam.genesis.v1\0", &self.0, &chain.to_be_bytes()]))
    }

    /// What the signature of a checkpoint covers.
    pub(crate) fn checkpoint_message(&self, chain: u32, seq: u64, at: Timestamp, hash: &Hash) -> Vec<u8> {
        let at = at.0.to_be_bytes();
        [b"bantam.checkpoint.v1\0".as_slice(), &self.0, &chain.to_be_bytes(), &seq.to_be_bytes(), &at, &hash.0].concat()
    }
}

/// The last entry of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) chain: u32,
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) at: Timestamp,
}

/// An entry as its hash covers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryBytes<'a> {
    pub(crate) chain: u32,
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) kind: i64,
    pub(crate) id: Uuid,
    pub(crate) content: &'a [u8],
}

impl EntryBytes<'_> {
    pub(crate) fn hash(&self, previous: &Hash) -> Hash {
        Hash(digest(&[
            b"bantam.entry.v1\0",
            &previous.0,
            &self.chain.to_be_bytes(),
            &self.seq.to_be_bytes(),
            &self.at.0.to_be_bytes(),
            &self.kind.to_be_bytes(),
            self.id.as_bytes(),
            &(self.content.len() as u64).to_be_bytes(),
            self.content,
        ]))
    }
}

impl Head {
    /// The state before the first entry.
    pub(crate) fn start(ledger: &LedgerId, chain: u32) -> Self {
        Self { chain, seq: 0, hash: ledger.genesis(chain), at: Timestamp(0) }
    }

    /// The next entry's place. Its time is the clock's, or the last entry's where the clock has gone back.
    pub(crate) fn extend(&self, clock: Timestamp, kind: Kind, id: Uuid, content: &[u8]) -> Self {
        let (seq, at) = (self.seq + 1, clock.max(self.at));
        let entry = EntryBytes { chain: self.chain, seq, at, kind: kind as i64, id, content };
        Self { chain: self.chain, seq, hash: entry.hash(&self.hash), at }
    }
}

fn digest(pieces: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize().into()
}

/// Binds a text into an entry that must be able to outlive it: without the salt, the digest tells nothing of the text.
pub(crate) fn commitment(salt: &[u8], request: Uuid, part: Part, key: Option<&str>, stored: &[u8]) -> Hash {
    let key = key.unwrap_or_default().as_bytes();
    Hash(digest(&[
        b"bantam.part.v1\0",
        &(salt.len() as u64).to_be_bytes(),
        salt,
        request.as_bytes(),
        &[part as u8],
        &(key.len() as u64).to_be_bytes(),
        key,
        stored,
    ]))
}

/// A text that is kept beside its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The end user's name.
    Subject = 0,
    /// The request's body.
    Request = 1,
    /// The answer's body.
    Response = 2,
    /// What is needed to compute the answer again.
    Replay = 3,
    /// The correction of a feedback.
    Correction = 4,
}

impl Part {
    /// Those that are bodies of a request.
    pub(crate) const BODIES: [Self; 3] = [Self::Request, Self::Response, Self::Replay];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_an_entry_changes_its_hash() {
        let entry = EntryBytes { chain: 1, seq: 2, at: Timestamp(3), kind: 1, id: Uuid::from_u128(4), content: b"{}" };
        let previous = Hash([7; 32]);
        let others = [
            EntryBytes { chain: 2, ..entry },
            EntryBytes { seq: 3, ..entry },
            EntryBytes { at: Timestamp(4), ..entry },
            EntryBytes { kind: 2, ..entry },
            EntryBytes { id: Uuid::from_u128(5), ..entry },
            EntryBytes { content: b"{ }", ..entry },
        ];
        for other in others {
            assert_ne!(other.hash(&previous), entry.hash(&previous), "{other:?}");
        }
        assert_ne!(entry.hash(&Hash([8; 32])), entry.hash(&previous));
    }

    /// The encoding is a promise to verifiers that others write: this hash was computed by hand with Python's hashlib.
    #[test]
    fn the_encoding_stays() {
        let pepper = [9; 32];
        let ledger = LedgerId::of_pepper(&pepper);
        let head =
            Head::start(&ledger, 1).extend(Timestamp(1_000_000), Kind::Feedback, Uuid::from_u128(1), b"{\"v\":1}");
        assert_eq!(head.hash.to_string(), "e88dbba7c0f7c3db15dbd78900af8e811d07dee5fd15f4bf335071b1e22e162b");
    }

    #[test]
    fn time_stands_still_where_the_clock_goes_back() {
        let ledger = LedgerId::of_pepper(b"p");
        let first = Head::start(&ledger, 1).extend(Timestamp(50), Kind::Key, Uuid::nil(), b"");
        let second = first.extend(Timestamp(20), Kind::Key, Uuid::nil(), b"");
        assert_eq!((second.seq, second.at), (2, Timestamp(50)));
    }
}
