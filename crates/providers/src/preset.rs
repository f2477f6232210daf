//! Known servers, so that a target needs no more than a name, a model and a key.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::error::TargetError;
use crate::wire::Api;

/// How a key is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// `x-api-key: KEY`, as Anthropic has it.
    XApiKey,
    /// `api-key: KEY`, as Azure has it.
    ApiKey,
    /// Not at all.
    None,
}

/// What is known about a kind of server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name in the configuration.
    #[serde(skip)]
    pub name: String,
    /// Where it is, up to what `paths` begin with; nothing where every installation has its own address.
    pub base_url: Option<String>,
    /// The path that a base address without one gets, if `base_url` has none to lend.
    pub base_path: Option<String>,
    /// How a key is sent.
    pub auth: Auth,
    /// What stands after `base_url` for each API it has; `{model}` is the model's name upstream.
    pub paths: BTreeMap<Api, String>,
    /// Headers of every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Parameters of every request's address.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Path from the server's root that answers 200 when it is ready.
    pub health: Option<String>,
    /// The field that bounds an answer of chat, where it is not `max_tokens`.
    pub max_tokens: Option<String>,
}

impl Preset {
    /// Whether the server has this API itself.
    #[must_use]
    pub fn has(&self, api: Api) -> bool {
        self.paths.contains_key(&api)
    }

    /// All presets, by name.
    ///
    /// # Errors
    /// When the compiled-in file is broken, which a test rules out.
    pub fn all() -> Result<&'static BTreeMap<String, Preset>, TargetError> {
        static ALL: OnceLock<Result<BTreeMap<String, Preset>, String>> = OnceLock::new();
        let all = ALL.get_or_init(|| {
            let mut all: BTreeMap<String, Preset> =
                toml::from_str(include_str!("presets.toml")).map_err(|error| error.to_string())?;
            for (name, preset) in &mut all {
                preset.name.clone_from(name);
            }
            Ok(all)
        });
        all.as_ref().map_err(|why| TargetError::Presets { why: why.clone() })
    }

    /// The preset of a name.
    ///
    /// # Errors
    /// [`TargetError::UnknownPreset`] with the names there are.
    pub fn find(name: &str) -> Result<&'static Preset, TargetError> {
        let all = Self::all()?;
        all.get(name).ok_or_else(|| TargetError::UnknownPreset {
            preset: name.to_owned(),
            known: all.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}
