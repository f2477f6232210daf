//! From a model's name to a running engine: resolve, pull if missing, read, pack, start.

pub(crate) mod encoder;
pub(crate) mod file;
pub(crate) mod ledger;
pub(crate) mod pilot;
pub(crate) mod serving;
pub(crate) mod task;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, ensure};
use bantam_engine::{
    Engine, EngineConfig, EngineParts, GenerateRequest, Generation, KvBudget, PAGE_TOKENS, Speculation,
};
use bantam_formats::{ChatInput, ChatTemplate, EncodeOptions, Gguf, Tokenizer};
use bantam_gateway::ServedModel;
use bantam_hub::{LocalModel, ModelRef, Store, Task, human_bytes};
use bantam_kernels::attention::KvType;
use bantam_kernels::{Cpu, CpuConfig, NUMERICS};
use bantam_models::{Model, ModelSummary};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::Globals;
use crate::cmd::pull;
use crate::progress;

/// How the engine runs; the same for every command that starts one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Threads that compute; 0, and the default, are all cores this process may use
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Longest sequence, prompt and answer together; at most, and by default, the model's own context
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Type of stored keys and values
    #[arg(long, value_enum, default_value = "f16", value_name = "TYPE")]
    kv: Kv,
    /// Memory for keys and values, in MiB [default: 1024; in bench: what its works need]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    kv_memory: Option<u64>,
    /// The same where it is not given
    #[arg(skip = KvBudget::Bytes(1 << 30))]
    pub(crate) default_kv: KvBudget,
    /// Most sequences computed together
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_sequences: usize,
    /// Prompt tokens computed per step beside running answers: small keeps streams smooth, large computes prompts faster
    #[arg(long, value_name = "N", default_value_t = 256)]
    prefill_chunk: usize,
    /// Draft the next tokens and verify several in one step: faster where an answer copies, never another answer
    /// [default: lookup; in bench: off]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) speculate: Option<Speculate>,
    /// Most requests that wait for a place in the batch
    #[arg(skip = 256usize)]
    pub(crate) queue: usize,
    /// System prompts to keep in memory
    #[arg(skip)]
    pub(crate) pins: Vec<String>,
}

/// Type of stored keys and values.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kv {
    /// 16-bit floats
    F16,
    /// Exactly what was computed, in twice the memory of f16
    F32,
    /// 8-bit integers: half the memory of f16, a little less exact
    I8,
}

/// Where drafts come from.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Speculate {
    /// From what followed the same text earlier, in prompt or answer
    Lookup,
    /// No drafts: one token a step
    Off,
}

impl EngineArgs {
    fn config(&self) -> EngineConfig {
        EngineConfig {
            queue_len: self.queue,
            max_sequences: self.max_sequences,
            kv_budget: match self.kv_memory {
                Some(mib) => KvBudget::Bytes(usize::try_from(mib << 20).unwrap_or(usize::MAX)),
                None => self.default_kv,
            },
            kv_type: match self.kv {
                Kv::F16 => KvType::F16,
                Kv::F32 => KvType::F32,
                Kv::I8 => KvType::I8,
            },
            context_length: self.ctx,
            prefill_chunk: self.prefill_chunk,
            speculation: match self.speculate {
                None | Some(Speculate::Lookup) => Speculation::Lookup,
                Some(Speculate::Off) => Speculation::Off,
            },
            ..EngineConfig::default()
        }
    }
}

/// A model that runs.
pub(crate) struct Loaded {
    /// What it is called on every surface.
    pub(crate) id: String,
    /// Family, size, quantisation and context in a few words.
    pub(crate) description: String,
    pub(crate) summary: ModelSummary,
    pub(crate) cpu: Cpu,
    pub(crate) engine: Engine,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<Arc<ChatTemplate>>,
    pub(crate) data_dir: PathBuf,
    created: u64,
    pub(crate) digest: Option<String>,
}

impl Loaded {
    /// Finds a model, pulls it if it is not here, and starts an engine on it.
    pub(crate) fn open(model: &str, args: &EngineArgs, globals: &Globals) -> anyhow::Result<Self> {
        let (store, local) = local(model, Task::Generate, globals)?;
        let gguf = open_gguf(&local.path)?;
        let tokenizer = Arc::new(read_tokenizer(&gguf, &local.path)?);
        let template = ChatTemplate::from_gguf(&gguf, &tokenizer)
            .with_context(|| format!("{}: the chat template cannot be used", local.path.display()))?
            .map(Arc::new);
        let cpu = Cpu::new(CpuConfig { n_threads: args.threads, isa: None })?;

        let bar = progress::loading(globals, &local.name);
        let decoder = Model::load_gguf_with(&cpu, &gguf, &mut |progress| {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.done_bytes);
        });
        bar.finish_and_clear();
        let decoder = decoder.with_context(|| format!("{} cannot be run", local.path.display()))?;
        let summary = decoder.summary();
        let description = describe(&summary, &cpu);
        drop(gguf);

        let mut config = args.config();
        for text in &args.pins {
            let template = template.as_ref().with_context(|| format!("--pin: {} has no chat template", local.name))?;
            let prompt = system_prefix(template, &tokenizer, text)?;
            // Whole pages are kept. Some templates put the system prompt into the last message: nothing is in common then.
            ensure!(
                prompt.len() >= PAGE_TOKENS,
                "--pin: chats with this system prompt have only their first {} tokens in common, and {PAGE_TOKENS} are \
                 the least that can be kept",
                prompt.len()
            );
            config.pinned_prompts.push(prompt);
        }
        let parts = EngineParts { model: Arc::new(decoder), tokenizer: Arc::clone(&tokenizer), cpu: cpu.clone() };
        let engine = Engine::start(parts, config).context("the engine cannot start")?;
        warm_up(&engine, globals)?;
        let context_length = engine.context_length();
        let wanted = args.ctx.unwrap_or(summary.context_length);
        let is_chosen = args.kv_memory.is_some() || matches!(args.default_kv, KvBudget::Bytes(_));
        if context_length < wanted && is_chosen && !globals.quiet {
            let limit = if context_length < summary.context_length { "--kv-memory holds" } else { "the model has" };
            eprintln!("note: the context is {context_length} tokens and not {wanted}: {limit} no more");
        }
        Ok(Loaded {
            id: served_id(&local),
            description,
            summary,
            cpu,
            engine,
            tokenizer,
            template,
            data_dir: store.root().to_owned(),
            created: modified(&local.path),
            digest: local.sha256.map(|digest| digest.to_string()),
        })
    }

    pub(crate) fn into_served(self) -> ServedModel {
        ServedModel {
            id: self.id,
            engine: self.engine,
            tokenizer: self.tokenizer,
            template: self.template,
            created: self.created,
            digest: self.digest,
            numerics: NUMERICS,
        }
    }
}

/// What all chats with this system prompt begin with, in tokens: what two of them have in common.
fn system_prefix(template: &ChatTemplate, tokenizer: &Tokenizer, system: &str) -> anyhow::Result<Vec<u32>> {
    let render = |user: &str| -> anyhow::Result<Vec<u32>> {
        // A file ends with a line break where a client's text does not.
        let system = json!({"role": "system", "content": system.trim_end_matches(['\r', '\n'])});
        let messages = [system, json!({"role": "user", "content": user})];
        let text = template.render(&ChatInput::new(&messages)).context("--pin: the model's chat template failed")?;
        Ok(tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true })?)
    };
    let (a, b) = (render("0")?, render("Z")?);
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    Ok(a[..common].to_vec())
}

/// Computes the pinned prompts, so that the first client does not wait for them.
fn warm_up(engine: &Engine, globals: &Globals) -> anyhow::Result<()> {
    for prompt in &engine.config().pinned_prompts {
        let n = prompt.len();
        let request = GenerateRequest { max_tokens: Some(1), ..GenerateRequest::new(prompt.clone()) };
        let pinned = engine.generate(request).map(Generation::blocking_collect);
        pinned.with_context(|| format!("--pin: a system prompt of {n} tokens"))?.context("--pin")?;
        if !globals.quiet {
            eprintln!("pinned a system prompt of {n} tokens");
        }
    }
    Ok(())
}

/// The tokenizer alone, for commands that compute nothing.
pub(crate) fn tokenizer(model: &str, globals: &Globals) -> anyhow::Result<Tokenizer> {
    let (_, local) = local(model, Task::Generate, globals)?;
    read_tokenizer(&open_gguf(&local.path)?, &local.path)
}

fn local(model: &str, task: Task, globals: &Globals) -> anyhow::Result<(Store, LocalModel)> {
    let reference = ModelRef::parse(model)?;
    let store = Store::open(globals.data_dir.as_deref())?;
    // Before a model is fetched for nothing.
    store.expect_task(&reference, task)?;
    let local = pull::fetch(&store, &reference, globals)?;
    Ok((store, local))
}

fn open_gguf(path: &Path) -> anyhow::Result<Gguf> {
    Gguf::open(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_tokenizer(gguf: &Gguf, path: &Path) -> anyhow::Result<Tokenizer> {
    Tokenizer::from_gguf(gguf).with_context(|| format!("{}: the tokenizer cannot be used", path.display()))
}

/// A path is served under its file's name, everything else under its own.
fn served_id(local: &LocalModel) -> String {
    match (&local.manifest, local.path.file_stem()) {
        (None, Some(stem)) => stem.to_string_lossy().into_owned(),
        _ => local.name.clone(),
    }
}

fn describe(summary: &ModelSummary, cpu: &Cpu) -> String {
    let formats: Vec<_> =
        summary.formats.iter().filter(|share| share.format != "F32").map(|share| &*share.format).collect();
    format!(
        "{} family, {:.0}M parameters in {}, {} of weights, context {}; {} threads, {}",
        summary.family,
        summary.n_parameters as f64 / 1e6,
        if formats.is_empty() { "F32".to_owned() } else { formats.join("/") },
        human_bytes(summary.n_bytes),
        summary.context_length,
        cpu.n_threads(),
        cpu.isa(),
    )
}

fn modified(path: &Path) -> u64 {
    let time = fs_err::metadata(path).and_then(|metadata| metadata.modified());
    time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}
