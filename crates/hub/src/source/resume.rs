//! The part of a download that is already here, and what it is a part of.
//!
//! `download.part` holds the bytes, `download.part.json` says of which file. Only a part of the very file that is wanted
//! (same digest) is continued.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::digest::{Digest, Hasher, hash_file};
use crate::error::SourceError;
use crate::pull::write_json;
use crate::store::{read_if_there, remove_if_there};

/// Which file a part belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartOf {
    pub(super) sha256: Digest,
    pub(super) size: u64,
    /// A strong ETag of the server that sent the bytes; other servers do not know it.
    pub(super) etag: Option<ServerTag>,
}

/// An ETag and the host that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerTag {
    pub(super) host: String,
    pub(super) etag: String,
}

/// A file that is growing, hashed as it grows.
pub(super) struct Part {
    path: PathBuf,
    meta_path: PathBuf,
    file: fs_err::File,
    hasher: Hasher,
    part_of: Option<PartOf>,
    /// Whether bytes of an earlier run are among those here.
    inherited: bool,
}

impl Part {
    /// Opens what an earlier run left, hashing it, or starts an empty part.
    pub(super) fn open(folder: &Path, cancel: &Cancel) -> Result<Self, SourceError> {
        let path = folder.join("download.part");
        let meta_path = folder.join("download.part.json");
        // Unreadable notes are as good as none.
        let part_of = read_if_there(&meta_path)?.and_then(|text| serde_json::from_str::<PartOf>(&text).ok());
        let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path)?;
        let mut part = Part { path, meta_path, file, hasher: Hasher::default(), part_of, inherited: false };
        let usable = part.part_of.as_ref().is_some_and(|of| part.file.metadata().is_ok_and(|m| m.len() <= of.size));
        if usable {
            part.hasher = hash_file(&part.path, cancel)?;
            part.file.seek(SeekFrom::Start(part.hasher.n_bytes()))?;
            part.inherited = part.hasher.n_bytes() > 0;
        } else {
            part.reset()?;
        }
        Ok(part)
    }

    /// Bytes here.
    pub(super) fn len(&self) -> u64 {
        self.hasher.n_bytes()
    }

    pub(super) fn part_of(&self) -> Option<&PartOf> {
        self.part_of.as_ref()
    }

    pub(super) fn inherited(&self) -> bool {
        self.inherited
    }

    /// Whether this is the whole file, with the right digest.
    pub(super) fn is_whole(&self) -> bool {
        self.part_of.as_ref().is_some_and(|of| of.size == self.len() && of.sha256 == self.digest())
    }

    /// Throws the bytes away.
    pub(super) fn reset(&mut self) -> io::Result<()> {
        remove_if_there(&self.meta_path)?;
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::default();
        self.part_of = None;
        self.inherited = false;
        Ok(())
    }

    /// Notes which file the bytes belong to, before more of them come.
    pub(super) fn belongs_to(&mut self, part_of: PartOf) -> io::Result<()> {
        if self.part_of.as_ref() != Some(&part_of) {
            write_json(&self.meta_path, &part_of)?;
            self.part_of = Some(part_of);
        }
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// The digest of the bytes here.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Puts the bytes on disk for good and hands the file over.
    pub(super) fn finish(&self) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        Ok(self.path.clone())
    }
}
