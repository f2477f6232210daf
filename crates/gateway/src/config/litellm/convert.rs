use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

#[cfg(test)]
use super::super::SecretRef;
use super::super::{ConfigFile, ConfigFileError, PriceRow, ProviderTable, RouteTable, TargetTable};
use super::reasons::reason;
use super::secrets::{Secrets, env, shouted, variable};
use super::servers::{self, COMPATIBLE, Server};
use super::tree::{Notes, Table};
use super::{ImportError, Imported};

/// Names that mean something else here than a model.
const RESERVED: &str = "auto";
/// How often LiteLLM looks at its deployments, if the file does not say.
const HEALTH_INTERVAL_S: f64 = 300.0;

pub(super) fn convert(root: Map<String, Value>, env: &dyn Fn(&str) -> Option<String>) -> Result<Imported, ImportError> {
    let mut root = Table::new("", root);
    let mut import = Import {
        env,
        config: ConfigFile::default(),
        notes: Notes::default(),
        secrets: Secrets::default(),
        defaults: Defaults::default(),
    };
    let credentials = import.credentials(&mut root)?;
    let mut fallbacks = Fallbacks::default();
    let tables = ["litellm_settings", "router_settings", "general_settings"];
    for name in tables {
        let Some(mut table) = root.table(name)? else { continue };
        import.settings(&mut table)?;
        fallbacks.read(&mut table)?;
        import.leave(table);
    }
    let mut groups = Groups::default();
    for (i, entry) in root.list("model_list")?.into_iter().enumerate() {
        let at = format!("model_list[{i}]");
        let Value::Object(keys) = entry else {
            return Err(ImportError::Shape { key: at, why: "is no mapping with model_name and litellm_params".into() });
        };
        import.deployment(Table::new(at, keys), &credentials, &mut groups)?;
    }
    import.leave(root);
    import.routes(groups, fallbacks);
    let text = toml::to_string(&import.config).map_err(|e| ConfigFileError::field("bantam.toml", e.to_string()))?;
    ConfigFile::parse(&text, std::path::Path::new("bantam.toml"))?;
    Ok(Imported { config: import.config, notes: import.notes.done() })
}

/// A configuration under construction.
struct Import<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    config: ConfigFile,
    notes: Notes,
    secrets: Secrets,
    defaults: Defaults,
}

/// What holds for all deployments that say nothing else.
#[derive(Default)]
struct Defaults {
    retries: Option<u32>,
    timeout_ms: Option<u64>,
    health_interval_s: Option<u64>,
}

/// Named credentials: their keys.
type Credentials = BTreeMap<String, Map<String, Value>>;

/// Deployments by the name that clients use, in the order of the file.
#[derive(Default)]
struct Groups {
    order: Vec<String>,
    targets: BTreeMap<String, Vec<Deployment>>,
}

/// One target, with what its share is told by.
struct Deployment {
    provider: String,
    model: String,
    weight: Option<f64>,
    requests_per_minute: Option<f64>,
    tokens_per_minute: Option<f64>,
}

/// Fallbacks by model, in order, and those of all models.
#[derive(Default)]
struct Fallbacks {
    by_model: Vec<(String, String, Vec<String>)>,
    of_all: Vec<String>,
    aliases: Vec<(String, String, String)>,
}

impl Fallbacks {
    fn read(&mut self, table: &mut Table) -> Result<(), ImportError> {
        let key = table.path("fallbacks");
        for entry in table.list("fallbacks")? {
            let wrong = || ImportError::Shape {
                key: key.clone(),
                why: "has an entry that is no mapping of a model to a list of models".into(),
            };
            let Value::Object(entry) = entry else { return Err(wrong()) };
            for (model, names) in entry {
                self.by_model.push((key.clone(), model, names_of(&names).ok_or_else(wrong)?));
            }
        }
        let key = table.path("default_fallbacks");
        let wrong = || ImportError::Shape { key: key.clone(), why: "is no list of models".into() };
        self.of_all.extend(
            table.take("default_fallbacks").map_or(Ok(Vec::new()), |names| names_of(&names).ok_or_else(wrong))?,
        );
        if let Some(aliases) = table.table("model_group_alias")? {
            let at = aliases.at.clone();
            let mut aliases = aliases;
            let names: Vec<(String, String)> = aliases.names();
            for (alias, key) in names {
                let name = match aliases.take(&alias) {
                    Some(Value::String(name)) => name,
                    Some(Value::Object(keys)) => {
                        keys.get("model").and_then(Value::as_str).unwrap_or_default().to_owned()
                    }
                    _ => return Err(ImportError::Shape { key: at, why: "is no mapping of names to models".into() }),
                };
                self.aliases.push((key, alias, name));
            }
        }
        Ok(())
    }
}

fn milliseconds(seconds: f64) -> u64 {
    ((seconds.min(86_400.0) * 1000.0).ceil() as u64).max(1)
}

/// A list of names; entries with more than a name (`{"model": ...}`) give theirs.
fn names_of(value: &Value) -> Option<Vec<String>> {
    let name = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(keys) => keys.get("model").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    value.as_array()?.iter().map(name).collect()
}

impl Import<'_> {
    /// Notes for what nobody took.
    fn leave(&mut self, table: Table) {
        for (key, path) in table.rest() {
            self.notes.add(path, reason(&key));
        }
    }

    fn credentials(&mut self, root: &mut Table) -> Result<Credentials, ImportError> {
        let mut credentials = Credentials::new();
        for (i, entry) in root.list("credential_list")?.into_iter().enumerate() {
            let Value::Object(keys) = entry else {
                return Err(ImportError::Shape { key: format!("credential_list[{i}]"), why: "is no mapping".into() });
            };
            let mut table = Table::new(format!("credential_list[{i}]"), keys);
            let (name, values) = (table.text("credential_name")?, table.take("credential_values"));
            if let (Some(name), Some(Value::Object(values))) = (name, values) {
                credentials.insert(name, values);
            }
        }
        Ok(credentials)
    }

    /// What stands in `litellm_settings`, `router_settings` and `general_settings` and has an equal here.
    fn settings(&mut self, table: &mut Table) -> Result<(), ImportError> {
        if let Some(retries) = table.number("num_retries")? {
            self.defaults.retries = Some(retries.min(100.0) as u32);
        }
        for key in ["request_timeout", "timeout"] {
            if let Some(seconds) = table.number(key)?.filter(|seconds| *seconds > 0.0) {
                // LiteLLM's limit is one of each call of a provider, of which a request here may take several.
                self.defaults.timeout_ms = Some(milliseconds(seconds));
                let whole = seconds.ceil().min(86_400.0) as u64;
                self.config.server.timeout_s = self.config.server.timeout_s.max(whole);
            }
        }
        let interval = table.number("health_check_interval")?.filter(|seconds| *seconds > 0.0);
        if table.take("background_health_checks") == Some(Value::Bool(true)) {
            self.defaults.health_interval_s = Some(interval.unwrap_or(HEALTH_INTERVAL_S).ceil() as u64);
        }
        let key = table.path("routing_strategy");
        match table.text("routing_strategy")?.as_deref() {
            None | Some("simple-shuffle") => {}
            Some("least-busy") => self
                .notes
                .add(key, "targets of a route are shared out by weight and by how much each has to do: much the same"),
            Some(other) => self.notes.add(
                key,
                format!(
                    "'{other}' is left out: targets of a route are shared out by weight and by how much each has to do"
                ),
            ),
        }
        let key = table.path("master_key");
        if let Some(secret) = table.text("master_key")? {
            self.config.keys.admin = Some(self.secrets.reference(&key, &secret, "LITELLM_MASTER_KEY", &mut self.notes));
            self.config.keys.required = Some(true);
            self.notes.add(key, "is the key of the admin API and the dashboard here, not one to ask models with: make those with `bantam key create`");
        }
        let key = table.path("database_url");
        if table.text("database_url")?.is_some() {
            self.config.ledger.postgres = Some(env("BANTAM_DATABASE_URL"));
            self.notes.add(key, "the ledger wants a database of its own: make an empty one and put its URL into the environment as BANTAM_DATABASE_URL");
        }
        self.budget(table)
    }

    fn budget(&mut self, table: &mut Table) -> Result<(), ImportError> {
        let key = table.path("max_budget");
        let (Some(budget), duration) = (table.number("max_budget")?, table.text("budget_duration")?) else {
            return Ok(());
        };
        let dollars = Some(format!("{budget:.2}"));
        match duration.as_deref() {
            Some("1d" | "24h") => self.config.keys.budget_per_day = dollars,
            Some("30d" | "31d" | "1mo") => self.config.keys.budget_per_month = dollars,
            _ => {
                self.config.keys.budget_per_month = dollars;
                self.notes.add(key, "budgets are of a calendar day or month (UTC) here: taken as one of a month");
            }
        }
        Ok(())
    }

    /// One entry of `model_list`.
    fn deployment(
        &mut self,
        mut entry: Table,
        credentials: &Credentials,
        groups: &mut Groups,
    ) -> Result<(), ImportError> {
        let missing = |entry: &Table, key: &str| ImportError::Shape { key: entry.path(key), why: "is missing".into() };
        let name = entry.text("model_name")?.ok_or_else(|| missing(&entry, "model_name"))?;
        let Some(mut params) = entry.table("litellm_params")? else {
            self.notes.add(entry.at, "is left out: without litellm_params there is nobody to ask");
            return Ok(());
        };
        if let Some(credential) = params.text("litellm_credential_name")?.and_then(|name| credentials.get(&name)) {
            params.fill(credential);
        }
        let model_key = params.path("model");
        let model = params.text("model")?.ok_or_else(|| missing(&params, "model"))?;
        let (provider, upstream) = match params.text("custom_llm_provider")? {
            Some(provider) => {
                let bare = model.strip_prefix(&format!("{provider}/")).unwrap_or(&model).to_owned();
                (provider, bare)
            }
            None => servers::provider_of(&model),
        };
        // Beside the parameters, too, as older files have it.
        let rpm = params.number("rpm")?.or(entry.number("rpm")?);
        let tpm = params.number("tpm")?.or(entry.number("tpm")?);
        let weight = params.number("weight")?;
        if let Some(mut info) = entry.table("model_info")? {
            self.price(&mut info, &upstream)?;
            self.leave(info);
        }
        self.price(&mut params, &upstream)?;
        match servers::server(&provider) {
            Err(why) => {
                self.notes.add(model_key, format!("'{model}' is left out: {why}"));
                // What else is said about it needs no notes of its own.
                return Ok(());
            }
            // A provider is made only where a route asks it, for its key has to be there.
            Ok(server) if name.contains('*') || upstream.contains('*') => {
                self.notes.add(
                    model_key,
                    format!("'{model}' stands for any model, and routes name each: write [[routes]], and [[providers]] with preset = \"{}\"", server.preset),
                );
                return Ok(());
            }
            Ok(_) if name == RESERVED => {
                self.notes
                    .add(model_key, "'auto' is the name of [auto] here and cannot be a route: give it another name");
                return Ok(());
            }
            Ok(server) => {
                let provider = self.provider(&provider, server, &mut params)?;
                if rpm.is_some() || tpm.is_some() {
                    self.notes.add(
                        format!("{}.{}", entry.at, if rpm.is_some() { "rpm" } else { "tpm" }),
                        "is taken as the target's share only; limits are those of keys, and max_in_flight of providers",
                    );
                }
                self.leave(params);
                self.leave(entry);
                let deployment =
                    Deployment { provider, model: upstream, weight, requests_per_minute: rpm, tokens_per_minute: tpm };
                groups.add(name, deployment);
            }
        }
        Ok(())
    }

    /// Prices that the file gives itself.
    fn price(&mut self, table: &mut Table, model: &str) -> Result<(), ImportError> {
        let key = table.path("input_cost_per_token");
        let (input, output) = (table.number("input_cost_per_token")?, table.number("output_cost_per_token")?);
        match (input, output) {
            (None, None) => {}
            (Some(input), Some(output)) => {
                // Per million, without what the multiplication adds behind the comma.
                let million = |dollars: f64| (dollars * 1e15).round() / 1e9;
                let row = PriceRow {
                    name: model.to_owned(),
                    input_per_million: million(input),
                    output_per_million: million(output),
                };
                self.config.prices.models.retain(|other| other.name != row.name);
                self.config.prices.models.push(row);
            }
            _ => self.notes.add(key, "is left out: a price is one for prompts and one for answers"),
        }
        Ok(())
    }

    /// The provider that a deployment's parameters ask for: one that is there already, or a new one.
    fn provider(&mut self, name: &str, server: Server, params: &mut Table) -> Result<String, ImportError> {
        let base_key = params.path("api_base");
        let base = match params.text("api_base")? {
            Some(base) => Some(base),
            None => params.text("base_url")?,
        };
        let mut table = ProviderTable {
            name: String::new(),
            preset: server.preset.to_owned(),
            base_url: server.base_url.map(str::to_owned),
            api_key: None,
            allow_http: false,
            max_in_flight: params.number("max_parallel_requests")?.map(|n| (n as usize).max(1)),
            region: params.text("region_name")?,
            contract: None,
            retention: None,
            connect_timeout_ms: None,
            first_byte_timeout_ms: params.number("timeout")?.map(milliseconds).or(self.defaults.timeout_ms),
            idle_timeout_ms: None,
            total_timeout_ms: None,
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            proxy: None,
            ca_file: None,
            retries: None,
            health_interval_s: self.defaults.health_interval_s,
        };
        let retries = match params.number("max_retries")? {
            Some(retries) => Some(retries),
            None => params.number("num_retries")?,
        };
        table.retries = retries.map(|retries| retries.min(100.0) as u32).or(self.defaults.retries);
        if let Some(base) = base {
            let base = self.address(&base_key, &base, server);
            table.allow_http = self.is_plain_and_far(&base_key, &base);
            // OpenAI's own preset means OpenAI's own server: an address in its place is another one that speaks like it.
            if server.preset == "openai" && !base.contains("api.openai.com") {
                table.preset = COMPATIBLE.to_owned();
            }
            table.base_url = Some(base);
        } else if table.base_url.is_none() && !has_address(server.preset) {
            let base = "https://fill-in.invalid".to_owned();
            self.notes.add(
                base_key,
                format!("is missing and LiteLLM knows it from elsewhere: put the server's address in place of {base}"),
            );
            table.base_url = Some(base);
        }
        let key = params.path("api_key");
        table.api_key = match params.text("api_key")? {
            Some(secret) => {
                Some(self.secrets.reference(&key, &secret, &format!("{}_KEY", shouted(name)), &mut self.notes))
            }
            None => server.key_env.map(env),
        };
        let same = |other: &ProviderTable| ProviderTable { name: String::new(), ..other.clone() } == table;
        if let Some(known) = self.config.providers.iter().find(|other| same(other)) {
            return Ok(known.name.clone());
        }
        let taken: BTreeSet<&str> = self.config.providers.iter().map(|provider| provider.name.as_str()).collect();
        let free = (1..)
            .map(|i| if i == 1 { name.to_owned() } else { format!("{name}-{i}") })
            .find(|name| !taken.contains(name.as_str()));
        table.name = free.unwrap_or_default();
        let name = table.name.clone();
        self.config.providers.push(table);
        Ok(name)
    }

    /// An address as the preset wants it. One that is in the environment is looked up, for a `bantam.toml` has it in the open.
    fn address(&mut self, key: &str, base: &str, server: Server) -> String {
        let base = match variable(base) {
            None => base.to_owned(),
            Some(variable) => match (self.env)(variable).filter(|address| !address.trim().is_empty()) {
                Some(address) => address.trim().to_owned(),
                None => {
                    let name = variable.to_ascii_lowercase().replace('_', "-");
                    let address = format!("https://{name}.invalid");
                    self.notes.add(key, format!("{variable} is not set, and addresses stand in the file here: put the server's in place of {address}"));
                    return address;
                }
            },
        };
        let base = self.without_login(key, base.trim_end_matches('/'));
        let suffix = if base.ends_with(server.suffix) { "" } else { server.suffix };
        format!("{base}{suffix}")
    }

    /// An address without the name and password in it.
    fn without_login(&mut self, key: &str, address: &str) -> String {
        let parts =
            address.split_once("://").map(|(scheme, rest)| (scheme, rest, rest.find(['/', '?']).unwrap_or(rest.len())));
        match parts.and_then(|(scheme, rest, end)| Some((scheme, rest, rest[..end].rfind('@')?))) {
            None => address.to_owned(),
            Some((scheme, rest, at)) => {
                self.notes
                    .add(key, "a login stands in the address and is not copied: servers are given a key in api_key");
                format!("{scheme}://{}", &rest[at + 1..])
            }
        }
    }

    /// Whether requests to an address would cross a network in the open, which has to be allowed.
    fn is_plain_and_far(&mut self, key: &str, base: &str) -> bool {
        let Some(rest) = base.strip_prefix("http://") else { return false };
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        let address: Option<std::net::Ipv4Addr> = host.parse().ok();
        let near = host == "localhost" || address.is_some_and(|ip| ip.is_loopback() || ip.is_private());
        if !near {
            self.notes.add(
                key,
                "is plain http to another machine: allow_http is set, for LiteLLM allowed it; https would be better",
            );
        }
        !near
    }

    /// Routes from groups, aliases and fallbacks.
    fn routes(&mut self, groups: Groups, fallbacks: Fallbacks) {
        let Groups { order, mut targets } = groups;
        for name in order {
            let deployments = targets.remove(&name).unwrap_or_default();
            let targets = shares(&deployments).into_iter().zip(deployments);
            let targets = targets.map(|(weight, d)| TargetTable { provider: Some(d.provider), model: d.model, weight });
            self.config.routes.push(RouteTable {
                name,
                targets: targets.collect(),
                fallback: Vec::new(),
                baseline: None,
            });
        }
        for (key, alias, name) in fallbacks.aliases {
            let taken = alias == RESERVED || self.config.routes.iter().any(|route| route.name == alias);
            match self.config.routes.iter().find(|route| route.name == name && !taken) {
                Some(route) => {
                    let route = RouteTable { name: alias, ..route.clone() };
                    self.config.routes.push(route);
                }
                None => self
                    .notes
                    .add(key, format!("'{name}' is no model that was taken over, or the alias is a name already")),
            }
        }
        let known: BTreeSet<String> = self.config.routes.iter().map(|route| route.name.clone()).collect();
        for (key, model, names) in fallbacks.by_model {
            let gone: Vec<&str> = std::iter::once(&model)
                .chain(&names)
                .filter(|n| !known.contains(*n) && *n != "*")
                .map(String::as_str)
                .collect();
            if !gone.is_empty() {
                self.notes.add(key, format!("{} was not taken over", gone.join(", ")));
            }
            let wanted = |route: &&mut RouteTable| route.name == model || model == "*";
            for route in self.config.routes.iter_mut().filter(wanted) {
                fall_back(route, &names, &known);
            }
        }
        for route in &mut self.config.routes {
            fall_back(route, &fallbacks.of_all, &known);
        }
    }
}

/// Adds fallbacks that exist, each once, and none to itself.
fn fall_back(route: &mut RouteTable, names: &[String], known: &BTreeSet<String>) {
    for name in names {
        if known.contains(name) && *name != route.name && !route.fallback.contains(name) {
            route.fallback.push(name.clone());
        }
    }
}

/// Whether a preset knows where its server is.
fn has_address(preset: &str) -> bool {
    !matches!(preset, "azure" | "vllm" | "tgi" | "llama-cpp" | "tensorrt-llm" | "bentoml" | "bantam" | COMPATIBLE)
}

/// Shares of a route's targets: by weight if any has one, else by requests or tokens a minute if all say them, as LiteLLM does it.
fn shares(deployments: &[Deployment]) -> Vec<u32> {
    let all = |read: fn(&Deployment) -> Option<f64>| deployments.iter().map(read).collect::<Option<Vec<f64>>>();
    let weights = if deployments.iter().any(|d| d.weight.is_some()) {
        Some(deployments.iter().map(|d| d.weight.unwrap_or(0.0)).collect())
    } else {
        all(|d| d.requests_per_minute).or_else(|| all(|d| d.tokens_per_minute))
    };
    let Some(weights) = weights.filter(|weights: &Vec<f64>| weights.iter().any(|w| *w > 0.0)) else {
        return vec![1; deployments.len()];
    };
    // In hundredths of the smallest, so that whole ratios stay exact.
    let least = weights.iter().copied().filter(|w| *w > 0.0).fold(f64::INFINITY, f64::min);
    let hundredths: Vec<u32> = weights.iter().map(|w| (w / least * 100.0).round().min(1e8) as u32).collect();
    let divisor = hundredths.iter().copied().fold(0, gcd).max(1);
    hundredths.iter().map(|w| w / divisor).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Groups {
    fn add(&mut self, name: String, deployment: Deployment) {
        if !self.targets.contains_key(&name) {
            self.order.push(name.clone());
        }
        self.targets.entry(name).or_default().push(deployment);
    }
}

/// A reference to a secret is never the secret: what is written out has variables only.
#[cfg(test)]
pub(super) fn variables(config: &ConfigFile) -> Vec<&SecretRef> {
    let own = [config.keys.admin.as_ref(), config.ledger.postgres.as_ref(), config.ledger.body_key.as_ref()];
    own.into_iter().chain(config.providers.iter().map(|provider| provider.api_key.as_ref())).flatten().collect()
}
