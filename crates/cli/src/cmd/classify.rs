//! `bantam classify`: labels for texts, without a task file.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bantam_tasks::Task;
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::cmd::task::answer;
use crate::load::task::{ModelArgs, TaskModel};

/// What classifies when no model is named.
const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// Arguments of `bantam classify`.
#[derive(Debug, Args)]
pub(crate) struct ClassifyArgs {
    /// The texts [default: the lines of standard input]
    texts: Vec<String>,
    /// The labels, separated by commas; `label=meaning` says what one means
    #[arg(long, short, value_name = "A,B,...", value_delimiter = ',', required = true)]
    labels: Vec<String>,
    /// Answer for texts that none of the labels fits
    #[arg(long, value_name = "LABEL")]
    none: Option<String>,
    /// Any number of labels per text instead of exactly one
    #[arg(long, conflicts_with = "none")]
    many: bool,
    /// What the model is told before the labels
    #[arg(long, value_name = "TEXT", default_value = "")]
    instructions: String,
    /// Example `text=>label` (may be given several times)
    #[arg(long = "example", value_name = "TEXT=>LABEL")]
    examples: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: &ClassifyArgs, globals: &Globals) -> anyhow::Result<()> {
    let task = Arc::new(task(args)?);
    let texts = match args.texts.is_empty() {
        false => args.texts.clone(),
        true => std::io::stdin().lock().lines().collect::<Result<_, _>>().context("cannot read standard input")?,
    };
    ensure!(!texts.is_empty(), "there is no text: give some, or lines on standard input");
    let model = match &args.model.model {
        Some(_) => args.model.open(&task, globals)?,
        None => args.model.local(DEFAULT_MODEL, globals)?,
    };
    if let TaskModel::Encoder(encoder) = &model {
        anyhow::bail!(
            "{} is an encoder and has to be fitted: write a task with `bantam task new`, then `bantam task fit`",
            encoder.id
        );
    }
    let rows: Vec<Vec<String>> = texts.into_iter().map(|text| vec![text]).collect();
    answer(&model.bind(task)?, &rows, globals)
}

fn task(args: &ClassifyArgs) -> anyhow::Result<Task> {
    let label = |label: &String| match label.split_once('=') {
        Some((name, description)) => json!({"name": name.trim(), "description": description.trim()}),
        None => json!(label.trim()),
    };
    let example = |example: &String| {
        let (text, label) = example.split_once("=>").with_context(|| format!("--example '{example}' has no =>"))?;
        let answer =
            if args.many { json!(label.split('+').map(str::trim).collect::<Vec<_>>()) } else { json!(label.trim()) };
        anyhow::Ok(json!({"input": text.trim(), "answer": answer}))
    };
    let mut file = json!({
        "name": "classify", "kind": "classify", "instructions": args.instructions,
        "classify": {"mode": if args.many { "many" } else { "one" }, "labels": args.labels.iter().map(label).collect::<Vec<_>>()},
        "examples": args.examples.iter().map(example).collect::<Result<Vec<_>, _>>()?,
    });
    if let Some(none) = &args.none {
        file["classify"]["none"] = json!(none);
    }
    let text = toml::to_string(&file)?;
    Ok(Task::parse(&text, Path::new("--labels"), Path::new("."))?)
}
