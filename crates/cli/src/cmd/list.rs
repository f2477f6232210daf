//! `bantam list`: the models here, or all that can be pulled.

use bantam_hub::{CatalogueEntry, LocalModel, Store, Task, human_bytes};
use bantam_models::{EncoderSpec, Family};
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::output::{self, parameters};

/// Arguments of `bantam list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Also the models of the catalogue that are not on this machine
    #[arg(long, short)]
    all: bool,
}

pub(crate) fn run(args: &ListArgs, globals: &Globals) -> anyhow::Result<()> {
    let store = Store::open(globals.data_dir.as_deref())?;
    let local = store.list()?;
    if args.all { print_all(&store, &local, globals) } else { print_local(&store, &local, globals) }
}

/// Whether models of this architecture (`general.architecture`, or an encoder's `model_type`) run here.
pub(crate) fn is_supported(task: Task, architecture: &str) -> bool {
    match task {
        Task::Generate => Family::all().any(|family| family.name() == architecture),
        Task::Embed => architecture == EncoderSpec::MODEL_TYPE,
    }
}

fn print_local(store: &Store, local: &[LocalModel], globals: &Globals) -> anyhow::Result<()> {
    if globals.json {
        return output::print_json(&local);
    }
    if local.is_empty() {
        if !globals.quiet {
            eprintln!("no models in {}; `bantam list --all` shows what can be pulled", store.root().display());
        }
        return Ok(());
    }
    let rows = local.iter().map(|model| {
        let entry = store.catalogue().find(&model.name);
        let manifest = model.manifest.as_ref();
        vec![
            model.name.clone(),
            manifest.map_or_else(String::new, |m| m.task.to_string()),
            entry.map_or_else(String::new, |entry| parameters(entry.parameters)),
            entry.map_or_else(String::new, |entry| entry.quantisation.clone()),
            human_bytes(model.size),
            manifest.map_or_else(String::new, |m| m.pulled_at.chars().take(10).collect()),
            manifest.and_then(|m| m.licence.as_ref()).map_or_else(String::new, |licence| licence.name.clone()),
        ]
    });
    let headers = ["NAME", "TASK", "PARAMS", "QUANT", "SIZE", "PULLED", "LICENCE"];
    output::print(&output::table(&headers, &["PARAMS", "SIZE"], rows.collect()))
}

fn print_all(store: &Store, local: &[LocalModel], globals: &Globals) -> anyhow::Result<()> {
    let entries = store.catalogue().entries();
    let is_here = |name: &str| local.iter().any(|model| model.name == name);
    if globals.json {
        let mut models = Vec::new();
        for entry in entries {
            let mut value = serde_json::to_value(entry)?;
            value["supported"] = json!(is_supported(entry.task, &entry.architecture));
            value["local"] = json!(local.iter().find(|model| model.name == entry.name));
            models.push(value);
        }
        for model in local.iter().filter(|model| store.catalogue().find(&model.name).is_none()) {
            models.push(json!({"name": model.name, "local": model}));
        }
        return output::print_json(&models);
    }
    let mut rows: Vec<Vec<String>> = entries.iter().map(|entry| row(entry, is_here(&entry.name))).collect();
    for model in local.iter().filter(|model| store.catalogue().find(&model.name).is_none()) {
        let task = model.manifest.as_ref().map_or_else(String::new, |manifest| manifest.task.to_string());
        let size = human_bytes(model.size);
        rows.push([model.name.as_str(), "", &task, "", "", &size, "", "", "here"].map(str::to_owned).into());
    }
    let headers = ["NAME", "FAMILY", "TASK", "PARAMS", "QUANT", "SIZE", "CONTEXT", "LICENCE", "STATUS"];
    output::print(&output::table(&headers, &["PARAMS", "SIZE", "CONTEXT"], rows))?;
    if !globals.quiet {
        eprintln!("\n~ is about. Terms of use: `bantam show NAME`.");
    }
    Ok(())
}

fn row(entry: &CatalogueEntry, here: bool) -> Vec<String> {
    let about = if entry.size.is_some() { "" } else { "~" };
    let status = match (here, is_supported(entry.task, &entry.architecture)) {
        (true, true) => "here",
        (true, false) => "here, not yet supported",
        (false, true) => "",
        (false, false) => "not yet supported",
    };
    vec![
        entry.name.clone(),
        entry.family.clone(),
        entry.task.to_string(),
        parameters(entry.parameters),
        entry.quantisation.clone(),
        format!("{about}{}", human_bytes(entry.size_estimate())),
        entry.context.to_string(),
        entry.licence.spdx.clone().unwrap_or_else(|| entry.licence.name.clone()),
        status.to_owned(),
    ]
}
