//! The ledger as the rest of the program sees it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use uuid::Uuid;

use crate::body::seal;
use crate::budgets::{Amounts, Used, unit};
use crate::chain::{LedgerId, Part, commitment};
use crate::config::{LedgerConfig, Store};
use crate::content::{FeedbackEntry, KeyEntry, KeyEvent, RequestEntry, Settled, encode, name};
use crate::counters::WriterCounts;
use crate::db::lock::Lock;
use crate::db::{Connection, Reader, Statement, Value, connect, reader, schema, store};
use crate::error::{AuthError, BeginError, KeyError, LedgerError};
use crate::keys::registry::{Step, check_limits};
use crate::keys::{KeyChange, KeyId, KeyRecord, NewKey, Secret};
use crate::limits::{Amount, Budget, Limits, Period};
use crate::query::{Recorded, stored_keys, stored_use};
use crate::rates::Payer;
use crate::request::{Begin, EntryReceipt, Estimate, Feedback, Outcome};
use crate::shared::Shared;
use crate::signing::{CheckpointSigner, PublicKey};
use crate::ticket::{Durable, OpenRequest, Ticket, append};
use crate::time::Timestamp;
use crate::writer::op::{Append, Beside, Op, Open, Reservation, Then};
use crate::writer::{Backend, PostgresStore, SqliteStore, Writer, read_head};

/// A ledger; clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Op>,
}

/// A budget and what of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetUse {
    /// The budget.
    pub budget: Budget,
    /// Spent in this period, in nano-dollars or tokens as the budget is.
    pub spent: i64,
    /// Reserved by open requests.
    pub reserved: i64,
}

impl BudgetUse {
    pub(crate) const fn new(budget: Budget, used: Used) -> Self {
        let (spent, reserved) = match budget.amount {
            Amount::Money(_) => (used.spent.cost, used.reserved.cost),
            Amount::Tokens(_) => (used.spent.tokens, used.reserved.tokens),
        };
        Self { budget, spent, reserved }
    }
}

impl Ledger {
    /// Opens a ledger, making it if it is not there, and settles what a process that died left open. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When another process holds it, it is of a newer version, or its files cannot be used.
    pub async fn open(config: LedgerConfig) -> Result<Self, LedgerError> {
        check_limits(&config.overall).map_err(|why| LedgerError::Invalid { field: "limits", why: why.to_owned() })?;
        let lock = match &config.store {
            Store::Sqlite { path, .. } => {
                if let Some(dir) = path.parent() {
                    let fault = |e: std::io::Error| LedgerError::File { path: dir.to_owned(), why: e.to_string() };
                    fs_err::create_dir_all(dir).map_err(fault)?;
                }
                Some(take(path).await?)
            }
            Store::Postgres { .. } => None,
        };
        let signer = CheckpointSigner::open(&config.signing_key)?;
        let mut connection = connect(&config.store).await?;
        let pepper = schema::migrate(&mut connection).await?;
        if let Store::Sqlite { path, .. } = &config.store {
            make_private(path)?;
        }
        let ledger = LedgerId::of_pepper(&pepper);
        let (mut backend, chain) = match (connection, lock) {
            (Connection::Sqlite(connection), Some(lock)) => {
                (Backend::Sqlite(Box::new(SqliteStore::open(&config.store, &ledger, connection, lock).await?)), 1)
            }
            (Connection::Postgres(connection), _) => {
                let (store, chain) = PostgresStore::take(connection).await?;
                (Backend::Postgres(Box::new(store)), chain)
            }
            (Connection::Sqlite(_), None) => return Err(LedgerError::Closed),
        };
        let head = read_head(backend.statement().await?, &ledger, chain).await?;
        let covered = "SELECT COALESCE(MAX(seq), 0) FROM checkpoints WHERE chain = $1";
        let rows = backend.statement().await?.rows(covered, vec![Value::Int(chain.into())]).await;
        let mut rows = rows.map_err(|e| store("cannot be read", &e))?;
        let covered = rows.first_mut().map_or(Ok(0), crate::db::Row::count)?;
        let (queue, ops) = mpsc::unbounded_channel();
        let writer = matches!(config.store, Store::Sqlite { .. }).then(|| queue.downgrade());
        let reader = Reader { pool: reader(&config.store).await?, writer };
        let shared = Arc::new(Shared::new(config, ledger, pepper, signer, reader));
        let mut writer = Writer::new(Arc::clone(&shared), ops, backend, head, head.seq.saturating_sub(covered));
        writer.settle_own(Settled::Interrupted).await?;
        restore(&shared, writer.backend.statement().await?).await?;
        tokio::spawn(writer.run());
        load_keys(&shared).await?;
        if !shared.owns_budgets() {
            tokio::spawn(watch_keys(Arc::downgrade(&shared)));
        }
        Ok(Self { shared, queue })
    }

    /// Admits a request: checks rates and budgets, reserves its estimate, and has its arrival recorded. On SQLite this returns at once,
    /// and [`Ticket::durable`] waits for the record; on Postgres it returns when the record is committed.
    ///
    /// # Errors
    /// Why it is not admitted. Such a request is put on record with [`Ledger::record`].
    pub async fn begin(&self, begin: Begin) -> Result<Ticket, BeginError> {
        let shared = &self.shared;
        shared.health.check()?;
        let record = match &begin.key {
            Some(key) => {
                let valid = shared.registry.get(key).filter(|record| record.is_valid(begin.at));
                Some(valid.ok_or_else(|| BeginError::UnknownKey { key: key.clone() })?)
            }
            None => None,
        };
        let Estimate { cost, tokens } = begin.estimate;
        if cost.0 < 0 {
            return Err(LedgerError::Invalid { field: "estimate", why: "a cost cannot be negative".to_owned() }.into());
        }
        self.admit_id(begin.request)?;
        let mut guard = Unadmitted { ledger: self, request: Some(begin.request) };
        let mut payers: Vec<Payer<'_>> = vec![(None, &shared.config.overall)];
        if let Some(record) = &record {
            payers.push((Some(&record.id), &record.limits));
        }
        shared.rates.take(&payers, tokens)?;
        let day = match shared.owns_budgets() {
            true => match shared.budgets().reserve(&payers, begin.estimate, begin.at) {
                Ok(day) => day,
                Err(over) => {
                    shared.rates.give_back_tokens(&payers, tokens);
                    return Err(over.into());
                }
            },
            false => begin.at.day(),
        };
        let reservation = Reservation::new(begin.request, begin.key.clone(), day, Amounts::of(cost, tokens));
        guard.request = None;
        let reservation = Arc::new(reservation);
        let sent = open_request(&begin, Arc::clone(&reservation)).and_then(|open| {
            let (reply, receiver) = oneshot::channel();
            let op = Open {
                reservation: Arc::clone(&reservation),
                content: encode(&open.entry)?,
                entry: open.entry.clone(),
                subject: open.subject.clone(),
                salt: open.salt.clone(),
                key: record.clone(),
                reply: Some(reply),
            };
            self.send(Op::Open(Box::new(op))).map(|()| (open, receiver))
        });
        let (open, receiver) = sent.inspect_err(|_| shared.give_back(&reservation))?;
        if shared.owns_budgets() {
            return Ok(Ticket::new(self.clone(), open, Durable::Waiting(receiver)));
        }
        // Should the caller go away while this waits, the ticket settles the request as abandoned.
        let mut ticket = Ticket::new(self.clone(), open, Durable::Yes);
        match receiver.await {
            Ok(Ok(())) => Ok(ticket),
            Ok(Err(error)) => {
                ticket.forget();
                Err(error)
            }
            Err(_) => Err(LedgerError::Closed.into()),
        }
    }

    /// Writes the entry of a request that was never admitted, such as one that was refused.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn record(&self, begin: Begin, mut outcome: Outcome) -> Result<EntryReceipt, LedgerError> {
        let reservation = Reservation::new(begin.request, begin.key.clone(), begin.at.day(), Amounts::default());
        let bodies = std::mem::take(&mut outcome.bodies);
        let mut open = open_request(&begin, Arc::new(reservation))?;
        (open.entry.reserved_cost, open.entry.reserved_tokens) = Default::default();
        let append = append(&self.shared.config.bodies, open, Settled::Refused, outcome, bodies, None)?;
        self.append(append).await
    }

    /// Records an opinion on an answer.
    ///
    /// # Errors
    /// When there is no such request, this ledger stores no texts and one is given, or the store does not take it.
    pub async fn feedback(&self, request: Uuid, feedback: Feedback) -> Result<EntryReceipt, LedgerError> {
        self.shared.reader.flush().await?;
        let sql = "SELECT 1 FROM requests WHERE id = $1 LIMIT 1";
        if self.shared.reader.rows(sql, vec![Value::blob(request.as_bytes())]).await?.is_empty() {
            return Err(LedgerError::NoSuchRequest { id: request });
        }
        let Feedback { rating, correction, accepted } = feedback;
        if rating.is_none() && correction.is_none() && accepted.is_none() {
            return Err(LedgerError::Invalid {
                field: "feedback",
                why: "give a rating, a correction or accepted".to_owned(),
            });
        }
        let mut entry = FeedbackEntry::new(rating, accepted);
        let (mut stored, mut salt) = (None, None);
        if let Some(text) = correction {
            if text.len() > CORRECTION_BYTES {
                return Err(LedgerError::Invalid {
                    field: "correction",
                    why: format!("at most {CORRECTION_BYTES} bytes"),
                });
            }
            let sealed = seal(&self.shared.config.bodies, request, Part::Correction, text.into_bytes())?;
            let sealed = sealed.ok_or_else(|| LedgerError::Invalid {
                field: "correction",
                why: "this ledger is set to store no texts".to_owned(),
            })?;
            let fresh = crate::random::bytes::<32>()?.to_vec();
            entry.correction = Some(commitment(&fresh, request, Part::Correction, sealed.key.as_deref(), &sealed.data));
            (stored, salt) = (Some(sealed), Some(fresh));
        }
        let beside = Beside::Feedback { entry: entry.clone(), salt, correction: stored };
        self.append(Append { id: request, content: encode(&entry)?, beside, reply: None }).await
    }

    /// Finished requests as they are committed by this process. A listener that falls too far behind loses the oldest.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.shared.live.subscribe()
    }

    /// The key that this ledger's checkpoints are verified with.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.shared.signer.public()
    }

    /// How many requests are open.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.shared.open().len()
    }

    /// What the writer of this process has done since the ledger was opened.
    #[must_use]
    pub fn counts(&self) -> WriterCounts {
        self.shared.counters.get()
    }

    /// Why the store takes no entries, while that lasts.
    #[must_use]
    pub fn fault(&self) -> Option<LedgerError> {
        self.shared.health.fault()
    }

    /// What all keys together are held to.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.config.overall
    }

    /// The budgets of a key, or of all together, and what of them is used.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn budgets(&self, key: Option<&KeyId>) -> Result<Vec<BudgetUse>, LedgerError> {
        let record = key.and_then(|key| self.key(key));
        let limits = match (key, &record) {
            (Some(_), Some(record)) => &record.limits,
            (Some(_), None) => return Ok(Vec::new()),
            (None, _) => &self.shared.config.overall,
        };
        let used = match self.shared.owns_budgets() {
            true => self.shared.budgets().used(key, limits, Timestamp::now()),
            false => {
                let mut used = Vec::new();
                for budget in &limits.budgets {
                    used.push(stored_use(&self.shared.reader, key, budget.period).await?);
                }
                used
            }
        };
        Ok(limits.budgets.iter().zip(used).map(|(budget, used)| BudgetUse::new(*budget, used)).collect())
    }

    /// Who shows this key. Answered from memory, in a time that does not tell how much of the secret was right.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn authenticate(&self, secret: &str) -> Result<Arc<KeyRecord>, AuthError> {
        self.shared.registry.authenticate(secret, Timestamp::now())
    }

    /// Makes a key. The secret is shown this once.
    ///
    /// # Errors
    /// When a field is not fit, or the store does not take it.
    pub async fn create_key(&self, new: NewKey) -> Result<(Arc<KeyRecord>, Secret), KeyError> {
        let _one_at_a_time = self.shared.changing_keys.lock().await;
        let (record, secret) = self.shared.registry.create(new, Timestamp::now())?;
        Ok((self.store_key(KeyEvent::Created, record).await?, secret))
    }

    /// All keys, the newest last, revoked ones included.
    #[must_use]
    pub fn keys(&self) -> Vec<Arc<KeyRecord>> {
        self.shared.registry.all()
    }

    /// One key.
    #[must_use]
    pub fn key(&self, id: &KeyId) -> Option<Arc<KeyRecord>> {
        self.shared.registry.get(id)
    }

    /// Changes a key. Requests admitted afterwards see it.
    ///
    /// # Errors
    /// When there is no such key, it was revoked, a field is not fit, or the store does not take it.
    pub async fn update_key(&self, id: &KeyId, change: KeyChange) -> Result<Arc<KeyRecord>, KeyError> {
        Ok(self.change_key(id, Step::Update(change)).await?.0)
    }

    /// Gives a key a new secret; the one before stays good for `grace`.
    ///
    /// # Errors
    /// As [`Ledger::update_key`].
    pub async fn rotate_key(&self, id: &KeyId, grace: Duration) -> Result<(Arc<KeyRecord>, Secret), KeyError> {
        let (record, secret) = self.change_key(id, Step::Rotate(grace)).await?;
        Ok((record, secret.ok_or(LedgerError::Closed)?))
    }

    /// Ends a key.
    ///
    /// # Errors
    /// As [`Ledger::update_key`].
    pub async fn revoke_key(&self, id: &KeyId) -> Result<Arc<KeyRecord>, KeyError> {
        Ok(self.change_key(id, Step::Revoke).await?.0)
    }

    async fn change_key(&self, id: &KeyId, step: Step) -> Result<(Arc<KeyRecord>, Option<Secret>), KeyError> {
        let _one_at_a_time = self.shared.changing_keys.lock().await;
        let mut tries = 0;
        loop {
            let (event, record, secret) = self.shared.registry.changed(id, &step, Timestamp::now())?;
            tries += 1;
            match self.store_key(event, record).await {
                Ok(record) => return Ok((record, secret)),
                Err(LedgerError::Conflict) if tries < 3 => load_keys(&self.shared).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn store_key(&self, event: KeyEvent, record: KeyRecord) -> Result<Arc<KeyRecord>, LedgerError> {
        let entry = KeyEntry::new(event, record);
        let content = encode(&entry)?;
        let record = Arc::new(entry.record.clone());
        self.append(Append { id: Uuid::nil(), content, beside: Beside::Key(Box::new(entry)), reply: None }).await?;
        self.shared.registry.put(Arc::clone(&record));
        Ok(record)
    }

    /// Commits what is queued, signs a checkpoint and gives the database free. Open tickets are settled as `abandoned`.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn close(self) -> Result<(), LedgerError> {
        self.checkpoint_then(Then::Close).await
    }

    /// Signs a checkpoint of what has been written.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn checkpoint(&self) -> Result<(), LedgerError> {
        self.checkpoint_then(Then::GoOn).await
    }

    async fn checkpoint_then(&self, then: Then) -> Result<(), LedgerError> {
        let (reply, done) = oneshot::channel();
        self.send(Op::Checkpoint(reply, then))?;
        done.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Appends an entry that belongs to no ticket and waits for it.
    pub(crate) async fn append(&self, mut append: Append) -> Result<EntryReceipt, LedgerError> {
        let _permit = self.shared.without_ticket.acquire().await.map_err(|_| LedgerError::Closed)?;
        let (reply, committed) = oneshot::channel();
        append.reply = Some(reply);
        self.send(Op::Append(append))?;
        committed.await.unwrap_or(Err(LedgerError::Closed))
    }

    pub(crate) fn send(&self, op: Op) -> Result<(), LedgerError> {
        self.queue.send(op).map_err(|_| LedgerError::Closed)
    }

    fn admit_id(&self, request: Uuid) -> Result<(), BeginError> {
        let mut open = self.shared.open();
        if open.len() >= self.shared.config.commit.open_requests {
            return Err(BeginError::Busy { open: open.len() });
        }
        if !open.insert(request) {
            return Err(LedgerError::Invalid { field: "request", why: format!("{request} is open already") }.into());
        }
        Ok(())
    }
}

/// The lock of a ledger, which a command that reads holds for a moment where it takes up what a killed process left.
async fn take(path: &Path) -> Result<Lock, LedgerError> {
    for _ in 0..20 {
        match Lock::take(path) {
            Err(LedgerError::Held { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            taken => return taken,
        }
    }
    Lock::take(path)
}

/// Bytes that a correction may have.
const CORRECTION_BYTES: usize = 1 << 20;

/// Takes the id of a request that is not admitted out of those that are open.
struct Unadmitted<'a> {
    ledger: &'a Ledger,
    request: Option<Uuid>,
}

impl Drop for Unadmitted<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.ledger.shared.open().remove(&request);
        }
    }
}

fn open_request(begin: &Begin, reservation: Arc<Reservation>) -> Result<OpenRequest, LedgerError> {
    let mut entry = RequestEntry::interrupted(begin, reservation.day);
    let (mut subject, mut salt) = (None, None);
    if let Some(user) = begin.subject.as_deref().filter(|user| !user.is_empty()) {
        let (user, fresh) = (name(user), crate::random::bytes::<32>()?.to_vec());
        entry.bound.subject = Some(commitment(&fresh, begin.request, Part::Subject, None, user.as_bytes()));
        (subject, salt) = (Some(user), Some(fresh));
    }
    Ok(OpenRequest { reservation, entry, subject, salt })
}

/// Takes up what was spent in the latest day and month of each payer.
async fn restore(shared: &Shared, statement: Statement<'_>) -> Result<(), LedgerError> {
    if !shared.owns_budgets() {
        return Ok(());
    }
    let sql = "SELECT scope, unit, period, cost, tokens FROM spending WHERE period =
        (SELECT MAX(period) FROM spending latest WHERE latest.scope = spending.scope AND latest.unit = spending.unit)";
    let rows = statement.rows(sql, vec![]).await.map_err(|e| store("cannot be read", &e))?;
    let mut budgets = shared.budgets();
    for mut row in rows {
        let (scope, number, period) = (row.text()?, row.int()?, row.int()?);
        let key = (!scope.is_empty()).then(|| KeyId::from(scope.as_str()));
        let unit = if number == unit(Period::Day) { Period::Day } else { Period::Month };
        budgets.restore(key, unit, period, Amounts { cost: row.int()?, tokens: row.int()? });
    }
    Ok(())
}

/// Reads all keys from the database.
async fn load_keys(shared: &Shared) -> Result<(), LedgerError> {
    shared.registry.load(stored_keys(&shared.reader).await?);
    Ok(())
}

/// Looks every second whether another process changed a key.
async fn watch_keys(shared: std::sync::Weak<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(shared) = shared.upgrade() else { return };
        let looked = async {
            let sql = "SELECT COUNT(*), COALESCE(CAST(SUM(revision) AS BIGINT), 0) FROM keys";
            let rows = shared.reader.rows(sql, vec![]).await?;
            let Some(mut row) = rows.into_iter().next() else { return Ok(()) };
            if (row.count()?, row.count()?) != shared.registry.revisions() {
                // Not while a change of ours is between the database and the memory.
                let _one_at_a_time = shared.changing_keys.lock().await;
                load_keys(&shared).await?;
            }
            Ok::<(), LedgerError>(())
        };
        if let Err(error) = looked.await {
            tracing::warn!(%error, "changes of keys could not be looked for");
        }
    }
}

/// The ledger may hold texts of users: it is for its owner only.
pub(crate) fn make_private(path: &Path) -> Result<(), LedgerError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let fault = |e: std::io::Error| LedgerError::File { path: path.to_owned(), why: e.to_string() };
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fault)?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
