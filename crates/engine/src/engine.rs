//! The handle: what other threads hold of the engine, and the thread that owns the model.
//!
//! One thread owns model, KV pages and every sequence, so nothing in the scheduler is locked. Callers leave jobs in a
//! bounded queue and read events from channels that are as large as what they asked for: a caller that reads slowly
//! or not at all delays nobody.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bantam_kernels::attention::{KvType, PAGE_TOKENS};
use bantam_models::ForwardError;
use tokio::sync::{mpsc, oneshot};

use crate::{
    backend::Backend,
    grammar::{Compiler, Grammar, GrammarError, GrammarMatcher, GrammarSource, Vocabulary},
    labels::{LabelHandle, LabelJob, LabelRequest, LabelScores},
    local::{EngineParts, LocalModel},
    request::{Completion, Event, GenerateError, GenerateRequest, ModelLimits, ScoreRequest, Scores, SubmitError},
    scheduler::Scheduler,
    stats::EngineStats,
};

/// How the engine schedules; see [`EngineConfig::default`] for the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Most requests that wait for a place in the batch; the next one is refused with [`SubmitError::QueueFull`].
    pub queue_len: usize,
    /// Most sequences in the batch.
    pub max_sequences: usize,
    /// Memory for keys and values.
    pub kv_budget: KvBudget,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Longest sequence to serve; `None` is the model's own context. Never more than model and KV pool can hold.
    pub context_length: Option<usize>,
    /// Prompt tokens computed per step, over all sequences, beside the running ones' next tokens. Small keeps streams
    /// smooth while prompts come in, large computes prompts faster.
    pub prefill_chunk: usize,
    /// Rows of logits per step that score requests may take together: each is a vocabulary of f32.
    pub score_rows: usize,
    /// Whether answers are drafted ahead; no answer depends on it.
    pub speculation: Speculation,
    /// Whether tokens that a grammar forces are taken without asking the model; no answer depends on it.
    pub jump_forward: JumpForward,
    /// Beginnings of prompts, in tokens. Their full pages, computed by the first request that starts so (without a
    /// `cache_salt`), are kept for good, which leaves that much less of the pool for sequences.
    pub pinned_prompts: Vec<Vec<u32>>,
}

/// Where drafts of the next tokens come from, which the model then verifies several at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    /// Nowhere: every step draws one token of each answer.
    Off,
    /// From the prompt and the answer so far, where they read like the text now does.
    #[default]
    Lookup,
}

/// What is done with tokens that a grammar forces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JumpForward {
    /// Each takes a step of its own.
    Off,
    /// They are taken at once, and computed together with the next token's row.
    #[default]
    Forced,
}

/// Memory for keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvBudget {
    /// A number of pages of [`PAGE_TOKENS`] tokens.
    Pages(usize),
    /// A number of bytes.
    Bytes(usize),
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            queue_len: 256,
            max_sequences: 64,
            kv_budget: KvBudget::Bytes(1 << 30),
            kv_type: KvType::F16,
            context_length: None,
            prefill_chunk: 256,
            score_rows: 32,
            speculation: Speculation::default(),
            jump_forward: JumpForward::default(),
            pinned_prompts: Vec::new(),
        }
    }
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A configuration value cannot work.
    #[error("{param}: {why}")]
    Config {
        /// The field of [`EngineConfig`].
        param: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// There is no memory for keys and values.
    #[error("cannot set up the KV pool: {0}")]
    KvPool(#[from] ForwardError),
    /// The engine thread could not be started.
    #[error("cannot start the engine thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A request on its way to the scheduler.
pub(crate) enum Job {
    Generate(GenerateJob),
    Score(ScoreJob),
    Label(LabelJob),
}

pub(crate) struct GenerateJob {
    pub(crate) request: GenerateRequest,
    /// The answer's way through the request's grammar.
    pub(crate) grammar: Option<Box<GrammarMatcher>>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) submitted: Instant,
}

pub(crate) struct ScoreJob {
    pub(crate) request: ScoreRequest,
    pub(crate) answer: oneshot::Sender<Result<Scores, GenerateError>>,
}

impl Job {
    /// Nobody waits for the answer any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Job::Generate(j) => j.events.is_closed(),
            Job::Score(j) => j.answer.is_closed(),
            Job::Label(j) => j.answer.is_closed(),
        }
    }

    pub(crate) fn fail(self, error: GenerateError) -> Answer {
        match self {
            Job::Generate(j) => Answer::Event(j.events, Event::Error(error)),
            Job::Score(j) => Answer::Scores(j.answer, Err(error)),
            Job::Label(j) => Answer::Labels(j.answer, Err(error)),
        }
    }
}

/// The last thing a client hears. Kept until the counters tell of it too, so that whoever has an answer finds it
/// counted.
pub(crate) enum Answer {
    Event(mpsc::Sender<Event>, Event),
    Scores(oneshot::Sender<Result<Scores, GenerateError>>, Result<Scores, GenerateError>),
    Labels(oneshot::Sender<Result<LabelScores, GenerateError>>, Result<LabelScores, GenerateError>),
}

impl Answer {
    /// A client that went away needs no answer, and the channel of one that did not has room for it.
    pub(crate) fn send(self) {
        match self {
            Answer::Event(events, event) => drop(events.try_send(event)),
            Answer::Scores(answer, scores) => drop(answer.send(scores)),
            Answer::Labels(answer, labels) => drop(answer.send(labels)),
        }
    }
}

/// Whether the engine takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Takes no new ones; what is there may finish until this instant.
    Draining(Instant),
    /// The thread is gone or going.
    Stopped,
}

pub(crate) struct Inbox {
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) phase: Phase,
    pub(crate) ready: bool,
    pub(crate) stats: EngineStats,
    /// Moving average of how long a request holds its place in the batch.
    pub(crate) service_time: Duration,
}

impl Inbox {
    /// Takes the first `n` jobs, which count as waiting until the scheduler reports what became of them: at no moment
    /// does a request drop out of the counters.
    pub(crate) fn take(&mut self, n: usize) -> std::collections::vec_deque::Drain<'_, Job> {
        let n = n.min(self.jobs.len());
        self.stats.waiting += n;
        self.jobs.drain(..n)
    }

    /// Drops the jobs nobody waits for any more.
    pub(crate) fn sweep(&mut self) {
        let before = self.jobs.len();
        self.jobs.retain(|job| !job.is_cancelled());
        self.stats.cancelled_requests += (before - self.jobs.len()) as u64;
    }
}

pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    pub(crate) wake: Condvar,
}

impl Shared {
    /// The thread is gone: whoever still waits sees its channel close.
    fn close(&self) {
        let mut inbox = self.lock();
        inbox.phase = Phase::Stopped;
        inbox.jobs.clear();
    }

    /// A poisoned lock is taken anyway: every update under it is a plain assignment that cannot be half done.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Inner {
    shared: Arc<Shared>,
    limits: ModelLimits,
    config: EngineConfig,
    vocabulary: Arc<dyn Vocabulary>,
    /// Made when the first grammar is asked for.
    grammars: OnceLock<Result<Compiler, GrammarError>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    fn join(&self) {
        let handle = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle
            && handle.join().is_err()
        {
            tracing::error!("the engine thread panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        {
            let mut inbox = self.shared.lock();
            if inbox.phase != Phase::Stopped {
                inbox.phase = Phase::Draining(Instant::now());
            }
        }
        self.shared.wake.notify_all();
        self.join();
    }
}

/// A running model; clones are handles to the same one. When the last is dropped, what still runs is cancelled and
/// the thread is joined.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.inner.limits).field("config", &self.inner.config).finish()
    }
}

impl Engine {
    /// Starts the engine thread over a decoder and its tokenizer.
    ///
    /// # Errors
    /// [`EngineError::Config`] names a value that cannot work; [`EngineError::KvPool`] if its memory cannot be had;
    /// [`EngineError::Thread`] if no thread can be started.
    pub fn start(parts: EngineParts, config: EngineConfig) -> Result<Engine, EngineError> {
        let model = LocalModel::new(parts, &config)?;
        Self::with_backend(Box::new(model), config)
    }

    /// Starts the engine thread over any [`Backend`], which brings its own pages: `kv_budget` and `kv_type` are not
    /// looked at.
    ///
    /// # Errors
    /// [`EngineError::Config`] names a value that cannot work; [`EngineError::Thread`] if no thread can be started.
    pub fn with_backend(backend: Box<dyn Backend>, config: EngineConfig) -> Result<Engine, EngineError> {
        let positive = [
            ("queue_len", config.queue_len),
            ("max_sequences", config.max_sequences),
            ("prefill_chunk", config.prefill_chunk),
            ("score_rows", config.score_rows),
        ];
        for (param, value) in positive {
            if value == 0 {
                return Err(EngineError::Config { param, why: "must be at least 1".into() });
            }
        }
        let pinned: usize = config.pinned_prompts.iter().map(|prompt| prompt.len() / PAGE_TOKENS).sum();
        let capacity = backend.n_pages().saturating_sub(pinned).saturating_mul(PAGE_TOKENS);
        let wanted = config.context_length.unwrap_or(usize::MAX);
        let context_length = backend.context_length().min(wanted).min(capacity);
        if context_length < 2 {
            return Err(EngineError::Config {
                param: "context_length",
                why: format!(
                    "a context of {context_length} tokens is too short; at least 2 are needed (the KV pool holds \
                     {capacity} beside {pinned} pinned pages: give it more memory, or pin less)"
                ),
            });
        }
        let limits = ModelLimits { vocab_size: backend.vocab_size(), context_length };
        let shared = Arc::new(Shared {
            inbox: Mutex::new(Inbox {
                jobs: VecDeque::new(),
                phase: Phase::Open,
                ready: true,
                stats: EngineStats {
                    queue_limit: config.queue_len,
                    kv_pages_total: backend.n_pages(),
                    ..EngineStats::default()
                },
                service_time: Duration::from_secs(1),
            }),
            wake: Condvar::new(),
        });
        let vocabulary = backend.vocabulary();
        let mut scheduler = Scheduler::new(backend, config.clone(), limits, Arc::clone(&shared));
        let closing = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("bantam-engine".into()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| scheduler.run())).is_err() {
                tracing::error!("the engine thread panicked outside a step");
            }
            closing.close();
        })?;
        let grammars = OnceLock::new();
        let thread = Mutex::new(Some(thread));
        Ok(Engine { inner: Arc::new(Inner { shared, limits, config, vocabulary, grammars, thread }) })
    }

    /// What requests are checked against.
    pub fn limits(&self) -> ModelLimits {
        self.inner.limits
    }

    /// Most tokens a sequence may have, prompt and answer together.
    pub fn context_length(&self) -> usize {
        self.inner.limits.context_length
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// Compiles a grammar for this model's vocabulary, or finds it among those compiled last. This is CPU work, usually
    /// of a few milliseconds, on the calling thread; the first time, the vocabulary is indexed too.
    ///
    /// # Errors
    /// [`GrammarError`] says what of it is not supported, too large or wrong.
    pub fn compile_grammar(&self, source: &GrammarSource) -> Result<Grammar, GrammarError> {
        let compiler = self.inner.grammars.get_or_init(|| Compiler::new(Arc::clone(&self.inner.vocabulary)));
        compiler.as_ref().map_err(Clone::clone)?.compile(source)
    }

    /// Queues a request for an answer.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing is queued then.
    pub fn generate(&self, request: GenerateRequest) -> Result<Generation, SubmitError> {
        request.validate(&self.inner.limits)?;
        if request.grammar.as_ref().is_some_and(|grammar| !grammar.is_over(&self.inner.vocabulary)) {
            return Err(SubmitError::invalid("grammar", "was compiled for another model"));
        }
        let grammar = request.grammar.as_ref().map(|grammar| Box::new(grammar.matcher()));
        // One event per token and one at the end: the engine's sends never find the channel full.
        let capacity = request.token_limit(&self.inner.limits).saturating_add(1);
        let (events, receiver) = mpsc::channel(capacity.min(tokio::sync::Semaphore::MAX_PERMITS));
        self.submit(Job::Generate(GenerateJob { request, grammar, events, submitted: Instant::now() }))?;
        Ok(Generation { events: receiver })
    }

    /// Queues a request for the log-probabilities of given continuations.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing is queued then.
    pub fn score(&self, request: ScoreRequest) -> Result<ScoreHandle, SubmitError> {
        request.validate(&self.inner.limits)?;
        let (answer, receiver) = oneshot::channel();
        self.submit(Job::Score(ScoreJob { request, answer }))?;
        Ok(ScoreHandle { answer: receiver })
    }

    /// Queues a request for the likeliest of given labels.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing is queued then.
    pub fn label(&self, request: LabelRequest) -> Result<LabelHandle, SubmitError> {
        request.validate(&self.inner.limits)?;
        let (answer, receiver) = oneshot::channel();
        self.submit(Job::Label(LabelJob { request, answer, submitted: Instant::now() }))?;
        Ok(LabelHandle { answer: receiver })
    }

    fn submit(&self, job: Job) -> Result<(), SubmitError> {
        let limit = self.inner.config.queue_len;
        {
            let mut inbox = self.inner.shared.lock();
            if inbox.phase != Phase::Open {
                return Err(SubmitError::ShuttingDown);
            }
            if inbox.jobs.len() >= limit {
                inbox.sweep();
            }
            if inbox.jobs.len() >= limit {
                inbox.stats.refused_requests += 1;
                return Err(SubmitError::QueueFull { retry_after: self.retry_after(&inbox) });
            }
            inbox.jobs.push_back(job);
        }
        self.inner.shared.wake.notify_one();
        Ok(())
    }

    /// The whole queue has to pass through the batch before a request at its end is taken up.
    fn retry_after(&self, inbox: &Inbox) -> Duration {
        let rounds = inbox.jobs.len().div_ceil(self.inner.config.max_sequences);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        inbox.service_time.saturating_mul(rounds).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> EngineStats {
        let inbox = self.inner.shared.lock();
        EngineStats { waiting: inbox.stats.waiting + inbox.jobs.len(), ..inbox.stats }
    }

    /// Whether the engine takes requests and its last steps did not fail.
    pub fn is_ready(&self) -> bool {
        let inbox = self.inner.shared.lock();
        inbox.ready && inbox.phase == Phase::Open
    }

    /// Takes no new requests from now on; those running and queued may finish within `grace`, then they end with
    /// [`GenerateError::ShutDown`]. Returns at once; a later call may shorten the time but not lengthen it.
    pub fn shutdown(&self, grace: Duration) {
        let now = Instant::now();
        let deadline = now.checked_add(grace).unwrap_or_else(|| now + Duration::from_secs(86_400));
        {
            let mut inbox = self.inner.shared.lock();
            inbox.phase = match inbox.phase {
                Phase::Open => Phase::Draining(deadline),
                Phase::Draining(earlier) => Phase::Draining(earlier.min(deadline)),
                Phase::Stopped => Phase::Stopped,
            };
        }
        self.inner.shared.wake.notify_all();
    }

    /// Waits until the engine thread has ended, which it does some time after [`Engine::shutdown`]. Blocks.
    pub fn join(&self) {
        self.inner.join();
    }
}

/// An answer on its way. Dropping it cancels the request: its pages are free at the next step.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
}

impl Generation {
    /// The next event; `None` after [`Event::Done`] or [`Event::Error`].
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, for callers outside an async runtime; blocks.
    ///
    /// # Panics
    /// Inside an async runtime, as `tokio`'s blocking receive does.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// The error the request ended with.
    pub async fn collect(mut self) -> Result<Completion, GenerateError> {
        let mut whole = Collector::default();
        while let Some(event) = self.next().await {
            if let Some(answer) = whole.take(event) {
                return answer;
            }
        }
        Err(GenerateError::ShutDown)
    }

    /// Waits for the whole answer; blocks.
    ///
    /// # Errors
    /// The error the request ended with.
    pub fn blocking_collect(mut self) -> Result<Completion, GenerateError> {
        let mut whole = Collector::default();
        while let Some(event) = self.blocking_next() {
            if let Some(answer) = whole.take(event) {
                return answer;
            }
        }
        Err(GenerateError::ShutDown)
    }
}

/// Puts an answer together from its events.
#[derive(Default)]
struct Collector {
    tokens: Vec<u32>,
    text: String,
    logprobs: Vec<crate::request::TokenLogprob>,
}

impl Collector {
    fn take(&mut self, event: Event) -> Option<Result<Completion, GenerateError>> {
        match event {
            Event::Token { id, text, logprob, end: _ } => {
                self.tokens.push(id);
                self.text.push_str(&text);
                self.logprobs.extend(logprob);
                None
            }
            Event::Done { finish, matched_stop, usage, timings, seed } => {
                let Collector { tokens, text, logprobs } = std::mem::take(self);
                Some(Ok(Completion { tokens, text, logprobs, finish, matched_stop, usage, timings, seed }))
            }
            Event::Error(error) => Some(Err(error)),
        }
    }
}

/// Scores on their way. Dropping it cancels the request.
#[derive(Debug)]
pub struct ScoreHandle {
    answer: oneshot::Receiver<Result<Scores, GenerateError>>,
}

impl ScoreHandle {
    /// Waits for the scores.
    ///
    /// # Errors
    /// The error the request ended with.
    pub async fn wait(self) -> Result<Scores, GenerateError> {
        self.answer.await.unwrap_or(Err(GenerateError::ShutDown))
    }

    /// Waits for the scores; blocks.
    ///
    /// # Errors
    /// The error the request ended with.
    ///
    /// # Panics
    /// Inside an async runtime, as `tokio`'s blocking receive does.
    pub fn blocking_wait(self) -> Result<Scores, GenerateError> {
        self.answer.blocking_recv().unwrap_or(Err(GenerateError::ShutDown))
    }
}
