//! From a task's name to what answers it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bantam_kernels::NUMERICS;
use bantam_tasks::fit::FittedFile;
use bantam_tasks::model::{EncoderModel, LanguageModel, LocalModel, RemoteConfig, RemoteModel};
use bantam_tasks::{Runner, Task};
use clap::Args;

use super::encoder::{self, EncoderArgs, PrecisionArg};
use super::{EngineArgs, Loaded};
use crate::cli::Globals;

/// Where tasks are looked for by name.
pub(crate) const TASK_DIR: &str = "tasks";

/// Requests to a server at one time.
const REMOTE_CONCURRENCY: usize = 16;
const REMOTE_TIMEOUT: Duration = Duration::from_secs(120);

/// Which task, and what answers it.
#[derive(Debug, Clone, Args)]
pub(crate) struct TaskRef {
    /// Task: path of a .toml file, or the name of one in --tasks
    #[arg(value_name = "TASK")]
    pub(crate) task: String,
    /// Directory of task files
    #[arg(long, value_name = "DIR", env = "BANTAM_TASKS", default_value = TASK_DIR)]
    pub(crate) tasks: PathBuf,
}

impl TaskRef {
    pub(crate) fn open(&self) -> anyhow::Result<Task> {
        let path = self.path();
        if !path.is_file() {
            if self.task.ends_with(".toml") {
                bail!("there is no file {}", path.display());
            }
            let known =
                Task::open_dir(&self.tasks).map(|tasks| tasks.into_iter().map(|task| task.name).collect::<Vec<_>>());
            let known = match known {
                Ok(names) if !names.is_empty() => format!("{} has {}", self.tasks.display(), names.join(", ")),
                _ => format!("{} has no tasks; `bantam task new NAME` writes one", self.tasks.display()),
            };
            bail!("there is no task {} ({})", self.task, known);
        }
        Ok(Task::open(&path)?)
    }

    fn path(&self) -> PathBuf {
        match self.task.ends_with(".toml") {
            true => PathBuf::from(&self.task),
            false => self.tasks.join(format!("{}.toml", self.task)),
        }
    }
}

/// What answers a task: its own model, or another.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// Model that answers, instead of the task's own: catalogue name or path of a generating model or encoder
    #[arg(long, short, value_name = "NAME|PATH")]
    pub(crate) model: Option<String>,
    /// Base URL of an OpenAI-compatible server that has the model, such as http://127.0.0.1:8000/v1
    #[arg(long, value_name = "URL", requires = "model")]
    pub(crate) server: Option<String>,
    /// Environment variable with the server's key
    #[arg(long, value_name = "NAME", requires = "server")]
    pub(crate) api_key_env: Option<String>,
    /// Type of an encoder's weights in memory
    #[arg(long, value_enum, default_value = "int8", value_name = "TYPE", help_heading = "Engine")]
    pub(crate) precision: PrecisionArg,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// What can answer tasks.
pub(crate) enum TaskModel {
    Generating(Box<dyn LanguageModel>),
    Encoder(EncoderModel),
}

impl ModelArgs {
    /// Starts the model that answers a task.
    pub(crate) fn open(&self, task: &Task, globals: &Globals) -> anyhow::Result<TaskModel> {
        let model = match &self.model {
            Some(model) => model.clone(),
            None => model_of(task)?,
        };
        let model = &model;
        let (server, key) = match &self.model {
            Some(_) => (&self.server, &self.api_key_env),
            None => (&task.server, &task.api_key_env),
        };
        match server {
            Some(server) => remote(model, server, key.as_deref(), globals),
            None => self.local(model, globals),
        }
    }

    /// Starts a model of ours.
    pub(crate) fn local(&self, model: &str, globals: &Globals) -> anyhow::Result<TaskModel> {
        if encoder::is_encoder(model, globals)? {
            let args = EncoderArgs { threads: self.engine.threads, precision: self.precision };
            return Ok(TaskModel::Encoder(encoder::encoder(model, &args, globals)?.task_model()));
        }
        Ok(TaskModel::Generating(Box::new(Loaded::open(model, &self.engine, globals)?.task_model())))
    }
}

/// What answers a task: the model that it names, or the one that was chosen among its candidates.
pub(crate) fn model_of(task: &Task) -> anyhow::Result<String> {
    if let Some(model) = &task.model {
        return Ok(model.clone());
    }
    match FittedFile::open(task)?.and_then(|fitted| fitted.candidate) {
        Some(model) => Ok(model),
        None if task.candidates.is_empty() => bail!("{}: the task names no model; give one with --model", task.name),
        None => bail!(
            "{}: the model is not chosen yet; `bantam task fit {} --data LABELLED.csv --answer COLUMN` chooses among {}",
            task.name,
            task.name,
            task.candidates.join(", ")
        ),
    }
}

/// A model at a server.
pub(crate) fn remote(model: &str, server: &str, key: Option<&str>, globals: &Globals) -> anyhow::Result<TaskModel> {
    if globals.offline {
        bail!("{model} is at {server}, and --offline forbids the network");
    }
    let read =
        |name: &str| std::env::var(name).with_context(|| format!("the environment variable {name}, the server's key,"));
    let config = RemoteConfig {
        base_url: server.to_owned(),
        model: model.to_owned(),
        api_key: key.map(read).transpose()?,
        concurrency: REMOTE_CONCURRENCY,
        timeout: REMOTE_TIMEOUT,
    };
    Ok(TaskModel::Generating(Box::new(RemoteModel::new(config)?)))
}

impl TaskModel {
    /// Binds the model to a task, with what was fitted for it.
    pub(crate) fn bind(&self, task: Arc<Task>) -> anyhow::Result<Runner> {
        let fitted = FittedFile::open(&task)?;
        match self {
            TaskModel::Generating(model) => Ok(Runner::generating(task, &**model, fitted.as_ref())?),
            TaskModel::Encoder(encoder) => match fitted {
                Some(fitted) => Ok(Runner::encoder(task, encoder.clone(), &fitted)?),
                None => bail!(
                    "{}: {} is an encoder and answers only what it was fitted for; \
                     run `bantam task fit {} --data LABELLED.csv --answer COLUMN`",
                    task.name,
                    encoder.id,
                    task.name
                ),
            },
        }
    }
}

impl Loaded {
    pub(crate) fn task_model(&self) -> LocalModel {
        let fingerprint = fingerprint(&self.id, self.digest.as_deref());
        let Loaded { id, engine, tokenizer, template, .. } = self;
        LocalModel {
            id: id.clone(),
            fingerprint,
            engine: engine.clone(),
            tokenizer: Arc::clone(tokenizer),
            template: template.clone(),
        }
    }
}

impl encoder::LoadedEncoder {
    pub(crate) fn task_model(&self) -> EncoderModel {
        let fingerprint = format!("{}-{}", fingerprint(&self.id, self.digest.as_deref()), self.precision);
        EncoderModel { id: self.id.clone(), fingerprint, embedder: self.embedder.clone(), threads: self.threads }
    }
}

/// The file by the start of its digest, where that is known, and the arithmetic.
fn fingerprint(id: &str, digest: Option<&str>) -> String {
    format!("{id}-{}-n{NUMERICS}", digest.and_then(|digest| digest.get(..16)).unwrap_or("unverified"))
}
