//! Databases to test on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bantam_ledger::{Begin, CheckpointEvery, Estimate, Ledger, LedgerConfig, Outcome, Store, Timestamp, TokenCounts};
use bantam_types::NanoDollars;
use sqlx::Connection as _;
use tempfile::TempDir;
use uuid::Uuid;

/// A ledger's place, removed with it.
pub(crate) struct Place {
    pub(crate) config: LedgerConfig,
    _dir: TempDir,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = LedgerConfig::sqlite(&dir.path().join("ledger.db"));
        Self { config: LedgerConfig { checkpoint: seldom(), ..config }, _dir: dir }
    }

    /// A database of its own in the cluster of this test run, or nothing where Postgres is not installed.
    pub(crate) fn postgres() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let cluster = cluster()?;
        let dir = tempfile::tempdir().unwrap();
        let name = format!("ledger{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let made = cluster.tool("createdb").args(["-h", cluster.socket(), "-U", "bantam", &name]).status().unwrap();
        assert!(made.success(), "createdb {name}");
        let url = format!("postgres://bantam@localhost/{name}?host={}", cluster.socket().replace('/', "%2F"));
        let config = LedgerConfig::postgres(&url, &dir.path().join("ledger.key"));
        Some(Self { config: LedgerConfig { checkpoint: seldom(), ..config }, _dir: dir })
    }

    /// Both databases, or the one there is.
    pub(crate) fn each() -> Vec<Self> {
        [Some(Self::sqlite()), Self::postgres()].into_iter().flatten().collect()
    }

    pub(crate) async fn open(&self) -> Ledger {
        Ledger::open(self.config.clone()).await.unwrap()
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.config.store, Store::Sqlite { .. })
    }

    /// Runs a statement past the ledger, as somebody who alters it would.
    pub(crate) async fn alter(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let done = match &self.config.store {
            Store::Sqlite { path, .. } => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
                let done = sqlx::raw_sql(sql).execute(&mut connection).await.map(|_| ());
                connection.close().await.unwrap();
                done
            }
            Store::Postgres { url } => {
                let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.map(|_| ())
            }
        };
        done.unwrap();
    }
}

/// Checkpoints only where a test asks for one.
fn seldom() -> CheckpointEvery {
    CheckpointEvery { entries: u64::MAX, time: Duration::from_secs(3600) }
}

/// A Postgres cluster for this run of the tests.
pub(crate) struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
}

impl Cluster {
    fn socket(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    pub(crate) fn tool(&self, name: &str) -> Command {
        as_postgres(&self.bin.join(name))
    }
}

/// `initdb` and `postgres` refuse to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = match is_root() {
        true => {
            let mut su = Command::new("setpriv");
            su.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            su
        }
        false => Command::new(program),
    };
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    let out = Command::new("id").arg("-u").output().unwrap();
    out.stdout.trim_ascii() == b"0"
}

fn programs() -> Option<PathBuf> {
    let whole = |dir: &PathBuf| ["initdb", "pg_ctl", "createdb", "psql"].iter().all(|tool| dir.join(tool).is_file());
    let debian =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|dir| dir.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.filter(whole).max().or_else(|| std::env::split_paths(&path).find(whole))
}

/// The cluster, started by the first test that asks; it stops itself when this process is gone.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            let Some(bin) = programs() else {
                eprintln!("\n*** Postgres is not installed: its half of the tests is SKIPPED (apt-get install postgresql) ***\n");
                return None;
            };
            let dir = tempfile::Builder::new().prefix("bantam-pg").tempdir().unwrap().keep();
            if is_root() {
                assert!(Command::new("chown").arg("postgres").arg(&dir).status().unwrap().success());
            }
            let cluster = Cluster { bin, dir };
            let data = cluster.dir.join("data");
            let mut init = cluster.tool("initdb");
            init.args(["-U", "bantam", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
            assert!(init.stdout(Stdio::null()).status().unwrap().success(), "initdb");
            let options = format!("-c listen_addresses= -c unix_socket_directories={} -c fsync=off", cluster.socket());
            let mut start = cluster.tool("pg_ctl");
            start.args(["-D"]).arg(&data).args(["-w", "start", "-o", &options, "-l"]).arg(cluster.dir.join("log"));
            assert!(start.stdout(Stdio::null()).status().unwrap().success(), "pg_ctl start");
            stop_with_this_process(&cluster);
            Some(cluster)
        })
        .as_ref()
}

/// Tests have no end of their own to stop a server in, and nobody to wait for who does it.
#[allow(clippy::zombie_processes)]
fn stop_with_this_process(cluster: &Cluster) {
    let stop = cluster.tool("pg_ctl");
    let stop: Vec<_> =
        std::iter::once(stop.get_program()).chain(stop.get_args()).map(|word| word.to_string_lossy()).collect();
    let watch = format!(
        "while kill -0 {} 2>/dev/null; do sleep 0.5; done; cd /; {} -D {dir}/data -m immediate stop; rm -rf {dir}",
        std::process::id(),
        stop.join(" "),
        dir = cluster.dir.display(),
    );
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &watch]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().unwrap();
}

/// A request of 100 tokens that may cost `nanos`.
pub(crate) fn begin(nanos: i64) -> Begin {
    Begin {
        request: Uuid::now_v7(),
        at: Timestamp::now(),
        key: None,
        surface: "chat".into(),
        route: Some("default".into()),
        model: "auto".into(),
        subject: None,
        estimate: Estimate { cost: NanoDollars(nanos), tokens: 100 },
    }
}

/// An answer of 60 tokens that cost `nanos`.
pub(crate) fn outcome(nanos: i64) -> Outcome {
    Outcome {
        status: 200,
        decision: serde_json::json!({ "rule": "cheap", "p_small": "0.93" }),
        provider: Some("local".into()),
        model: Some("smollm2".into()),
        tokens: TokenCounts { input: 40, output: 20, ..TokenCounts::default() },
        latency: Duration::from_millis(12),
        cost: NanoDollars(nanos),
        counterfactual: Some(NanoDollars(10 * nanos)),
        stop: Some("stop".into()),
        ..Outcome::default()
    }
}
