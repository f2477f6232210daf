//! `bantam audit replay`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bantam_gateway::{Replay, Replayed};
use bantam_kernels::NUMERICS;
use bantam_ledger::query::{Filter, Text};
use bantam_ledger::{BodyStorage, Part, Reading};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use crate::cli::Globals;
use crate::load::ledger::{BodyKey, LedgerPlace, wait};
use crate::load::{EngineArgs, Loaded};
use crate::{output, progress};

/// Arguments of `bantam audit replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "An answer of a local model can be computed again if the ledger keeps encrypted bodies (ledger.bodies). It is computed from what was kept: the prompt's tokens, \
    the drawn seed, the grammar. Threads, batches and the instruction set make no difference to it."
)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    place: LedgerPlace,
    /// Requests, by their x-bantam-id
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    /// The last so many answers of local models instead
    #[arg(long, value_name = "N", conflicts_with = "ids", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    last: Option<u32>,
    #[command(flatten)]
    body_key: BodyKey,
    /// Where a model comes from that was served under another name; may be given several times
    #[arg(long = "model", value_name = "SERVED=NAME|PATH", value_parser = source)]
    models: Vec<(String, String)>,
    #[command(flatten)]
    engine: EngineArgs,
}

fn source(text: &str) -> Result<(String, String), String> {
    let (served, source) = text.split_once('=').ok_or("write SERVED=NAME, such as small=smollm2-135m-instruct")?;
    Ok((served.to_owned(), source.to_owned()))
}

/// What became of one answer.
#[derive(Debug, Serialize)]
struct Line {
    id: Uuid,
    model: Option<String>,
    #[serde(flatten)]
    result: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Replayed(Replayed),
    NotReplayable { not_replayable: String },
}

/// An answer came out different.
#[derive(Debug)]
pub(crate) struct Different(usize);

impl std::fmt::Display for Different {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} came out different", self.0)
    }
}

impl std::error::Error for Different {}

pub(crate) fn run(args: &ReplayArgs, globals: &Globals) -> anyhow::Result<()> {
    ensure!(!args.ids.is_empty() || args.last.is_some(), "name requests by their ids, or --last N");
    let kept = wait(kept(args, globals))?;
    let mut lines: BTreeMap<Uuid, Line> = BTreeMap::new();
    let mut by_model: BTreeMap<String, Vec<(Uuid, Replay)>> = BTreeMap::new();
    for (id, replay) in kept {
        match replay {
            Ok(replay) => by_model.entry(replay.model.clone()).or_default().push((id, replay)),
            Err(why) => {
                lines.insert(id, Line { id, model: None, result: Outcome::NotReplayable { not_replayable: why } });
            }
        }
    }
    let bar = progress::answers(globals, by_model.values().map(Vec::len).sum::<usize>() as u64);
    for (model, answers) in by_model {
        let source = args.models.iter().find(|(served, _)| *served == model).map_or(&model, |(_, source)| source);
        let loaded = Loaded::open(source, &args.engine, globals).with_context(|| {
            format!("the model '{model}' cannot be loaded; say where it is with --model {model}=PATH")
        })?;
        for (id, replay) in answers {
            let result = again(&replay, &loaded);
            lines.insert(id, Line { id, model: Some(model.clone()), result });
            bar.inc(1);
        }
        loaded.engine.shutdown(Duration::ZERO);
    }
    bar.finish_and_clear();
    report(lines.into_values().collect(), globals)
}

fn again(replay: &Replay, loaded: &Loaded) -> Outcome {
    let not = |not_replayable: String| Outcome::NotReplayable { not_replayable };
    if let (Some(was), Some(is)) = (&replay.digest, &loaded.digest)
        && was != is
    {
        return not(format!("it was answered by the file {was}, and this is {is}"));
    }
    replay.run(&loaded.engine, NUMERICS).map_or_else(|e| not(e.to_string()), Outcome::Replayed)
}

/// What was kept of the answers, or why nothing was.
async fn kept(args: &ReplayArgs, globals: &Globals) -> anyhow::Result<Vec<(Uuid, Result<Replay, String>)>> {
    let key = args.body_key.read()?;
    let Some(key) = key else { bail!("the bodies' key is needed: {}", args.body_key.hint()) };
    let reading = Reading::open(&args.place.config(globals)?.store, BodyStorage::Encrypted { key }).await?;
    let ids = match args.last {
        None => args.ids.clone(),
        Some(count) => {
            let filter = Filter { provider: Some("local".to_owned()), ..Filter::default() };
            let mut ids = Vec::new();
            let mut before = None;
            while ids.len() < count as usize {
                let page = reading.requests(&filter, before, 1000).await?;
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                let answers = page
                    .iter()
                    .filter(|r| matches!(&*r.entry.surface, "chat" | "completions" | "messages" | "responses"));
                ids.extend(answers.map(|r| r.id));
            }
            ids.truncate(count as usize);
            ids
        }
    };
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        let story = reading.story(id).await?;
        let text = story.bodies.into_iter().find(|(part, _)| *part == Part::Replay).map(|(_, text)| text);
        let replay = match text {
            Some(Text::Plain(bytes)) => Replay::read(&bytes).map_err(|e| e.to_string()),
            Some(Text::Locked { key }) => Err(format!("it is encrypted with the key {key}, and another was given")),
            None if story.erased.is_some() => Err("its texts were erased".to_owned()),
            None => {
                Err("nothing was kept: it is no answer of a local model, or the ledger kept no encrypted bodies"
                    .to_owned())
            }
        };
        all.push((id, replay));
    }
    Ok(all)
}

fn report(lines: Vec<Line>, globals: &Globals) -> anyhow::Result<()> {
    let count = |is: fn(&Outcome) -> bool| lines.iter().filter(|line| is(&line.result)).count();
    let same = count(|r| matches!(r, Outcome::Replayed(Replayed::Same { .. })));
    let differ = count(|r| matches!(r, Outcome::Replayed(Replayed::Differs { .. })));
    let not = lines.len() - same - differ;
    if globals.json {
        output::print_json(
            &serde_json::json!({"same": same, "different": differ, "not_replayable": not, "answers": lines}),
        )?;
    } else {
        for line in &lines {
            match &line.result {
                Outcome::Replayed(Replayed::Same { .. }) => {}
                Outcome::Replayed(Replayed::Differs { choice, token }) => {
                    output::print(&format!("{}: differs in choice {choice} from token {token} on", line.id))?;
                }
                Outcome::NotReplayable { not_replayable } => {
                    output::print(&format!("{}: not replayable: {not_replayable}", line.id))?
                }
            }
        }
        output::print(&format!("{same} the same, bit for bit; {differ} different; {not} not replayable"))?;
    }
    if differ > 0 { Err(Different(differ).into()) } else { Ok(()) }
}
