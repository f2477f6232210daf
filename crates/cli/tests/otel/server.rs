//! `bantam serve` with routes to a mock and nothing else.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bantam_providers::mock::{Mock, MockConfig};
use tempfile::TempDir;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A mock that answers `QUESTION`.
pub(crate) async fn mock() -> Mock {
    let recorded = [(QUESTION.to_owned(), ANSWER.to_owned())].into();
    Mock::start(MockConfig { recorded, keep: 100, ..MockConfig::default() }).await.unwrap()
}

pub(crate) const QUESTION: &str = "What does the heron eat?";
pub(crate) const ANSWER: &str = "Mostly frogs, says the heron.";

/// A command that serves routes to a mock, with these variables.
pub(crate) fn serve(mock: &Mock, variables: &[(&str, &str)]) -> (Command, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bantam.toml");
    let base = mock.base_url();
    let text = format!(
        r#"
        [[providers]]
        name = "there"
        preset = "mistral"
        base_url = "{base}/v1"
        [[routes]]
        name = "big"
        targets = [{{ provider = "there", model = "m" }}]
        [[routes]]
        name = "shaky"
        targets = [{{ provider = "there", model = "m+status=503,first=1" }}]
        "#
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bantam"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "BANTAM_LOG"] {
        command.env_remove(name);
    }
    command.args(["serve", "--port", "0", "--ledger", "none", "--quiet", "--config"]).arg(config);
    command.env("BANTAM_DATA_DIR", dir.path()).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (command, dir)
}

/// A running server; ended when dropped.
pub(crate) struct Server {
    child: Child,
    // Kept open: the server may print.
    _stdout: BufReader<ChildStdout>,
    #[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "nothing is asked of a server without traces"))]
    pub(crate) url: String,
    _dir: TempDir,
}

impl Server {
    pub(crate) fn start((mut command, dir): (Command, TempDir)) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("printed {line:?}")).to_owned();
        Self { child, _stdout: stdout, url, _dir: dir }
    }

    /// Asks it to end, and waits; gives what it wrote to its log.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let until = Instant::now() + LONG;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < until, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status, log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
