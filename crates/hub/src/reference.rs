//! How a person names a model: a catalogue name, a path, or a file on Hugging Face.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::digest_of;

/// One file in a Hugging Face repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HfFile {
    /// `organisation/name`.
    pub repo: String,
    /// Path of the file inside the repository.
    pub file: String,
    /// Branch, tag or commit.
    #[serde(default = "HfFile::default_revision")]
    pub revision: String,
}

impl HfFile {
    /// The branch that is taken when none is named.
    pub const DEFAULT_REVISION: &'static str = "main";

    fn default_revision() -> String {
        Self::DEFAULT_REVISION.to_owned()
    }

    /// Refuses what Hugging Face would not accept, what could reach outside a repository, and files without this
    /// extension.
    pub(crate) fn check(&self, extension: &str) -> Result<(), String> {
        let mut repo = self.repo.split('/');
        let (Some(organisation), Some(name), None) = (repo.next(), repo.next(), repo.next()) else {
            return Err(format!("the repository `{}` is not organisation/name", self.repo));
        };
        for (what, text) in [("organisation", organisation), ("repository name", name)] {
            if !is_plain_segment(text) {
                return Err(format!("the {what} `{text}` may hold letters, digits, `-`, `_` and `.` only"));
            }
        }
        for segment in self.file.split('/') {
            if !is_file_segment(segment) {
                return Err(format!("`{}` is not a path of a file inside a repository", self.file));
            }
        }
        if !has_extension(&self.file, extension) {
            return Err(format!("`{}` is not a .{extension} file", self.file));
        }
        if is_split(&self.file) {
            return Err(format!("`{}` is one piece of a split model: name a model that is a single file", self.file));
        }
        // A revision may be `refs/pr/1`.
        if self.revision.is_empty() || !self.revision.split('/').all(is_plain_segment) {
            return Err(format!("the revision `{}` is not a branch, tag or commit", self.revision));
        }
        Ok(())
    }

    /// The last part of the path.
    pub fn file_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }
}

impl fmt::Display for HfFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}/{}", self.repo, self.file)?;
        if self.revision != Self::DEFAULT_REVISION {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// How a person names a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelRef {
    /// A name or alias of the catalogue, in lower case. Whether it exists is known to a
    /// [`Catalogue`](crate::Catalogue).
    Catalogue(String),
    /// A file (or a directory with a model) on this machine.
    Path(PathBuf),
    /// `hf:organisation/name/file.gguf`, with `@revision` at the end where it is not `main`.
    Hf(HfFile),
}

/// A text that names no model in any of the three ways.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` does not name a model: {why}")]
pub struct ReferenceError {
    /// What was given, shortened.
    pub text: String,
    /// What is wrong with it and what is allowed.
    pub why: String,
}

impl ModelRef {
    /// Reads a reference without touching disk or network. `hf:...` is a file on Hugging Face; what starts with `.` or
    /// `/`, holds a `/` or `\` or ends in `.gguf` is a path; the rest is a catalogue name.
    ///
    /// # Errors
    /// When it is empty, or a name or repository has characters that are not allowed.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fail = |why: String| ReferenceError { text: text.chars().take(120).collect(), why };
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("hf:") {
            let (path, revision) = rest.rsplit_once('@').unwrap_or((rest, HfFile::DEFAULT_REVISION));
            let mut segments = path.splitn(3, '/');
            let (Some(organisation), Some(name), Some(file)) = (segments.next(), segments.next(), segments.next())
            else {
                return Err(fail("write hf:organisation/name/file.gguf, with @revision at the end if needed".into()));
            };
            let file =
                HfFile { repo: format!("{organisation}/{name}"), file: file.to_owned(), revision: revision.to_owned() };
            file.check(GGUF).map_err(fail)?;
            return Ok(ModelRef::Hf(file));
        }
        if text.starts_with('.') || text.contains(['/', '\\']) || has_extension(text, GGUF) {
            if text.contains('\0') {
                return Err(fail("a path cannot hold a zero byte".into()));
            }
            return Ok(ModelRef::Path(PathBuf::from(text)));
        }
        let name = text.to_ascii_lowercase();
        check_name(&name).map_err(fail)?;
        Ok(ModelRef::Catalogue(name))
    }

    /// The name of the folder that holds this model in a store; nothing for a path. Unique for each reference, made of
    /// harmless characters, and at most 120 bytes long.
    pub(crate) fn dir_name(&self) -> Option<String> {
        match self {
            ModelRef::Catalogue(name) => Some(name.replace(':', "-")),
            ModelRef::Path(_) => None,
            ModelRef::Hf(file) => {
                let text = file.to_string();
                let readable: String = text
                    .chars()
                    .skip("hf:".len())
                    .take(80)
                    .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
                    .collect();
                // The readable part drops differences; the digest keeps two files apart, on file systems without case too.
                let digest = digest_of(text.as_bytes()).to_string();
                Some(format!("hf-{readable}-{}", &digest[..16]))
            }
        }
    }
}

impl FromStr for ModelRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelRef::Catalogue(name) => f.write_str(name),
            ModelRef::Path(path) => path.display().fmt(f),
            ModelRef::Hf(file) => file.fmt(f),
        }
    }
}

/// A catalogue name or alias: starts with a letter or digit, then letters, digits and `. _ - :`, lower case.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | ':');
    if name.is_empty() {
        return Err("it is empty; `bantam list --all` shows the models".into());
    }
    if name.len() > 80 {
        return Err("a model's name has at most 80 characters".into());
    }
    if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        return Err(format!("a model's name has no {c:?}; `bantam list --all` shows the models"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || name.ends_with(['.', ':']) {
        return Err("a model's name starts with a letter or digit and does not end in `.` or `:`".into());
    }
    Ok(())
}

pub(crate) fn is_plain_segment(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && !text.starts_with('.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn is_file_segment(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && !matches!(text, "." | "..")
        && text.chars().all(|c| !c.is_control() && !matches!(c, '\\' | '?' | '#' | '%' | '@' | ':'))
}

pub(crate) const GGUF: &str = "gguf";

fn has_extension(text: &str, extension: &str) -> bool {
    Path::new(text).extension().is_some_and(|its| its.eq_ignore_ascii_case(extension))
}

/// `name-00001-of-00003.gguf`
fn is_split(file: &str) -> bool {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let Some((rest, total)) = stem.rsplit_once("-of-") else { return false };
    let part = rest.rsplit('-').next().unwrap_or("");
    [part, total].iter().all(|digits| digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit()))
}
