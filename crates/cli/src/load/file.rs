//! Files that users name.

use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};

/// A file's bytes, if they are not more than `most`.
///
/// # Errors
/// When there is no such file, it is longer, or it cannot be read.
pub(crate) fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("{}: there is no such file", path.display()),
        _ => anyhow!("{}: cannot be opened: {error}", path.display()),
    })?;
    let mut bytes = Vec::new();
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
    let read = read.with_context(|| format!("{}: cannot be read", path.display()))?;
    ensure!(read as u64 <= most, "{}: has more than {most} bytes, the most that are read", path.display());
    Ok(bytes)
}

/// A file that is not there yet.
///
/// # Errors
/// When it is there already, or cannot be made.
pub(crate) fn create_new(path: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::File::create_new(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            anyhow!("{} is there already; name another file, or remove it first", path.display())
        }
        _ => anyhow!("{}: cannot be made: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_plainly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let said = |outcome: anyhow::Result<Vec<u8>>| outcome.unwrap_err().to_string();
        assert_eq!(said(read(&path, 3)), format!("{}: there is no such file", path.display()));
        create_new(&path).unwrap();
        assert!(create_new(&path).unwrap_err().to_string().contains("is there already"));
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        assert!(said(read(&path, 2)).contains("more than 2 bytes"));
        assert!(said(read(dir.path(), 3)).starts_with(&dir.path().display().to_string()));
    }
}
