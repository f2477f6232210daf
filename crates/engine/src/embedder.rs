//! Sentence vectors: one thread that owns an encoder and computes the texts of all callers together.
//!
//! Texts wait in a bounded queue. Each step takes as many as fit its budget of tokens, oldest first, whoever asked for them; what a
//! text's vector is does not depend on its neighbours.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bantam_formats::{EncodeOptions, Tokenizer, TokenizerError};
use bantam_kernels::Cpu;
use bantam_models::{EmbedError, Encoder, EncoderScratch};
use tokio::sync::oneshot;

use crate::engine::EngineError;
use crate::request::{GenerateError, SubmitError};

/// What an embedder is made of.
#[derive(Debug, Clone)]
pub struct EmbedderParts {
    /// The encoder.
    pub encoder: Arc<Encoder>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Instruction set and threads.
    pub cpu: Cpu,
}

/// How an embedder batches; see [`EmbedderConfig::default`] for the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedderConfig {
    /// Most texts that wait; a request that would make them more is refused with [`SubmitError::QueueFull`], unless nothing waits.
    pub queue_texts: usize,
    /// Tokens computed in one step. A text is never divided, so a step may be one text that is longer.
    pub batch_tokens: usize,
}

impl Default for EmbedderConfig {
    fn default() -> Self {
        EmbedderConfig { queue_texts: 8192, batch_tokens: 1024 }
    }
}

/// What to do with a text that is longer than the encoder takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLong {
    /// [`SubmitError::TooLong`].
    Refuse,
    /// Its first tokens stand for it, as sentence-transformers does.
    Cut,
}

/// Counters of an embedder. Totals only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmbedderStats {
    /// Texts that wait or are being computed.
    pub waiting: usize,
    /// Most texts that may wait.
    pub queue_limit: usize,
    /// Texts whose vectors were computed.
    pub texts: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Requests refused because the queue was full.
    pub refused_requests: u64,
}

/// The vectors of a request's texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[texts][dimensions]`
    pub values: Vec<f32>,
    /// Elements of a vector.
    pub dimensions: usize,
}

impl Embeddings {
    /// The vectors in the order of the texts.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions)
    }

    /// Keeps the first `dimensions` elements of each vector and brings it to length 1 again, as OpenAI's `dimensions` does. More
    /// than there are keeps all.
    #[must_use]
    pub fn truncated(self, dimensions: usize) -> Self {
        if dimensions == 0 || dimensions >= self.dimensions {
            return self;
        }
        let mut values = Vec::with_capacity(self.values.len() / self.dimensions * dimensions);
        for row in self.rows() {
            let row = &row[..dimensions];
            let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt().max(1e-12);
            values.extend(row.iter().map(|&x| (f64::from(x) / length) as f32));
        }
        Embeddings { values, dimensions }
    }
}

struct Job {
    texts: Vec<Vec<u32>>,
    /// Texts whose vectors are in `values`.
    done: usize,
    values: Vec<f32>,
    answer: oneshot::Sender<Result<Embeddings, GenerateError>>,
}

struct Inbox {
    jobs: VecDeque<Job>,
    stats: EmbedderStats,
    /// Texts a second, over the last steps.
    rate: f64,
    open: bool,
}

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

impl Shared {
    /// A poisoned lock is taken anyway: every update under it is a plain assignment that cannot be half done.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Inner {
    shared: Arc<Shared>,
    encoder: Arc<Encoder>,
    tokenizer: Arc<Tokenizer>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.lock().open = false;
        self.shared.wake.notify_all();
        let handle = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if handle.is_some_and(|handle| handle.join().is_err()) {
            tracing::error!("the embedder's thread panicked");
        }
    }
}

/// A running encoder; clones are handles to the same one. When the last is dropped, what still waits ends with
/// [`GenerateError::ShutDown`] and the thread is joined.
#[derive(Clone)]
pub struct Embedder {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("spec", self.inner.encoder.spec()).finish()
    }
}

impl Embedder {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`EngineError::Config`] names a value that cannot work; [`EngineError::Thread`] if no thread can be started.
    pub fn start(parts: EmbedderParts, config: EmbedderConfig) -> Result<Embedder, EngineError> {
        for (param, value) in [("queue_texts", config.queue_texts), ("batch_tokens", config.batch_tokens)] {
            if value == 0 {
                return Err(EngineError::Config { param, why: "must be at least 1".into() });
            }
        }
        let stats = EmbedderStats { queue_limit: config.queue_texts, ..EmbedderStats::default() };
        let inbox = Inbox { jobs: VecDeque::new(), stats, rate: 100.0, open: true };
        let shared = Arc::new(Shared { inbox: Mutex::new(inbox), wake: Condvar::new() });
        let EmbedderParts { encoder, tokenizer, cpu } = parts;
        let mut worker = Worker {
            encoder: Arc::clone(&encoder),
            cpu,
            scratch: EncoderScratch::new(),
            batch_tokens: config.batch_tokens,
            jobs: VecDeque::new(),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name("bantam-embedder".into()).spawn(move || worker.run())?;
        Ok(Embedder { inner: Arc::new(Inner { shared, encoder, tokenizer, thread: Mutex::new(Some(thread)) }) })
    }

    /// Elements of a vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.inner.encoder.spec().hidden_size
    }

    /// Most tokens of a text, the special ones included.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.inner.encoder.spec().context_length
    }

    /// A snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> EmbedderStats {
        self.inner.shared.lock().stats
    }

    /// The tokens of a text, as [`Embedder::embed`] takes them. Special tokens in the text are text.
    ///
    /// # Errors
    /// [`TokenizerError`] for a text of more than a gigabyte.
    pub fn tokens(&self, text: &str, too_long: TooLong) -> Result<Vec<u32>, TokenizerError> {
        let options = EncodeOptions { add_special: true, parse_special: false };
        let max = self.context_length();
        // No token is longer than some hundred bytes; what lies far beyond the last one that counts need not be read.
        let text = match too_long {
            TooLong::Cut => prefix(text, max.saturating_mul(256)),
            TooLong::Refuse => text,
        };
        let mut ids = self.inner.tokenizer.encode(text, options)?;
        if too_long == TooLong::Cut && ids.len() > max && max > 0 {
            let last = ids[ids.len() - 1];
            ids.truncate(max);
            ids[max - 1] = last;
        }
        Ok(ids)
    }

    /// Queues the texts of a request, each as token ids with the special ones.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing is queued then. A text's fault names it as `input[3]`.
    pub fn embed(&self, texts: Vec<Vec<u32>>) -> Result<EmbedHandle, SubmitError> {
        self.check(&texts)?;
        let (answer, receiver) = oneshot::channel();
        {
            let mut inbox = self.inner.shared.lock();
            if !inbox.open {
                return Err(SubmitError::ShuttingDown);
            }
            let Inbox { stats, rate, .. } = &mut *inbox;
            if stats.waiting > 0 && stats.waiting.saturating_add(texts.len()) > stats.queue_limit {
                stats.refused_requests += 1;
                let seconds = (stats.waiting as f64 / rate.max(1.0)).clamp(1.0, 60.0);
                return Err(SubmitError::QueueFull { retry_after: Duration::from_secs_f64(seconds) });
            }
            stats.waiting += texts.len();
            let values = Vec::with_capacity(texts.len() * self.dimensions());
            inbox.jobs.push_back(Job { texts, done: 0, values, answer });
        }
        self.inner.shared.wake.notify_one();
        Ok(EmbedHandle { answer: receiver })
    }

    fn check(&self, texts: &[Vec<u32>]) -> Result<(), SubmitError> {
        let spec = self.inner.encoder.spec();
        if texts.is_empty() {
            return Err(SubmitError::invalid("input", "must hold at least one text"));
        }
        for (i, text) in texts.iter().enumerate() {
            if text.is_empty() {
                return Err(SubmitError::invalid("input", format!("text {i} has no tokens")));
            }
            if text.len() > spec.context_length {
                return Err(SubmitError::TooLong { prompt: text.len(), max: spec.context_length });
            }
            if let Some(id) = text.iter().find(|&&id| id as usize >= spec.vocab_size) {
                let why = format!("token id {id} of text {i} is outside the vocabulary of {} tokens", spec.vocab_size);
                return Err(SubmitError::invalid("input", why));
            }
        }
        Ok(())
    }
}

/// At most so many bytes of a text, and whole characters.
fn prefix(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// Vectors on their way. Dropping it cancels the request.
#[derive(Debug)]
pub struct EmbedHandle {
    answer: oneshot::Receiver<Result<Embeddings, GenerateError>>,
}

impl EmbedHandle {
    /// Waits for the vectors.
    ///
    /// # Errors
    /// The error the request ended with.
    pub async fn wait(self) -> Result<Embeddings, GenerateError> {
        self.answer.await.unwrap_or(Err(GenerateError::ShutDown))
    }

    /// Waits for the vectors; blocks.
    ///
    /// # Errors
    /// The error the request ended with.
    ///
    /// # Panics
    /// Inside an async runtime, as `tokio`'s blocking receive does.
    pub fn blocking_wait(self) -> Result<Embeddings, GenerateError> {
        self.answer.blocking_recv().unwrap_or(Err(GenerateError::ShutDown))
    }
}

/// The thread's side.
struct Worker {
    encoder: Arc<Encoder>,
    cpu: Cpu,
    scratch: EncoderScratch,
    batch_tokens: usize,
    /// Taken from the inbox, oldest first; texts before `done` of each are computed.
    jobs: VecDeque<Job>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(&mut self) {
        while self.wait_for_work() {
            if catch_unwind(AssertUnwindSafe(|| self.step())).is_err() {
                // What was being computed is lost; the requests may be sent again.
                self.scratch = EncoderScratch::new();
                let why = "the embedder panicked".to_owned();
                for job in std::mem::take(&mut self.jobs) {
                    self.end(job, Err(GenerateError::EngineFailed { why: why.clone() }));
                }
            }
        }
        let left: Vec<Job> = self.jobs.drain(..).chain(self.shared.lock().jobs.drain(..)).collect();
        left.into_iter().for_each(|job| self.end(job, Err(GenerateError::ShutDown)));
    }

    /// Parks until there is something to do; false when the thread is to end.
    fn wait_for_work(&mut self) -> bool {
        let mut inbox = self.shared.lock();
        loop {
            if !inbox.open {
                return false;
            }
            self.jobs.extend(inbox.jobs.drain(..));
            if !self.jobs.is_empty() {
                return true;
            }
            inbox = self.shared.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn step(&mut self) {
        let (cancelled, wanted): (VecDeque<_>, _) = self.jobs.drain(..).partition(|job| job.answer.is_closed());
        self.jobs = wanted;
        cancelled.into_iter().for_each(|job| self.end(job, Err(GenerateError::ShutDown)));

        // (job, text)
        let mut batch = Vec::new();
        let mut n_tokens = 0;
        'fill: for (j, job) in self.jobs.iter().enumerate() {
            for t in job.done..job.texts.len() {
                n_tokens += job.texts[t].len();
                if n_tokens > self.batch_tokens && !batch.is_empty() {
                    n_tokens -= job.texts[t].len();
                    break 'fill;
                }
                batch.push((j, t));
            }
        }
        let texts: Vec<&[u32]> = batch.iter().map(|&(j, t)| &self.jobs[j].texts[t][..]).collect();
        let started = Instant::now();
        match self.encoder.embed(&self.cpu, &mut self.scratch, &texts) {
            Ok(values) => {
                let dimensions = self.encoder.spec().hidden_size;
                for (&(j, _), row) in batch.iter().zip(values.chunks_exact(dimensions)) {
                    self.jobs[j].values.extend_from_slice(row);
                    self.jobs[j].done += 1;
                }
                let rate = batch.len() as f64 / started.elapsed().as_secs_f64().max(1e-6);
                let mut inbox = self.shared.lock();
                inbox.stats.texts += batch.len() as u64;
                inbox.stats.tokens += n_tokens as u64;
                inbox.rate += 0.1 * (rate - inbox.rate);
            }
            Err(error) => self.fail(&error, &batch),
        }
        while self.jobs.front().is_some_and(|job| job.done == job.texts.len()) {
            let Some(mut job) = self.jobs.pop_front() else { break };
            let values = std::mem::take(&mut job.values);
            self.end(job, Ok(Embeddings { values, dimensions: self.encoder.spec().hidden_size }));
        }
    }

    /// Ends the request at fault; the others of the batch are computed again without it.
    fn fail(&mut self, error: &EmbedError, batch: &[(usize, usize)]) {
        let at_fault = match *error {
            EmbedError::NonFinite { text } | EmbedError::Empty { text } => Some(text),
            EmbedError::TooLong { text, .. } | EmbedError::Token { text, .. } => Some(text),
            _ => None,
        };
        let job = at_fault.and_then(|text| batch.get(text)).map_or(0, |&(j, _)| j);
        if let Some(job) = self.jobs.remove(job) {
            self.end(job, Err(GenerateError::EngineFailed { why: error.to_string() }));
        }
    }

    fn end(&self, job: Job, outcome: Result<Embeddings, GenerateError>) {
        {
            let stats = &mut self.shared.lock().stats;
            stats.waiting = stats.waiting.saturating_sub(job.texts.len());
        }
        // A client that went away needs no answer.
        drop(job.answer.send(outcome));
    }
}
