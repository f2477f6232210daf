//! Checking a configuration as far as that is possible without starting anything: secrets are there, servers are of known kinds, names lead somewhere.

use bantam_providers::target::Target;
use serde::Serialize;

use super::{ConfigFile, ConfigFileError};
use crate::live;

/// A configuration with its parts and comments, which [`ConfigFile::parse`] takes.
pub const EXAMPLE: &str = include_str!("example.toml");

/// What a configuration comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probed {
    /// Models in this process.
    pub models: Vec<String>,
    /// Servers elsewhere that would be contacted.
    pub hosts: Vec<String>,
    /// Names that clients can ask for.
    pub routes: Vec<String>,
    /// What is no fault but deserves a look.
    pub notes: Vec<String>,
}

impl ConfigFile {
    /// Checks everything but whether models can be loaded and servers answer.
    ///
    /// # Errors
    /// The first fault.
    pub fn probe(&self) -> Result<Probed, ConfigFileError> {
        let local: Vec<&str> = self.models.iter().map(|m| m.name.as_deref().unwrap_or(&m.source)).collect();
        let known = |name: &str| local.contains(&name) || self.routes.iter().any(|r| r.name == name);
        for (i, route) in self.routes.iter().enumerate() {
            for (j, target) in route.targets.iter().enumerate() {
                if target.provider.is_none() && !local.contains(&&*target.model) {
                    let why =
                        format!("no model '{}' is under [[models]]; name a provider, or add it there", target.model);
                    return Err(ConfigFileError::field(format!("routes[{i}].targets[{j}].model"), why));
                }
            }
            if let Some(name) = route.fallback.iter().find(|name| !known(name)) {
                let why = format!("there is no route or local model '{name}'");
                return Err(ConfigFileError::field(format!("routes[{i}].fallback"), why));
            }
        }
        for (field, name) in self.auto.iter().flat_map(|a| [("auto.small", &a.small), ("auto.large", &a.large)]) {
            if !known(name) {
                return Err(ConfigFileError::field(field, format!("there is no route or local model '{name}'")));
            }
        }
        let (targets, unpriced) = live::check(self)?;
        let mut hosts: Vec<String> = targets.iter().map(host).collect();
        hosts.sort();
        hosts.dedup();
        let routes = self.routes.iter().map(|r| r.name.clone());
        let own = local.iter().filter(|name| self.routes.iter().all(|r| r.name != **name)).map(|n| (*n).to_owned());
        let auto = self.auto.iter().map(|_| "auto".to_owned());
        Ok(Probed {
            models: local.iter().map(|name| (*name).to_owned()).collect(),
            hosts,
            routes: routes.chain(own).chain(auto).collect(),
            notes: self.notes().into_iter().chain(unpriced).collect(),
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.keys.required == Some(false) && !["127.0.0.1", "localhost", "::1"].contains(&&*self.server.host) {
            notes.push("keys.required is false and other machines can connect: anyone can use the models".to_owned());
        }
        if !self.ledger.enabled {
            notes.push("ledger.enabled is false: nothing is recorded, and there are no keys and budgets".to_owned());
        }
        if self.policy.dry_run {
            notes.push("policy.dry_run: the rules are recorded and not applied".to_owned());
        }
        let used =
            |name: &str| self.routes.iter().flat_map(|r| &r.targets).any(|t| t.provider.as_deref() == Some(name));
        let idle = self.providers.iter().filter(|p| !used(&p.name));
        notes.extend(idle.map(|p| format!("no route uses the provider '{}'", p.name)));
        notes
    }
}

fn host(target: &Target) -> String {
    target.base_url().authority().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    #[test]
    fn the_example_is_a_configuration() {
        let file = ConfigFile::parse(EXAMPLE, Path::new("example.toml")).unwrap();
        // Its keys are in nobody's environment.
        let error = file.probe().unwrap_err().to_string();
        assert!(error.contains("OPENAI_API_KEY"), "{error}");
        let mut without = file;
        without.providers[0].api_key = None;
        let probed = without.probe().unwrap();
        assert_eq!(probed.hosts, ["10.0.0.5:8000", "api.openai.com"]);
        assert_eq!(probed.routes, ["gpt-4o-mini", "qwen", "small", "all-minilm-l6-v2", "auto"]);
        assert!(probed.notes.is_empty(), "{:?}", probed.notes);
        without.prices.models.clear();
        let notes = without.probe().unwrap().notes;
        assert!(notes.len() == 1 && notes[0].contains("'vllm/Qwen/Qwen2.5-7B-Instruct' has no price"), "{notes:?}");
        without.routes[0].fallback = vec!["qwan".into()];
        assert!(without.probe().unwrap_err().to_string().contains("routes[0].fallback"));
    }
}
