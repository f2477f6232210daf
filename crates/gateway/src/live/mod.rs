//! What the configuration makes of the server, and a reload replaces: routes, upstreams, policy, prices.
//!
//! A request takes the whole of it once, at its beginning, so that a reload changes nothing for requests under way.

mod difficulty;
mod policy;
mod pricing;
mod routes;
mod targets;

use std::path::Path;

use bantam_providers::client::{Reliability, Upstreams};
use bantam_providers::error::TargetError;
use bantam_providers::target::Target;
use secrecy::SecretString;

use crate::config::{ConfigFile, ConfigFileError};
use crate::metrics::{Measures, Metrics};
use crate::model::Running;

pub(crate) use difficulty::Difficulty;
pub(crate) use policy::{Decision, Policy, Sight};
pub(crate) use pricing::Pricing;
pub(crate) use routes::{AUTO, Route, Routes, Step};

/// Everything a reload replaces.
pub(crate) struct Live {
    pub(crate) routes: Routes,
    pub(crate) upstreams: Upstreams,
    pub(crate) policy: Policy,
    pub(crate) pricing: Pricing,
    pub(crate) keys_required: bool,
    pub(crate) admin: Option<SecretString>,
    /// What requests are counted by.
    pub(crate) measures: Measures,
}

impl Live {
    /// From a checked file and the models that run.
    ///
    /// # Errors
    /// Where the file names what there is not.
    pub(crate) fn new(file: &ConfigFile, running: &Running, loopback: bool) -> Result<Self, ConfigFileError> {
        let upstreams = Upstreams::new(targets::targets(file)?, Reliability::default());
        Self::with(upstreams, file, running, loopback)
    }

    /// From a changed file: targets that did not change keep their connections and what is known of them.
    ///
    /// # Errors
    /// As [`Live::new`].
    pub(crate) fn changed(
        &self,
        file: &ConfigFile,
        running: &Running,
        loopback: bool,
    ) -> Result<Self, ConfigFileError> {
        let upstreams = self.upstreams.reload(targets::targets(file)?, Reliability::default());
        Self::with(upstreams, file, running, loopback)
    }

    fn with(
        upstreams: Result<Upstreams, TargetError>,
        file: &ConfigFile,
        running: &Running,
        loopback: bool,
    ) -> Result<Self, ConfigFileError> {
        let upstreams = upstreams.map_err(|e| ConfigFileError::field("providers", e.to_string()))?;
        let routes = Routes::new(file, running, &upstreams)?;
        let pricing = Pricing::new(file)?;
        unpriced(file, &pricing).iter().for_each(|note| tracing::warn!("{note}"));
        let admin = file.keys.admin.as_ref().map(|secret| secret.read("keys.admin")).transpose()?;
        Ok(Self {
            routes,
            upstreams,
            policy: Policy::new(&file.policy)?,
            pricing,
            keys_required: file.keys.required.unwrap_or(!loopback),
            admin: admin.map(SecretString::from),
            measures: Measures::default(),
        })
    }

    /// Has what happens counted.
    pub(crate) fn measured(mut self, metrics: &Metrics, running: &Running) -> Self {
        let tasks = running.tasks.iter().map(|task| &*task.task().name);
        self.measures = Measures::new(metrics, self.routes.names().chain(tasks));
        self.upstreams.watch(|target| metrics.target(&target.name));
        self
    }
}

/// A note for each target without a price.
fn unpriced(file: &ConfigFile, pricing: &Pricing) -> Vec<String> {
    if !file.ledger.enabled {
        return Vec::new();
    }
    let note = |target| {
        format!(
            "'{target}' has no price: its cost is not known, and keys with a budget of money are refused it; \
             add a price under [[prices.models]] (0 if it costs nothing)"
        )
    };
    pricing.unpriced(file).into_iter().map(note).collect()
}

/// Whether the parts of a file can be made that need no running models; the targets it has, and what deserves a look.
///
/// # Errors
/// The first fault.
pub(crate) fn check(file: &ConfigFile) -> Result<(Vec<Target>, Vec<String>), ConfigFileError> {
    Policy::new(&file.policy)?;
    let notes = unpriced(file, &Pricing::new(file)?);
    file.ledger_config(Path::new("ledger.db"))?;
    Ok((targets::targets(file)?, notes))
}

/// The name of the target that a provider and a model make.
pub(crate) fn target_name(provider: &str, model: &str, weight: u32) -> String {
    if weight == 1 { format!("{provider}/{model}") } else { format!("{provider}/{model} x{weight}") }
}
