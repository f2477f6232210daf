//! The rows of a transaction.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::op::{Append, Beside, Open};
use crate::budgets::{Amounts, Periods, scope, unit};
use crate::chain::{Head, LedgerId};
use crate::content::PurgedEntry;
use crate::db::Value;
use crate::db::insert::{Rows, Step};
use crate::db::schema::{BODIES, CHECKPOINTS, ENTRIES, FEEDBACK, KEYS, OPEN, REQUESTS, SPENDING};
use crate::keys::KeyId;
use crate::limits::Period;
use crate::request::EntryReceipt;
use crate::signing::CheckpointSigner;
use crate::time::Timestamp;

/// What is added to a row of `spending`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    pub(super) spent: Amounts,
    pub(super) reserved: Amounts,
}

/// Amounts by scope, unit and period, in the order in which all writers lock them.
pub(super) type Deltas = BTreeMap<(String, i64, i64), Delta>;

/// Adds to the day and month of a payer and of all together.
pub(super) fn add(deltas: &mut Deltas, key: Option<&KeyId>, day: i64, spent: Amounts, reserved: Amounts) {
    let periods = Periods::of_day(day);
    let scopes = ["", scope(key)];
    for scope in &scopes[..=usize::from(key.is_some())] {
        for period in [Period::Day, Period::Month] {
            let delta = deltas.entry(((*scope).to_owned(), unit(period), periods.get(period))).or_default();
            delta.spent = delta.spent.plus(spent);
            delta.reserved = delta.reserved.plus(reserved);
        }
    }
}

/// Rows for `spending`.
pub(super) fn spending(deltas: Deltas) -> Rows {
    let mut rows = Rows::new(&SPENDING);
    for ((scope, unit, period), Delta { spent, reserved }) in deltas {
        let amounts = [spent.cost, spent.tokens, reserved.cost, reserved.tokens].map(Value::Int);
        rows.push([Value::Text(scope), Value::Int(unit), Value::Int(period)].into_iter().chain(amounts));
    }
    rows
}

/// Statements that an entry takes with it besides rows.
pub(super) type Statement = (&'static str, Vec<Value>);

/// A transaction as it is put together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) head: Head,
    clock: Timestamp,
    pub(super) statements: Vec<Statement>,
    entries: Rows,
    requests: Rows,
    bodies: Rows,
    feedback: Rows,
    pub(super) keys: Rows,
    open: Rows,
    checkpoints: Rows,
    pub(super) deltas: Deltas,
    pub(super) closed: Vec<Uuid>,
    pub(super) appended: u64,
}

impl Batch {
    pub(super) fn new(head: Head, clock: Timestamp) -> Self {
        Self {
            head,
            clock,
            statements: Vec::new(),
            entries: Rows::new(&ENTRIES),
            requests: Rows::new(&REQUESTS),
            bodies: Rows::new(&BODIES),
            feedback: Rows::new(&FEEDBACK),
            keys: Rows::new(&KEYS),
            open: Rows::new(&OPEN),
            checkpoints: Rows::new(&CHECKPOINTS),
            deltas: Deltas::new(),
            closed: Vec::new(),
            appended: 0,
        }
    }

    pub(super) fn open(&mut self, open: &Open) {
        self.open.push(open.row(self.head.chain));
    }

    /// Appends an entry with its rows.
    pub(super) fn append(&mut self, append: &Append, ledger: &LedgerId, signer: &CheckpointSigner) -> EntryReceipt {
        let kind = append.kind();
        self.head = self.head.extend(self.clock, kind, append.id, &append.content);
        self.appended += 1;
        let Head { chain, seq, hash, at } = self.head;
        let place = || [Value::Int(chain.into()), Value::count(seq)];
        let blob = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, Value::blob);
        let rest = [
            Value::Int(at.0),
            Value::Int(kind as i64),
            Value::blob(append.id.as_bytes()),
            Value::blob(&append.content),
            Value::blob(&hash.0),
        ];
        self.entries.push(place().into_iter().chain(rest));
        match &append.beside {
            Beside::Request(record) => {
                let own = [
                    Value::blob(append.id.as_bytes()),
                    Value::optional(record.subject.as_deref()),
                    blob(record.salt.as_deref()),
                ];
                self.requests.push(place().into_iter().chain(own).chain(record.entry.columns()));
                for (part, stored) in &record.bodies {
                    let own =
                        [Value::Int(*part as i64), Value::optional(stored.key.as_deref()), Value::blob(&stored.data)];
                    self.bodies.push(place().into_iter().chain(own));
                }
                let entry = &record.entry;
                let spent = Amounts::of(entry.cost, entry.charged_tokens);
                add(&mut self.deltas, entry.key.as_ref(), entry.day, spent, Amounts::default());
                if let Some(reservation) = &record.settles {
                    self.closed.push(reservation.request);
                }
            }
            Beside::Feedback { entry, salt, correction } => {
                let own = [
                    blob(salt.as_deref()),
                    Value::optional(correction.as_ref().and_then(|stored| stored.key.as_deref())),
                    blob(correction.as_ref().map(|stored| stored.data.as_slice())),
                ];
                let id = [Value::blob(append.id.as_bytes())];
                self.feedback.push(place().into_iter().chain(id).chain(entry.columns()).chain(own));
            }
            Beside::Key(entry) => {
                let [chain, seq] = place();
                let record = serde_json::to_string(&entry.record).unwrap_or_default();
                let revision = Value::count(entry.record.revision);
                self.keys.push([Value::text(entry.record.id.as_str()), chain, seq, revision, Value::Text(record)]);
            }
            Beside::Erased(entry) => {
                let pointer = place();
                match entry.before {
                    Some(before) => self.erase(&ERASE_BEFORE, &pointer, &[Value::Int(before.0)]),
                    None => {
                        for request in &entry.requests {
                            self.erase(&ERASE_REQUEST, &pointer, &[Value::blob(request.as_bytes())]);
                        }
                    }
                }
            }
            Beside::Purged(PurgedEntry { chain, through, .. }) => {
                for statement in PURGE {
                    self.statements.push((statement, vec![Value::Int((*chain).into()), Value::count(*through)]));
                }
            }
            Beside::Checkpoint(entry) => {
                let signature = signer.sign(&ledger.checkpoint_message(chain, seq, at, &hash));
                let own = [Value::Int(at.0), Value::blob(&hash.0), Value::text(&entry.key), Value::blob(&signature)];
                self.checkpoints.push(place().into_iter().chain(own));
            }
        }
        EntryReceipt { chain, seq, at, hash }
    }

    fn erase(&mut self, statements: &[&'static str], pointer: &[Value; 2], which: &[Value]) {
        for statement in statements {
            // The deletion of bodies comes first and needs no pointer.
            let pointer = if statement.starts_with("DELETE") { &[][..] } else { &pointer[..] };
            self.statements.push((statement, which.iter().chain(pointer).cloned().collect()));
        }
    }

    /// Rows in the order of writing, but for `spending` and `open`.
    pub(super) fn rows(&mut self) -> Vec<Rows> {
        let tables = [
            (&mut self.entries, &ENTRIES),
            (&mut self.requests, &REQUESTS),
            (&mut self.bodies, &BODIES),
            (&mut self.feedback, &FEEDBACK),
            (&mut self.checkpoints, &CHECKPOINTS),
        ];
        let taken = tables.map(|(rows, table)| std::mem::replace(rows, Rows::new(table)));
        taken.into_iter().filter(|rows| rows.count() > 0).collect()
    }

    pub(super) fn open_rows(&mut self) -> Rows {
        std::mem::replace(&mut self.open, Rows::new(&OPEN))
    }

    /// Everything as steps for SQLite.
    pub(super) fn steps(mut self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.statements.drain(..).map(|(sql, args)| Step::Run(sql, args)).collect();
        steps.extend(self.rows().into_iter().map(Step::Insert));
        for rows in [self.keys, spending(self.deltas), self.open] {
            if rows.count() > 0 {
                steps.push(Step::Insert(rows));
            }
        }
        if !self.closed.is_empty() {
            steps.push(Step::Close(self.closed));
        }
        steps
    }
}

/// `$1`: the moment; `$2`, `$3`: the entry that tells of it.
const ERASE_BEFORE: [&str; 3] = [
    "DELETE FROM bodies WHERE EXISTS (SELECT 1 FROM entries e WHERE e.chain = bodies.chain AND e.seq = bodies.seq AND e.at < $1)",
    "UPDATE requests SET subject = NULL, salt = NULL, erased_chain = $2, erased_seq = $3 WHERE salt IS NOT NULL AND EXISTS
     (SELECT 1 FROM entries e WHERE e.chain = requests.chain AND e.seq = requests.seq AND e.at < $1)",
    "UPDATE feedback SET salt = NULL, correction = NULL, correction_key = NULL, erased_chain = $2, erased_seq = $3
     WHERE salt IS NOT NULL AND EXISTS
     (SELECT 1 FROM entries e WHERE e.chain = feedback.chain AND e.seq = feedback.seq AND e.at < $1)",
];

/// `$1`: the request; `$2`, `$3`: the entry that tells of it.
const ERASE_REQUEST: [&str; 3] = [
    "DELETE FROM bodies WHERE EXISTS (SELECT 1 FROM requests r WHERE r.chain = bodies.chain AND r.seq = bodies.seq AND r.id = $1)",
    "UPDATE requests SET subject = NULL, salt = NULL, erased_chain = $2, erased_seq = $3 WHERE id = $1 AND salt IS NOT NULL",
    "UPDATE feedback SET salt = NULL, correction = NULL, correction_key = NULL, erased_chain = $2, erased_seq = $3
     WHERE request = $1 AND salt IS NOT NULL",
];

/// `$1`: the chain; `$2`: the last entry to be removed.
const PURGE: [&str; 5] = [
    "DELETE FROM bodies WHERE chain = $1 AND seq <= $2",
    "DELETE FROM feedback WHERE chain = $1 AND seq <= $2",
    "DELETE FROM requests WHERE chain = $1 AND seq <= $2",
    // The checkpoint of the last entry removed stays: the chain goes on from it.
    "DELETE FROM checkpoints WHERE chain = $1 AND seq < $2",
    "DELETE FROM entries WHERE chain = $1 AND seq <= $2",
];
