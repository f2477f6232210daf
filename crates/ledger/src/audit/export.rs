//! The chain as lines of JSON, which can be verified without the ledger. Texts are not in it, only their salted digests.

use std::io::{BufRead, Read, Write};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::{Chains, Checkpoint, Entry};
use super::verify::read_entry;
use super::{Broken, Expected, Report};
use crate::chain::LedgerId;
use crate::db::{Value, schema, store};
use crate::error::LedgerError;
use crate::query::{Reading, one};
use crate::request::Hash;
use crate::time::Timestamp;

/// Bytes that a line may have.
const LINE: u64 = 8 << 20;

/// A line of an export. The first is the header; a checkpoint follows its entry, or stands before the first entry of a chain whose older
/// entries were purged.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Header {
        format: u32,
        /// The identity of the ledger.
        ledger: Hash,
    },
    Entry {
        chain: u32,
        seq: u64,
        at: Timestamp,
        kind: i64,
        id: Uuid,
        /// The bytes that are hashed.
        content: String,
        hash: Hash,
    },
    Checkpoint(Checkpoint),
}

/// Writes every entry and checkpoint; how many entries.
///
/// # Errors
/// When the ledger cannot be read, or `out` not written.
pub async fn export(reading: &Reading, out: &mut (impl Write + Send)) -> Result<u64, LedgerError> {
    let mut lent = reading.reader.lend().await?;
    let meta = schema::read_meta_with(lent.statement()).await?;
    let meta = meta.ok_or_else(|| LedgerError::Damaged { what: "it does not say what it is".to_owned() })?;
    let ledger = Hash(LedgerId::of_pepper(&meta.pepper).0);
    write(out, &Line::Header { format: 1, ledger })?;
    let anchors =
        "SELECT c.chain, c.seq, c.at, c.hash, c.key, c.signature FROM checkpoints c WHERE c.chain = $1 AND c.seq = $2";
    let sql = "SELECT e.chain, e.seq, e.at, e.kind, e.id, e.content, e.hash, c.key, c.signature FROM entries e
         LEFT JOIN checkpoints c ON c.chain = e.chain AND c.seq = e.seq ORDER BY e.chain, e.seq";
    let mut rows = lent.statement().stream(sql, vec![]);
    let (mut count, mut chain) = (0, 0);
    while let Some(row) = rows.next().await {
        let mut row = row.map_err(|e| store("cannot be read", &e))?;
        let signed = match row.values.split_off(7).as_mut_slice() {
            [Value::Text(key), Value::Blob(signature)] => Some((std::mem::take(key), std::mem::take(signature))),
            _ => None,
        };
        let entry = read_entry(row)?;
        if entry.chain != chain && entry.seq > 1 {
            let args = vec![Value::Int(entry.chain.into()), Value::count(entry.seq - 1)];
            let mut lent = reading.reader.lend().await?;
            if let Some(mut row) = one(lent.statement(), anchors, args).await? {
                let (chain, seq, at, hash) = (row.chain()?, row.count()?, Timestamp(row.int()?), row.hash()?);
                let checkpoint = Checkpoint { chain, seq, at, hash, key: row.text()?, signature: row.blob()? };
                write(out, &Line::Checkpoint(checkpoint))?;
            }
        }
        let Entry { seq, at, kind, id, content, hash, .. } = entry;
        chain = entry.chain;
        let content = String::from_utf8(content)
            .map_err(|_| LedgerError::Damaged { what: format!("entry {seq} of chain {chain} is no text") })?;
        write(out, &Line::Entry { chain, seq, at, kind, id, content, hash })?;
        if let Some((key, signature)) = signed {
            write(out, &Line::Checkpoint(Checkpoint { chain, seq, at, hash, key, signature }))?;
        }
        count += 1;
    }
    Ok(count)
}

fn write(out: &mut impl Write, line: &Line) -> Result<(), LedgerError> {
    let fault = |e: std::io::Error| LedgerError::Store { doing: "cannot be exported", why: e.to_string() };
    let json = serde_json::to_string(line).map_err(|e| fault(e.into()))?;
    writeln!(out, "{json}").map_err(fault)
}

/// Verifies an export.
///
/// # Errors
/// When it cannot be read, or is none. What is wrong with the ledger stands in the report.
pub fn verify_export(from: &mut impl BufRead, expected: &Expected) -> Result<Report, LedgerError> {
    let Some(Line::Header { format: 1, ledger }) = read(from, 1)? else {
        return Err(LedgerError::Invalid {
            field: "export",
            why: "its first line is no header of format 1".to_owned(),
        });
    };
    let mut chains = Chains::new(LedgerId(ledger.0), expected);
    if let Err(broken) = lines(from, &mut chains)? {
        chains.report.broken = Some(broken);
    }
    Ok(chains.report)
}

fn lines(from: &mut impl BufRead, chains: &mut Chains<'_>) -> Result<Result<(), Broken>, LedgerError> {
    let (mut number, mut anchor, mut next) = (2, None, read(from, 2)?);
    while let Some(line) = next.take() {
        number += 1;
        let mut following = read(from, number)?;
        let entry = match line {
            Line::Entry { chain, seq, at, kind, id, content, hash } => {
                Entry { chain, seq, at, kind, id, content: content.into_bytes(), hash }
            }
            Line::Checkpoint(checkpoint) if anchor.is_none() => {
                (anchor, next) = (Some(checkpoint), following);
                continue;
            }
            _ => return Ok(Err(Broken::elsewhere(format!("line {} of the export is out of place", number - 1)))),
        };
        let own = match following.take() {
            Some(Line::Checkpoint(own)) if (own.chain, own.seq) == (entry.chain, entry.seq) => {
                number += 1;
                following = read(from, number)?;
                Some(own)
            }
            other => {
                following = other;
                None
            }
        };
        if let Err(broken) = chains.entry(&entry, anchor.take().as_ref(), own.as_ref()) {
            return Ok(Err(broken));
        }
        next = following;
    }
    if anchor.is_some() {
        return Ok(Err(Broken::elsewhere("the export ends with a checkpoint whose entry is missing")));
    }
    Ok(chains.end())
}

fn read(from: &mut impl BufRead, number: u64) -> Result<Option<Line>, LedgerError> {
    let fault = |why: String| LedgerError::Invalid { field: "export", why: format!("line {number}: {why}") };
    let mut line = Vec::new();
    let length = from.by_ref().take(LINE).read_until(b'\n', &mut line).map_err(|e| fault(e.to_string()))?;
    if length == 0 {
        return Ok(None);
    }
    if length as u64 == LINE {
        return Err(fault(format!("it is longer than {LINE} bytes")));
    }
    serde_json::from_slice(&line).map(Some).map_err(|e| fault(e.to_string()))
}
