//! What was committed and is not in SQLite's file yet.
//!
//! A transaction of SQLite costs some 80 microseconds however small it is, and waits for the disk whenever SQLite folds its log. So changes are first
//! appended to a file, which a kill of the process does not undo, and brought into the database many at a time. Two files take turns: one
//! is written to while what stands in the other is brought over, and is then written over from its beginning.
//!
//! A file is a sequence of records: the length of the body (u32), the number of the record (u64), the first 8 bytes of the SHA-256 of the ledger's identity, number and body, the
//! body; integers are little-endian. Numbers go up by one; the first record that does not read, or whose number does not follow, is where
//! an earlier turn, or the room made beforehand, begins.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::chain::LedgerId;

/// Bytes of each file that are made beforehand, so that no commit waits for the file system to find room.
const ROOM: usize = 4 << 20;
/// Bytes after which a file is due for bringing over.
const LONG: u64 = 4 << 20;
const HEAD: usize = 20;

/// The two files, and where the next record goes.
#[derive(Debug)]
pub(super) struct Journal {
    /// Whose they are; another ledger's records do not read.
    ledger: LedgerId,
    files: [File; 2],
    /// The one that is written to.
    current: usize,
    at: u64,
    /// Bytes of each that records have stood in.
    used: [u64; 2],
    /// The number of the last record.
    number: u64,
    head: Vec<u8>,
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) body: Vec<u8>,
}

/// The names of a ledger's two files.
pub(crate) fn paths(ledger: &Path) -> [PathBuf; 2] {
    [".new0", ".new1"].map(|suffix| {
        let mut name = ledger.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

impl Journal {
    /// Makes both files anew. Nothing may stand in them that is still wanted; the next record follows the number `last`.
    pub(super) fn create(path: &Path, ledger: LedgerId, last: u64) -> io::Result<Self> {
        let paths = paths(path);
        let make = |path: &PathBuf| {
            let mut options = fs_err::OpenOptions::new();
            options.create(true).truncate(true).write(true);
            #[cfg(unix)]
            {
                use fs_err::os::unix::fs::OpenOptionsExt;
                options.mode(0o600);
            }
            let mut file = options.open(path)?.into_parts().0;
            file.write_all(&vec![0; ROOM])?;
            Ok::<_, io::Error>(file)
        };
        let files = [make(&paths[0])?, make(&paths[1])?];
        Ok(Self { ledger, files, current: 0, at: 0, used: [0; 2], number: last, head: Vec::new() })
    }

    /// The number of the last record.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the current file should be brought over before more is written to it.
    pub(super) const fn is_long(&self) -> bool {
        self.at >= LONG
    }

    /// Takes a number for something that was written to the database itself, when everything else is there too. The next record begins the
    /// file: after one whose number it does not follow it would not be read.
    pub(super) const fn skip(&mut self) {
        self.number += 1;
        self.at = 0;
    }

    /// Appends a record. It outlives the process from then on.
    pub(super) fn append(&mut self, body: &[u8]) -> io::Result<()> {
        let number = self.number + 1;
        let length = u32::try_from(body.len()).map_err(|_| io::Error::other("a commit of more than 4 GiB"))?;
        self.head.clear();
        self.head.extend(length.to_le_bytes());
        self.head.extend(number.to_le_bytes());
        self.head.extend(checksum(&self.ledger, number, body));
        self.head.extend(body);
        let file = &mut self.files[self.current];
        // Whatever an append that failed has left there does not read as a record, and is written over.
        let end = self.at + self.head.len() as u64;
        self.used[self.current] = self.used[self.current].max(end);
        file.seek(io::SeekFrom::Start(self.at))?;
        file.write_all(&self.head)?;
        (self.number, self.at) = (number, end);
        self.head.shrink_to(1 << 20);
        Ok(())
    }

    /// Turns to the other file, of which everything must be in the database.
    pub(super) const fn turn(&mut self) {
        (self.current, self.at) = (1 - self.current, 0);
    }

    /// Overwrites what stands in both, all of which must be in the database.
    pub(super) fn wipe(&mut self) -> io::Result<()> {
        // First: what follows is written from the beginning even if not all of this succeeds.
        self.at = 0;
        for (file, used) in self.files.iter_mut().zip(&mut self.used) {
            file.rewind()?;
            io::copy(&mut io::repeat(0).take(*used), file)?;
            *used = 0;
        }
        Ok(())
    }
}

/// Removes both files, all of which must be in the database.
pub(super) fn remove(ledger: &Path) -> io::Result<()> {
    paths(ledger).iter().try_for_each(|path| match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}

/// The records that follow the number `last`, in order. Files that are not there hold none.
pub(super) fn read(path: &Path, ledger: &LedgerId, last: u64) -> io::Result<Vec<Record>> {
    let mut found = Vec::new();
    for path in paths(path) {
        match fs_err::File::open(&path) {
            Ok(file) => found.push(records(ledger, file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|records: &Vec<Record>| records.first().map(|record| record.number));
    let later = found.into_iter().flatten().filter(|record| record.number > last);
    let mut wanted = Vec::new();
    for (next, record) in (last + 1..).zip(later) {
        if record.number != next {
            // Only a loss of power leaves a gap: the file was on the disk before what came earlier.
            tracing::error!(missing = next, "some of the last entries before a loss of power are lost");
            break;
        }
        wanted.push(record);
    }
    Ok(wanted)
}

/// The records at the beginning of a file.
pub(super) fn records(ledger: &LedgerId, mut file: impl Read) -> io::Result<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let mut head = Vec::new();
        file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        let Some(Head { length, number, check }) = Head::read(&head) else { return Ok(records) };
        if length == 0 || records.last().is_some_and(|before| before.number + 1 != number) {
            return Ok(records);
        }
        let mut body = Vec::new();
        file.by_ref().take(length).read_to_end(&mut body)?;
        if body.len() as u64 != length || checksum(ledger, number, &body) != check {
            return Ok(records);
        }
        records.push(Record { number, body });
    }
}

struct Head {
    length: u64,
    number: u64,
    check: [u8; 8],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (check, _) = rest.split_first_chunk()?;
        let number = u64::from_le_bytes(*number);
        (number < u64::MAX).then_some(Self { length: u32::from_le_bytes(*length).into(), number, check: *check })
    }
}

fn checksum(ledger: &LedgerId, number: u64, body: &[u8]) -> [u8; 8] {
    let digest = Sha256::new().chain_update(ledger.0).chain_update(number.to_le_bytes()).chain_update(body).finalize();
    std::array::from_fn(|place| digest[place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: LedgerId = LedgerId([7; 32]);

    fn bodies(records: &[Record]) -> Vec<Vec<u8>> {
        records.iter().map(|record| record.body.clone()).collect()
    }

    proptest! {
        /// Turns at any moment, a file cut anywhere, earlier turns below: what reads is what was appended, in order, up to the cut.
        #[test]
        fn what_was_appended_is_read(
            turns in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8), 1..8),
            brought in 0..3usize,
            cut in 0..1000u64,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let ledger = dir.path().join("ledger.db");
            let mut journal = Journal::create(&ledger, ID, 7).unwrap();
            let mut last = 7;
            let mut wanted = Vec::new();
            for (place, turn) in turns.iter().enumerate() {
                // What stands in the file turned to is in the database.
                if place > 0 {
                    let in_other = turns[place - 1].len();
                    let kept = wanted.len().min(in_other);
                    wanted.drain(..wanted.len() - kept);
                    journal.turn();
                }
                for body in turn {
                    journal.append(body).unwrap();
                    wanted.push(body.clone());
                }
            }
            last += turns.iter().map(Vec::len).sum::<usize>() as u64 - wanted.len() as u64;
            let brought = brought.min(wanted.len());
            let found = read(&ledger, &ID, last + brought as u64).unwrap();
            prop_assert_eq!(&bodies(&found), &wanted[brought..]);
            let current = std::fs::OpenOptions::new().write(true).open(&paths(&ledger)[journal.current]).unwrap();
            let cut = cut.min(journal.at);
            current.set_len(cut).unwrap();
            let left = read(&ledger, &ID, last).unwrap();
            prop_assert!(left.len() <= wanted.len() && cut < journal.at || left.len() == wanted.len());
            prop_assert_eq!(&bodies(&left), &wanted[..left.len()]);
        }

        /// A record that was altered ends the file.
        #[test]
        fn what_was_altered_does_not_read(place in 0..3 * 50usize, by in 1..=255u8) {
            let dir = tempfile::tempdir().unwrap();
            let ledger = dir.path().join("ledger.db");
            let mut journal = Journal::create(&ledger, ID, 0).unwrap();
            for body in [b'a', b'b', b'c'] {
                journal.append(&[body; 30]).unwrap();
            }
            let path = &paths(&ledger)[0];
            let mut bytes = std::fs::read(path).unwrap();
            bytes[place] ^= by;
            std::fs::write(path, bytes).unwrap();
            let found = read(&ledger, &ID, 0).unwrap();
            // A number of the first record that is greater is a gap.
            prop_assert_eq!(found.len(), place / 50);
        }
    }

    #[test]
    fn what_follows_a_number_that_was_taken_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut journal = Journal::create(&ledger, ID, 0).unwrap();
        journal.append(b"one").unwrap();
        journal.append(b"two").unwrap();
        journal.skip();
        journal.append(b"four").unwrap();
        assert_eq!(read(&ledger, &ID, 3).unwrap(), [Record { number: 4, body: b"four".to_vec() }]);
    }

    #[test]
    fn wiped_files_hold_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut journal = Journal::create(&ledger, ID, 0).unwrap();
        journal.append(b"secret").unwrap();
        journal.turn();
        journal.append(b"secret").unwrap();
        journal.wipe().unwrap();
        for path in paths(&ledger) {
            assert!(std::fs::read(path).unwrap().iter().all(|byte| *byte == 0));
        }
        journal.append(b"next").unwrap();
        assert!(read(&ledger, &LedgerId([8; 32]), 2).unwrap().is_empty(), "another ledger's");
        assert_eq!(read(&ledger, &ID, 2).unwrap(), [Record { number: 3, body: b"next".to_vec() }]);
        remove(&ledger).unwrap();
        remove(&ledger).unwrap();
        assert!(read(&ledger, &ID, 2).unwrap().is_empty());
    }
}
