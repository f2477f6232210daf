//! A model that answers as it is told.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bantam_tasks::model::{Answerer, LanguageModel, Raw, RawValue, Usage, Wanted};
use bantam_tasks::prompt::Conversation;
use bantam_tasks::{RowError, Runner, Task, TaskError};

pub(crate) type Answer = dyn Fn(&str) -> Result<RawValue, RowError> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) fingerprint: &'static str,
    pub(crate) answer: Arc<Answer>,
    /// Every input that it was given.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(&str) -> Result<RawValue, RowError> + Send + Sync + 'static) -> Self {
        Fake { fingerprint: "fake-1", answer: Arc::new(answer), seen: Arc::default() }
    }

    pub(crate) fn runner(&self, task: &Arc<Task>) -> Runner {
        Runner::generating(Arc::clone(task), self, None).unwrap()
    }
}

impl LanguageModel for Fake {
    fn id(&self) -> &str {
        "fake"
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.to_owned()
    }

    fn bind(&self, _: &Conversation, _: &Wanted) -> Result<Box<dyn Answerer>, TaskError> {
        Ok(Box::new(self.clone()))
    }
}

impl Answerer for Fake {
    fn answer(&self, inputs: &[String]) -> Vec<Result<Raw, RowError>> {
        self.seen.lock().unwrap().extend_from_slice(inputs);
        let raw = |input: &String| {
            let usage = Usage { prompt_tokens: input.len(), cached_tokens: 0, completion_tokens: 1 };
            let has_special_tokens = input.contains("<|");
            (self.answer)(input).map(|value| Raw {
                value,
                latency: Duration::from_millis(5),
                usage,
                has_special_tokens,
            })
        };
        inputs.iter().map(raw).collect()
    }
}

pub(crate) fn parse(text: &str) -> Result<Task, String> {
    Task::parse(text, Path::new("task.toml"), Path::new("/nonexistent")).map_err(|error| error.to_string())
}

pub(crate) fn task(text: &str) -> Arc<Task> {
    Arc::new(parse(text).unwrap())
}

pub(crate) fn away() -> RowError {
    RowError::Model { why: "the server is away".into(), retry: true }
}
