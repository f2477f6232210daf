//! `bantam rm`: remove models from this machine.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;
use bantam_hub::{HubError, ModelRef, Store, human_bytes};
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::output;

/// Arguments of `bantam rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Catalogue names or hf:org/repo/file.gguf[@revision], as `bantam list` shows them
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Also forget the digest pinned at the first pull, so that a changed file is accepted next time
    #[arg(long)]
    forget: bool,
}

pub(crate) fn run(args: &RmArgs, globals: &Globals) -> anyhow::Result<()> {
    let store = Store::open(globals.data_dir.as_deref())?;
    let models = args.models.iter().map(|text| ModelRef::parse(text)).collect::<Result<Vec<_>, _>>()?;
    for model in &models {
        if !store.has(model)? && !args.forget {
            return Err(HubError::NotPulled { name: model.to_string() }.into());
        }
    }
    if !args.yes && !confirmed(&store, &models)? {
        eprintln!("nothing was removed");
        return Ok(());
    }
    for model in &models {
        let forgotten = args.forget && store.forget(model)?;
        let removed = match store.remove(model) {
            // A pin may outlive its model; forgetting it is work enough.
            Err(HubError::NotPulled { .. }) if forgotten => None,
            other => Some(other?),
        };
        if globals.json {
            output::print_json(&json!({"model": model.to_string(), "removed": removed, "pin_forgotten": forgotten}))?;
        } else if !globals.quiet {
            match removed {
                Some(removed) => output::print(&format!("removed {} ({})", removed.name, human_bytes(removed.freed)))?,
                None => output::print(&format!("forgot the pinned digest of {model}"))?,
            }
        }
    }
    Ok(())
}

fn confirmed(store: &Store, models: &[ModelRef]) -> anyhow::Result<bool> {
    let mut names = Vec::new();
    for model in models {
        match store.resolve(model) {
            Ok(Some(local)) => names.push(format!("{} ({})", local.name, human_bytes(local.size))),
            // Damaged or half pulled: there is something to remove all the same.
            Ok(None) | Err(HubError::Damaged { .. }) => names.push(model.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    if !io::stdin().is_terminal() {
        bail!("say --yes to remove {} without being asked", names.join(", "));
    }
    eprint!("Remove {}? [y/N] ", names.join(", "));
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
