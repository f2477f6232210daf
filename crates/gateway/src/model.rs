//! The models the gateway serves.

use std::sync::Arc;

use bantam_engine::{Embedder, Engine};
use bantam_formats::{ChatTemplate, Tokenizer};
use bantam_tasks::Runner;
use bantam_types::openai::ModelObject;

/// A running model and what is needed to talk to it in text.
pub struct ServedModel {
    /// The name clients put in `model`.
    pub id: String,
    /// The engine that runs it.
    pub engine: Engine,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template; without one only `/v1/completions` works.
    pub template: Option<Arc<ChatTemplate>>,
    /// When the model came to this machine, in seconds since the Unix epoch.
    pub created: u64,
    /// SHA-256 of the model file in hex, if known.
    pub digest: Option<String>,
    /// Version of the arithmetic that computes it.
    pub numerics: u32,
}

/// A running encoder.
pub struct ServedEncoder {
    /// The name clients put in `model`.
    pub id: String,
    /// What runs it.
    pub embedder: Embedder,
    /// When the encoder came to this machine, in seconds since the Unix epoch.
    pub created: u64,
    /// SHA-256 of the weights' file in hex, if known.
    pub digest: Option<String>,
    /// Version of the arithmetic that computes it.
    pub numerics: u32,
}

/// All that is served; names are different from each other.
#[derive(Default)]
pub struct Served {
    /// Models that generate.
    pub models: Vec<ServedModel>,
    /// Encoders.
    pub encoders: Vec<ServedEncoder>,
    /// Tasks, each bound to what answers it.
    pub tasks: Vec<Runner>,
}

impl Served {
    /// The first name of a model that occurs twice.
    pub(crate) fn duplicate_model(&self) -> Option<&str> {
        duplicate(self.models.iter().map(|m| &*m.id).chain(self.encoders.iter().map(|e| &*e.id)))
    }

    /// The first name of a task that occurs twice.
    pub(crate) fn duplicate_task(&self) -> Option<&str> {
        duplicate(self.tasks.iter().map(|t| &*t.task().name))
    }
}

fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let names: Vec<&str> = names.collect();
    names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)).map(|(_, name)| *name)
}

/// What runs in this process, whatever the configuration makes of it.
pub(crate) struct Running {
    pub(crate) models: Vec<Arc<ServedModel>>,
    pub(crate) encoders: Vec<Arc<ServedEncoder>>,
    pub(crate) tasks: Vec<Arc<Runner>>,
}

impl From<Served> for Running {
    fn from(served: Served) -> Self {
        Self {
            models: served.models.into_iter().map(Arc::new).collect(),
            encoders: served.encoders.into_iter().map(Arc::new).collect(),
            tasks: served.tasks.into_iter().map(Arc::new).collect(),
        }
    }
}

impl ServedEncoder {
    pub(crate) fn object(&self) -> ModelObject {
        ModelObject {
            id: self.id.clone(),
            object: "model".into(),
            created: self.created,
            owned_by: "bantam".into(),
            context_length: Some(self.embedder.context_length()),
            chat: Some(false),
            dimensions: Some(self.embedder.dimensions()),
        }
    }
}

impl ServedModel {
    /// Names exactly what computes the answers: the file by the start of its digest, and the arithmetic.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = self.digest.as_deref().and_then(|d| d.get(..16)).unwrap_or("unknown");
        format!("bantam-{digest}-n{}", self.numerics)
    }

    pub(crate) fn object(&self) -> ModelObject {
        ModelObject {
            id: self.id.clone(),
            object: "model".into(),
            created: self.created,
            owned_by: "bantam".into(),
            context_length: Some(self.engine.context_length()),
            chat: Some(self.template.is_some()),
            dimensions: None,
        }
    }
}
