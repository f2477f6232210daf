//! `bantam show`: everything known about one model.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use bantam_formats::{Gguf, GgufError};
use bantam_hub::{Cancel, CatalogueEntry, HubError, LocalModel, ModelRef, Store, Task, human_bytes};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::cli::Globals;
use crate::cmd::list::is_supported;
use crate::output::{self, parameters};

/// Arguments of `bantam show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Catalogue name, path of a .gguf file, or hf:org/repo/file.gguf[@revision]
    model: String,
    /// Read all its files and compare their digests with those they were pulled with (for a path: show its digest)
    #[arg(long)]
    verify: bool,
}

/// What a GGUF file says about itself.
#[derive(Serialize)]
struct GgufFacts {
    name: Option<String>,
    architecture: Option<String>,
    parameters: u64,
    context: Option<u64>,
    /// Tensor types by bytes, the largest first.
    tensor_types: Vec<(String, u64)>,
    tokenizer: Option<String>,
    chat_template: bool,
    licence: Option<String>,
}

pub(crate) fn run(args: &ShowArgs, globals: &Globals) -> anyhow::Result<()> {
    let store = Store::open(globals.data_dir.as_deref())?;
    let model = ModelRef::parse(&args.model)?;
    let local = if args.verify { Some(store.verify(&model, &Cancel::default())?) } else { store.resolve(&model)? };
    let entry = store.entry(&model);
    if entry.is_none() && local.is_none() {
        return Err(HubError::NotPulled { name: model.to_string() }.into());
    }
    let manifest = local.as_ref().and_then(|local| local.manifest.as_ref());
    let task = manifest.map(|manifest| manifest.task).or(entry.map(|entry| entry.task)).unwrap_or_default();
    let gguf = match &local {
        Some(local) if task == Task::Generate && local.path.is_file() => {
            Some(read_gguf(&local.path).with_context(|| format!("cannot read {}", local.path.display()))?)
        }
        _ => None,
    };
    let architecture = gguf.as_ref().and_then(|gguf| gguf.architecture.as_deref());
    let architecture = architecture.or(entry.map(|entry| entry.architecture.as_str()));
    if globals.json {
        return output::print_json(&json!({
            "catalogue": entry,
            "ram_bytes_estimate": entry.map(CatalogueEntry::ram_estimate),
            "local": local,
            "verified_now": args.verify,
            "gguf": gguf,
            "supported": architecture.map(|architecture| is_supported(task, architecture)),
        }));
    }
    let mut lines = Lines::default();
    if let Some(entry) = entry {
        describe_entry(&mut lines, entry);
    }
    if let Some(architecture) = architecture {
        let supported = if is_supported(task, architecture) { "" } else { " (not yet supported by the engine)" };
        lines.add("architecture", format!("{architecture}{supported}"));
    }
    match &local {
        Some(local) => describe_local(&mut lines, local, args.verify),
        None => lines.add("on this machine", format!("no; get it with `bantam pull {model}`")),
    }
    if let Some(gguf) = &gguf {
        describe_gguf(&mut lines, gguf);
    }
    output::print(&lines.text())
}

fn describe_entry(lines: &mut Lines, entry: &CatalogueEntry) {
    let about = |known: Option<u64>, estimate: u64| match known {
        Some(n) => human_bytes(n),
        None => format!("about {}", human_bytes(estimate)),
    };
    lines.add("name", &entry.name);
    if !entry.aliases.is_empty() {
        lines.add("also called", entry.aliases.join(", "));
    }
    lines.add("family", &entry.family);
    let what = match entry.task {
        Task::Generate => "writes text",
        Task::Embed => "turns texts into vectors",
    };
    lines.add("task", format!("{} ({what})", entry.task));
    lines.add("parameters", parameters(entry.parameters));
    lines.add("quantisation", &entry.quantisation);
    lines.add("context", format!("{} tokens", entry.context));
    lines.add("size", about(entry.size.map(|_| entry.size_estimate()), entry.size_estimate()));
    lines.add("memory", about(entry.ram, entry.ram_estimate()));
    let licence = &entry.licence;
    let spdx = licence.spdx.as_ref().map_or_else(String::new, |spdx| format!(" ({spdx})"));
    lines.add("licence", format!("{}{spdx}, {}", licence.name, licence.url));
    lines.add("commercial use", &licence.commercial_use);
    match entry.sha256 {
        Some(sha256) => lines.add("sha256", sha256.to_string()),
        None => lines.add("sha256", "as the hub states it at the first pull, then pinned on this machine"),
    }
    for (i, source) in entry.sources.iter().enumerate() {
        lines.add(if i == 0 { "sources" } else { "" }, source.to_string());
    }
}

fn describe_local(lines: &mut Lines, local: &LocalModel, verified_now: bool) {
    lines.add("file", local.path.display().to_string());
    let size = local.manifest.as_ref().map_or(local.size, |manifest| manifest.size);
    lines.add("file size", format!("{} ({size} bytes)", human_bytes(size)));
    if let Some(manifest) = &local.manifest {
        let now = if verified_now { ", and again just now" } else { "" };
        let then = manifest.verified.describe();
        lines.add("file sha256", format!("{} (when pulled checked against {then}{now})", manifest.sha256));
        for (i, companion) in manifest.companions.iter().enumerate() {
            let label = if i == 0 { "beside it" } else { "" };
            lines.add(label, format!("{} ({} bytes), {}", companion.file, companion.size, companion.sha256));
        }
        lines.add("pulled", format!("{} from {}", manifest.pulled_at, manifest.source));
        if let Some(commit) = &manifest.commit {
            lines.add("commit", commit);
        }
    } else if let Some(sha256) = local.sha256 {
        lines.add("file sha256", sha256.to_string());
    }
}

fn describe_gguf(lines: &mut Lines, gguf: &GgufFacts) {
    if let Some(name) = &gguf.name {
        lines.add("name in the file", name);
    }
    lines.add("weights", parameters(gguf.parameters));
    let types: Vec<String> = gguf.tensor_types.iter().map(|(name, n)| format!("{name} {}", human_bytes(*n))).collect();
    lines.add("tensor types", types.join(", "));
    if let Some(context) = gguf.context {
        lines.add("trained context", format!("{context} tokens"));
    }
    if let Some(tokenizer) = &gguf.tokenizer {
        lines.add("tokenizer", tokenizer);
    }
    lines.add("chat template", if gguf.chat_template { "yes" } else { "no (a base model: it continues text)" });
    if let Some(licence) = &gguf.licence {
        lines.add("licence it states", licence);
    }
}

fn read_gguf(path: &Path) -> Result<GgufFacts, GgufError> {
    let gguf = Gguf::open(path)?;
    let text = |key: &str| Ok::<_, GgufError>(gguf.optional::<&str>(key)?.map(str::to_owned));
    let architecture = text("general.architecture")?;
    let context = match &architecture {
        Some(architecture) => gguf.optional::<u64>(&format!("{architecture}.context_length"))?,
        None => None,
    };
    let mut parameters = 0u64;
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let n: u64 = tensor.shape.iter().fold(1, |product, &n| product.saturating_mul(n));
        parameters = parameters.saturating_add(n);
        let sum = bytes.entry(tensor.ty.name()).or_default();
        *sum = sum.saturating_add(tensor.n_bytes);
    }
    let mut tensor_types: Vec<(String, u64)> = bytes.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    tensor_types.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let tokenizer = match (text("tokenizer.ggml.model")?, text("tokenizer.ggml.pre")?) {
        (Some(model), Some(pre)) => Some(format!("{model} ({pre})")),
        (model, _) => model,
    };
    Ok(GgufFacts {
        name: text("general.name")?,
        architecture,
        parameters,
        context,
        tensor_types,
        tokenizer,
        chat_template: gguf.get("tokenizer.chat_template").is_some(),
        licence: text("general.license")?,
    })
}

/// Labels and values in two columns.
#[derive(Default)]
struct Lines(Vec<(String, String)>);

impl Lines {
    fn add(&mut self, label: &str, value: impl Into<String>) {
        // Values come from files of others: what a terminal would obey is made visible.
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        self.0.push((label.to_owned(), value.into().chars().map(plain).collect()));
    }

    fn text(&self) -> String {
        let width = self.0.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let lines: Vec<String> = self.0.iter().map(|(label, value)| format!("{label:width$}  {value}")).collect();
        lines.join("\n")
    }
}
