//! Reading `bantam.toml`, and what in it cannot work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::file::{Action, ConfigFile, SecretRef};

/// Longest configuration that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Names that mean something else than a model.
const RESERVED: [&str; 1] = ["auto"];

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is longer than any configuration.
    #[error("{}: longer than {MAX_BYTES} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, or has an unknown, missing or mistyped key.
    #[error("{}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with the place.
        why: String,
    },
    /// A value cannot work.
    #[error("{field}: {why}")]
    Field {
        /// The key, such as `routes[0].targets[1].provider`.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl ConfigFileError {
    /// A value that cannot work.
    pub fn field(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field { field: field.into(), why: why.into() }
    }
}

impl ConfigFile {
    /// Reads and checks a file. Paths in it are relative to its directory, and absolute afterwards.
    ///
    /// # Errors
    /// Every [`ConfigFileError`].
    pub fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let io = |source| ConfigFileError::Io { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > MAX_BYTES {
            return Err(ConfigFileError::TooLong { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let mut file = Self::parse(&text, path)?;
        file.anchor(path.parent().unwrap_or(Path::new(".")));
        Ok(file)
    }

    /// Reads and checks a text; `path` is for errors.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigFileError> {
        let file: Self = toml::from_str(text).map_err(|e| {
            let why = with_nearest(e.to_string().trim_end());
            ConfigFileError::Syntax { path: path.to_owned(), why }
        })?;
        file.check()?;
        Ok(file)
    }

    fn anchor(&mut self, dir: &Path) {
        let secrets = [&mut self.keys.admin, &mut self.ledger.postgres, &mut self.ledger.body_key];
        let secrets = secrets.into_iter().chain(self.providers.iter_mut().map(|p| &mut p.api_key)).flatten();
        let files = secrets.filter_map(|s| s.file.as_mut());
        let paths = [self.server.tasks.as_mut(), self.ledger.path.as_mut(), self.prices.file.as_mut()];
        let router = self.auto.as_mut().and_then(|a| a.router.as_mut());
        for path in paths.into_iter().flatten().chain(router).chain(files) {
            *path = dir.join(&path);
        }
        for path in self.providers.iter_mut().filter_map(|p| p.ca_file.as_mut()) {
            *path = dir.join(&path);
        }
        for model in &mut self.models {
            let at = dir.join(&model.source);
            if (model.source.starts_with('.') || model.source.contains('/')) && at.exists() {
                model.source = at.to_string_lossy().into_owned();
            }
        }
    }

    /// Checks what can be checked without touching anything else.
    fn check(&self) -> Result<(), ConfigFileError> {
        for (field, secret) in [
            ("keys.admin", &self.keys.admin),
            ("ledger.postgres", &self.ledger.postgres),
            ("ledger.body_key", &self.ledger.body_key),
        ] {
            secret.as_ref().map_or(Ok(()), |s| one_place(field, s))?;
        }
        super::file::budget("keys.budget_per_day", self.keys.budget_per_day.as_deref())
            .map_err(|e| fault(e.field, e.why))?;
        super::file::budget("keys.budget_per_month", self.keys.budget_per_month.as_deref())
            .map_err(|e| fault(e.field, e.why))?;
        if self.ledger.path.is_some() && self.ledger.postgres.is_some() {
            return Err(fault("ledger.postgres", "there is a path, too; a ledger is one or the other"));
        }
        if self.ledger.bodies == super::Bodies::Encrypted && self.ledger.body_key.is_none() {
            return Err(fault(
                "ledger.body_key",
                "encrypted bodies need a key; name the environment variable or file that has it",
            ));
        }
        let machine = &self.machine;
        if !(machine.dollars_per_hour > 0.0 && machine.dollars_per_hour.is_finite()) {
            return Err(fault("machine.dollars_per_hour", "must be more than 0: no machine is free"));
        }
        if !(machine.utilisation > 0.0 && machine.utilisation <= 1.0) {
            return Err(fault("machine.utilisation", "must be over 0 and at most 1"));
        }
        self.check_providers()?;
        self.check_routes()?;
        self.check_policy()
    }

    fn check_providers(&self) -> Result<(), ConfigFileError> {
        let mut seen = BTreeSet::new();
        for (i, provider) in self.providers.iter().enumerate() {
            let at = |key: &str| format!("providers[{i}].{key}");
            if provider.name.is_empty() || !seen.insert(&provider.name) {
                return Err(fault(at("name"), "every provider needs a name of its own"));
            }
            if provider.name.contains('/') {
                return Err(fault(at("name"), "must not have a slash"));
            }
            provider.api_key.as_ref().map_or(Ok(()), |s| one_place(&at("api_key"), s))?;
            if provider.max_in_flight == Some(0) {
                return Err(fault(at("max_in_flight"), "must be at least 1"));
            }
        }
        let mut rows = self.prices.models.iter().enumerate();
        let wrong = |p: f64| !(p >= 0.0 && p.is_finite());
        if let Some((i, _)) = rows.find(|(_, row)| wrong(row.input_per_million) || wrong(row.output_per_million)) {
            return Err(fault(format!("prices.models[{i}]"), "prices must be numbers of at least 0"));
        }
        Ok(())
    }

    fn check_routes(&self) -> Result<(), ConfigFileError> {
        let providers: Vec<&str> = self.providers.iter().map(|p| &*p.name).collect();
        let mut names = BTreeSet::new();
        for (i, route) in self.routes.iter().enumerate() {
            let at = |key: &str| format!("routes[{i}].{key}");
            if route.name.is_empty() || RESERVED.contains(&&*route.name) || !names.insert(&route.name) {
                return Err(fault(at("name"), "every route needs a name of its own, and 'auto' is taken ([auto])"));
            }
            if route.targets.is_empty() {
                return Err(fault(at("targets"), "needs at least one target"));
            }
            for (j, target) in route.targets.iter().enumerate() {
                if target.weight == 0 {
                    let why =
                        "must be at least 1; leave a target out that is to have nothing, or name it under fallback";
                    return Err(fault(at(&format!("targets[{j}].weight")), why));
                }
                if let Some(provider) = target.provider.as_deref().filter(|p| !providers.contains(p)) {
                    let why = format!("there is no provider '{provider}'{}", nearest(provider, &providers));
                    return Err(fault(at(&format!("targets[{j}].provider")), why));
                }
            }
            if route.fallback.contains(&route.name) {
                return Err(fault(at("fallback"), "a route cannot be its own fallback"));
            }
        }
        if let Some(auto) = &self.auto {
            for (key, name) in [("auto.small", &auto.small), ("auto.large", &auto.large)] {
                if RESERVED.contains(&&**name) {
                    return Err(fault(key, "must be a route or a local model, not 'auto' itself"));
                }
            }
            if auto.cascade.is_some_and(|c| !(0.0..=1.0).contains(&c)) {
                return Err(fault("auto.cascade", "is a confidence, from 0 to 1"));
            }
        }
        Ok(())
    }

    fn check_policy(&self) -> Result<(), ConfigFileError> {
        let policy = &self.policy;
        if !matches!(policy.on_failure, Action::LocalOnly | Action::Refuse) {
            return Err(fault(
                "policy.on_failure",
                "must be local_only or refuse: what could not be looked at does not leave",
            ));
        }
        if policy.detection_timeout_ms == 0 {
            return Err(fault("policy.detection_timeout_ms", "must be at least 1"));
        }
        if !(0.0..=1.0).contains(&policy.min_score) {
            return Err(fault("policy.min_score", "must be from 0 to 1"));
        }
        let mut names = BTreeSet::new();
        let mut rules = policy.rules.iter().enumerate();
        match rules.find(|(_, rule)| rule.name.is_empty() || !names.insert(&rule.name)) {
            Some((i, _)) => Err(fault(format!("policy.rules[{i}].name"), "every rule needs a name of its own")),
            None => Ok(()),
        }
    }
}

impl SecretRef {
    /// The secret itself.
    ///
    /// # Errors
    /// Where it is not there; `field` is for the message.
    pub fn read(&self, field: &str) -> Result<String, ConfigFileError> {
        let fault = |why: String| ConfigFileError::field(field, why);
        let text = match (&self.env, &self.file) {
            (Some(name), _) => {
                std::env::var(name).map_err(|_| fault(format!("the environment variable {name} is not set")))?
            }
            (None, Some(path)) => {
                std::fs::read_to_string(path).map_err(|e| fault(format!("{}: {e}", path.display())))?
            }
            (None, None) => return Err(fault("name an environment variable (env) or a file (file)".into())),
        };
        let text = text.trim();
        if text.is_empty() { Err(fault("the secret is empty".into())) } else { Ok(text.to_owned()) }
    }
}

fn one_place(field: &str, secret: &SecretRef) -> Result<(), ConfigFileError> {
    if secret.env.is_some() == secret.file.is_some() {
        return Err(ConfigFileError::field(field, "needs either 'env' or 'file', not both"));
    }
    Ok(())
}

fn fault(field: impl Into<String>, why: impl Into<String>) -> ConfigFileError {
    ConfigFileError::field(field, why)
}

/// What the name was probably meant to be.
fn nearest(name: &str, known: &[&str]) -> String {
    let close = known.iter().map(|k| (strsim::normalized_damerau_levenshtein(name, k), k));
    let best = close.filter(|(similarity, _)| *similarity > 0.5).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((_, best)) => format!("; did you mean '{best}'?"),
        None if known.is_empty() => String::new(),
        None => format!("; there are {}", known.join(", ")),
    }
}

/// Adds to the parser's message about an unknown key the nearest known one.
fn with_nearest(message: &str) -> String {
    let hint = || {
        let (_, rest) = message.split_once("unknown field `")?;
        let (unknown, rest) = rest.split_once('`')?;
        let line = rest.lines().next()?;
        let known: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let hint = nearest(unknown, &known);
        hint.contains("did you mean").then_some(hint)
    };
    format!("{message}{}", hint().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, ConfigFileError> {
        ConfigFile::parse(text, Path::new("bantam.toml"))
    }

    const WHOLE: &str = r#"
        [server]
        port = 9000
        [keys]
        required = true
        admin = { env = "ADMIN" }
        budget_per_day = "12.50"
        [ledger]
        bodies = "encrypted"
        body_key = { file = "key" }
        [[models]]
        name = "small"
        source = "smollm2-135m-instruct"
        [[providers]]
        name = "openai"
        preset = "openai"
        api_key = { env = "OPENAI_API_KEY" }
        region = "us"
        [[routes]]
        name = "gpt-4o"
        targets = [{ provider = "openai", model = "gpt-4o" }, { model = "small", weight = 3 }]
        fallback = ["small"]
        [auto]
        small = "small"
        large = "gpt-4o"
        [policy]
        default = "allow"
        [[policy.rules]]
        name = "cards stay"
        entities = ["CREDIT_CARD"]
        then = "local_only"
    "#;

    #[test]
    fn what_is_written_is_read_back() {
        let file = parse(WHOLE).unwrap();
        assert_eq!(file.routes[0].targets[1].weight, 3);
        assert_eq!(parse(&toml::to_string(&file).unwrap()).unwrap(), file);
        assert_eq!(parse("").unwrap(), ConfigFile::default());
    }

    #[test]
    fn faults_name_the_field_and_the_fix() {
        for (text, part) in [
            ("[server]\nprot = 1", "did you mean 'port'"),
            ("[sever]\nport = 1", "did you mean 'server'"),
            ("[server]\nport = 'x'", "port"),
            ("[keys]\nadmin = {}", "keys.admin"),
            ("[keys]\nadmin = { env = 'A', file = 'b' }", "keys.admin"),
            ("[keys]\nbudget_per_day = 'much'", "keys.budget_per_day"),
            ("[ledger]\nbodies = 'encrypted'", "ledger.body_key"),
            ("[machine]\ndollars_per_hour = 0", "no machine is free"),
            ("[[routes]]\nname = 'auto'\ntargets = []", "routes[0].name"),
            ("[[routes]]\nname = 'a'\ntargets = []", "routes[0].targets"),
            (
                "[[providers]]\nname='openai'\npreset='openai'\n[[routes]]\nname='a'\ntargets=[{provider='opanai',model='x'}]",
                "did you mean 'openai'",
            ),
            ("[policy]\non_failure = 'allow'", "does not leave"),
            ("[auto]\nsmall = 'auto'\nlarge = 'x'", "auto.small"),
            ("[[policy.rules]]\nname = ''\nthen = 'allow'", "policy.rules[0].name"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
