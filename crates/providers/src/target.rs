//! One deployment: a model behind an API at an address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use hyper::{HeaderMap, Uri};
use rustls::pki_types::CertificateDer;

use crate::preset::Preset;
use crate::strike::{is_secret, strike as struck};
use crate::wire::Api;

pub use crate::config::{HealthCheck, Limits, PlainHttp, TargetConfig, Timeouts};

/// A target that is ready to be called. Neither its key nor its headers are ever printed.
#[derive(Clone, PartialEq)]
pub struct Target {
    /// Its name here.
    pub name: String,
    /// What kind of server it is.
    pub preset: &'static Preset,
    /// The model's name there.
    pub model: String,
    /// Its share of a group's requests.
    pub weight: u32,
    /// Most attempts at a group that has it, in place of the policy's.
    pub attempts: Option<u32>,
    /// Bounds on what it is given and takes.
    pub limits: Limits,
    /// Bounds on how long it may take.
    pub timeouts: Timeouts,
    /// What policies may ask for.
    pub attributes: BTreeMap<String, String>,
    /// Where unencrypted requests may go.
    pub plain_http: PlainHttp,
    pub(crate) base: Uri,
    pub(crate) addresses: BTreeMap<Api, Uri>,
    pub(crate) headers: HeaderMap,
    pub(crate) health: Option<(Uri, HealthCheck)>,
    pub(crate) proxy: Option<Uri>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("preset", &self.preset.name)
            .field("base_url", &self.base)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Whether the server has this API itself.
    #[must_use]
    pub fn has(&self, api: Api) -> bool {
        self.addresses.contains_key(&api)
    }

    pub(crate) fn encrypted(&self) -> bool {
        self.base.scheme_str() == Some("https")
    }

    /// A text of the server's without the key and the other secrets that it is sent, and without what looks like one.
    #[must_use]
    pub fn strike(&self, text: &str) -> String {
        let sent = self.headers.iter().filter(|(_, value)| value.is_sensitive());
        let headers = sent.filter_map(|(_, value)| value.to_str().ok());
        let headers = headers.map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
        let queries = self.addresses.values().filter_map(|address| address.query());
        let parameters = queries.flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
        let parameters = parameters.filter(|(name, _)| is_secret(name)).map(|(_, value)| value);
        struck(headers.chain(parameters), text)
    }

    /// Where it is.
    #[must_use]
    pub fn base_url(&self) -> &Uri {
        &self.base
    }
}

/// A text of a server's without what looks like a key, where it is not known whose it is.
#[must_use]
pub fn strike(text: &str) -> String {
    struck(std::iter::empty(), text)
}

/// Whether an address is of this machine or of a private network.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // 100.64.0.0/10 is what carriers and overlay networks use.
            v4.is_loopback() || v4.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}
