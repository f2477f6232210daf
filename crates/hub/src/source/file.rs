//! A file on this machine or on a mounted share, copied so that the store never changes under a running model.

use std::path::Path;

use super::{Delivered, Job, check_space};
use crate::digest::{Hasher, pump};
use crate::error::SourceError;
use crate::progress::Meter;

pub(crate) fn fetch(path: &Path, job: &Job<'_>) -> Result<Delivered, SourceError> {
    let mut input = match fs_err::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SourceError::NotFound { what: path.display().to_string() });
        }
        other => other?,
    };
    let size = input.metadata()?.len();
    job.expected.check_size(size)?;
    check_space(job, size)?;
    let copy = job.folder.join("copy.tmp");
    let mut output = fs_err::File::create(&copy)?;
    let mut hasher = Hasher::default();
    let mut meter = Meter::new(job.progress, Some(size));
    pump(&mut input, Some(&mut output), &mut hasher, |done| {
        meter.update(done);
        job.options.cancel.check()
    })?;
    meter.send(hasher.n_bytes());
    let size = hasher.n_bytes();
    let sha256 = hasher.finish();
    let checked = job.expected.check_size(size).and_then(|()| job.expected.check_digest(sha256));
    if let Err(error) = checked {
        fs_err::remove_file(&copy)?;
        return Err(error);
    }
    output.sync_all()?;
    Ok(Delivered { path: copy, size, sha256, commit: None })
}
