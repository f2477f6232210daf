//! What `bantam serve` serves: models, and tasks bound to them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bantam_engine::Engine;
use bantam_gateway::Served;
use bantam_tasks::Task;

use super::encoder::{self, EncoderArgs, PrecisionArg};
use super::task::{self, TaskModel};
use super::{EngineArgs, Loaded};
use crate::cli::Globals;

/// Models that run, each once, and tasks.
pub(crate) struct Serving<'a> {
    engine: EngineArgs,
    precision: PrecisionArg,
    globals: &'a Globals,
    served: Served,
    engines: Vec<Engine>,
    /// By the name they were asked for.
    opened: Vec<(String, TaskModel)>,
}

impl<'a> Serving<'a> {
    pub(crate) fn new(engine: EngineArgs, precision: PrecisionArg, globals: &'a Globals) -> Self {
        Serving { engine, precision, globals, served: Served::default(), engines: Vec::new(), opened: Vec::new() }
    }

    /// Starts a model, unless it runs.
    pub(crate) fn model(&mut self, name: &str) -> anyhow::Result<&TaskModel> {
        self.named(name, None)
    }

    /// Starts a model, unless it runs, and serves it under a name of its own if one is given.
    pub(crate) fn named(&mut self, name: &str, id: Option<&str>) -> anyhow::Result<&TaskModel> {
        let at = match self.opened.iter().position(|(opened, _)| opened == name) {
            Some(at) => at,
            None => {
                let model = self.open(name, id)?;
                self.opened.push((name.to_owned(), model));
                self.opened.len() - 1
            }
        };
        Ok(&self.opened[at].1)
    }

    fn open(&mut self, name: &str, named: Option<&str>) -> anyhow::Result<TaskModel> {
        let (id, description, model);
        if encoder::is_encoder(name, self.globals)? {
            let args = EncoderArgs { threads: self.engine.threads, precision: self.precision };
            let mut loaded = encoder::encoder(name, &args, self.globals)?;
            loaded.id = named.map_or(loaded.id, str::to_owned);
            (id, description) = (loaded.id.clone(), loaded.description.clone());
            model = TaskModel::Encoder(loaded.task_model());
            self.served.encoders.push(loaded.into_served());
        } else {
            let mut loaded = Loaded::open(name, &self.engine, self.globals)?;
            loaded.id = named.map_or(loaded.id, str::to_owned);
            (id, description) = (loaded.id.clone(), loaded.description.clone());
            model = TaskModel::Generating(Box::new(loaded.task_model()));
            self.engines.push(loaded.engine.clone());
            self.served.models.push(loaded.into_served());
        }
        if !self.globals.quiet {
            eprintln!("serving {id}: {description}");
        }
        Ok(model)
    }

    /// Binds the tasks of a directory to their models, which are started if they do not run yet.
    pub(crate) fn tasks(&mut self, dir: &Path) -> anyhow::Result<()> {
        let tasks = Task::open_dir(dir)?;
        ensure!(!tasks.is_empty(), "{} has no tasks; `bantam task new NAME --tasks DIR` writes one", dir.display());
        for task in tasks {
            let name = task.name.clone();
            let runner = self.bind(task).with_context(|| format!("the task {name} cannot be served"))?;
            if !self.globals.quiet {
                eprintln!("serving task {name} with {}", runner.model());
            }
            self.served.tasks.push(runner);
        }
        Ok(())
    }

    fn bind(&mut self, task: Task) -> anyhow::Result<bantam_tasks::Runner> {
        let model = task::model_of(&task)?;
        match &task.server {
            Some(server) => {
                task::remote(&model, server, task.api_key_env.as_deref(), self.globals)?.bind(Arc::new(task))
            }
            None => self.model(&model)?.bind(Arc::new(task)),
        }
    }

    /// What is served, and the engines that run it.
    pub(crate) fn into_parts(self) -> (Served, Vec<Engine>) {
        (self.served, self.engines)
    }
}
