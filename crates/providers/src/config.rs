//! A target as it stands in a configuration file, and what becomes of it once every field is checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::error::TargetError;
use crate::preset::{Auth, Preset};
use crate::strike::is_secret;
use crate::target::{Target, is_private};
use crate::wire::Api;

/// Most bytes of a key: a larger file is not one.
const MAX_KEY: u64 = 16 << 10;

/// A target as it stands in a configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Its name here.
    pub name: String,
    /// What kind of server it is.
    pub preset: String,
    /// The model's name there.
    pub model: String,
    /// Where it is, if not where the preset says.
    pub base_url: Option<String>,
    /// Environment variable that has the key.
    pub key_env: Option<String>,
    /// File that has the key.
    pub key_file: Option<PathBuf>,
    /// The key itself, which no configuration file may hold.
    #[serde(skip)]
    pub key: Option<SecretString>,
    /// Its share of a group's requests, relative to the others' weights.
    #[serde(default = "one")]
    pub weight: u32,
    /// Most attempts at a group that has it, in place of the policy's.
    pub attempts: Option<u32>,
    /// Bounds on what it is given and takes.
    #[serde(default)]
    pub limits: Limits,
    /// Bounds on how long it may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What policies may ask for, such as `region`, `contract`, `retention`.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Further headers of every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Further parameters of the address, over the preset's.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Paths of further APIs, over the preset's.
    #[serde(default)]
    pub paths: BTreeMap<Api, String>,
    /// Proxy through which an encrypted target is reached, `http://HOST:PORT`. None is taken from the environment.
    pub proxy: Option<String>,
    /// PEM file of certificates that the server's is checked by, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Where unencrypted requests may go.
    #[serde(default)]
    pub plain_http: PlainHttp,
    /// Ask the server now and then whether it is ready.
    pub health: Option<HealthCheck>,
}

fn one() -> u32 {
    1
}

/// Where unencrypted requests may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlainHttp {
    /// To this machine and to private networks.
    #[default]
    Private,
    /// To any address.
    Anywhere,
}

/// Bounds on what a target is given and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests at one time.
    pub in_flight: u32,
    /// Requests that wait for a place; further ones go elsewhere at once.
    pub queue: u32,
    /// Seconds that one waits.
    #[serde(with = "crate::seconds")]
    pub queue_wait: Duration,
    /// Bytes of an answer's body.
    pub body_bytes: u64,
    /// Bytes of an answer's headers, 8,192 at least.
    pub header_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            queue: 1024,
            queue_wait: Duration::from_secs(5),
            body_bytes: 64 << 20,
            header_bytes: 64 << 10,
        }
    }
}

/// Bounds on how long a target may take; seconds in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To a connection that can be used, name resolution and TLS included.
    #[serde(with = "crate::seconds")]
    pub connect: Duration,
    /// From sending the request to the first byte of a streamed answer's body.
    #[serde(with = "crate::seconds")]
    pub first_byte: Duration,
    /// Between two pieces of a body.
    #[serde(with = "crate::seconds")]
    pub idle: Duration,
    /// From sending the request to the answer's end. An answer that is not streamed begins when it is complete, so that for it this
    /// is the only bound.
    #[serde(with = "crate::seconds")]
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// How a server is asked whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Path from the server's root; the preset's if there is none here.
    pub path: Option<String>,
    /// Seconds between two checks, give or take a tenth.
    #[serde(with = "crate::seconds", default = "HealthCheck::interval")]
    pub interval: Duration,
    /// Seconds that an answer may take.
    #[serde(with = "crate::seconds", default = "HealthCheck::timeout")]
    pub timeout: Duration,
}

impl HealthCheck {
    fn interval() -> Duration {
        Duration::from_secs(10)
    }

    fn timeout() -> Duration {
        Duration::from_secs(5)
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { path: None, interval: Self::interval(), timeout: Self::timeout() }
    }
}

impl TargetConfig {
    /// A target with defaults for everything that has one.
    #[must_use]
    pub fn new(name: impl Into<String>, preset: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            preset: preset.into(),
            model: model.into(),
            base_url: None,
            key_env: None,
            key_file: None,
            key: None,
            weight: one(),
            attempts: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            attributes: BTreeMap::new(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            paths: BTreeMap::new(),
            proxy: None,
            ca_file: None,
            plain_http: PlainHttp::default(),
            health: None,
        }
    }

    /// Checks every field and fetches the key.
    ///
    /// # Errors
    /// [`TargetError`], which names the field.
    pub fn resolve(&self) -> Result<Target, TargetError> {
        if self.name.is_empty() {
            return Err(self.fault("name", "it is empty"));
        }
        let preset = Preset::find(&self.preset).map_err(|error| match error {
            TargetError::UnknownPreset { preset, known } => {
                self.fault("preset", format!("there is none called '{preset}'; there are {known}"))
            }
            other => other,
        })?;
        if self.weight == 0 {
            return Err(self.fault("weight", "it is at least 1; leave the target out of the plan instead"));
        }
        if self.attempts == Some(0) {
            return Err(self.fault("attempts", "it is at least 1"));
        }
        if self.limits.in_flight == 0 || self.limits.body_bytes == 0 {
            return Err(self.fault("limits", "in_flight and body_bytes are at least 1"));
        }
        if !(8192..=1 << 20).contains(&self.limits.header_bytes) {
            return Err(self.fault("limits.header_bytes", "it is from 8192 to 1048576"));
        }
        let t = &self.timeouts;
        if [t.connect, t.first_byte, t.idle, t.total].iter().any(Duration::is_zero) {
            return Err(self.fault("timeouts", "each is greater than 0"));
        }
        let base = self.base(preset)?;
        let mut addresses = BTreeMap::new();
        for (&api, path) in preset.paths.iter().chain(&self.paths) {
            addresses.insert(api, self.address(preset, &base, path)?);
        }
        Ok(Target {
            name: self.name.clone(),
            preset,
            model: self.model.clone(),
            weight: self.weight,
            attempts: self.attempts,
            limits: self.limits,
            timeouts: self.timeouts,
            attributes: self.attributes.clone(),
            plain_http: self.plain_http,
            headers: self.headers(preset)?,
            health: self.health(preset, &base)?,
            proxy: self.proxy(&base)?,
            roots: self.roots()?,
            addresses,
            base,
        })
    }

    fn fault(&self, field: &'static str, why: impl Into<String>) -> TargetError {
        TargetError::Field { target: self.name.clone(), field, why: why.into() }
    }

    fn base(&self, preset: &Preset) -> Result<Uri, TargetError> {
        let fault = |why: String| self.fault("base_url", why);
        let Some(text) = self.base_url.as_ref().or(preset.base_url.as_ref()) else {
            let why = format!(
                "a {} server has no address of its own; write one such as http://127.0.0.1:8000/v1",
                preset.name
            );
            return Err(fault(why));
        };
        let base: Uri = text.parse().map_err(|error| fault(format!("it is not an address: {error}")))?;
        let (Some(scheme), Some(authority)) = (base.scheme_str(), base.authority()) else {
            return Err(fault("it starts with https:// or http://".into()));
        };
        if authority.as_str().contains('@') {
            return Err(fault(
                "it holds a login, and addresses are shown; put the key into key_env or key_file".into(),
            ));
        }
        if base.query().is_some() {
            return Err(fault("parameters of the address belong into query".into()));
        }
        if matches!(base.path(), "" | "/") {
            let lent = preset.base_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
            let path = preset.base_path.clone().or_else(|| lent.map(|url| url.path().to_owned())).unwrap_or_default();
            let whole = format!("{scheme}://{authority}{path}");
            let whole = whole.parse().map_err(|error| fault(format!("{whole} is not an address: {error}")))?;
            return self.check_scheme(whole);
        }
        self.check_scheme(base)
    }

    fn check_scheme(&self, base: Uri) -> Result<Uri, TargetError> {
        let fault = |why: String| self.fault("base_url", why);
        let host = base.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        match base.scheme_str().unwrap_or_default() {
            "https" => Ok(base),
            "http" => {
                let public = host.parse::<IpAddr>().is_ok_and(|address| !is_private(address));
                if public && self.plain_http == PlainHttp::Private {
                    return Err(fault(format!(
                        "{host} is a public address; use https, or set plain_http = \"anywhere\""
                    )));
                }
                Ok(base)
            }
            _ => Err(fault("it starts with https:// or http://".into())),
        }
    }

    fn address(&self, preset: &Preset, base: &Uri, path: &str) -> Result<Uri, TargetError> {
        if !path.starts_with('/') {
            return Err(self.fault("paths", format!("'{path}' does not begin with /")));
        }
        let mut text = base.to_string();
        text.truncate(text.trim_end_matches('/').len());
        text.push_str(&path.replace("{model}", &encode(&self.model)));
        let mut query = preset.query.clone();
        query.extend(self.query.clone());
        for (i, (key, value)) in query.iter().enumerate() {
            text.push(if i == 0 { '?' } else { '&' });
            text.push_str(&format!("{}={}", encode(key), encode(value)));
        }
        text.parse().map_err(|error| self.fault("paths", format!("{text} is not an address: {error}")))
    }

    fn health(&self, preset: &Preset, base: &Uri) -> Result<Option<(Uri, HealthCheck)>, TargetError> {
        let Some(check) = &self.health else { return Ok(None) };
        let Some(path) = check.path.as_ref().or(preset.health.as_ref()) else {
            return Err(
                self.fault("health.path", format!("a {} server has none that is known; write one", preset.name))
            );
        };
        if check.interval.is_zero() || check.timeout.is_zero() {
            return Err(self.fault("health", "interval and timeout are greater than 0"));
        }
        let mut parts = base.clone().into_parts();
        let path =
            path.parse().map_err(|error| self.fault("health.path", format!("'{path}' is not a path: {error}")))?;
        parts.path_and_query = Some(path);
        let address = Uri::from_parts(parts).map_err(|error| self.fault("health.path", error.to_string()))?;
        Ok(Some((address, check.clone())))
    }

    fn headers(&self, preset: &Preset) -> Result<HeaderMap, TargetError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("bantam/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in preset.headers.iter().chain(&self.headers) {
            let fault = |why: String| self.fault("headers", format!("{name}: {why}"));
            let key = HeaderName::try_from(name).map_err(|error| fault(error.to_string()))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| fault(error.to_string()))?;
            value.set_sensitive(is_secret(name));
            headers.insert(key, value);
        }
        let name = match preset.auth {
            Auth::Bearer => header::AUTHORIZATION,
            Auth::XApiKey => HeaderName::from_static("x-api-key"),
            Auth::ApiKey => HeaderName::from_static("api-key"),
            Auth::None => return Ok(headers),
        };
        if let Some(key) = self.secret()? {
            let text = match preset.auth {
                Auth::Bearer => SecretString::from(format!("Bearer {}", key.expose_secret())),
                _ => key,
            };
            let mut value = HeaderValue::try_from(text.expose_secret())
                .map_err(|_| self.fault("key", "it has characters that no header may have"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn proxy(&self, base: &Uri) -> Result<Option<Uri>, TargetError> {
        let Some(text) = &self.proxy else { return Ok(None) };
        if base.scheme_str() != Some("https") {
            return Err(self.fault("proxy", "it is for targets with https:// only"));
        }
        let proxy: Uri = text.parse().map_err(|error| self.fault("proxy", format!("it is not an address: {error}")))?;
        let authority = proxy.authority().filter(|_| proxy.scheme_str() == Some("http"));
        match authority {
            Some(authority) if !authority.as_str().contains('@') => Ok(Some(proxy)),
            _ => Err(self.fault("proxy", "it has the form http://HOST:PORT, without a login")),
        }
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, TargetError> {
        let Some(path) = &self.ca_file else { return Ok(Vec::new()) };
        let fault = |why: String| self.fault("ca_file", format!("{}: {why}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
        let roots: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| fault(error.to_string()))?;
        if roots.is_empty() { Err(fault("there is no certificate in it".into())) } else { Ok(roots) }
    }

    fn secret(&self) -> Result<Option<SecretString>, TargetError> {
        let (field, text) = match (&self.key, &self.key_env, &self.key_file) {
            (Some(key), None, None) => return Ok(Some(key.clone())),
            (None, None, None) => return Ok(None),
            (None, Some(name), None) => {
                let text = std::env::var(name)
                    .map_err(|_| self.fault("key_env", format!("the environment variable {name} is not set")))?;
                ("key_env", text)
            }
            (None, None, Some(path)) => {
                let fault = |why: String| self.fault("key_file", format!("{}: {why}", path.display()));
                let size = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?.len();
                if size > MAX_KEY {
                    return Err(fault(format!("{size} bytes are too many for a key")));
                }
                ("key_file", std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?)
            }
            _ => return Err(self.fault("key_env", "give key_env or key_file, not both")),
        };
        let text = SecretString::from(text);
        match text.expose_secret().trim() {
            "" => Err(self.fault(field, "the key is empty")),
            key => Ok(Some(SecretString::from(key))),
        }
    }
}

/// Percent-encodes all but unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
