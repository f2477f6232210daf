//! A file on this machine or on a mounted share, copied so that the store never changes under a running model.

use std::path::Path;

use super::{Delivered, Job, check_space};
use crate::digest::{Hasher, pump};
use crate::error::SourceError;

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
    let copy = job.scratch.join("copy");
    let mut output = fs_err::File::create(&copy)?;
    let mut hasher = Hasher::default();
    let mut meter = job.meter(size);
    pump(&mut input, Some(&mut output), &mut hasher, |done| {
        meter.update(done);
        job.options.cancel.check()
    })?;
    meter.send(hasher.n_bytes());
    let size = hasher.n_bytes();
    let sha256 = hasher.finish();
    job.expected.check_size(size)?;
    job.expected.check_digest(sha256)?;
    output.sync_all()?;
    Ok(Delivered { path: copy, size, sha256, commit: None })
}
