//! Where rows of outcomes come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bantam_gateway::recorded_prompt;
use bantam_ledger::query::{Filter, Judged, Text};
use bantam_ledger::{BodyStorage, Rating, Reading, Timestamp};
use bantam_router::rows::{Costs, Row, read};
use clap::Args;

use crate::cli::Globals;
use crate::load::ledger::{BodyKey, LedgerPlace, a_while, wait};

/// A file, or the ledger.
#[derive(Debug, Clone, Args)]
pub(super) struct Source {
    /// Rows of outcomes, .jsonl; without it, answers on record that somebody judged
    #[arg(required_unless_present = "small")]
    data: Option<PathBuf>,
    /// From the ledger: the small model, as `model` or `provider/model`
    #[arg(long, value_name = "MODEL", conflicts_with = "data", requires = "large")]
    small: Option<String>,
    /// From the ledger: the large model
    #[arg(long, value_name = "MODEL", conflicts_with = "data", requires = "small")]
    large: Option<String>,
    /// From the ledger: only requests of this last while, such as 30d
    #[arg(long, value_name = "WHILE", requires = "small", value_parser = a_while)]
    since: Option<Duration>,
    #[command(flatten)]
    place: LedgerPlace,
    #[command(flatten)]
    body_key: BodyKey,
}

impl Source {
    /// The rows; one that cannot be used is an error that names its line.
    pub(super) fn rows(&self, globals: &Globals) -> anyhow::Result<Vec<Row>> {
        match (&self.data, &self.small, &self.large) {
            (Some(path), ..) => {
                let reader = std::io::BufReader::new(fs_err::File::open(path)?);
                let rows = read(reader).collect::<Result<Vec<_>, _>>().with_context(|| path.display().to_string())?;
                ensure!(!rows.is_empty(), "{}: has no rows", path.display());
                Ok(rows)
            }
            (None, Some(small), Some(large)) => self.recorded(small, large, globals),
            _ => bail!("give a file of rows, or --small and --large for answers on record"),
        }
    }

    fn recorded(&self, small: &str, large: &str, globals: &Globals) -> anyhow::Result<Vec<Row>> {
        let bodies = self.body_key.read()?.map_or(BodyStorage::None, |key| BodyStorage::Encrypted { key });
        let mut gathered = Gathered { small, large, ..Gathered::default() };
        let from = self.since.map(|since| Timestamp::now().minus(since));
        wait(async {
            let reading = Reading::open(&self.place.config(globals)?.store, bodies).await?;
            let filter = Filter { from, ..Filter::default() };
            Ok(reading.judged(&filter, |judged| gathered.add(judged)).await?)
        })?;
        let Gathered { locked, without, .. } = gathered;
        if locked > 0 {
            bail!("{locked} requests are encrypted with a key that was not given: {}", self.body_key.hint());
        }
        if without > 0 && !globals.quiet {
            eprintln!("{without} judged answers are left out: their requests were not kept, or hold no prompt");
        }
        let rows = gathered.rows();
        ensure!(
            !rows.is_empty(),
            "the ledger has no judged answer of {small} or {large} whose request was kept: keep bodies ([ledger] bodies in bantam.toml) and send feedback \
             (POST /v1/feedback)"
        );
        Ok(rows)
    }
}

/// Judged answers by what was asked.
#[derive(Default)]
struct Gathered<'a> {
    small: &'a str,
    large: &'a str,
    asked: BTreeMap<String, (Row, [Tally; 2])>,
    locked: usize,
    without: usize,
}

/// What was said of a model's answers to one prompt.
#[derive(Clone, Copy, Default)]
struct Tally {
    answers: f32,
    score: f32,
    cost: f64,
}

impl Gathered<'_> {
    fn add(&mut self, judged: Judged) {
        let entry = &judged.recorded.entry;
        let by = |wanted: &str| {
            let model = entry.model.as_deref().unwrap_or_default();
            let provider = entry.provider.as_deref().unwrap_or_default();
            wanted == model || wanted.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/')) == Some(model)
        };
        let place = match (by(self.small), by(self.large)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => return,
        };
        let Some(score) = score(&judged) else { return };
        let asked = match &judged.request {
            Some(Text::Plain(body)) => recorded_prompt(&entry.surface, body),
            Some(Text::Locked { .. }) => return self.locked += 1,
            None => None,
        };
        let Some(asked) = asked else { return self.without += 1 };
        let row = self.asked.entry(asked.text.clone().into_owned());
        let (_, tallies) = row.or_insert_with(|| (Row::new(&asked, Default::default()), Default::default()));
        tallies[place].answers += 1.0;
        tallies[place].score += score;
        tallies[place].cost += entry.cost.0 as f64;
    }

    /// One row for each prompt, however often it was asked.
    fn rows(self) -> Vec<Row> {
        let row = |(mut row, [small, large]): (Row, [Tally; 2])| {
            let mean = |tally: Tally| (tally.answers > 0.0).then(|| tally.score / tally.answers);
            (row.outcome.small, row.outcome.large) = (mean(small), mean(large));
            let cost = |tally: Tally| tally.cost / f64::from(tally.answers);
            row.costs = row.is_pair().then(|| Costs { small: cost(small), large: cost(large) });
            row
        };
        self.asked.into_values().map(row).collect()
    }
}

/// How good an answer was, from 0 to 1: the worst that was said of it.
fn score(judged: &Judged) -> Option<f32> {
    let rating = judged.rating.map(|rating| match rating {
        Rating::Bad => 0.0,
        Rating::Neutral => 0.5,
        Rating::Good => 1.0,
    });
    let accepted = judged.accepted.map(|accepted| f32::from(u8::from(accepted)));
    let corrected = judged.corrected.then_some(0.0);
    [rating, accepted, corrected].into_iter().flatten().reduce(f32::min)
}
