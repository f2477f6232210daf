//! The models on this machine.
//!
//! ```text
//! <data dir>/catalogue.toml            the user's own models, if any
//! <data dir>/models/<name>/<file>      a complete, checked file, with its companions beside it
//!                          manifest.json
//! <data dir>/partial/<name>/           what a pull in progress, or one that was stopped, has so far
//! <data dir>/pins/<name>.json          the digest of the first pull, kept when the model is removed
//! <data dir>/locks/<name>.lock
//! ```

use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::Serialize;

use crate::cancel::Cancel;
use crate::catalogue::{Catalogue, CatalogueEntry};
use crate::companion;
use crate::digest::{Digest, hash_file};
use crate::error::HubError;
use crate::lock::ModelLock;
use crate::manifest::Manifest;
use crate::reference::{ModelRef, check_name};
use crate::task::Task;

/// A model on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct LocalModel {
    /// Canonical name: the catalogue's, `hf:...`, or the path as given.
    pub name: String,
    /// Where its main file is. An encoder is the directory around it.
    pub path: PathBuf,
    /// Bytes of all its files. Zero for a path that is a directory.
    pub size: u64,
    /// The main file's digest, where the store knows it; a path's file was never hashed.
    pub sha256: Option<Digest>,
    /// What else the store knows of it; nothing for a path.
    pub manifest: Option<Manifest>,
}

/// What [`Store::remove`] removed.
#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    /// Canonical name.
    pub name: String,
    /// Bytes freed.
    pub freed: u64,
}

/// A data directory and the catalogue that goes with it.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    catalogue: Catalogue,
}

impl Store {
    /// The store in `data_dir`, or in [`Store::default_dir`]. Nothing is written before the first pull.
    ///
    /// # Errors
    /// When there is no home directory, or `catalogue.toml` in the data directory is broken.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, HubError> {
        let root = match data_dir {
            Some(dir) => dir.to_owned(),
            None => Self::default_dir()?,
        };
        // The package client runs in a folder of its own, where a relative path would lead elsewhere.
        let root = std::path::absolute(root)?;
        let mut catalogue = Catalogue::embedded()?;
        let own = root.join("catalogue.toml");
        if let Some(text) = read_if_there(&own)? {
            let origin = own.display().to_string();
            catalogue = catalogue.overlaid_by(Catalogue::parse(&text, &origin)?, &origin)?;
        }
        Ok(Store { root, catalogue })
    }

    /// `BANTAM_DATA_DIR`, otherwise `bantam` in the platform's folder for application data.
    ///
    /// # Errors
    /// When the variable is not set and there is no home directory.
    pub fn default_dir() -> Result<PathBuf, HubError> {
        if let Some(dir) = std::env::var_os("BANTAM_DATA_DIR").filter(|dir| !dir.is_empty()) {
            return Ok(PathBuf::from(dir));
        }
        let platform = etcetera::choose_base_strategy().map_err(|e| HubError::NoDataDir { why: e.to_string() })?;
        Ok(platform.data_dir().join("bantam"))
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The models that can be pulled by name.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The catalogue's entry for this reference; nothing for paths, files on Hugging Face and unknown names.
    pub fn entry(&self, model: &ModelRef) -> Option<&CatalogueEntry> {
        match model {
            ModelRef::Catalogue(name) => self.catalogue.find(name),
            ModelRef::Path(_) | ModelRef::Hf(_) => None,
        }
    }

    /// Finds a model on this machine. `None` when it is known but was not pulled.
    ///
    /// # Errors
    /// [`HubError::UnknownModel`] with near names, [`HubError::NoSuchFile`] for a path, or a disk fault.
    pub fn resolve(&self, model: &ModelRef) -> Result<Option<LocalModel>, HubError> {
        if let ModelRef::Path(path) = model {
            return self.resolve_path(path).map(Some);
        }
        let model = self.canonical(model)?;
        match model.dir_name() {
            Some(dir) => self.read_model(&dir),
            None => Ok(None),
        }
    }

    /// The models in the store by name. A folder that cannot be read is left out with a warning in the log.
    ///
    /// # Errors
    /// When the data directory cannot be read.
    pub fn list(&self) -> Result<Vec<LocalModel>, HubError> {
        let mut models = Vec::new();
        let entries = match fs_err::read_dir(self.root.join("models")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(models),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let Ok(dir) = entry?.file_name().into_string() else { continue };
            match self.read_model(&dir) {
                Ok(model) => models.extend(model),
                Err(error) => tracing::warn!(dir, %error, "left out of the list"),
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Removes a model with what a stopped pull left of it. Its pinned digest stays; [`Store::forget`] removes that.
    ///
    /// # Errors
    /// [`HubError::NotPulled`] when there is nothing of it, [`HubError::Busy`] while it is being pulled.
    pub fn remove(&self, model: &ModelRef) -> Result<Removed, HubError> {
        let (model, dir) = self.stored(model)?;
        let name = model.to_string();
        let mut freed = 0u64;
        let mut found = false;
        let _lock = self.try_lock(&name, &dir)?;
        // The manifest goes first: without it, what is left of an interrupted removal is not taken for a model.
        let folder = self.model_dir(&dir);
        remove_if_there(&folder.join(MANIFEST))?;
        for folder in [folder, self.partial_dir(&dir)] {
            if folder.exists() {
                found = true;
                freed = freed.saturating_add(dir_bytes(&folder)?);
                fs_err::remove_dir_all(&folder)?;
            }
        }
        if found { Ok(Removed { name, freed }) } else { Err(HubError::NotPulled { name }) }
    }

    /// Whether there is anything of a model to remove: the model, or what a stopped pull left of it.
    ///
    /// # Errors
    /// As [`Store::resolve`]; [`HubError::NotInStore`] for a path.
    pub fn has(&self, model: &ModelRef) -> Result<bool, HubError> {
        let (_, dir) = self.stored(model)?;
        Ok(self.model_dir(&dir).exists() || self.partial_dir(&dir).exists())
    }

    /// Forgets the digest that was pinned when the model was first pulled. Says whether there was one.
    ///
    /// # Errors
    /// As [`Store::resolve`], and [`HubError::Busy`] while it is being pulled.
    pub fn forget(&self, model: &ModelRef) -> Result<bool, HubError> {
        let (model, dir) = self.stored(model)?;
        let _lock = self.try_lock(&model.to_string(), &dir)?;
        Ok(remove_if_there(&self.pin_path(&dir))?)
    }

    /// Refuses a model that is known to be made for another task, whether or not it is here. What is not known is
    /// accepted: reading the model shows it.
    ///
    /// # Errors
    /// [`HubError::WrongTask`], which says what to do with it.
    pub fn expect_task(&self, model: &ModelRef, wanted: Task) -> Result<(), HubError> {
        let here = || self.resolve(model).ok()?.and_then(|local| Some(local.manifest?.task));
        match self.entry(model).map(|entry| entry.task).or_else(here) {
            Some(task) if task != wanted => Err(HubError::WrongTask { name: model.to_string(), task }),
            _ => Ok(()),
        }
    }

    /// Reads all files and compares their digests with the manifest's. The digest of a path's file, which the store
    /// does not know, is worked out and given back.
    ///
    /// # Errors
    /// [`HubError::Damaged`] when it differs, [`HubError::NotPulled`], or a disk fault.
    pub fn verify(&self, model: &ModelRef, cancel: &Cancel) -> Result<LocalModel, HubError> {
        let mut local = self.resolve(model)?.ok_or_else(|| HubError::NotPulled { name: model.to_string() })?;
        if !local.path.is_file() {
            return Ok(local);
        }
        let found = hash_file(&local.path, cancel)?.finish();
        match local.sha256 {
            Some(expected) if expected != found => {
                let why = format!("its SHA-256 is {found} and was {expected} when it was pulled");
                return Err(HubError::Damaged { name: local.name, why });
            }
            _ => local.sha256 = Some(found),
        }
        let folder = local.path.parent().unwrap_or(&self.root);
        for companion in local.manifest.iter().flat_map(|manifest| &manifest.companions) {
            let found = hash_file(&folder.join(&companion.file), cancel)?.finish();
            if found != companion.sha256 {
                let (file, expected) = (&companion.file, companion.sha256);
                let why = format!("the SHA-256 of its {file} is {found} and was {expected} when it was pulled");
                return Err(HubError::Damaged { name: local.name, why });
            }
        }
        Ok(local)
    }

    /// The reference with an alias replaced by the name it stands for. A name that the catalogue no longer has but the
    /// store does is taken as it is.
    pub(crate) fn canonical(&self, model: &ModelRef) -> Result<ModelRef, HubError> {
        let ModelRef::Catalogue(name) = model else { return Ok(model.clone()) };
        if let Some(entry) = self.catalogue.find(name) {
            return Ok(ModelRef::Catalogue(entry.name.clone()));
        }
        if check_name(name).is_ok() && !name.contains(':') && self.model_dir(name).join(MANIFEST).is_file() {
            return Ok(model.clone());
        }
        Err(HubError::UnknownModel { name: name.clone(), nearest: self.catalogue.nearest(name) })
    }

    pub(crate) fn model_dir(&self, dir: &str) -> PathBuf {
        self.root.join("models").join(dir)
    }

    pub(crate) fn partial_dir(&self, dir: &str) -> PathBuf {
        self.root.join("partial").join(dir)
    }

    pub(crate) fn pin_path(&self, dir: &str) -> PathBuf {
        self.root.join("pins").join(format!("{dir}.json"))
    }

    pub(crate) fn lock_path(&self, dir: &str) -> PathBuf {
        self.root.join("locks").join(format!("{dir}.lock"))
    }

    fn stored(&self, model: &ModelRef) -> Result<(ModelRef, String), HubError> {
        if let ModelRef::Path(path) = model {
            return Err(HubError::NotInStore { path: path.clone() });
        }
        let model = self.canonical(model)?;
        match model.dir_name() {
            Some(dir) => Ok((model, dir)),
            None => Err(HubError::NotPulled { name: model.to_string() }),
        }
    }

    fn try_lock(&self, name: &str, dir: &str) -> Result<ModelLock, HubError> {
        ModelLock::try_take(&self.lock_path(dir))?.ok_or_else(|| HubError::Busy { name: name.to_owned() })
    }

    fn read_model(&self, dir: &str) -> Result<Option<LocalModel>, HubError> {
        let folder = self.model_dir(dir);
        let path = folder.join(MANIFEST);
        let Some(text) = read_if_there(&path)? else { return Ok(None) };
        let damaged = |why: String| HubError::Damaged { name: dir.to_owned(), why };
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|error| damaged(format!("{}: {error}", path.display())))?;
        // A manifest is data too: it must not point outside its folder.
        if Path::new(&manifest.file).file_name() != Some(manifest.file.as_ref()) {
            return Err(damaged(format!("{}: `file` is not a plain file name", path.display())));
        }
        companion::check(&manifest.companions, &manifest.file)
            .map_err(|why| damaged(format!("{}: {why}", path.display())))?;
        let path = folder.join(&manifest.file);
        let size = match fs_err::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if size != manifest.size {
            return Err(damaged(format!("it has {size} bytes and had {} when it was pulled", manifest.size)));
        }
        for companion in &manifest.companions {
            let (file, expected) = (&companion.file, companion.size);
            match fs_err::metadata(folder.join(file)) {
                Ok(metadata) if metadata.len() == expected => {}
                Ok(metadata) => {
                    let found = metadata.len();
                    return Err(damaged(format!("its {file} has {found} bytes and had {expected} when it was pulled")));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(damaged(format!("its {file} is missing")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(LocalModel {
            name: manifest.name.clone(),
            path,
            size: size.saturating_add(companion::total_size(&manifest.companions)),
            sha256: Some(manifest.sha256),
            manifest: Some(manifest),
        }))
    }

    fn resolve_path(&self, path: &Path) -> Result<LocalModel, HubError> {
        let metadata = match fs_err::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HubError::NoSuchFile { path: path.to_owned(), hint: path_hint(path) });
            }
            Err(error) => return Err(error.into()),
        };
        Ok(LocalModel {
            name: path.display().to_string(),
            path: path.to_owned(),
            size: if metadata.is_file() { metadata.len() } else { 0 },
            sha256: None,
            manifest: None,
        })
    }
}

pub(crate) const MANIFEST: &str = "manifest.json";

/// What someone may have meant by a path that leads nowhere.
fn path_hint(path: &Path) -> String {
    let text = path.display().to_string();
    match ModelRef::parse(&format!("hf:{text}")) {
        Ok(reference) if !text.starts_with('.') => format!("for the file on Hugging Face write `{reference}`"),
        _ => String::new(),
    }
}

pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says whether there was a file to remove.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs_err::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes of all files in a folder and its folders. Links are not followed. A file that goes while we look counts as none.
pub(crate) fn dir_bytes(dir: &Path) -> io::Result<u64> {
    let mut total = 0u64;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs_err::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(metadata) = fs_err::symlink_metadata(entry.path()) else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                total = total.saturating_add(metadata.len());
            }
        }
    }
    Ok(total)
}
