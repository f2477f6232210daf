//! `bantam serve`: models behind the OpenAI API.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bantam_gateway::{GatewayConfig, Listener};
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

/// Arguments of `bantam serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Model to serve: catalogue name, path of a .gguf file or of an encoder's directory, or hf:org/repo/file.gguf; may be
    /// given several times [default: smollm2-135m-instruct, or with --tasks none but theirs]
    #[arg(long = "model", short, value_name = "NAME|PATH")]
    models: Vec<String>,
    /// Directory of task files to serve under /v1/tasks; the models that they name are served, too
    #[arg(long, value_name = "DIR")]
    tasks: Option<PathBuf>,
    /// Address or name to listen on
    #[arg(long, value_name = "H", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 picks a free one and prints it
    #[arg(long, short, value_name = "P", default_value_t = 8080)]
    port: u16,
    /// Origin whose web pages may call the API, such as https://app.example; * is any; may be given several times
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
    /// Further host name under which clients address this server; may be given several times
    #[arg(long = "allowed-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Most requests that wait for a place in the batch; the next one gets 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    /// Most bytes of a request body, in MiB; a longer one gets 413
    #[arg(long, value_name = "MIB", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_body: u32,
    /// Most seconds that one request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// How many seconds running requests may go on after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
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
    let mut config = GatewayConfig {
        host: args.host.clone(),
        port: args.port,
        cors_origins: args.cors_origins.clone(),
        allowed_hosts: args.allowed_hosts.clone(),
        ..GatewayConfig::default()
    };
    config.limits.body_bytes = args.max_body as usize * (1 << 20);
    config.limits.buffered_bytes = config.limits.buffered_bytes.max(config.limits.body_bytes);
    config.limits.concurrent_requests = config.limits.concurrent_requests.max(args.queue);
    config.timeouts.request = Duration::from_secs(args.timeout);
    config.timeouts.drain = Duration::from_secs(args.drain);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .thread_name("bantam-http")
        .build()
        .context("cannot start the HTTP threads")?;
    // A port that is taken shows before a model is pulled and loaded.
    let listener = runtime.block_on(Listener::bind(config))?;

    let mut engine = args.engine.clone();
    engine.queue = args.queue;
    engine.pins = args.pins.iter().map(fs_err::read_to_string).collect::<Result<_, _>>()?;
    let mut serving = Serving::new(engine, args.precision, globals);
    for model in &args.models {
        serving.model(model)?;
    }
    match &args.tasks {
        Some(dir) => serving.tasks(dir)?,
        None if args.models.is_empty() => {
            serving.model(DEFAULT_MODEL)?;
        }
        None => {}
    }
    let (served, engines) = serving.into_parts();

    let (stop, stopped) = tokio::sync::watch::channel(0u32);
    let stop = Arc::new(stop);
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
        }
        let shutdown = async move {
            let mut stopped = stopped;
            let _ = stopped.wait_for(|&n| n > 0).await;
        };
        // The one line on standard output: scripts read the port from it.
        let url = format!("http://{}", listener.address());
        if globals.json {
            output::print_json(&json!({"event": "listening", "url": url}))?;
        } else {
            output::print(&format!("listening on {url}"))?;
        }
        if !globals.quiet {
            eprintln!("chat page: {url}/   OpenAI API: {url}/v1   Ctrl-C stops");
        }
        bantam_gateway::serve(listener, served, shutdown).await?;
        anyhow::Ok(())
    })?;
    for engine in engines {
        engine.shutdown(Duration::ZERO);
        engine.join();
    }
    // A thread that still waits for a task's server is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// The first request to stop drains, the second ends the program at once.
fn request_stop(stop: &tokio::sync::watch::Sender<u32>) {
    stop.send_modify(|n| *n += 1);
    if *stop.borrow() > 1 {
        std::process::exit(interrupt::EXIT_CODE);
    }
    eprintln!("stopping when the running requests have finished; once more stops at once");
}
