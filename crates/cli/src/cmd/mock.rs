//! `bantam mock`: a stand-in for an LLM server.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bantam_providers::mock::{BEHAVIOUR_HELP, Behaviour, Mock, MockConfig};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;

use crate::cli::Globals;
use crate::{interrupt, output};

const ABOUT: &str = "\
It speaks OpenAI chat, completions, embeddings and models and Anthropic messages, whole and
streamed. Its answers are recorded ones, or words drawn by seed. It is slow and faulty as --behave
says, or a request's header x-bantam-mock, or what follows + in its model's name, as in
\"model\": \"any+ttft=200,cut=5\".";

/// Arguments of `bantam mock`.
#[derive(Debug, Args)]
#[command(after_long_help = format!("{ABOUT}\n\nBehaviours, with commas between:\n\n{BEHAVIOUR_HELP}"))]
pub(crate) struct MockArgs {
    /// Address or name to listen on
    #[arg(long, value_name = "H", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 picks a free one and prints it
    #[arg(long, short, value_name = "P", default_value_t = 8081)]
    port: u16,
    /// How requests are answered that do not say it themselves, such as ttft=200~0.5,token=10,status=503,share=0.1
    #[arg(long, value_name = "BEHAVIOUR", default_value = "", hide_default_value = true)]
    behave: Behaviour,
    /// JSON lines with a prompt and an answer each; the last user message chooses
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Environment variable that has the key that requests must have [default: any key or none]
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// Of what is drawn: words, delays, which requests a fault meets
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Threads that serve
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    prompt: String,
    answer: String,
}

fn read_answers(path: &Path) -> anyhow::Result<HashMap<String, String>> {
    let mut answers = HashMap::new();
    for (i, line) in BufReader::new(fs_err::File::open(path)?).lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let recorded: Recorded = serde_json::from_str(&line)
            .with_context(|| format!("{} line {}: not {{\"prompt\": ..., \"answer\": ...}}", path.display(), i + 1))?;
        answers.insert(recorded.prompt, recorded.answer);
    }
    Ok(answers)
}

pub(crate) fn run(args: &MockArgs, globals: &Globals) -> anyhow::Result<()> {
    let key = match &args.key_env {
        Some(name) => Some(std::env::var(name).with_context(|| format!("--key-env: {name} is not set"))?),
        None => None,
    };
    let mut addresses = (args.host.as_str(), args.port)
        .to_socket_addrs()
        .with_context(|| format!("--host: {} is not known here", args.host))?;
    let config = MockConfig {
        address: addresses.next().with_context(|| format!("--host: {} has no address", args.host))?,
        behaviour: args.behave.clone(),
        recorded: args.answers.as_deref().map(read_answers).transpose()?.unwrap_or_default(),
        key,
        seed: args.seed,
        keep: 0,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(usize::from(args.threads))
        .thread_name("bantam-mock")
        .build()
        .context("cannot start the threads")?;
    let stop = Arc::new(Notify::new());
    let on_interrupt = Arc::clone(&stop);
    let _guard = interrupt::catch(move || on_interrupt.notify_one())?;
    runtime.block_on(async {
        let mock = Mock::start(config)
            .await
            .with_context(|| format!("cannot listen on {}:{}; choose another port or host", args.host, args.port))?;
        // The one line on standard output: scripts read the port from it.
        let url = format!("http://{}", mock.address());
        if globals.json {
            output::print_json(&json!({"event": "listening", "url": url}))?;
        } else {
            output::print(&format!("listening on {url}"))?;
        }
        if !globals.quiet {
            eprintln!("a stand-in without a model; OpenAI API: {url}/v1   Anthropic API: {url}   Ctrl-C stops");
        }
        stop.notified().await;
        if !globals.quiet {
            let stats = mock.stats();
            eprintln!(
                "{} requests on {} connections; {} answered, {} left by their clients",
                stats.requests, stats.connections, stats.answered, stats.disconnects
            );
        }
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    Ok(())
}
