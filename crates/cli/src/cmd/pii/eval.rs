//! `bantam pii eval`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bantam_pii::evaluate::{Counted, Example, Figures, LABELS, Report, Share};
use bantam_pii::{Detectors, Finding, Options};
use clap::Args;
use serde_json::json;

use super::DetectArgs;
use crate::cli::Globals;
use crate::output;

/// How long the speed is measured.
const MEASURED: Duration = Duration::from_secs(2);

/// Arguments of `bantam pii eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "The data set is that of presidio-research: a JSON object per line with text, entities (start, end, label) and template_id. A finding matches a label of its type if both share half of their characters (intersection over union); exact figures want equal ends. Templates are split in halves by a hash of template_id, so that recognisers can be developed on one and judged on the other. The sum has the labels that have a pattern or a checksum; findings of types that the data set does not know count as wrong in it. Intervals are Wilson's, 95 %."
)]
pub(crate) struct EvalArgs {
    /// The data set
    data: PathBuf,
    /// Judge findings of another program: one line of JSON for each text, a list as /analyze answers it
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    #[command(flatten)]
    detect: DetectArgs,
}

pub(crate) fn run(args: &EvalArgs, globals: &Globals) -> anyhow::Result<()> {
    let examples = read(&args.data, Example::parse)?;
    ensure!(!examples.is_empty(), "{}: is empty", args.data.display());
    let (findings, speed) = match &args.predictions {
        Some(path) => {
            let mut of = examples.iter();
            let parse =
                |line: &str| of.next().map_or(Err("there is no such text".to_owned()), |of| of.parse_findings(line));
            let found = read(path, parse)?;
            ensure!(
                found.len() == examples.len(),
                "{}: has {} lines for {} texts",
                path.display(),
                found.len(),
                examples.len()
            );
            (found, None)
        }
        None => {
            let detectors = Detectors::default();
            let options = args.detect.options(&detectors)?;
            let found = examples.iter().map(|example| detectors.detect(&example.text, &options));
            (found.collect::<Result<_, _>>()?, Some(speed(&examples, &detectors, &options)?))
        }
    };
    let report = |wanted: &dyn Fn(&Example) -> bool| {
        let judged = examples.iter().zip(&findings).filter(|(example, _)| wanted(example));
        Report::new(judged.map(|(example, found)| (example, found.as_slice())))
    };
    let parts = [
        ("development half", report(&|example| example.development)?),
        ("held-out half", report(&|example| !example.development)?),
        ("all", report(&|_| true)?),
    ];
    if globals.json {
        let parts: serde_json::Map<_, _> =
            parts.iter().map(|(name, report)| ((*name).to_owned(), json!(report))).collect();
        return output::print_json(&json!({ "mapping": LABELS, "parts": parts, "megabytes_per_second": speed }));
    }
    let mut text: Vec<String> = parts.iter().map(|(name, report)| part(name, report)).collect();
    if let Some(speed) = speed {
        text.push(format!("{speed:.1} MB/s on one core"));
    }
    output::print(&text.join("\n\n"))
}

/// One item for each line.
fn read<T>(path: &Path, mut parse: impl FnMut(&str) -> Result<T, String>) -> anyhow::Result<Vec<T>> {
    let lines = BufReader::new(fs_err::File::open(path)?).lines().zip(1..);
    let item = |(line, n): (std::io::Result<String>, u64)| {
        let at = || format!("{}, line {n}", path.display());
        parse(&line.with_context(at)?).map_err(|why| anyhow!("{}: {why}", at()))
    };
    lines.map(item).collect()
}

/// Megabytes of text in a second, text by text, on this thread.
fn speed(examples: &[Example], detectors: &Detectors, options: &Options) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut bytes = 0;
    while started.elapsed() < MEASURED {
        for example in examples {
            let found: Vec<Finding> = detectors.detect(&example.text, options)?;
            std::hint::black_box(found);
            bytes += example.text.len();
        }
    }
    Ok(bytes as f64 / 1e6 / started.elapsed().as_secs_f64())
}

fn part(name: &str, report: &Report) -> String {
    let mut rows = vec![row("the sum", "", &report.sum)];
    rows.extend(report.labels.iter().map(|(label, figures)| {
        let stands =
            label.entities.join(", ") + if label.counted == Counted::Pattern { "" } else { " (not in the sum)" };
        row(label.label, &stands, figures)
    }));
    let headers = ["LABEL", "TYPES", "SPANS", "FOUND", "PRECISION", "RECALL", "F1", "EXACT P", "EXACT R"];
    let counts = |map: &std::collections::BTreeMap<String, u64>| {
        let counts: Vec<String> = map.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
    };
    format!(
        "{name}: {} texts, {} bytes\n{}\nfindings of other types, wrong in the sum: {}\nlabels without a recogniser: {}",
        report.texts,
        report.bytes,
        output::table(&headers, &headers[2..], rows),
        counts(&report.unlabelled),
        counts(&report.not_counted),
    )
}

fn row(name: &str, stands: &str, figures: &Figures) -> Vec<String> {
    let share = |share: Option<Share>| {
        share.map_or("–".to_owned(), |s| format!("{:.3} [{:.3}, {:.3}]", s.value, s.lower, s.upper))
    };
    let plain = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
    vec![
        name.to_owned(),
        stands.to_owned(),
        figures.counts.labelled.to_string(),
        figures.counts.found.to_string(),
        share(figures.precision),
        share(figures.recall),
        plain(figures.f1),
        plain(figures.exact_precision.map(|share| share.value)),
        plain(figures.exact_recall.map(|share| share.value)),
    ]
}
