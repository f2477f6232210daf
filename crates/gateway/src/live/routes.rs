//! Names that clients ask for, and what may answer them in which order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bantam_providers::client::Upstreams;
use bantam_providers::plan::{GroupConfig, Plan};

use super::difficulty::Difficulty;
use super::target_name;
use crate::config::{ConfigFile, ConfigFileError, TargetTable};
use crate::model::{Running, ServedEncoder, ServedModel};

/// Routes that one fallback may lead through.
const MAX_FALLBACKS: usize = 16;

/// The name that lets the router choose.
pub(crate) const AUTO: &str = "auto";

/// What answers a request.
#[derive(Clone)]
pub(crate) enum Step {
    /// A model in this process.
    Local(Arc<ServedModel>),
    /// An encoder in this process.
    Encoder(Arc<ServedEncoder>),
    /// Targets elsewhere.
    Upstream(Plan),
}

/// What shares out a route's requests by weight: models here, and targets elsewhere as one.
#[derive(Clone)]
struct Group(Vec<(Step, u32)>);

/// A name and what answers it.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// In the order in which they are tried.
    groups: Vec<Group>,
    /// Whose price is the counterfactual.
    pub(crate) baseline: Option<String>,
}

impl Route {
    /// Whether anything that may answer is elsewhere.
    pub(crate) fn leaves(&self) -> bool {
        let mut steps = self.groups.iter().flat_map(|Group(choices)| choices);
        steps.any(|(step, _)| matches!(step, Step::Upstream(_)))
    }

    /// What answers, in the order in which it is tried: each time several that share the requests by weight.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[(Step, u32)]> {
        self.groups.iter().map(|Group(choices)| choices.as_slice())
    }

    /// What to try for one request, in order. `draw` is uniform in [0, 1) and shares out each group by weight.
    pub(crate) fn steps(&self, draw: f64) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for Group(choices) in &self.groups {
            let total: u64 = choices.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let mut left = draw * total as f64;
            let first = choices.iter().position(|(_, weight)| {
                left -= f64::from(*weight);
                left < 0.0
            });
            let first = first.unwrap_or_default();
            // Who was not drawn stands in for who was.
            let rest = choices.iter().enumerate().filter(|(i, _)| *i != first).map(|(_, choice)| choice);
            for (step, _) in choices.get(first).into_iter().chain(rest) {
                match (steps.last_mut(), step) {
                    (Some(Step::Upstream(plan)), Step::Upstream(more)) => *plan = plan.then(more),
                    _ => steps.push(step.clone()),
                }
            }
        }
        steps
    }
}

/// What the model `auto` is.
#[derive(Clone)]
pub(crate) struct Auto {
    pub(crate) small: Arc<Route>,
    pub(crate) large: Arc<Route>,
    /// Least confidence of an answer of the small model with which it stands.
    pub(crate) cascade: Option<f64>,
    /// What tells them apart before anybody has answered.
    pub(crate) difficulty: Option<Arc<Difficulty>>,
}

/// All names.
pub(crate) struct Routes {
    by_name: BTreeMap<String, Arc<Route>>,
    /// Names of routes in the order of the configuration, and then those of models here.
    order: Vec<String>,
    pub(crate) auto: Option<Auto>,
}

impl Routes {
    pub(super) fn new(file: &ConfigFile, running: &Running, upstreams: &Upstreams) -> Result<Self, ConfigFileError> {
        let mut by_name: BTreeMap<String, Arc<Route>> = BTreeMap::new();
        let models = running.models.iter().map(|m| (&m.id, Step::Local(Arc::clone(m))));
        let encoders = running.encoders.iter().map(|e| (&e.id, Step::Encoder(Arc::clone(e))));
        for (id, step) in models.chain(encoders) {
            let route = Route { name: id.clone(), groups: vec![Group(vec![(step, 1)])], baseline: None };
            by_name.insert(id.clone(), Arc::new(route));
        }
        let first: Vec<Group> = file
            .routes
            .iter()
            .enumerate()
            .map(|(i, route)| group(&format!("routes[{i}].targets"), &route.targets, Known { running, upstreams }))
            .collect::<Result<_, _>>()?;
        for (i, route) in file.routes.iter().enumerate() {
            let mut groups = vec![first[i].clone()];
            // Breadth first, every route once: fallbacks may point at each other.
            let mut seen = vec![route.name.as_str()];
            let mut open: Vec<&String> = route.fallback.iter().collect();
            while !open.is_empty() && seen.len() < MAX_FALLBACKS {
                let mut next = Vec::new();
                for name in open {
                    if seen.contains(&name.as_str()) {
                        continue;
                    }
                    seen.push(name);
                    match file.routes.iter().position(|r| r.name == *name) {
                        Some(j) => {
                            groups.push(first[j].clone());
                            next.extend(&file.routes[j].fallback);
                        }
                        None => groups.push(Group(vec![(local(&format!("routes[{i}].fallback"), name, running)?, 1)])),
                    }
                }
                open = next;
            }
            let route = Route { name: route.name.clone(), groups, baseline: route.baseline.clone() };
            by_name.insert(route.name.clone(), Arc::new(route));
        }
        let find = |field: &str, name: &str| {
            by_name.get(name).cloned().ok_or_else(|| {
                let known: Vec<_> = by_name.keys().map(String::as_str).collect();
                ConfigFileError::field(
                    field,
                    format!("there is no route or local model '{name}'; there are {}", known.join(", ")),
                )
            })
        };
        let auto = file.auto.as_ref().map(|auto| {
            let (small, large) = (find("auto.small", &auto.small)?, find("auto.large", &auto.large)?);
            let difficulty = Difficulty::new(auto, running)?;
            Ok::<_, ConfigFileError>(Auto { small, large, cascade: auto.cascade, difficulty })
        });
        let models = running.models.iter().map(|m| &m.id).chain(running.encoders.iter().map(|e| &e.id));
        let mut order: Vec<String> = file.routes.iter().map(|r| r.name.clone()).collect();
        order.extend(models.filter(|id| file.routes.iter().all(|r| r.name != **id)).cloned());
        Ok(Self { auto: auto.transpose()?, by_name, order })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Route>> {
        self.by_name.get(name)
    }

    /// Every name a client may ask for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str).chain(self.auto.as_ref().map(|_| AUTO))
    }
}

/// What targets can name.
#[derive(Clone, Copy)]
struct Known<'a> {
    running: &'a Running,
    upstreams: &'a Upstreams,
}

fn group(field: &str, targets: &[TargetTable], known: Known<'_>) -> Result<Group, ConfigFileError> {
    let mut choices = Vec::new();
    let (mut elsewhere, mut weight) = (Vec::new(), 0u32);
    for (j, target) in targets.iter().enumerate() {
        match &target.provider {
            Some(provider) => {
                elsewhere.push(target_name(provider, &target.model, target.weight));
                weight = weight.saturating_add(target.weight);
            }
            None => {
                let local = local(&format!("{field}[{j}].model"), &target.model, known.running)?;
                choices.push((local, target.weight));
            }
        }
    }
    if !elsewhere.is_empty() {
        let plan = known.upstreams.plan(&[GroupConfig::new(elsewhere)]);
        let plan = plan.map_err(|e| ConfigFileError::field(field, e.to_string()))?;
        choices.push((Step::Upstream(plan), weight));
    }
    Ok(Group(choices))
}

fn local(field: &str, name: &str, running: &Running) -> Result<Step, ConfigFileError> {
    let model = running.models.iter().find(|m| m.id == name).map(|m| Step::Local(Arc::clone(m)));
    let encoder = || running.encoders.iter().find(|e| e.id == name).map(|e| Step::Encoder(Arc::clone(e)));
    model.or_else(encoder).ok_or_else(|| {
        let models = running.models.iter().map(|m| &*m.id);
        let known: Vec<&str> = models.chain(running.encoders.iter().map(|e| &*e.id)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        ConfigFileError::field(
            field,
            format!("no model '{name}' runs here (there are: {known}); name a provider, or add it to [[models]]"),
        )
    })
}
