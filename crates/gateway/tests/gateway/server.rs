//! Starting a gateway on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bantam_engine::{Embedder, EmbedderConfig, EmbedderParts, Engine, EngineConfig};
use bantam_formats::{ChatTemplate, Tokenizer};
use bantam_gateway::{
    ConfigFile, GatewayConfig, Listener, ServeError, Served, ServedEncoder, ServedModel, Setup, serve,
};
use bantam_kernels::{Cpu, CpuConfig};
use bantam_ledger::Ledger;
use bantam_models::{Encoder, Precision};
use bantam_tasks::Runner;
use bantam_tasks::model::{EncoderModel, LocalModel};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::toy::{Toy, template, tokenizer};

/// The model most tests talk to.
pub(crate) const MODEL: &str = "toy";
/// The same model without a chat template; its id needs escaping in a URL.
pub(crate) const BASE_MODEL: &str = "hf:org/toy base";

/// A real encoder, tiny and random.
pub(crate) const ENCODER: &str = "tiny-bert";

/// What a test wants different from the defaults.
pub(crate) struct Options {
    pub(crate) gateway: GatewayConfig,
    pub(crate) engine: EngineConfig,
    pub(crate) context_length: usize,
    pub(crate) step_time: Duration,
    pub(crate) habit: &'static str,
    pub(crate) template: fn() -> ChatTemplate,
    /// Binds tasks to the toy and the encoder.
    pub(crate) tasks: fn(&LocalModel, &EncoderModel) -> Vec<Runner>,
    /// Routes, providers, policy.
    pub(crate) file: ConfigFile,
    pub(crate) ledger: Option<Ledger>,
}

impl Default for Options {
    fn default() -> Self {
        let gateway = GatewayConfig { port: 0, ..GatewayConfig::default() };
        Self {
            gateway,
            engine: EngineConfig::default(),
            context_length: 512,
            step_time: Duration::ZERO,
            habit: "",
            template,
            tasks: |_, _| Vec::new(),
            file: ConfigFile::default(),
            ledger: None,
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    /// Takes another configuration into use.
    pub(crate) reload: mpsc::Sender<ConfigFile>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<(), ServeError>>>,
}

pub(crate) async fn start() -> Server {
    start_with(Options::default()).await
}

pub(crate) async fn start_with(options: Options) -> Server {
    let tokenizer = Arc::new(tokenizer());
    let mut toy = Toy::new(Arc::clone(&tokenizer), options.context_length, options.step_time);
    toy.habit = options.habit;
    let engine = Engine::with_backend(Box::new(toy), options.engine).unwrap();
    let model = |id: &str, template: Option<ChatTemplate>| ServedModel {
        id: id.into(),
        engine: engine.clone(),
        tokenizer: Arc::clone(&tokenizer),
        template: template.map(Arc::new),
        created: 1_700_000_000,
        digest: Some("0123456789abcdef0123456789abcdef".into()),
        numerics: 1,
    };
    let encoder = encoder();
    let local = LocalModel {
        id: MODEL.into(),
        fingerprint: "toy-1".into(),
        engine: engine.clone(),
        tokenizer: Arc::clone(&tokenizer),
        template: Some(Arc::new((options.template)())),
    };
    let of = EncoderModel {
        id: ENCODER.into(),
        fingerprint: "tiny-bert-1".into(),
        embedder: encoder.embedder.clone(),
        threads: 1,
    };
    let tasks = tokio::task::spawn_blocking(move || (options.tasks)(&local, &of)).await.unwrap();
    let models = vec![model(MODEL, Some((options.template)())), model(BASE_MODEL, None)];
    let served = Served { models, encoders: vec![encoder], tasks };
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = Listener::bind(options.gateway).await.unwrap();
    let address = listener.address();
    let (reload, reloads) = mpsc::channel(1);
    let setup = Setup { served, file: options.file, ledger: options.ledger, reloads, spans: None };
    let serving = serve(listener, setup, async move {
        let _ = stopped.await;
    });
    let task = tokio::spawn(serving);
    Server { address, engine, reload, stop: Some(stop), task: Some(task) }
}

pub(crate) fn encoder() -> ServedEncoder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/bert");
    let cpu = Cpu::new(CpuConfig { n_threads: 1, isa: None }).unwrap();
    let tokenizer = Tokenizer::from_hf_json(&std::fs::read(dir.join("tokenizer.json")).unwrap()).unwrap();
    let encoder = Encoder::load(&cpu, &dir, Precision::Float, &mut |_| {}).unwrap();
    let parts = EmbedderParts { encoder: Arc::new(encoder), tokenizer: Arc::new(tokenizer), cpu };
    ServedEncoder {
        id: ENCODER.into(),
        embedder: Embedder::start(parts, EmbedderConfig::default()).unwrap(),
        created: 1_700_000_000,
        digest: None,
        numerics: 1,
    }
}

impl Server {
    /// A client with a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Waits until the engine has nothing to do, and fails if that takes long.
    pub(crate) async fn idle(&self) {
        self.wait("idle engine", || {
            let stats = self.engine.stats();
            stats.running == 0 && stats.waiting == 0
        })
        .await;
    }

    /// Waits until a condition holds.
    pub(crate) async fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        for _ in 0..1000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain for: {what}; {:?}", self.engine.stats());
    }

    /// Asks for shutdown without waiting for it.
    pub(crate) fn begin_shutdown(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end of the server.
    pub(crate) async fn ended(mut self) {
        let task = self.task.take().unwrap();
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("the server did not end").unwrap().unwrap();
    }
}
