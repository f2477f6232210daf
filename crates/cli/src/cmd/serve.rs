//! `bantam serve`: models here and elsewhere behind the APIs of OpenAI and Anthropic.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bantam_gateway::{ConfigFile, Gateway, Listener, ModelTable, Setup};
use bantam_hub::Store;
use bantam_ledger::{Ledger, LedgerConfig};
use clap::{Args, ValueEnum};
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::cli::Globals;
use crate::load::EngineArgs;
use crate::load::encoder::PrecisionArg;
use crate::load::serving::Serving;
use crate::{interrupt, output};

/// What `bantam serve` serves when no model is named.
const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// How long the last traces may take when the server ends.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Arguments of `bantam serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file: providers, routes, keys, policy, budgets (see `bantam config example`); read again on SIGHUP. Flags go
    /// before what it says
    #[arg(long, value_name = "FILE", env = "BANTAM_CONFIG")]
    config: Option<PathBuf>,
    /// Where requests are put on record: a SQLite file, or none [default: ledger.db in the data directory]
    #[arg(long, value_name = "FILE|none")]
    ledger: Option<PathBuf>,
    /// Model to serve: catalogue name, path of a .gguf file or of an encoder's directory, or hf:org/repo/file.gguf; may be
    /// given several times [default: what the configuration and --tasks name, or else smollm2-135m-instruct]
    #[arg(long = "model", short, value_name = "NAME|PATH")]
    models: Vec<String>,
    /// Directory of task files to serve under /v1/tasks; the models that they name are served, too
    #[arg(long, value_name = "DIR")]
    tasks: Option<PathBuf>,
    /// Address or name to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "H")]
    host: Option<String>,
    /// Port to listen on; 0 picks a free one and prints it [default: 8080]
    #[arg(long, short, value_name = "P")]
    port: Option<u16>,
    /// Origin whose web pages may call the API, such as https://app.example; * is any; may be given several times
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
    /// Further host name under which clients address this server; may be given several times
    #[arg(long = "allowed-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Most requests that wait for a place in the batch; the next one gets 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    /// Most bytes of a request body, in MiB; a longer one gets 413 [default: 4]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_body: Option<u32>,
    /// Most seconds that one request may take [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// How many seconds running requests may go on after SIGTERM or Ctrl-C [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
    /// Text of a system prompt whose computed pages are kept for good, so that no other traffic pushes it out of memory;
    /// may be given several times
    #[arg(long = "pin", value_name = "FILE")]
    pins: Vec<PathBuf>,
    /// How log lines are written to standard error; BANTAM_LOG says which (such as warn, or bantam_gateway=debug)
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// Type of encoders' weights in memory
    #[arg(long, value_enum, default_value = "int8", value_name = "TYPE", help_heading = "Engine")]
    precision: PrecisionArg,
    #[command(flatten)]
    engine: EngineArgs,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

fn init_log(format: LogFormat, globals: &Globals) -> anyhow::Result<()> {
    let default = if globals.quiet { "warn" } else { "info" };
    let filter = std::env::var("BANTAM_LOG").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&filter).with_context(|| format!("BANTAM_LOG: {filter:?} is not a log filter"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

pub(crate) fn run(args: &ServeArgs, globals: &Globals) -> anyhow::Result<()> {
    init_log(args.log_format, globals)?;
    // Whoever reads JSON reads nothing else.
    let globals = &Globals { quiet: globals.quiet || matches!(args.log_format, LogFormat::Json), ..globals.clone() };
    let file = configuration(args)?;
    let mut config = file.server.gateway();
    config.limits.concurrent_requests = config.limits.concurrent_requests.max(args.queue);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .thread_name("bantam-http")
        .build()
        .context("cannot start the HTTP threads")?;
    let spans = {
        let _inside = runtime.enter();
        bantam_gateway::telemetry::from_env()?
    };
    // A port that is taken shows before a model is pulled and loaded.
    let listener = runtime.block_on(Listener::bind(config))?;
    // From here on it asks for the configuration to be read again, and no longer ends the program; what comes early waits.
    #[cfg(unix)]
    let mut hangup = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?
    };
    // So does a ledger that another process holds.
    let ledger = match serving_ledger(&file, globals)? {
        Some(config) => Some(runtime.block_on(Ledger::open(config)).context("the ledger cannot be opened")?),
        None => None,
    };

    let mut engine = args.engine.clone();
    engine.queue = args.queue;
    engine.pins = args.pins.iter().map(fs_err::read_to_string).collect::<Result<_, _>>()?;
    let mut serving = Serving::new(engine, args.precision, globals);
    for model in &file.models {
        serving.named(&model.source, model.name.as_deref())?;
    }
    if let Some(auto) = file.auto.as_ref().filter(|auto| auto.router.is_some()) {
        serving.model(&auto.encoder)?;
    }
    match &file.server.tasks {
        Some(dir) => serving.tasks(dir)?,
        None if file.models.is_empty() && file.routes.is_empty() => {
            serving.model(DEFAULT_MODEL)?;
        }
        None => {}
    }
    let (served, engines) = serving.into_parts();
    let address = listener.address();

    let (stop, stopped) = tokio::sync::watch::channel(0u32);
    let stop = Arc::new(stop);
    let (reload, reloads) = tokio::sync::mpsc::channel(1);
    let on_interrupt = Arc::clone(&stop);
    let _guard = interrupt::catch(move || request_stop(&on_interrupt))?;
    runtime.block_on(async {
        #[cfg(unix)]
        {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::spawn(async move {
                while terminate.recv().await.is_some() {
                    request_stop(&stop);
                }
            });
            let args = args.clone();
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    match configuration(&args) {
                        Ok(file) => drop(reload.send(file).await),
                        Err(error) => {
                            tracing::error!(
                                error = format!("{error:#}"),
                                "the configuration cannot be used; the one before stays"
                            );
                        }
                    }
                }
            });
        }
        let shutdown = async move {
            let mut stopped = stopped;
            let _ = stopped.wait_for(|&n| n > 0).await;
        };
        let setup = Setup { served, file, ledger: ledger.clone(), reloads, spans: spans.clone() };
        let gateway = Gateway::new(listener, setup)?;
        // The one line on standard output: scripts read the port from it.
        let url = format!("http://{address}");
        if globals.json {
            output::print_json(&json!({"event": "listening", "url": url}))?;
        } else {
            output::print(&format!("listening on {url}"))?;
        }
        if !globals.quiet {
            eprintln!("chat page: {url}/   dashboard: {url}/dashboard   OpenAI API: {url}/v1   Ctrl-C stops");
        }
        gateway.run(shutdown).await;
        anyhow::Ok(())
    })?;
    for engine in engines {
        engine.shutdown(Duration::ZERO);
        engine.join();
    }
    if let Some(ledger) = ledger {
        runtime.block_on(ledger.close()).context("the ledger did not take its last entries")?;
    }
    if let Some(spans) = spans {
        spans.shutdown(LAST_SPANS);
    }
    // A thread that still waits for a task's server is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// What the file says, under what the flags say.
fn configuration(args: &ServeArgs) -> anyhow::Result<ConfigFile> {
    let mut file = args.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
    let server = &mut file.server;
    if let Some(host) = &args.host {
        server.host.clone_from(host);
    }
    server.port = args.port.unwrap_or(server.port);
    server.cors_origins.extend_from_slice(&args.cors_origins);
    server.allowed_hosts.extend_from_slice(&args.allowed_hosts);
    server.max_body_mib = args.max_body.unwrap_or(server.max_body_mib);
    server.timeout_s = args.timeout.unwrap_or(server.timeout_s);
    server.drain_s = args.drain.unwrap_or(server.drain_s);
    if args.tasks.is_some() {
        server.tasks.clone_from(&args.tasks);
    }
    match &args.ledger {
        Some(path) if path.as_os_str() == "none" => file.ledger.enabled = false,
        Some(path) => {
            file.ledger.path = Some(path.clone());
            file.ledger.postgres = None;
        }
        None => {}
    }
    file.models.extend(args.models.iter().map(|source| ModelTable { name: None, source: source.clone() }));
    Ok(file)
}

/// Where the ledger is and how it is kept, if there is one.
fn serving_ledger(file: &ConfigFile, globals: &Globals) -> anyhow::Result<Option<LedgerConfig>> {
    let store = Store::open(globals.data_dir.as_deref())?;
    Ok(file.ledger_config(&store.root().join("ledger.db"))?)
}

/// The first request to stop drains, the second ends the program at once.
fn request_stop(stop: &tokio::sync::watch::Sender<u32>) {
    stop.send_modify(|n| *n += 1);
    if *stop.borrow() > 1 {
        std::process::exit(interrupt::EXIT_CODE);
    }
    eprintln!("stopping when the running requests have finished; once more stops at once");
}
