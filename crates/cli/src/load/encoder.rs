//! From an encoder's name to a running embedder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bantam_engine::{Embedder, EmbedderConfig, EmbedderParts};
use bantam_formats::Tokenizer;
use bantam_gateway::ServedEncoder;
use bantam_hub::{HubError, ModelRef, Store, Task};
use bantam_kernels::{Cpu, CpuConfig, NUMERICS};
use bantam_models::{Encoder, Precision};
use clap::{Args, ValueEnum};

use crate::cli::Globals;
use crate::progress;

/// What computes vectors when no encoder is named.
pub(crate) const DEFAULT_ENCODER: &str = "all-minilm-l6-v2";

/// How an encoder runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EncoderArgs {
    /// Threads that compute; 0, and the default, are all cores this process may use
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Type of the encoder's weights in memory
    #[arg(long, value_enum, default_value = "int8", value_name = "TYPE")]
    pub(crate) precision: PrecisionArg,
}

/// Type of an encoder's weights in memory.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// 8-bit integers: faster, and within a cosine of 0.999 of the floats
    #[default]
    Int8,
    /// As they are in the file
    Float,
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Self {
        match arg {
            PrecisionArg::Int8 => Precision::Int8,
            PrecisionArg::Float => Precision::Float,
        }
    }
}

/// An encoder that runs.
pub(crate) struct LoadedEncoder {
    /// What it is called on every surface.
    pub(crate) id: String,
    /// Size and precision in a few words.
    pub(crate) description: String,
    pub(crate) embedder: Embedder,
    /// `int8` or `float`.
    pub(crate) precision: &'static str,
    pub(crate) threads: usize,
    created: u64,
    pub(crate) digest: Option<String>,
}

/// Finds an encoder, pulls it if it is not here, and starts an embedder on it.
pub(crate) fn encoder(model: &str, args: &EncoderArgs, globals: &Globals) -> anyhow::Result<LoadedEncoder> {
    let cpu = Cpu::new(CpuConfig { n_threads: args.threads, isa: None })?;
    let (_, local) = super::local(model, Task::Embed, globals)?;
    let dir = directory(&local.path);
    let json = fs_err::read(dir.join("tokenizer.json"))?;
    let tokenizer = Tokenizer::from_hf_json(&json)
        .with_context(|| format!("{}: the tokenizer cannot be used", dir.join("tokenizer.json").display()))?;
    let bar = progress::loading(globals, &local.name);
    let encoder = Encoder::load(&cpu, &dir, args.precision.into(), &mut |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    });
    bar.finish_and_clear();
    let encoder = encoder.with_context(|| format!("{} cannot be run", dir.display()))?;
    let precision = match args.precision {
        PrecisionArg::Int8 => "int8",
        PrecisionArg::Float => "float",
    };
    let threads = cpu.n_threads();
    let spec = encoder.spec();
    let description = format!(
        "encoder of {} layers, {} dimensions, {}, context {}; {} threads, {}",
        spec.n_layers,
        spec.hidden_size,
        precision,
        spec.context_length,
        cpu.n_threads(),
        cpu.isa(),
    );
    let parts = EmbedderParts { encoder: Arc::new(encoder), tokenizer: Arc::new(tokenizer), cpu };
    let embedder = Embedder::start(parts, EmbedderConfig::default()).context("the embedder cannot start")?;
    Ok(LoadedEncoder {
        id: match &local.manifest {
            None => dir.file_name().map_or_else(|| local.name.clone(), |name| name.to_string_lossy().into_owned()),
            Some(_) => local.name.clone(),
        },
        description,
        embedder,
        precision,
        threads,
        created: super::modified(&local.path),
        digest: local.sha256.map(|digest| digest.to_string()),
    })
}

impl LoadedEncoder {
    pub(crate) fn into_served(self) -> ServedEncoder {
        let LoadedEncoder { id, embedder, created, digest, .. } = self;
        ServedEncoder { id, embedder, created, digest, numerics: NUMERICS }
    }
}

/// Whether a model is an encoder.
pub(crate) fn is_encoder(model: &str, globals: &Globals) -> anyhow::Result<bool> {
    let reference = ModelRef::parse(model)?;
    if let ModelRef::Path(path) = &reference {
        return Ok(path.is_dir() || path.extension().is_some_and(|extension| extension == "safetensors"));
    }
    let store = Store::open(globals.data_dir.as_deref())?;
    Ok(matches!(store.expect_task(&reference, Task::Generate), Err(HubError::WrongTask { .. })))
}

/// The directory of an encoder, from its own path or that of its weights.
fn directory(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().map_or_else(PathBuf::new, Path::to_owned) }
}
