//! What all requests share: the models, the limits in use, and whether the server is on its way out.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bantam_ledger::Ledger;
use bantam_pii::Detectors;
use bantam_tasks::{RowError, Runner, TaskResult};
use bantam_types::openai::{ModelList, ModelObject};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::config::{Bodies, GatewayConfig, Limits};
use crate::error::ApiError;
use crate::flow::Caller;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::model::Running;
use crate::telemetry::Spans;

/// Inputs that a task answers between two looks at whether anybody still waits for them.
const TASK_CHUNK: usize = 32;

/// How far shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Open,
    /// Running requests may finish; new ones are refused.
    Draining,
    /// Running requests end now.
    Ending,
}

pub(crate) struct App {
    pub(crate) config: GatewayConfig,
    pub(crate) running: Running,
    /// What the configuration makes of it; replaced as a whole when that is read again.
    live: RwLock<Arc<Live>>,
    /// What finds personal data.
    pub(crate) detectors: Detectors,
    /// Where requests are put on record.
    pub(crate) ledger: Option<Ledger>,
    /// Whether a key was seen there.
    keys_seen: AtomicBool,
    /// How bodies are kept there.
    pub(crate) bodies: Bodies,
    pub(crate) metrics: Metrics,
    /// Where the spans of requests go.
    pub(crate) spans: Option<Arc<dyn Spans>>,
    pub(crate) phase: watch::Sender<Phase>,
    /// When the server began, in seconds since the Unix epoch.
    started: u64,
    /// Whether the address it listens on can be reached from this machine only.
    pub(crate) loopback: bool,
    /// One permit per request for an answer.
    pub(crate) requests: Arc<Semaphore>,
    /// One permit per byte of request body.
    pub(crate) body_bytes: Arc<Semaphore>,
    /// One permit per thread that prepares a request of ordinary size.
    cpu_tasks: Arc<Semaphore>,
    /// The same for large ones.
    large_cpu_tasks: Arc<Semaphore>,
    /// One permit per thread that waits for a task's answers.
    task_runs: Arc<Semaphore>,
}

/// What an [`App`] is made of, besides its configuration.
pub(crate) struct AppParts {
    pub(crate) running: Running,
    pub(crate) live: Live,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) bodies: Bodies,
    pub(crate) spans: Option<Arc<dyn Spans>>,
}

impl App {
    pub(crate) fn new(config: GatewayConfig, parts: AppParts, metrics: Metrics, loopback: bool) -> Self {
        let Limits { concurrent_requests, buffered_bytes, cpu_tasks, large_cpu_tasks, task_runs, .. } = config.limits;
        Self {
            config,
            running: parts.running,
            live: RwLock::new(Arc::new(parts.live)),
            detectors: Detectors::default(),
            ledger: parts.ledger,
            keys_seen: AtomicBool::new(false),
            bodies: parts.bodies,
            metrics,
            spans: parts.spans,
            phase: watch::Sender::new(Phase::Open),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            loopback,
            requests: Arc::new(Semaphore::new(concurrent_requests)),
            body_bytes: Arc::new(Semaphore::new(buffered_bytes)),
            cpu_tasks: Arc::new(Semaphore::new(cpu_tasks)),
            large_cpu_tasks: Arc::new(Semaphore::new(large_cpu_tasks)),
            task_runs: Arc::new(Semaphore::new(task_runs)),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether a key was ever made. None is ever removed, so that the ledger is asked only until there is one.
    pub(crate) fn has_keys(&self) -> bool {
        if !self.keys_seen.load(Ordering::Relaxed) {
            let seen = self.ledger.as_ref().is_some_and(|ledger| !ledger.keys().is_empty());
            self.keys_seen.store(seen, Ordering::Relaxed);
        }
        self.keys_seen.load(Ordering::Relaxed)
    }

    /// Takes a place for one request, to be held until its answer has ended.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.phase() > Phase::Open {
            return Err(ApiError::ShuttingDown);
        }
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| ApiError::TooManyRequests)
    }

    /// What the configuration makes of the server now.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another configuration into use. Requests under way keep the one they began with.
    pub(crate) fn replace(&self, live: Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }

    /// What is wrong with a name that no route has.
    pub(crate) fn unknown_model(&self, name: &str, served: Vec<String>) -> ApiError {
        ApiError::ModelNotFound { requested: name.to_owned(), served }
    }

    /// Names that may be asked for.
    pub(crate) fn names(&self, live: &Live, caller: Option<&Caller>) -> Vec<String> {
        let allowed = |name: &&str| caller.is_none_or(|caller| caller.check_model(name).is_ok());
        live.routes.names().filter(allowed).map(str::to_owned).collect()
    }

    pub(crate) fn task(&self, name: &str) -> Result<&Arc<Runner>, ApiError> {
        let served = || self.running.tasks.iter().map(|t| t.task().name.clone()).collect();
        let found = self.running.tasks.iter().find(|t| t.task().name == name);
        found.ok_or_else(|| ApiError::TaskNotFound { requested: name.to_owned(), served: served() })
    }

    /// What `/v1/models` says of a name, whichever kind of model it is of.
    pub(crate) fn model_object(&self, id: &str, caller: &Caller) -> Result<ModelObject, ApiError> {
        let list = self.model_list(Some(caller)).data;
        let served = list.iter().map(|m| m.id.clone()).collect();
        let found = list.into_iter().find(|m| m.id == id);
        found.ok_or_else(|| ApiError::ModelNotFound { requested: id.to_string(), served })
    }

    pub(crate) fn model_list(&self, caller: Option<&Caller>) -> ModelList {
        let Running { models, encoders, .. } = &self.running;
        let data = self.names(&self.live(), caller).into_iter().map(|name| {
            let model = models.iter().find(|m| m.id == name).map(|m| m.object());
            let encoder = || encoders.iter().find(|e| e.id == name).map(|e| e.object());
            model.or_else(encoder).unwrap_or_else(|| ModelObject {
                id: name,
                object: "model".into(),
                created: self.started,
                owned_by: "bantam".into(),
                context_length: None,
                chat: None,
                dimensions: None,
            })
        });
        ModelList { object: "list".into(), data: data.collect() }
    }

    /// Runs the CPU work for a body of so many bytes on a blocking thread, so many at a time. Work that has begun is finished even when nobody waits
    /// for it any more, and keeps its place until then.
    pub(crate) async fn cpu_task<T: Send + 'static>(
        &self,
        body_bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let lane = if body_bytes > Limits::LARGE_BODY { &self.large_cpu_tasks } else { &self.cpu_tasks };
        let permit = Arc::clone(lane).acquire_owned().await.map_err(|_| ApiError::ShuttingDown)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|e| Err(ApiError::internal(&e)))
    }

    /// Answers a task's inputs on a blocking thread, one outcome for each. When nobody waits for them any more the thread ends at the next chunk, and
    /// keeps its place until then.
    pub(crate) async fn run_task(
        &self,
        runner: Arc<Runner>,
        inputs: Vec<Vec<String>>,
    ) -> Result<Vec<Result<TaskResult, RowError>>, ApiError> {
        let permit = Arc::clone(&self.task_runs).acquire_owned().await.map_err(|_| ApiError::ShuttingDown)?;
        let (sender, outcomes) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let mut outcomes = Vec::with_capacity(inputs.len());
            for chunk in inputs.chunks(TASK_CHUNK) {
                if sender.is_closed() {
                    return;
                }
                outcomes.extend(runner.run(chunk));
            }
            drop(permit);
            // Whoever waited may have left.
            let _ = sender.send(outcomes);
        });
        outcomes.await.map_err(|_| ApiError::internal(&"a task's thread panicked"))
    }

    pub(crate) fn bounds(&self) -> Bounds {
        // An instant too far away to be represented is as good as one a year away.
        let now = Instant::now();
        let year = std::time::Duration::from_secs(365 * 86_400);
        Bounds {
            deadline: now.checked_add(self.config.timeouts.request).unwrap_or(now + year),
            phase: self.phase.subscribe(),
        }
    }
}

/// What ends a request besides its own end: its deadline, and the end of the server.
#[derive(Clone)]
pub(crate) struct Bounds {
    deadline: Instant,
    phase: watch::Receiver<Phase>,
}

impl Bounds {
    /// When the request has to have ended.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits for `work`, but no longer than the request may last.
    pub(crate) async fn run<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = tokio::time::sleep_until(self.deadline) => Err(ApiError::RequestTimeout),
            () = ending(&mut self.phase) => Err(ApiError::ShuttingDown),
        }
    }
}

/// Waits until running requests have to end.
pub(crate) async fn ending(phase: &mut watch::Receiver<Phase>) {
    // The sender lives as long as the server.
    drop(phase.wait_for(|p| *p == Phase::Ending).await);
}
