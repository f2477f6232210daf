//! The chain by itself: order, hashes, signatures.

use std::collections::BTreeMap;

use super::{Broken, ChainReport, Expected, Report};
use crate::chain::{EntryBytes, Kind, LedgerId};
use crate::content::{CheckpointEntry, ErasedEntry, FeedbackEntry, KeyEntry, PurgedEntry, RequestEntry, decode};
use crate::request::Hash;
use crate::time::Timestamp;

/// An entry as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) chain: u32,
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) kind: i64,
    pub(super) id: uuid::Uuid,
    pub(super) content: Vec<u8>,
    pub(super) hash: Hash,
}

/// A checkpoint as it is stored.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    pub(super) chain: u32,
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) hash: Hash,
    pub(super) key: String,
    #[serde(with = "hex_bytes")]
    pub(super) signature: Vec<u8>,
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = vec![0; text.len() / 2];
        match crate::hex::decode(&text, &mut bytes) {
            true => Ok(bytes),
            false => Err(D::Error::custom("a signature is written in hexadecimal digits")),
        }
    }
}

/// What an entry says.
#[derive(Debug)]
pub(super) enum Content {
    Request(Box<RequestEntry>),
    Feedback(FeedbackEntry),
    Key(Box<KeyEntry>),
    Erased,
    Purged,
    Checkpoint,
}

/// The state of verifying chains that are read one after another, in order.
#[derive(Debug)]
pub(super) struct Chains<'a> {
    ledger: LedgerId,
    expected: &'a Expected,
    pub(super) report: Report,
    last_at: Timestamp,
    /// Where chains begin that do not begin at 1.
    begins: BTreeMap<u32, (u64, Hash)>,
    /// The last entry of each chain that was purged, as entries tell it.
    purged: BTreeMap<u32, PurgedEntry>,
    claims: usize,
}

impl<'a> Chains<'a> {
    pub(super) fn new(ledger: LedgerId, expected: &'a Expected) -> Self {
        let report = Report { ledger: crate::hex::encode(&ledger.0), ..Report::default() };
        let (begins, purged) = (BTreeMap::new(), BTreeMap::new());
        Self { ledger, expected, report, last_at: Timestamp(i64::MIN), begins, purged, claims: 0 }
    }

    /// Begins a chain whose first entry is `first`; `anchor` is the checkpoint of the entry before, if there is one.
    fn begin(&mut self, chain: u32, first: u64, anchor: Option<&Checkpoint>) -> Result<(), Broken> {
        let hash = match (first, anchor) {
            (1, _) => self.ledger.genesis(chain),
            (_, Some(anchor)) if anchor.chain == chain && anchor.seq + 1 == first => {
                self.signature(anchor)?;
                self.begins.insert(chain, (anchor.seq, anchor.hash));
                self.last_at = anchor.at;
                self.claim(chain, anchor.seq, anchor.hash)?;
                anchor.hash
            }
            _ => return Err(Broken::at(chain, first - 1, "it is missing, and no checkpoint says that it was purged")),
        };
        if first == 1 {
            self.last_at = Timestamp(i64::MIN);
        }
        self.report.chains.push(ChainReport { chain, first, last: first - 1, hash, covered: first - 1 });
        Ok(())
    }

    /// The next entry. `anchor` is wanted where a chain begins, `checkpoint` with an entry that is one.
    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        anchor: Option<&Checkpoint>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Content, Broken> {
        let Entry { chain, seq, at, kind, id, ref content, hash } = *entry;
        let broken = |what: String| Broken::at(chain, seq, what);
        if self.report.chains.last().is_none_or(|last| last.chain != chain) {
            if seq == 0 || self.report.chains.iter().any(|known| known.chain >= chain) {
                return Err(broken("it is out of order".to_owned()));
            }
            self.begin(chain, seq, anchor)?;
        }
        let Some(state) = self.report.chains.last_mut() else { return Err(broken("it has no chain".to_owned())) };
        match state.last + 1 {
            next if seq > next => return Err(Broken::at(chain, next, "it is missing")),
            next if seq < next => return Err(broken("it stands there twice or out of order".to_owned())),
            _ => {}
        }
        let computed = EntryBytes { chain, seq, at, kind, id, content }.hash(&state.hash);
        if computed != hash {
            return Err(broken("its hash is not that of its content and of the entry before".to_owned()));
        }
        if at < self.last_at {
            return Err(broken("it is older than the entry before".to_owned()));
        }
        (state.last, state.hash, self.last_at) = (seq, hash, at);
        self.claim(chain, seq, hash)?;
        let said = self.content(entry).map_err(|error| broken(error.to_string()))?;
        if matches!(said, Content::Checkpoint) {
            let checkpoint = checkpoint.ok_or_else(|| broken("its signature is missing".to_owned()))?;
            let says: CheckpointEntry = decode(content, chain, seq).map_err(|error| broken(error.to_string()))?;
            if (checkpoint.chain, checkpoint.seq, checkpoint.at, checkpoint.hash) != (chain, seq, at, hash)
                || checkpoint.key != says.key
            {
                return Err(broken("its signature is for something else".to_owned()));
            }
            self.signature(checkpoint)?;
            if let Some(state) = self.report.chains.last_mut() {
                state.covered = seq;
            }
        } else if checkpoint.is_some() {
            return Err(broken("it is no checkpoint and has a signature".to_owned()));
        }
        Ok(said)
    }

    fn content(&mut self, entry: &Entry) -> Result<Content, crate::LedgerError> {
        let Entry { chain, seq, kind, content, .. } = entry;
        let (chain, seq) = (*chain, *seq);
        let Some(kind) = Kind::from_number(*kind) else {
            return Err(crate::LedgerError::Damaged { what: format!("there are no entries of kind {kind}") });
        };
        Ok(match kind {
            Kind::Request => Content::Request(Box::new(decode(content, chain, seq)?)),
            Kind::Feedback => Content::Feedback(decode(content, chain, seq)?),
            Kind::Key => Content::Key(Box::new(decode(content, chain, seq)?)),
            Kind::Erased => {
                decode::<ErasedEntry>(content, chain, seq)?;
                Content::Erased
            }
            Kind::Purged => {
                let purged: PurgedEntry = decode(content, chain, seq)?;
                self.purged.insert(purged.chain, purged);
                Content::Purged
            }
            Kind::Checkpoint => Content::Checkpoint,
        })
    }

    fn signature(&self, checkpoint: &Checkpoint) -> Result<(), Broken> {
        let Checkpoint { chain, seq, at, hash, key, signature } = checkpoint;
        let broken = |what: String| Broken::at(*chain, *seq, what);
        let known = self.expected.keys.iter().find(|known| known.id() == *key);
        let known =
            known.ok_or_else(|| broken(format!("its checkpoint is signed with key {key}, which was not given")))?;
        match known.verifies(&self.ledger.checkpoint_message(*chain, *seq, *at, hash), signature) {
            true => Ok(()),
            false => Err(broken("the signature of its checkpoint is wrong".to_owned())),
        }
    }

    fn claim(&mut self, chain: u32, seq: u64, hash: Hash) -> Result<(), Broken> {
        for claim in self.expected.claims.iter().filter(|claim| (claim.chain, claim.seq) == (chain, seq)) {
            if claim.hash != hash {
                return Err(Broken::at(chain, seq, format!("its hash is {hash}, and was {}", claim.hash)));
            }
            self.claims += 1;
        }
        Ok(())
    }

    /// After the last entry.
    pub(super) fn end(&self) -> Result<(), Broken> {
        for (chain, (seq, hash)) in &self.begins {
            if !self.purged.get(chain).is_some_and(|purged| (purged.through, purged.hash) == (*seq, *hash)) {
                return Err(Broken::at(
                    *chain,
                    *seq,
                    "entries up to it are missing, and no entry says that they were purged",
                ));
            }
        }
        for purged in self.purged.values() {
            let first = self.report.chains.iter().find(|known| known.chain == purged.chain).map(|known| known.first);
            if first.is_none_or(|first| first != purged.through + 1) {
                return Err(Broken::at(
                    purged.chain,
                    purged.through,
                    "it was purged, and the chain does not begin after it",
                ));
            }
        }
        for (place, known) in self.report.chains.iter().enumerate() {
            if known.chain as usize != place + 1 {
                return Err(Broken::at(known.chain, 1, format!("chain {} is missing", place + 1)));
            }
        }
        if self.claims < self.expected.claims.len() {
            for claim in &self.expected.claims {
                let has = |known: &ChainReport| {
                    known.chain == claim.chain && (known.first - 1..=known.last).contains(&claim.seq)
                };
                if !self.report.chains.iter().any(has) {
                    return Err(Broken::at(claim.chain, claim.seq, "it was there once, and is missing"));
                }
            }
        }
        Ok(())
    }

    /// The last entry of a chain that was purged, as far as entries have told.
    pub(super) fn purged_through(&self, chain: u32) -> u64 {
        self.begins.get(&chain).map_or(0, |(seq, _)| *seq)
    }

    /// The latest moment up to which entries were purged.
    pub(super) fn purged_until(&self) -> Option<Timestamp> {
        self.purged.values().map(|purged| purged.at).max()
    }
}
