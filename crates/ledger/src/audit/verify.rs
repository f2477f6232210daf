//! A ledger with everything beside its chain.

use std::collections::{BTreeMap, HashMap};

use futures::StreamExt;
use uuid::Uuid;

use super::chain::{Chains, Checkpoint, Content, Entry};
use super::{Broken, Expected, Report};
use crate::budgets::Periods;
use crate::chain::{LedgerId, Part, commitment};
use crate::content::{COLUMNS, ErasedEntry, RequestEntry, decode};
use crate::db::{Lent, Row, Value, schema, store};
use crate::error::LedgerError;
use crate::keys::{KeyId, KeyRecord};
use crate::query::{Reading, one};
use crate::request::Hash;
use crate::time::Timestamp;

/// Entries read at a time.
const PAGE: usize = 500;

/// A fault of the ledger, or one that kept it from being read.
#[derive(Debug)]
enum Stop {
    Broken(Broken),
    Failed(LedgerError),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        match error {
            // Something that does not read is what was looked for.
            LedgerError::Damaged { what } => Self::Broken(Broken::elsewhere(what)),
            other => Self::Failed(other),
        }
    }
}

/// Verifies a ledger as it is at one moment, while requests may go on. Memory grows with the number of keys and open requests only.
///
/// # Errors
/// When it cannot be read at all. What is wrong with it stands in the report.
pub async fn verify(reading: &Reading, expected: &Expected) -> Result<Report, LedgerError> {
    let mut lent = reading.reader.lend().await?;
    let meta = schema::read_meta_with(lent.statement()).await?;
    let meta = meta.ok_or_else(|| LedgerError::Damaged { what: "it does not say what it is".to_owned() })?;
    let ledger = LedgerId::of_pepper(&meta.pepper);
    let mut audit =
        Audit { chains: Chains::new(ledger, expected), keys: HashMap::new(), counts: Counts::default(), erased: None };
    let begin = match lent {
        Lent::Sqlite(_) => "BEGIN",
        Lent::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    };
    lent.statement().execute(begin, vec![]).await.map_err(|e| store("cannot be read", &e))?;
    let outcome = match meta.ledger == ledger.0 {
        true => audit.run(&mut lent).await,
        false => Err(Broken::elsewhere("the ledger's identity is not that of its pepper").into()),
    };
    lent.statement().execute("COMMIT", vec![]).await.map_err(|e| store("cannot be read", &e))?;
    match outcome {
        Ok(()) => {}
        Err(Stop::Broken(broken)) => audit.chains.report.broken = Some(broken),
        Err(Stop::Failed(error)) => return Err(error),
    }
    Ok(audit.chains.report)
}

/// Rows seen with their entries, to be held against how many there are.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    feedback: u64,
    bodies: u64,
    checkpoints: u64,
}

#[derive(Debug)]
struct Audit<'a> {
    chains: Chains<'a>,
    /// The latest record of each key, and where it stands.
    keys: HashMap<KeyId, (KeyRecord, u32, u64)>,
    counts: Counts,
    /// The entry that was last looked up because texts are gone, and when it was written.
    erased: Option<((u32, u64), ErasedEntry, Timestamp)>,
}

/// A row of `requests` or `feedback` as far as texts are concerned.
#[derive(Debug)]
struct Kept {
    salt: Option<Vec<u8>>,
    erased: Option<(u32, u64)>,
}

impl Audit<'_> {
    async fn run(&mut self, lent: &mut Lent) -> Result<(), Stop> {
        let (mut chain, mut seq) = (0, 0);
        loop {
            let entries = read_entries(lent, chain, seq).await?;
            let Some(last) = entries.last() else { break };
            (chain, seq) = (last.chain, last.seq);
            for one_chain in entries.chunk_by(|a, b| a.chain == b.chain) {
                self.page(lent, one_chain).await?;
            }
        }
        self.chains.end()?;
        self.nothing_else(lent).await?;
        self.keys(lent).await?;
        self.spending(lent).await
    }

    /// Entries of one chain with the rows that belong to them.
    async fn page(&mut self, lent: &mut Lent, entries: &[Entry]) -> Result<(), Stop> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let before = first.seq.saturating_sub(1);
        let range = || vec![Value::Int(first.chain.into()), Value::count(before), Value::count(last.seq)];
        let mut checkpoints = BTreeMap::new();
        let sql = "SELECT seq, at, hash, key, signature FROM checkpoints WHERE chain = $1 AND seq BETWEEN $2 AND $3";
        for mut row in rows(lent, sql, range()).await? {
            let seq = row.count()?;
            let (at, hash, key, signature) = (Timestamp(row.int()?), row.hash()?, row.text()?, row.blob()?);
            checkpoints.insert(seq, Checkpoint { chain: first.chain, seq, at, hash, key, signature });
        }
        let mut requests = BTreeMap::new();
        let columns = COLUMNS.join(", ");
        let sql = format!(
            "SELECT seq, id, subject, salt, erased_chain, erased_seq, {columns} FROM requests WHERE chain = $1 AND seq BETWEEN $2 AND $3"
        );
        for mut row in rows(lent, &sql, range()).await? {
            requests.insert(row.count()?, row);
        }
        let mut feedback = BTreeMap::new();
        let sql = "SELECT seq, request, salt, erased_chain, erased_seq, rating, accepted, correction_key, correction FROM feedback
             WHERE chain = $1 AND seq BETWEEN $2 AND $3";
        for mut row in rows(lent, sql, range()).await? {
            feedback.insert(row.count()?, row);
        }
        let mut bound = Vec::new();
        for entry in entries {
            let seq = entry.seq;
            let said = self.chains.entry(entry, checkpoints.get(&before), checkpoints.get(&seq))?;
            let broken = |what: &str| Stop::Broken(Broken::at(entry.chain, seq, what));
            match said {
                Content::Request(says) => {
                    let mut row = requests.remove(&seq).ok_or_else(|| broken("its row in requests is missing"))?;
                    let read = self.request(lent, entry, &says, &mut row).await;
                    let kept = read.map_err(|stop| placed(stop, entry))?;
                    self.counts.requests += 1;
                    bound.push((seq, entry.id, *says, kept));
                }
                Content::Feedback(says) => {
                    let mut row = feedback.remove(&seq).ok_or_else(|| broken("its row in feedback is missing"))?;
                    let read = self.feedback(lent, entry, &says, &mut row).await;
                    read.map_err(|stop| placed(stop, entry))?;
                    self.counts.feedback += 1;
                }
                Content::Key(says) => {
                    let (record, place) = (says.record, (entry.chain, seq));
                    let newer = self.keys.get(&record.id).is_none_or(|(held, ..)| held.revision < record.revision);
                    if newer {
                        self.keys.insert(record.id.clone(), (record, place.0, place.1));
                    }
                }
                Content::Checkpoint => self.counts.checkpoints += 1,
                Content::Erased | Content::Purged => {}
            }
        }
        self.bodies(lent, first.chain, bound).await
    }

    async fn request(
        &mut self,
        lent: &mut Lent,
        entry: &Entry,
        says: &RequestEntry,
        row: &mut Row,
    ) -> Result<Option<Vec<u8>>, Stop> {
        let broken = |what: &str| Stop::Broken(Broken::at(entry.chain, entry.seq, what));
        let (id, subject) = (row.uuid()?, row.optional_text()?);
        let kept = Kept::read(row)?;
        if id != entry.id {
            return Err(broken("its row in requests has another id"));
        }
        let columns = says.columns();
        let stored = row.values(columns.len())?;
        if let Some(place) = columns.iter().zip(&stored).position(|(says, stored)| says != stored) {
            return Err(broken(&format!("its row in requests has another {}", COLUMNS[place])));
        }
        if kept.erased.is_some() || (kept.salt.is_none() && !says.bound.is_empty()) {
            if kept.salt.is_some() || subject.is_some() {
                return Err(broken("it was erased, and texts are there"));
            }
            self.covered(lent, entry, kept.erased).await?;
            return Ok(None);
        }
        let shown = |salt: &[u8], text: &str| commitment(salt, entry.id, Part::Subject, None, text.as_bytes());
        let computed = kept.salt.as_deref().zip(subject.as_deref()).map(|(salt, subject)| shown(salt, subject));
        if computed != says.bound.subject || (computed.is_none() && subject.is_some()) {
            return Err(broken("its end user is not the one it was written with"));
        }
        if kept.salt.is_some() && says.bound.is_empty() {
            return Err(broken("it binds no texts, and its row has a salt for them"));
        }
        self.chains.report.texts += u64::from(subject.is_some());
        Ok(kept.salt)
    }

    async fn feedback(
        &mut self,
        lent: &mut Lent,
        entry: &Entry,
        says: &crate::content::FeedbackEntry,
        row: &mut Row,
    ) -> Result<(), Stop> {
        let broken = |what: &str| Stop::Broken(Broken::at(entry.chain, entry.seq, what));
        let request = row.uuid()?;
        let kept = Kept::read(row)?;
        let stored = row.values(2)?;
        if request != entry.id || stored != says.columns() {
            return Err(broken("its row in feedback says something else"));
        }
        let (key, correction) = (row.optional_text()?, row.optional_blob()?);
        if kept.erased.is_some() || (kept.salt.is_none() && says.correction.is_some()) {
            if kept.salt.is_some() || correction.is_some() || key.is_some() {
                return Err(broken("it was erased, and its correction is there"));
            }
            return self.covered(lent, entry, kept.erased).await;
        }
        let salt = kept.salt.as_deref();
        let computed = salt.zip(correction.as_deref());
        let computed = computed.map(|(salt, data)| commitment(salt, request, Part::Correction, key.as_deref(), data));
        let loose = computed.is_none() && (salt.is_some() || correction.is_some() || key.is_some());
        if computed != says.correction || loose {
            return Err(broken("its correction is not the one it was written with"));
        }
        self.chains.report.texts += u64::from(correction.is_some());
        Ok(())
    }

    /// Whether an entry accounts for texts that are gone.
    async fn covered(&mut self, lent: &mut Lent, entry: &Entry, pointer: Option<(u32, u64)>) -> Result<(), Stop> {
        let broken = |what: &str| Stop::Broken(Broken::at(entry.chain, entry.seq, what));
        let Some((chain, seq)) = pointer else {
            return Err(broken("its texts are missing, and no entry says that they were erased"));
        };
        if seq <= self.chains.purged_through(chain) {
            return Ok(());
        }
        if self.erased.as_ref().is_none_or(|(place, ..)| *place != (chain, seq)) {
            let sql = "SELECT at, content FROM entries WHERE chain = $1 AND seq = $2 AND kind = 4";
            let row = one(lent.statement(), sql, vec![Value::Int(chain.into()), Value::count(seq)]).await?;
            let Some(mut row) = row else {
                return Err(broken("its texts are missing, and the entry that should say so is none of erasure"));
            };
            let at = Timestamp(row.int()?);
            self.erased = Some(((chain, seq), decode(&row.blob()?, chain, seq)?, at));
        }
        let after = |at: Timestamp| if chain == entry.chain { seq > entry.seq } else { at >= entry.at };
        match &self.erased {
            Some((_, erased, at)) if after(*at) && erased.covers(entry.id, entry.at) => Ok(()),
            _ => Err(broken("its texts are missing, and the entry that should say so tells of others")),
        }
    }

    /// The bodies of some requests of a chain, each read once and let go.
    async fn bodies(
        &mut self,
        lent: &mut Lent,
        chain: u32,
        requests: Vec<(u64, Uuid, RequestEntry, Option<Vec<u8>>)>,
    ) -> Result<(), Stop> {
        let (Some(first), Some(last)) = (requests.first(), requests.last()) else { return Ok(()) };
        let sql =
            "SELECT seq, part, key, data FROM bodies WHERE chain = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq, part";
        let args = vec![Value::Int(chain.into()), Value::count(first.0), Value::count(last.0)];
        let mut found: BTreeMap<(u64, i64), Hash> = BTreeMap::new();
        {
            let mut bodies = lent.statement().stream(sql, args);
            while let Some(row) = bodies.next().await {
                let mut row = row.map_err(|e| store("cannot be read", &e))?;
                let (seq, number, key, data) = (row.count()?, row.int()?, row.optional_text()?, row.blob()?);
                let broken = |what: &str| Stop::Broken(Broken::at(chain, seq, what));
                let place = requests.binary_search_by_key(&seq, |request| request.0);
                let (_, id, _, salt) = &requests[place.map_err(|_| broken("it has a body and is no request"))?];
                let part = Part::BODIES.into_iter().find(|part| *part as i64 == number);
                let part = part.ok_or_else(|| broken("it has a body of no known part"))?;
                let salt = salt.as_deref().ok_or_else(|| broken("it has a body that it does not bind"))?;
                found.insert((seq, number), commitment(salt, *id, part, key.as_deref(), &data));
                self.counts.bodies += 1;
            }
        }
        for (seq, _, says, salt) in &requests {
            let bound = [
                (Part::Request, says.bound.request),
                (Part::Response, says.bound.response),
                (Part::Replay, says.bound.replay),
            ];
            for (part, hash) in bound {
                let stored = found.get(&(*seq, part as i64)).copied();
                let wanted = hash.filter(|_| salt.is_some());
                if stored != wanted {
                    return Err(Broken::at(chain, *seq, "a body is not the one it was written with").into());
                }
                self.chains.report.texts += u64::from(stored.is_some());
            }
        }
        Ok(())
    }

    /// Rows that belong to no entry.
    async fn nothing_else(&mut self, lent: &mut Lent) -> Result<(), Stop> {
        let anchors = self.chains.report.chains.iter().filter(|known| known.first > 1).count() as u64;
        let seen = [
            ("requests", self.counts.requests),
            ("feedback", self.counts.feedback),
            ("bodies", self.counts.bodies),
            ("checkpoints", self.counts.checkpoints + anchors),
        ];
        for (table, seen) in seen {
            let row = one(lent.statement(), &format!("SELECT COUNT(*) FROM {table}"), vec![]).await?;
            if row.map_or(Ok(0), |mut row| row.count())? == seen {
                continue;
            }
            let sql = format!(
                "SELECT t.chain, t.seq FROM {table} t WHERE NOT EXISTS
                 (SELECT 1 FROM entries e WHERE e.chain = t.chain AND e.seq = t.seq) ORDER BY t.chain, t.seq"
            );
            for mut row in rows(lent, &sql, vec![]).await? {
                let (chain, seq) = (row.chain()?, row.count()?);
                if table == "checkpoints" && seq > 0 && seq == self.chains.purged_through(chain) {
                    continue;
                }
                return Err(Broken::at(chain, seq, format!("it is missing, and has a row in {table}")).into());
            }
            return Err(Broken::elsewhere(format!("there are rows in {table} for entries of another kind")).into());
        }
        Ok(())
    }

    async fn keys(&mut self, lent: &mut Lent) -> Result<(), Stop> {
        let mut keys = std::mem::take(&mut self.keys);
        for mut row in rows(lent, "SELECT id, chain, seq, revision, record FROM keys ORDER BY id", vec![]).await? {
            let (id, chain, seq, revision) = (row.text()?, row.chain()?, row.count()?, row.count()?);
            let stored: Option<KeyRecord> = serde_json::from_str(&row.text()?).ok();
            let Some((record, at_chain, at_seq)) = keys.remove(&KeyId::from(id.as_str())) else {
                return Err(Broken::elsewhere(format!("key {id} has no entry")).into());
            };
            if stored.as_ref() != Some(&record) || (chain, seq, revision) != (at_chain, at_seq, record.revision) {
                return Err(Broken::at(at_chain, at_seq, format!("key {id} is not what its last entry says")).into());
            }
        }
        match keys.values().next() {
            Some((record, chain, seq)) => Err(Broken::at(*chain, *seq, format!("key {} is missing", record.id)).into()),
            None => Ok(()),
        }
    }

    /// Days are the sums of their requests, months of their days, reservations those of open requests.
    async fn spending(&mut self, lent: &mut Lent) -> Result<(), Stop> {
        let after = self.chains.purged_until().map_or(i64::MIN, Timestamp::day);
        let sums = "SELECT '' AS scope, day AS period, CAST(SUM(cost) AS BIGINT) AS cost, CAST(SUM(charged_tokens) AS BIGINT) AS tokens
             FROM requests WHERE day > $1 GROUP BY day UNION ALL
             SELECT key_id, day, CAST(SUM(cost) AS BIGINT), CAST(SUM(charged_tokens) AS BIGINT)
             FROM requests WHERE day > $1 AND key_id IS NOT NULL GROUP BY key_id, day";
        let sums = format!("SELECT scope, period, cost, tokens FROM ({sums}) sums WHERE cost <> 0 OR tokens <> 0");
        let days = "SELECT scope, period, cost, tokens FROM spending WHERE unit = 0 AND period > $1 AND (cost <> 0 OR tokens <> 0)";
        for (one_side, other) in [(sums.as_str(), days), (days, sums.as_str())] {
            let sql = format!(
                "SELECT scope, period FROM ({one_side} EXCEPT {other}) differing ORDER BY period, scope LIMIT 1"
            );
            if let Some(mut row) = one(lent.statement(), &sql, vec![Value::Int(after)]).await? {
                let (scope, day) = (row.text()?, Timestamp::of_day(row.int()?));
                let whose = if scope.is_empty() { "all keys together".to_owned() } else { format!("key {scope}") };
                return Err(Broken::elsewhere(format!(
                    "the spending of {whose} on {day} is not the sum of its requests"
                ))
                .into());
            }
        }
        let mut expected: BTreeMap<(String, i64, i64), [i64; 4]> = BTreeMap::new();
        let mut add = |scope: &str, day: i64, amounts: [i64; 4], with_day: bool| {
            let periods = Periods::of_day(day);
            for (unit, period) in [(0, periods.day), (1, periods.month)].into_iter().skip(usize::from(!with_day)) {
                let sum = expected.entry((scope.to_owned(), unit, period)).or_default();
                sum.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum = sum.saturating_add(amount));
            }
        };
        if matches!(lent, Lent::Postgres(_)) {
            for mut row in rows(lent, "SELECT scope, day, cost, tokens FROM open", vec![]).await? {
                let (scope, day, cost, tokens) = (row.text()?, row.int()?, row.int()?, row.int()?);
                for scope in ["", &scope].iter().take(1 + usize::from(!scope.is_empty())) {
                    add(scope, day, [0, 0, cost, tokens], true);
                }
            }
        }
        let sql = "SELECT scope, unit, period, cost, tokens, reserved_cost, reserved_tokens FROM spending ORDER BY unit, scope, period";
        let mut stored = BTreeMap::new();
        for mut row in rows(lent, sql, vec![]).await? {
            let (scope, unit, period) = (row.text()?, row.int()?, row.int()?);
            let amounts = [row.int()?, row.int()?, row.int()?, row.int()?];
            if unit == 0 {
                let day = amounts;
                add(&scope, period, [day[0], day[1], 0, 0], false);
            }
            stored.insert((scope, unit, period), amounts);
        }
        for (place, amounts) in &stored {
            let mut wanted = expected.remove(place).unwrap_or_default();
            if place.1 == 0 {
                // A day's own amounts were held against its requests above.
                wanted[..2].copy_from_slice(&amounts[..2]);
            }
            if wanted != *amounts {
                let what = format!(
                    "the spending of {:?} in period {} is not the sum of its days and open requests",
                    place.0, place.2
                );
                return Err(Broken::elsewhere(what).into());
            }
        }
        match expected.into_iter().find(|(_, amounts)| *amounts != [0; 4]) {
            Some((place, _)) => {
                Err(Broken::elsewhere(format!("the spending of {:?} in period {} is missing", place.0, place.2)).into())
            }
            None => Ok(()),
        }
    }
}

impl Kept {
    fn read(row: &mut Row) -> Result<Self, LedgerError> {
        let salt = row.optional_blob()?;
        let erased = match (row.optional_int()?, row.optional_int()?) {
            (None, None) => None,
            (chain, seq) => {
                let chain = chain.and_then(|chain| u32::try_from(chain).ok());
                let seq = seq.and_then(|seq| u64::try_from(seq).ok());
                // Half a pointer points nowhere.
                Some((chain.unwrap_or(0), seq.unwrap_or(u64::MAX)))
            }
        };
        Ok(Self { salt, erased })
    }
}

/// A fault of a row, at the entry it belongs to.
fn placed(stop: Stop, entry: &Entry) -> Stop {
    match stop {
        Stop::Broken(Broken { chain: None, what, .. }) => Stop::Broken(Broken::at(entry.chain, entry.seq, what)),
        other => other,
    }
}

async fn rows(lent: &mut Lent, sql: &str, args: Vec<Value>) -> Result<Vec<Row>, Stop> {
    Ok(lent.statement().rows(sql, args).await.map_err(|e| store("cannot be read", &e))?)
}

/// The entries after a place, in order.
async fn read_entries(lent: &mut Lent, chain: u32, seq: u64) -> Result<Vec<Entry>, Stop> {
    let sql = format!(
        "SELECT chain, seq, at, kind, id, content, hash FROM entries WHERE chain = $1 AND seq > $2 OR chain > $1
         ORDER BY chain, seq LIMIT {PAGE}"
    );
    let rows = rows(lent, &sql, vec![Value::Int(chain.into()), Value::count(seq)]).await?;
    rows.into_iter().map(|row| read_entry(row).map_err(Stop::from)).collect()
}

pub(super) fn read_entry(mut row: Row) -> Result<Entry, LedgerError> {
    let (chain, seq) = (row.chain()?, row.count()?);
    let mut rest = || {
        Ok(Entry {
            chain,
            seq,
            at: Timestamp(row.int()?),
            kind: row.int()?,
            id: row.uuid()?,
            content: row.blob()?,
            hash: row.hash()?,
        })
    };
    rest().map_err(|_: LedgerError| LedgerError::Damaged {
        what: format!("entry {seq} of chain {chain} has a column that does not read"),
    })
}
