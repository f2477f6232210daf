//! Getting a model: the lock, the sources in turn, the checks, and the move into place.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::catalogue::{Licence, Source};
use crate::companion::Companion;
use crate::digest::Digest;
use crate::error::{HubError, Pinned, SourceError, SourceFailure};
use crate::lock::ModelLock;
use crate::manifest::{Manifest, Verified};
use crate::options::PullOptions;
use crate::progress::{Event, Progress, Span};
use crate::reference::ModelRef;
use crate::source::{self, Delivery, Expected, Job};
use crate::store::{LocalModel, MANIFEST, Store, read_if_there, remove_if_there};
use crate::task::Task;

/// How long what a stopped pull left is kept for the next one.
const KEEP_PARTIAL: Duration = Duration::from_secs(14 * 24 * 3600);

/// How the names of folders begin that hold what an attempt at a source needs for itself.
const SCRATCH: &str = "scratch-";

/// The digest of the first pull of a model whose digest the catalogue does not know.
#[derive(Serialize, Deserialize)]
struct Pin {
    name: String,
    sha256: Digest,
}

/// What is to be pulled.
struct Target {
    name: String,
    /// Folder in the store.
    dir: String,
    task: Task,
    /// Name of the main file in that folder.
    file: String,
    companions: Vec<Companion>,
    sources: Vec<Source>,
    size: Option<u64>,
    sha256: Option<Digest>,
    licence: Option<Licence>,
}

impl Store {
    /// Makes sure that a model is on this machine and says where. A path, and a model that is already here, are returned
    /// as they are; otherwise its sources are tried in order until one delivers all its files with the right digests.
    ///
    /// Blocks. Two pulls of one model, in one process or two, do not collide: the second waits and finds it done.
    ///
    /// # Errors
    /// [`HubError::AllSourcesFailed`] with the reason of each source, [`HubError::UnknownModel`], [`HubError::Offline`],
    /// [`HubError::Cancelled`], or a disk fault.
    pub fn pull(
        &self,
        model: &ModelRef,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<LocalModel, HubError> {
        if let ModelRef::Path(_) = model {
            return self.resolve(model)?.ok_or_else(|| HubError::NotPulled { name: model.to_string() });
        }
        let model = self.canonical(model)?;
        if let Some(local) = self.usable(&model, options, progress)? {
            return Ok(local);
        }
        let target = self.target(&model)?;
        if options.offline && target.sources.iter().all(source::needs_network) {
            return Err(HubError::Offline { name: target.name });
        }
        let waiting = || progress.event(Event::Waiting { name: &target.name });
        let _lock = ModelLock::take(&self.lock_path(&target.dir), &options.cancel, waiting)?;
        // Another process may have brought it while this one waited.
        if let Some(local) = self.usable(&model, options, progress)? {
            return Ok(local);
        }
        self.remove_stale_partials();
        self.try_sources(&target, options, progress)?;
        self.resolve(&model)?.ok_or(HubError::NotPulled { name: target.name })
    }

    /// The model on this machine, unless the catalogue meanwhile names another file or the one here is damaged.
    fn usable(
        &self,
        model: &ModelRef,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Option<LocalModel>, HubError> {
        let found = match self.resolve(model) {
            Ok(Some(_)) if options.verify => {
                progress.event(Event::Checking);
                self.verify(model, &options.cancel).map(Some)
            }
            other => other,
        };
        let local = match found {
            Err(HubError::Damaged { name, why }) if !options.offline => {
                tracing::warn!(name, why, "pulling it again");
                return Ok(None);
            }
            other => other?,
        };
        let is_current = |local: &LocalModel| match (self.entry(model), &local.manifest) {
            (Some(entry), Some(manifest)) => {
                entry.sha256.is_none_or(|wanted| wanted == manifest.sha256)
                    && (entry.task, &entry.companions) == (manifest.task, &manifest.companions)
            }
            _ => true,
        };
        Ok(local.filter(|local| options.offline || is_current(local)))
    }

    fn target(&self, model: &ModelRef) -> Result<Target, HubError> {
        let name = model.to_string();
        let unknown = || HubError::NotPulled { name: name.clone() };
        let dir = model.dir_name().ok_or_else(unknown)?;
        match model {
            ModelRef::Hf(file) => Ok(Target {
                dir,
                task: Task::Generate,
                file: file.file_name().to_owned(),
                companions: Vec::new(),
                sources: vec![Source::HuggingFace(file.clone())],
                size: None,
                sha256: None,
                licence: None,
                name,
            }),
            _ => {
                let entry = self.entry(model).ok_or_else(unknown)?;
                Ok(Target {
                    task: entry.task,
                    file: entry.task.main_file(&dir),
                    companions: entry.companions.clone(),
                    dir,
                    sources: entry.sources.clone(),
                    size: entry.size,
                    sha256: entry.sha256,
                    licence: Some(entry.licence.clone()),
                    name,
                })
            }
        }
    }

    fn try_sources(&self, target: &Target, options: &PullOptions, progress: &dyn Progress) -> Result<(), HubError> {
        let pin = match target.sha256 {
            Some(_) => None,
            None => self.read_pin(&target.dir)?,
        };
        let expected = Expected {
            size: target.size,
            sha256: target.sha256.or(pin),
            pinned: match pin {
                Some(_) => Pinned::Earlier { name: target.name.clone() },
                None => Pinned::No,
            },
        };
        let folder = self.partial_dir(&target.dir);
        fs_err::create_dir_all(&folder)?;
        remove_left_overs(&folder)?;
        let mut failures = Vec::new();
        for source in &target.sources {
            let label = source.to_string();
            progress.event(Event::Trying { source: &label });
            let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&folder)?;
            let (scratch, span) = (scratch.path(), Span::default());
            let job = Job { folder: &folder, scratch, expected: &expected, span, options, progress };
            match source::fetch(source, &target.companions, &job) {
                Ok(delivery) => {
                    progress.event(Event::Checking);
                    return self.put_in_place(target, &expected, label, delivery);
                }
                Err(SourceError::Cancelled) => return Err(HubError::Cancelled),
                Err(error) => {
                    progress.event(Event::Failed { source: &label, error: &error });
                    failures.push(SourceFailure { source: label, error });
                }
            }
        }
        // Nothing to resume leaves nothing behind.
        let _ = fs_err::remove_dir(&folder);
        Err(HubError::AllSourcesFailed { name: target.name.clone(), failures })
    }

    /// The files first, then the manifest that makes them count; each is on disk before the next step. Nothing stays of
    /// what was there: a file that the catalogue names no more would still be found by whoever reads the folder.
    fn put_in_place(
        &self,
        target: &Target,
        expected: &Expected,
        source: String,
        delivery: Delivery,
    ) -> Result<(), HubError> {
        let Delivery { main, companions } = delivery;
        let verified = match (target.sha256, expected.sha256) {
            (Some(_), _) => Verified::Catalogue,
            (None, Some(_)) => Verified::Pin,
            (None, None) => Verified::Stated,
        };
        if target.sha256.is_none() {
            let pin = Pin { name: target.name.clone(), sha256: main.sha256 };
            write_json(&self.pin_path(&target.dir), &pin)?;
        }
        let folder = self.model_dir(&target.dir);
        remove_if_there(&folder.join(MANIFEST))?;
        if folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        fs_err::create_dir_all(&folder)?;
        for (companion, path) in target.companions.iter().zip(&companions) {
            let place = folder.join(&companion.file);
            let parent = place.parent().unwrap_or(&folder);
            fs_err::create_dir_all(parent)?;
            fs_err::rename(path, &place)?;
            sync_dir(parent)?;
        }
        fs_err::rename(&main.path, folder.join(&target.file))?;
        sync_dir(&folder)?;
        let manifest = Manifest {
            name: target.name.clone(),
            task: target.task,
            file: target.file.clone(),
            size: main.size,
            sha256: main.sha256,
            companions: target.companions.clone(),
            verified,
            source,
            commit: main.commit,
            licence: target.licence.clone(),
            pulled_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        };
        write_json(&folder.join(MANIFEST), &manifest)?;
        fs_err::remove_dir_all(self.partial_dir(&target.dir))?;
        Ok(())
    }

    fn read_pin(&self, dir: &str) -> Result<Option<Digest>, HubError> {
        let path = self.pin_path(dir);
        let Some(text) = read_if_there(&path)? else { return Ok(None) };
        // A pin that cannot be read must not turn into "no pin": that would accept any file.
        let pin: Pin = serde_json::from_str(&text).map_err(|error| HubError::Damaged {
            name: dir.to_owned(),
            why: format!("its pinned digest in {} cannot be read: {error}", path.display()),
        })?;
        Ok(Some(pin.sha256))
    }

    /// Removes what stopped pulls of other models left long ago. Faults are not worth failing this pull.
    fn remove_stale_partials(&self) {
        let Ok(entries) = fs_err::read_dir(self.root().join("partial")) else { return };
        for entry in entries.flatten() {
            let Ok(dir) = entry.file_name().into_string() else { continue };
            let old = newest_change(&entry.path())
                .and_then(|changed| SystemTime::now().duration_since(changed).ok())
                .is_some_and(|age| age > KEEP_PARTIAL);
            if !old {
                continue;
            }
            if let Ok(Some(_lock)) = ModelLock::try_take(&self.lock_path(&dir)) {
                tracing::info!(dir, "removing what a pull left more than two weeks ago");
                let _ = fs_err::remove_dir_all(entry.path());
            }
        }
    }
}

/// What a pull that was killed left and none can go on from. The model's lock is held, so nobody else uses it.
fn remove_left_overs(partial: &Path) -> Result<(), HubError> {
    for entry in fs_err::read_dir(partial)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn newest_change(dir: &Path) -> Option<SystemTime> {
    let own = fs_err::metadata(dir).ok()?.modified().ok()?;
    let inner = fs_err::read_dir(dir).ok()?.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok());
    Some(inner.fold(own, SystemTime::max))
}

/// Writes a file whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), std::io::Error> {
    let dir = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    fs_err::create_dir_all(&dir)?;
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    // The model's lock is held: nobody else writes this name.
    let temporary = path.with_extension("json.tmp");
    let mut file = fs_err::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs_err::rename(&temporary, path)?;
    sync_dir(&dir)
}

/// Makes a rename in this folder last through a power cut, where the platform has a way to ask for that.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), std::io::Error> {
    if cfg!(unix) { fs_err::File::open(dir)?.sync_all() } else { Ok(()) }
}
