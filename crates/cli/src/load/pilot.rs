//! What a pilot tries, and how each of it is started.

use std::collections::BTreeSet;

use bantam_evals::pilot::{Contender, Offer, Server, available_bytes};
use bantam_hub::{ModelRef, Store, Task, human_bytes};
use clap::Args;

use super::encoder::DEFAULT_ENCODER;
use super::task::{ModelArgs, TaskModel, remote};
use crate::cli::Globals;
use crate::cmd::list::is_supported;

/// Memory beyond its file that a model which is not in the catalogue is taken to need: a quarter, and this, in bytes.
const SPARE_BYTES: u64 = 200_000_000;

/// What is tried.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Candidates")]
pub(crate) struct OfferArgs {
    /// Models to try, by catalogue name or path [default: all-minilm-l6-v2 and the generating models that were pulled]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    candidates: Vec<String>,
    /// Base URL of an OpenAI-compatible server to try as well, such as http://127.0.0.1:8000/v1
    #[arg(long, value_name = "URL", requires = "server_model")]
    server: Option<String>,
    /// What the server calls its model
    #[arg(long, value_name = "NAME", requires = "server")]
    server_model: Option<String>,
    /// Environment variable with the server's key
    #[arg(long, value_name = "NAME", requires = "server")]
    api_key_env: Option<String>,
}

/// The offers in the order of their turns: the encoder first, small models before large ones, the server last.
pub(crate) fn offers(args: &OfferArgs, globals: &Globals) -> anyhow::Result<Vec<Offer>> {
    let local = |model: String| Offer { model, server: None };
    let mut offers: Vec<Offer> = Vec::new();
    if args.candidates.is_empty() {
        offers.push(local(DEFAULT_ENCODER.to_owned()));
        let store = Store::open(globals.data_dir.as_deref())?;
        let mut models = store.list()?;
        models.sort_by_key(|model| model.size);
        let generates = |task: Option<Task>| task == Some(Task::Generate);
        let runs =
            |name: &str| store.catalogue().find(name).is_none_or(|entry| is_supported(entry.task, &entry.architecture));
        let models = models.into_iter().filter(|model| generates(model.manifest.as_ref().map(|m| m.task)));
        offers.extend(models.filter(|model| runs(&model.name)).map(|model| local(model.name)));
    } else {
        let mut seen = BTreeSet::new();
        offers.extend(args.candidates.iter().filter(|name| seen.insert(*name)).cloned().map(local));
    }
    if let (Some(url), Some(model)) = (&args.server, &args.server_model) {
        let server = Server { url: url.clone(), api_key_env: args.api_key_env.clone() };
        offers.push(Offer { model: model.clone(), server: Some(server) });
    }
    Ok(offers)
}

/// Starts offers, those that fit into memory.
pub(crate) fn opener<'a>(
    models: &'a ModelArgs,
    globals: &'a Globals,
) -> impl FnMut(&Offer) -> Result<Contender, String> + 'a {
    move |offer| {
        let model = match &offer.server {
            Some(server) => remote(&offer.model, &server.url, server.api_key_env.as_deref(), globals),
            None => fits(&offer.model, globals).and_then(|()| models.local(&offer.model, globals)),
        };
        match model {
            Ok(TaskModel::Generating(model)) => Ok(Contender::Generating(model)),
            Ok(TaskModel::Encoder(encoder)) => Ok(Contender::Encoder(encoder)),
            Err(error) => Err(crate::exit::message(&error)),
        }
    }
}

/// Refuses a model that would not fit into the memory that is free.
fn fits(model: &str, globals: &Globals) -> anyhow::Result<()> {
    let store = Store::open(globals.data_dir.as_deref())?;
    let reference = ModelRef::parse(model)?;
    let needed = match store.entry(&reference) {
        Some(entry) => Some(entry.ram_estimate()),
        None => store.resolve(&reference)?.map(|local| local.size + local.size / 4 + SPARE_BYTES),
    };
    if let (Some(needed), Some(free)) = (needed, available_bytes())
        && needed > free
    {
        anyhow::bail!("needs about {} of memory, and {} are free", human_bytes(needed), human_bytes(free));
    }
    Ok(())
}
