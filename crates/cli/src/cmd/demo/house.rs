//! What a demonstration runs on: a local model and recorded answers behind the real gateway.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bantam_engine::Engine;
use bantam_evals::routing::Question;
use bantam_gateway::{ConfigFile, Listener, Served, Setup};
use bantam_ledger::query::Filter;
use bantam_ledger::{Ledger, LedgerConfig, RequestEntry, Timestamp};
use bantam_providers::mock::{Behaviour, Mock, MockConfig};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::load::Loaded;

/// The model whose answers are recorded.
pub(super) const LARGE: &str = "gpt-4-1106-preview";

/// How a hosted model behaves: milliseconds to the first token, drawn log-normally, and between two tokens.
const TTFT_MS: f64 = 600.0;
const TTFT_SIGMA: f64 = 0.4;
const TOKEN_MS: f64 = 15.0;

/// How to set up a house.
pub(super) struct HouseConfig<'a> {
    pub(super) port: u16,
    pub(super) ledger: &'a Path,
    /// How many times faster than life the recorded model answers.
    pub(super) speed: f64,
    pub(super) seed: u64,
}

/// A gateway with a ledger, a model behind it, and a stand-in for a hosted one.
pub(super) struct House {
    runtime: Runtime,
    mock: Mock,
    ledger: Ledger,
    small: String,
    reload: mpsc::Sender<ConfigFile>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), bantam_gateway::ServeError>>,
    engine: Engine,
    since: Timestamp,
    pub(super) url: String,
}

impl House {
    /// Starts everything. All answers of the small model stand until [`House::trust`] says otherwise.
    pub(super) fn start(model: Loaded, questions: &[Question], config: &HouseConfig<'_>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .thread_name("bantam-http")
            .build()
            .context("cannot start the HTTP threads")?;
        let recorded: HashMap<_, _> = questions.iter().map(|q| (q.question.clone(), q.answer.clone())).collect();
        let mock =
            MockConfig { behaviour: hosted(config.speed)?, recorded, seed: config.seed, ..MockConfig::default() };
        let mock = runtime.block_on(Mock::start(mock)).context("the recorded answers cannot be served")?;
        let (small, engine) = (model.id.clone(), model.engine.clone());
        let file = configuration(&small, &mock.base_url(), Some(0.0))?;
        let mut gateway = file.server.gateway();
        gateway.port = config.port;
        let listener = runtime.block_on(Listener::bind(gateway))?;
        let ledger = runtime.block_on(Ledger::open(LedgerConfig::sqlite(config.ledger)));
        let ledger = ledger.context("the ledger cannot be opened")?;
        let (reload, reloads) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        let url = format!("http://{}", listener.address());
        let served = Served { models: vec![model.into_served()], ..Served::default() };
        let setup = Setup { served, file, ledger: Some(ledger.clone()), reloads, spans: None };
        let serving = runtime.spawn(bantam_gateway::serve(listener, setup, async move {
            let _ = stopped.await;
        }));
        Ok(Self { runtime, mock, ledger, small, reload, stop, serving, engine, since: Timestamp::now(), url })
    }

    /// The name of the small model.
    pub(super) fn small(&self) -> &str {
        &self.small
    }

    /// From now on answers of the small model stand from this confidence on; without one, everything goes to the large model.
    pub(super) fn trust(&self, confidence: Option<f64>) -> anyhow::Result<()> {
        let file = configuration(&self.small, &self.mock.base_url(), confidence)?;
        self.runtime.block_on(async {
            // One waits in the channel: that there is room for the third says that the first is in use.
            for file in [file.clone(), file.clone(), file] {
                self.reload.send(file).await.context("the gateway has ended")?;
            }
            Ok(())
        })
    }

    /// The large model answers at once from now on.
    pub(super) fn hurry(&self) {
        self.mock.set_behaviour(Behaviour::default());
    }

    /// Every request since the start, by its id.
    pub(super) fn entries(&self) -> anyhow::Result<HashMap<String, RequestEntry>> {
        let filter = Filter { from: Some(self.since), ..Filter::default() };
        let mut entries = HashMap::new();
        let reading = self.ledger.reading();
        let scan = reading.scan(&filter, |recorded| {
            entries.insert(recorded.id.to_string(), recorded.entry);
        });
        self.runtime.block_on(scan).context("the ledger cannot be read")?;
        Ok(entries)
    }

    /// Ends everything in order.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        self.runtime.block_on(self.serving).context("the gateway failed")??;
        self.engine.shutdown(Duration::ZERO);
        self.engine.join();
        self.runtime.block_on(self.ledger.close()).context("the ledger did not take its last entries")?;
        Ok(())
    }
}

fn hosted(speed: f64) -> anyhow::Result<Behaviour> {
    let behaviour = format!("ttft={}~{TTFT_SIGMA},token={}", TTFT_MS / speed, TOKEN_MS / speed);
    Ok(behaviour.parse()?)
}

/// The `bantam.toml` of the house.
fn configuration(small: &str, base_url: &str, cascade: Option<f64>) -> anyhow::Result<ConfigFile> {
    let small = toml::Value::from(small);
    let cascade = cascade.map(|least| format!("cascade = {least:?}")).unwrap_or_default();
    let text = format!(
        r#"
        [keys]
        required = false

        [[providers]]
        name = "recorded"
        preset = "openai"
        base_url = "{base_url}"

        [[routes]]
        name = "{LARGE}"
        targets = [{{ provider = "recorded", model = "{LARGE}" }}]

        [auto]
        small = {small}
        large = "{LARGE}"
        {cascade}
        "#
    );
    ConfigFile::parse(&text, Path::new("demo.toml")).context("the demonstration's own configuration is refused")
}
