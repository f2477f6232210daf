//! Bytes of a model file, mapped or owned: the one place outside `kernels` that needs `unsafe`.
//!
//! Weights are gigabytes and are read once, in order, while they are repacked; mapping them lets the kernel page
//! them in and drop them again, without a second copy in our memory.
//!
//! **Hazard.** A mapping shows the file as it is now, not as it was when it was checked. A file that another process
//! truncates while it is mapped makes the next access to the lost pages end the process with `SIGBUS` (on Windows the
//! truncation itself is refused), and one that is rewritten in place gives whatever bytes it then holds. Model files
//! must therefore be replaced by renaming a new file over the old name, as `bantam pull` does; the old mapping then
//! keeps the old file alive. Metadata is copied out of the mapping while it is parsed, so only tensor bytes can change.
#![allow(unsafe_code)]

use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// The whole content of a file.
#[derive(Debug)]
pub(crate) enum FileBytes {
    /// In our own memory.
    Owned(Vec<u8>),
    /// Mapped read-only.
    Mapped(Mmap),
}

impl FileBytes {
    /// Maps `path` read-only. An empty file, which cannot be mapped everywhere, gives empty owned bytes.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped; the message names the path.
    pub(crate) fn map(path: &Path) -> std::io::Result<FileBytes> {
        let file = fs_err::File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let message = format!("`{}` is not a regular file", path.display());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
        }
        if metadata.len() == 0 {
            return Ok(FileBytes::Owned(Vec::new()));
        }
        // SAFETY: the mapping is read-only and private to this value, and every access goes through the slice it
        // derefs to, whose length is fixed here. That nobody truncates or rewrites the file meanwhile cannot be
        // enforced by us; the module's documentation states it as a condition on the user.
        let mapping = unsafe { Mmap::map(file.file())? };
        Ok(FileBytes::Mapped(mapping))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Owned(bytes) => bytes,
            FileBytes::Mapped(mapping) => mapping,
        }
    }
}
